//! What may be proposed at the registry's present level.

use crate::master::Step;

/// Why what level 2 introduced cannot be done; `what` begins the sentence.
pub(crate) fn check(step: &Step<'_>, what: &str) -> Result<(), String> {
    check_at(step, 2, what)
}

/// Why what a level introduced cannot be done; `what` begins the sentence.
pub(crate) fn check_at(step: &Step<'_>, wanted: u32, what: &str) -> Result<(), String> {
    let (own, level) = (step.config.level, step.registry.level());
    if own < wanted {
        return Err(format!(
            "{what} from level {wanted} on, and this master is held at level {own}"
        ));
    }
    if level < wanted {
        return Err(format!(
            "{what} from level {wanted} on, and the group is at level {level}, until all of its masters understand more"
        ));
    }
    Ok(())
}
