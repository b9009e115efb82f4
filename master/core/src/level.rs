//! What may be proposed at the registry's present level.

use crate::master::Step;

/// The level that introduced all that is checked here.
const LEVEL: u32 = 2;

/// Why what level 2 introduced cannot be done; `what` begins the sentence.
pub(crate) fn check(step: &Step<'_>, what: &str) -> Result<(), String> {
    let (own, level) = (step.config.level, step.registry.level());
    if own < LEVEL {
        return Err(format!(
            "{what} from level {LEVEL} on, and this master is held at level {own}"
        ));
    }
    if level < LEVEL {
        return Err(format!(
            "{what} from level {LEVEL} on, and the group is at level {level}, until all of its masters understand more"
        ));
    }
    Ok(())
}
