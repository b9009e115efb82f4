//! When the faults are over, everything that can run does run within a bounded time.

use super::Violation;
use crate::sim::agent::ModelAgent;
use crate::sim::framework::ModelFramework;

const NAME: &str = "progress_after_heal";

pub(crate) fn check(agents: &[ModelAgent], frameworks: &[ModelFramework]) -> Result<(), Violation> {
    for agent in agents {
        if !agent.registered {
            return Err(Violation::new(NAME, format!("agent {} is not registered", agent.index)));
        }
        if agent.unacknowledged() > 0 {
            let what = format!(
                "agent {} still has {} unacknowledged updates",
                agent.index,
                agent.unacknowledged()
            );
            return Err(Violation::new(NAME, what));
        }
        if let Some((framework, task)) = agent.running().next() {
            return Err(Violation::new(
                NAME,
                format!("task {task} of {framework} still runs on agent {}", agent.index),
            ));
        }
    }
    for framework in frameworks.iter().filter(|framework| !framework.dead) {
        if !framework.subscribed {
            return Err(Violation::new(
                NAME,
                format!("framework {} is not subscribed", framework.index),
            ));
        }
        if let Some((id, asked)) = framework.operations.open.first_key_value() {
            let what = format!(
                "framework {} does not know what became of {id}, {asked:?}",
                framework.index
            );
            return Err(Violation::new(NAME, what));
        }
        if framework.finished < framework.wanted || framework.open_tasks() > 0 {
            let what = format!(
                "framework {} finished {} of {} tasks and believes {} to run",
                framework.index,
                framework.finished,
                framework.wanted,
                framework.open_tasks()
            );
            return Err(Violation::new(NAME, what));
        }
    }
    Ok(())
}
