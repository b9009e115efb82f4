//! What must hold in every run; each checker watches from outside and keeps its own books.

mod durable_before_visible;
mod no_task_twice;
mod offers_exclusive;
mod progress_after_heal;
mod resources_conserved;
mod updates_not_lost;

pub(crate) use durable_before_visible::DurableBeforeVisible;
pub(crate) use no_task_twice::NoTaskTwice;
pub(crate) use offers_exclusive::OffersExclusive;
pub(crate) use progress_after_heal::check as progress_after_heal;
pub(crate) use resources_conserved::check as resources_conserved;
pub(crate) use updates_not_lost::UpdatesNotLost;

/// A property that does not hold: which, and how it was seen.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The checker.
    pub checker: &'static str,
    /// What it saw.
    pub what: String,
}

impl Violation {
    pub(crate) fn new(checker: &'static str, what: impl Into<String>) -> Self {
        Violation {
            checker,
            what: what.into(),
        }
    }
}
