//! A model framework: what it wrote down, what it is offered, what it knows of its tasks.

use std::collections::BTreeMap;

use proffer_master_core::StreamId;
use proffer_proto::v1::scheduler::{Call, Event, call, event};
use proffer_proto::v1::{
    AgentId, Filters, FrameworkId, Offer, OperationStatus, Resource, TaskId, TaskInfo, TaskState, TaskStatus, offer,
};

use super::rng::Rng;
use super::volumes::{Asked, Ledger};
use super::wire;

/// A task that was said to be unreachable so often is given up.
const UNREACHABLE_MAX: u32 = 4;

/// What a framework wants done after a step.
#[derive(Debug)]
pub(crate) enum FrameworkAction {
    Call(Box<Call>),
    Saw(Box<TaskStatus>),
    /// It asks for operations.
    Asks(Vec<Asked>),
    /// An operation is done, on this agent.
    Done(Asked, AgentId),
    /// The stream is of no more use: subscribe again.
    Resubscribe,
    /// The framework was removed: it starts again as a new one.
    Removed,
}

#[derive(Debug, Clone)]
pub(crate) struct KnownTask {
    agent: AgentId,
    pub(crate) state: TaskState,
    /// How often in a row it was said to be unreachable.
    unreachable: u32,
}

/// A model framework. `id`, `tasks` and the counters are written down before they are acted on and survive a crash.
#[derive(Debug)]
pub(crate) struct ModelFramework {
    pub(crate) index: usize,
    pub(crate) failover_seconds: f64,
    pub(crate) id: Option<FrameworkId>,
    pub(crate) tasks: BTreeMap<TaskId, KnownTask>,
    pub(crate) operations: Ledger,
    launched: u64,
    pub(crate) finished: u64,
    /// It launches until so many tasks have finished.
    pub(crate) wanted: u64,
    pub(crate) up: bool,
    pub(crate) stream: Option<StreamId>,
    pub(crate) subscribed: bool,
    /// The machine whose master it believes to lead.
    pub(crate) target: usize,
    /// It crashed and never comes back: the masters must remove it, and end its tasks.
    pub(crate) dead: bool,
}

impl ModelFramework {
    pub(crate) fn new(index: usize, wanted: u64, failover_seconds: f64) -> Self {
        ModelFramework {
            index,
            failover_seconds,
            id: None,
            tasks: BTreeMap::new(),
            operations: Ledger::default(),
            launched: 0,
            finished: 0,
            wanted,
            up: true,
            stream: None,
            subscribed: false,
            target: index,
            dead: false,
        }
    }

    pub(crate) fn subscribe(&self) -> Call {
        let mut info = wire::framework_info(self.index, self.failover_seconds);
        info.id.clone_from(&self.id);
        Call {
            framework_id: self.id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(Box::new(call::Subscribe {
                framework_info: info,
                ..call::Subscribe::default()
            })),
            ..Call::default()
        }
    }

