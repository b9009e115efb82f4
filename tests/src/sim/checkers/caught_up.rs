//! When the faults are over, one master leads, every member of the group runs, and all have told everything that is committed.

use super::{CommittedNeverLost, Configuration, Violation};
use crate::sim::masters::Machine;

const NAME: &str = "progress_after_heal";

pub(crate) fn check(
    machines: &[Machine],
    configuration: &Configuration,
    committed: &CommittedNeverLost,
) -> Result<(), Violation> {
    if configuration.is_joint() {
        return Err(Violation::new(
            NAME,
            format!("the group stays joint: {configuration:?}"),
        ));
    }
    let leaders = machines.iter().filter(|machine| machine.leads()).count();
    if leaders != 1 {
        return Err(Violation::new(NAME, format!("{leaders} masters lead")));
    }
    for id in configuration.voters.iter().chain(&configuration.learners) {
        let running = machines.iter().filter_map(|machine| machine.process.as_ref());
        if !running.into_iter().any(|process| process.id == *id) {
            return Err(Violation::new(NAME, format!("member {id} does not run")));
        }
        if committed.told_by(*id) < committed.last() {
            let what = format!(
                "member {id} has told entries up to {}, the last one is {}",
                committed.told_by(*id),
                committed.last()
            );
            return Err(Violation::new(NAME, what));
        }
    }
    Ok(())
}
