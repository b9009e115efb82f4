//! Takes the tasks over from a previous agent process.
//!
//! A task that was accepted but whose container the containerizer does not know was never started, and will not be: the
//! agent never launches on recovery, so that no crash can launch a task twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proffer_proto::v1;
use proffer_proto::v1::framework_info::capability::Type as Capability;
use proffer_proto::v1::task_status::Reason;

use super::executors::{self, Executor};
use super::task::{Ending, Given, Kill, Task, is_terminal};
use super::updates::{self, News};
use super::{Core, Effect, ExecutorName, Ids, Owner, Phase, Session, Settings, TaskName, Timestamp, checks, run};
use crate::checkpoint::image::{Image, TaskImage};
use crate::checkpoint::record::{Boot, Fact};
use crate::containerizer::{ContainerId, Recovered};

impl Core {
    /// The state that the previous process left, with the containers about which the driver must say `Found`.
    pub fn recover(
        settings: Settings,
        ids: Box<dyn Ids>,
        image: Image,
        effects: &mut Vec<Effect>,
    ) -> (Self, Vec<ContainerId>) {
        let rebooted = image.boot.as_ref().is_some_and(|boot| *boot != settings.boot_id);
        if image.boot.as_ref() != Some(&settings.boot_id) {
            effects.push(Effect::Checkpoint(
                Fact::Boot(Boot {
                    id: settings.boot_id.clone(),
                })
                .into(),
            ));
        }
        let mut checks = checks::Checks::default();
        for (name, task) in &image.tasks {
            checks.restore(name, &task.launch, task.checked.clone());
        }
        let tasks: BTreeMap<TaskName, Task> = image
            .tasks
            .into_iter()
            .map(|(name, task)| (name, restore(task)))
            .collect();
        let executors: BTreeMap<ExecutorName, Executor> = image
            .executors
            .into_iter()
            .map(|(name, executor)| (name, Executor::restore(executor)))
            .collect();
        let own = tasks.iter().filter(|(_, task)| !task.is_entrusted());
        let own = own.map(|(name, task)| (task.container.clone(), Owner::Task(name.clone())));
        let theirs = executors.iter();
        let theirs = theirs.map(|(name, executor)| (executor.container.clone(), Owner::Executor(name.clone())));
        let mut core = Self {
            settings,
            ids,
            id: image.agent.id,
            cluster: image.agent.cluster,
            session: Session::None,
            frameworks: image.frameworks,
            containers: own.chain(theirs).collect(),
            tasks,
            executors,
            unsaid: Vec::new(),
            volumes: image.volumes,
            timers: BTreeSet::new(),
            checks,
            rebooted,
            leaving: false,
        };
        let ended = core.tasks.iter().filter(|(_, task)| task.muted && !task.is_alive());
        for name in ended.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            core.forget(&name, effects);
        }
        executors::reunite(&mut core, effects);
        let tasks = core.tasks.values();
        let tasks = tasks.filter(|task| task.is_alive() && !task.is_entrusted());
        let tasks = tasks.map(|task| task.container.clone());
        let executors = core.executors.values().filter(|executor| !executor.is_pod());
        let executors = executors.map(|executor| executor.container.clone());
        let alive = tasks.chain(executors).collect();
        (core, alive)
    }
}

/// What became of a container of the previous process.
pub(super) fn found(
    core: &mut Core,
    now: Timestamp,
    name: &TaskName,
    container: &ContainerId,
    found: Recovered,
    effects: &mut Vec<Effect>,
) {
    let Some(task) = core.tasks.get_mut(name) else { return };
    let Phase::Recovering { ending } = task.phase else {
        return;
    };
    match found {
        Recovered::Running { pid } => {
            effects.push(Effect::Watch(container.clone()));
            match ending {
                Some(ending) => {
                    task.phase = Phase::Ending(Ending { pid, ..ending });
                    effects.push(Effect::Terminate(container.clone()));
                }
                None => task.phase = Phase::Running { pid },
            }
            let unsaid = task.latest == v1::TaskState::TaskStaging && ending.is_none();
            checks::resume(core, now, name);
            if unsaid {
                updates::push(core, now, name, News::of(v1::TaskState::TaskRunning), effects);
            }
        }
        Recovered::Exited(exit) => {
            if let Some(ending) = ending {
                task.phase = Phase::Ending(ending);
            }
            run::exited(core, now, name, container, &exit, effects);
        }
        Recovered::Unknown => {
            task.phase = Phase::Ended;
            let news = lost(core, name, ending);
            run::over(core, now, name, container, news, effects);
        }
    }
    core.set_timer(name);
}

fn restore(image: TaskImage) -> Task {
    let mut task = Task::new(&image.launch);
    task.latest = image.latest().unwrap_or(v1::TaskState::TaskStaging);
    task.updates = image.updates;
    task.muted = image.muted;
    task.phase = if is_terminal(task.latest) {
        Phase::Ended
    } else if task.is_entrusted() {
        Phase::Entrusted {
            given: match task.latest {
                v1::TaskState::TaskStaging => Given::Maybe,
                _ => Given::Yes,
            },
            killed: image.ending.map(|(_, cause)| Kill {
                grace: Duration::ZERO,
                cause,
            }),
        }
    } else {
        let ending = image.ending.map(|(at, cause)| Ending {
            pid: 0,
            cause,
            force_at: Some(Timestamp(at)),
        });
        Phase::Recovering { ending }
    };
    task
}

pub(super) fn lost(core: &Core, name: &TaskName, ending: Option<Ending>) -> News {
    let ran = core
        .tasks
        .get(name)
        .is_some_and(|task| task.latest != v1::TaskState::TaskStaging);
    if let (Some(ending), false) = (ending, ran) {
        let (state, reason, message) = super::cause_status(ending.cause);
        let reason = reason.unwrap_or(Reason::TaskKilledDuringLaunch);
        return News::of(state)
            .by_agent(reason)
            .saying(format!("{message} before it ran"));
    }
    let aware = is_partition_aware(core, &name.framework);
    // That a task runs is not flushed before it is said: after a reboot nobody knows of one that had just been started.
    let (state, what) = match ran || core.rebooted {
        true => (v1::TaskState::TaskGone, "its container is not there any more"),
        false => (v1::TaskState::TaskDropped, "it had not been started"),
    };
    let message = match core.rebooted {
        true => format!("the agent's machine was rebooted: {what}"),
        false => format!("the agent was restarted: {what}"),
    };
    let state = if aware { state } else { v1::TaskState::TaskLost };
    News::of(state).by_agent(Reason::AgentRestarted).saying(message)
}

/// Whether the framework knows the states of tasks that nobody runs any more.
pub(super) fn is_partition_aware(core: &Core, framework: &str) -> bool {
    core.frameworks.get(framework).is_some_and(|framework| {
        let mut capabilities = framework.capabilities.iter();
        capabilities.any(|capability| capability.r#type() == Capability::PartitionAware)
    })
}