    pub(crate) fn handle(&mut self, event: Event, rng: &mut Rng, actions: &mut Vec<FrameworkAction>) {
        match event.r#type() {
            event::Type::Subscribed => {
                self.id = event.subscribed.map(|subscribed| subscribed.framework_id);
                self.subscribed = true;
            }
            event::Type::Offers => {
                for offer in event.offers.map(|offers| offers.offers).unwrap_or_default() {
                    let before = self.operations.open.clone();
                    let call = self.answer(&offer, rng);
                    let asked = self.operations.open.iter().filter(|(id, _)| !before.contains_key(*id));
                    actions.push(FrameworkAction::Asks(asked.map(|(_, asked)| asked.clone()).collect()));
                    actions.push(FrameworkAction::Call(Box::new(call)));
                }
            }
            event::Type::Update => {
                if let Some(update) = event.update {
                    self.update(update.status, actions);
                }
            }
            event::Type::UpdateOperationStatus => {
                if let Some(update) = event.update_operation_status {
                    self.operation(update.status, actions);
                }
            }
            event::Type::Error => {
                let text = event.error.map(|error| error.message).unwrap_or_default();
                actions.push(if text.contains("removed") {
                    FrameworkAction::Removed
                } else {
                    FrameworkAction::Resubscribe
                });
            }
            _ => {}
        }
    }

    /// Accepts with some tasks, or declines.
    fn answer(&mut self, offer: &Offer, rng: &mut Rng) -> Call {
        let running = self.tasks.values().filter(|task| !task.state.is_terminal()).count() as u64;
        let missing = self.wanted.saturating_sub(self.finished + running);
        let filters = Filters {
            refuse_seconds: Some(rng.range(0, 3) as f64),
        };
        if missing == 0 || rng.one_in(4) {
            let decline = call::Decline {
                offer_ids: vec![offer.id.clone()],
                filters: Some(filters),
            };
            return self.call(call::Type::Decline, |call| call.decline = Some(decline));
        }
        let (mut operations, mut volume) = self.operations.operate(self.index, offer, rng);
        let count = rng.range(1, missing.min(3));
        let infos = (0..count).filter_map(|i| {
            let mut info = self.new_task(offer, i, count, rng)?;
            info.resources.extend(volume.take());
            Some(info)
        });
        let infos = infos.collect();
        let launch = offer::Operation {
            r#type: Some(offer::operation::Type::Launch.into()),
            launch: Some(offer::operation::Launch { task_infos: infos }),
            ..offer::Operation::default()
        };
        operations.push(launch);
        let accept = call::Accept {
            offer_ids: vec![offer.id.clone()],
            operations,
            filters: Some(filters),
            ..call::Accept::default()
        };
        self.call(call::Type::Accept, |call| call.accept = Some(accept))
    }

    fn new_task(&mut self, offer: &Offer, i: u64, count: u64, rng: &mut Rng) -> Option<TaskInfo> {
        let role = offer
            .allocation_info
            .as_ref()
            .and_then(|info| info.role.clone())
            .unwrap_or_default();
        // Plain, reserved or revocable, but all of one kind.
        let kinds: Vec<&Resource> = offer.resources.iter().filter(|own| own.name == "cpus").collect();
        let kind = *kinds.get(rng.range(0, (kinds.len() as u64).max(1) - 1) as usize)?;
        let alike = |own: &&Resource| own.revocable == kind.revocable && own.reservations == kind.reservations;
        let there: Vec<Resource> = offer.resources.iter().filter(alike).cloned().collect();
        let part = |name: &str| (wire::amount(&there, name) * 1000.0 / count as f64).floor() / 1000.0;
        let (cpus, mem) = (part("cpus"), part("mem"));
        if cpus < 0.1 || mem < 32.0 {
            return None;
        }
        let cpus = (rng.range(100, (cpus * 1000.0) as u64) as f64) / 1000.0;
        let of_kind = |resource: Resource| Resource {
            revocable: kind.revocable,
            reservations: kind.reservations.clone(),
            ..resource
        };
        let mut resources = vec![
            of_kind(wire::scalar("cpus", cpus)),
            of_kind(wire::scalar("mem", mem.min(128.0))),
        ];
        if i == 0
            && let Some(port) = wire::first_port(&offer.resources)
        {
            resources.push(wire::ports(port, port));
        }
        self.launched += 1;
        let task_id = TaskId::from(format!("t{}", self.launched));
        self.tasks.insert(
            task_id.clone(),
            KnownTask {
                agent: offer.agent_id.clone(),
                state: TaskState::TaskStaging,
                unreachable: 0,
            },
        );
        Some(TaskInfo {
            name: task_id.value.clone(),
            task_id,
            agent_id: offer.agent_id.clone(),
            resources: resources
                .into_iter()
                .map(|resource| wire::allocated(resource, &role))
                .collect(),
            command: Some(wire::shell("sleep 1")),
            ..TaskInfo::default()
        })
    }

    fn update(&mut self, status: TaskStatus, actions: &mut Vec<FrameworkAction>) {
        if let Some(task) = self.tasks.get_mut(&status.task_id)
            && !task.state.is_terminal()
        {
            task.state = match status.state() {
                // A task that the master never heard of: the ACCEPT was lost.
                TaskState::TaskUnknown => TaskState::TaskDropped,
                // Its agent may never come back: one that stopped before it heard its own id comes back as another.
                TaskState::TaskUnreachable if task.unreachable == UNREACHABLE_MAX => TaskState::TaskLost,
                state => state,
            };
            task.unreachable = match task.state {
                TaskState::TaskUnreachable => task.unreachable + 1,
                _ => 0,
            };
            self.finished += u64::from(task.state == TaskState::TaskFinished);
        }
        if let (Some(uuid), Some(agent_id)) = (status.uuid.clone(), status.agent_id.clone()) {
            let acknowledge = call::Acknowledge {
                agent_id,
                task_id: status.task_id.clone(),
                uuid,
            };
            let call = self.call(call::Type::Acknowledge, |call| call.acknowledge = Some(acknowledge));
            actions.push(FrameworkAction::Call(Box::new(call)));
        }
        actions.push(FrameworkAction::Saw(Box::new(status)));
    }

    fn operation(&mut self, status: OperationStatus, actions: &mut Vec<FrameworkAction>) {
        let agent = status.agent_id.clone();
        if let (Some(asked), Some(agent)) = (self.operations.learn(&status), agent.clone()) {
            actions.push(FrameworkAction::Done(asked, agent));
        }
        if let (Some(uuid), Some(operation_id)) = (status.uuid, status.operation_id) {
            let acknowledge = call::AcknowledgeOperationStatus {
                agent_id: agent,
                uuid: uuid.value,
                operation_id,
            };
            let call = self.call(call::Type::AcknowledgeOperationStatus, |call| {
                call.acknowledge_operation_status = Some(acknowledge);
            });
            actions.push(FrameworkAction::Call(Box::new(call)));
        }
    }

    /// Asks how every operation stands whose outcome is not known.
    pub(crate) fn reconcile_operations(&self) -> Option<Call> {
        let open = self.operations.open.keys();
        let operations: Vec<_> = open
            .map(|id| call::reconcile_operations::Operation {
                operation_id: id.as_str().into(),
                agent_id: None,
            })
            .collect();
        (!operations.is_empty()).then(|| {
            self.call(call::Type::ReconcileOperations, |call| {
                call.reconcile_operations = Some(call::ReconcileOperations { operations });
            })
        })
    }

    /// Asks for the state of every task that is not known to have ended.
    pub(crate) fn reconcile(&self) -> Option<Call> {
        let tasks: Vec<call::reconcile::Task> = self
            .tasks
            .iter()
            .filter(|(_, task)| !task.state.is_terminal())
            .map(|(id, task)| call::reconcile::Task {
                task_id: id.clone(),
                agent_id: Some(task.agent.clone()),
            })
            .collect();
        (!tasks.is_empty()).then(|| {
            self.call(call::Type::Reconcile, |call| {
                call.reconcile = Some(call::Reconcile { tasks })
            })
        })
    }

    /// Now and then: kill a task, or suppress and revive.
    pub(crate) fn whim(&self, rng: &mut Rng) -> Call {
        let running: Vec<_> = self
            .tasks
            .iter()
            .filter(|(_, task)| !task.state.is_terminal())
            .collect();
        if !running.is_empty() && rng.one_in(2) {
            let (id, task) = running[rng.range(0, running.len() as u64 - 1) as usize];
            let kill = call::Kill {
                task_id: id.clone(),
                agent_id: Some(task.agent.clone()),
                kill_policy: None,
            };
            return self.call(call::Type::Kill, |call| call.kill = Some(kill));
        }
        if rng.one_in(4) {
            return self.call(call::Type::Suppress, |call| {
                call.suppress = Some(call::Suppress::default())
            });
        }
        self.revive()
    }

    pub(crate) fn revive(&self) -> Call {
        self.call(call::Type::Revive, |call| call.revive = Some(call::Revive::default()))
    }

    pub(crate) fn open_tasks(&self) -> usize {
        self.tasks.values().filter(|task| !task.state.is_terminal()).count()
    }

    fn call(&self, kind: call::Type, fill: impl FnOnce(&mut Call)) -> Call {
        let mut call = Call {
            framework_id: self.id.clone(),
            r#type: Some(kind.into()),
            ..Call::default()
        };
        fill(&mut call);
        call
    }
}
