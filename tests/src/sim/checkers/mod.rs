//! What must hold in every run; each checker watches from outside and keeps its own books.

mod caught_up;
mod committed_never_lost;
mod configurations_equal;
mod durable_before_visible;
mod frameworks_kept;
mod no_removed_leader;
mod no_task_lost;
mod no_task_twice;
mod offers_exclusive;
mod one_leader_a_term;
mod progress_after_heal;
mod resources_conserved;
mod state_linearizable;
mod states_equal;
mod updates_not_lost;
mod volumes_kept;
mod watches_complete;

pub(crate) use caught_up::check as caught_up;
pub(crate) use committed_never_lost::CommittedNeverLost;
pub(crate) use configurations_equal::{Configuration, ConfigurationsEqual};
pub(crate) use durable_before_visible::DurableBeforeVisible;
pub(crate) use frameworks_kept::FrameworksKept;
pub(crate) use no_removed_leader::NoRemovedLeader;
pub(crate) use no_task_lost::NoTaskLost;
pub(crate) use no_task_twice::NoTaskTwice;
pub(crate) use offers_exclusive::OffersExclusive;
pub(crate) use one_leader_a_term::OneLeaderATerm;
pub(crate) use progress_after_heal::check as progress_after_heal;
pub(crate) use resources_conserved::check as resources_conserved;
pub(crate) use state_linearizable::{Operation, check as state_linearizable, check_limit as state_limited};
pub(crate) use states_equal::StatesEqual;
pub(crate) use updates_not_lost::UpdatesNotLost;
pub(crate) use volumes_kept::VolumesKept;
pub(crate) use watches_complete::check as watches_complete;

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
