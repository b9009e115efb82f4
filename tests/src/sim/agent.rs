//! A model agent: its disk, its containers, its link to the master.

use std::collections::{BTreeMap, VecDeque};

use proffer_master_core::ConnectionId;
use proffer_proto::link::{self, agent_message, master_message};
use proffer_proto::v1::{
    AgentId, AgentInfo, FrameworkId, FrameworkInfo, Task, TaskInfo, TaskState, TaskStatus, agent_info::Capability,
    agent_info::capability,
};
use proffer_sdk::operations;

use super::rng::Rng;
use super::volumes::Shelf;
use super::wire::{self, TaskKey};

/// The processors of every model agent.
pub(crate) const AGENT_CPUS: f64 = 4.0;
/// What of that is reserved.
const RESERVED_CPUS: f64 = 1.5;

/// What an agent wants done after a step.
#[derive(Debug)]
pub(crate) enum AgentAction {
    Send(link::AgentMessage),
    Started(TaskKey),
    Generated(TaskKey, TaskStatus),
    /// The container of the task ends by itself then.
    EndsAt(TaskKey, u64),
    /// The framework was shut down here: its updates are void.
    Forgot(TaskKey),
    /// The data of this volume is removed.
    Removed(String),
}

#[derive(Debug, Clone)]
struct ModelTask {
    framework: FrameworkId,
    info: TaskInfo,
    state: TaskState,
    /// Its framework was removed: only its end is told, once.
    muted: bool,
    /// Unacknowledged updates, oldest first; only the head is in flight.
    updates: VecDeque<TaskStatus>,
}

/// A model agent. All fields but `connection` and `registered` are on its disk or in its kernel and survive a crash.
#[derive(Debug)]
pub(crate) struct ModelAgent {
    pub(crate) index: usize,
    pub(crate) id: Option<AgentId>,
    tasks: BTreeMap<TaskKey, ModelTask>,
    pub(crate) volumes: Shelf,
    frameworks: BTreeMap<String, FrameworkInfo>,
    next_uuid: u64,
    pub(crate) up: bool,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) registered: bool,
    /// The machine whose master it believes to lead.
    pub(crate) target: usize,
    /// A planted bug: an update is forgotten when it is sent, not when it is acknowledged.
    forgets: bool,
}

impl ModelAgent {
    pub(crate) fn new(index: usize, forgets: bool) -> Self {
        ModelAgent {
            index,
            target: index,
            forgets,
            id: None,
            tasks: BTreeMap::new(),
            volumes: Shelf::default(),
            frameworks: BTreeMap::new(),
            next_uuid: (index as u64) << 32,
            up: true,
            connection: None,
            registered: false,
        }
    }

    /// The first message of a new link stream. What ends from here on is told on the stream.
    pub(crate) fn register(&self) -> link::Register {
        link::Register {
            protocol: 1,
            agent: AgentInfo {
                hostname: format!("host-{}", self.index),
                // What is reserved is lent to frameworks of the other role while nobody of this one wants it.
                resources: vec![
                    wire::scalar("cpus", AGENT_CPUS - RESERVED_CPUS),
                    wire::reserved(wire::scalar("cpus", RESERVED_CPUS), "role-0"),
                    wire::scalar("mem", 768.0),
                    wire::reserved(wire::scalar("mem", 256.0), "role-0"),
                    wire::scalar("disk", 16.0),
                    wire::ports(31000, 31019),
                ],
                id: self.id.clone(),
                ..AgentInfo::default()
            },
            version: "0.1.0".to_owned(),
            capabilities: vec![Capability {
                r#type: Some(capability::Type::AgentOperationFeedback.into()),
            }],
            tasks: self
                .tasks
                .values()
                .filter(|task| !task.is_over())
                .map(wire_task)
                .collect(),
            frameworks: self.frameworks.values().cloned().collect(),
            ..link::Register::default()
        }
    }

    pub(crate) fn handle(
        &mut self,
        now: u64,
        message: master_message::Body,
        rng: &mut Rng,
        actions: &mut Vec<AgentAction>,
    ) {
        use master_message::Body;
        match message {
            Body::Registered(registered) => {
                self.id = Some(registered.agent_id);
                self.registered = true;
                self.tell_ends(now, actions);
                self.resend(actions);
            }
            Body::Rejected(rejected) => {
                if rejected.gone() {
                    actions.extend(self.tasks.keys().cloned().map(AgentAction::Forgot));
                    self.tasks.clear();
                    self.volumes = Shelf::default();
                    self.id = None;
                }
            }
            Body::Launch(launch) => self.launch(now, launch, rng, actions),
            Body::Kill(kill) => self.end(now, &(kill.framework_id, kill.task_id), TaskState::TaskKilled, actions),
            Body::Acknowledge(ack) => self.acknowledged(&(ack.framework_id, ack.task_id), &ack.uuid, actions),
            Body::ShutdownFramework(shutdown) => self.shut_down(now, &shutdown.framework_id, rng, actions),
            Body::Ping(ping) => {
                let pong = agent_message::Body::Pong(link::Pong {
                    sequence: ping.sequence,
                });
                actions.push(AgentAction::Send(link::AgentMessage { body: Some(pong) }));
            }
            Body::Layout(layout) => {
                let (gone, applied) = self.volumes.lay_out(&layout);
                actions.extend(gone.into_iter().map(AgentAction::Removed));
                let body = applied.map(agent_message::Body::LayoutApplied);
                actions.push(AgentAction::Send(link::AgentMessage { body }));
            }
            Body::FrameworkMessage(_) | Body::ShutdownExecutor(_) | Body::UpdateFramework(_) => {}
        }
    }

    fn launch(&mut self, now: u64, launch: link::Launch, rng: &mut Rng, actions: &mut Vec<AgentAction>) {
        let framework_id = launch
            .framework
            .id
            .clone()
            .expect("the master sends frameworks with their ids");
        self.frameworks.insert(framework_id.value.clone(), launch.framework);
        for info in launch.tasks {
            self.check_port(&info);
            self.check_volumes(&info);
            let key = (framework_id.clone(), info.task_id.clone());
            actions.push(AgentAction::Started(key.clone()));
            let task = ModelTask {
                framework: framework_id.clone(),
                info,
                state: TaskState::TaskStaging,
                muted: false,
                updates: VecDeque::new(),
            };
            self.tasks.insert(key.clone(), task);
            self.update(now, &key, TaskState::TaskRunning, actions);
            actions.push(AgentAction::EndsAt(key, now + rng.range(1, 4_000)));
        }
    }

    /// The container of a task ended, by itself or by a kill.
    pub(crate) fn end(&mut self, now: u64, key: &TaskKey, state: TaskState, actions: &mut Vec<AgentAction>) {
        let Some(task) = self.tasks.get_mut(key).filter(|task| !task.state.is_terminal()) else {
            return;
        };
        if !task.muted {
            if self.registered {
                let freed = link::Freed {
                    framework_id: key.0.clone(),
                    task_id: key.1.clone(),
                };
                let body = Some(agent_message::Body::Freed(freed));
                actions.push(AgentAction::Send(link::AgentMessage { body }));
            }
            return self.update(now, key, state, actions);
        }
        task.state = TaskState::TaskKilled;
        if self.registered {
            self.tell_ends(now, actions);
        } else if self.connection.is_none() {
            // The next list of tasks says it.
            self.tasks.remove(key);
        }
    }

    /// Tells the ends of tasks of removed frameworks.
    fn tell_ends(&mut self, now: u64, actions: &mut Vec<AgentAction>) {
        let over = self.tasks.iter().filter(|(_, task)| task.is_over());
        let over: Vec<TaskKey> = over.map(|(key, _)| key.clone()).collect();
        for key in over {
            let Some(task) = self.tasks.remove(&key) else { continue };
            self.next_uuid += 1;
            let update = link::StatusUpdate {
                framework_id: key.0,
                status: wire::status(&task.info, task.state, self.next_uuid, now),
                latest_state: task.state.into(),
            };
            let body = agent_message::Body::StatusUpdate(update);
            actions.push(AgentAction::Send(link::AgentMessage { body: Some(body) }));
        }
    }

    /// Ends the tasks of a removed framework, which takes its time, and forgets their updates at once.
    fn shut_down(&mut self, now: u64, framework: &FrameworkId, rng: &mut Rng, actions: &mut Vec<AgentAction>) {
        let ended = |task: &ModelTask| !task.muted && task.state.is_terminal();
        self.tasks.retain(|key, task| {
            if key.0 == *framework && !task.muted {
                actions.push(AgentAction::Forgot(key.clone()));
            }
            key.0 != *framework || !ended(task)
        });
        let running = self
            .tasks
            .iter_mut()
            .filter(|(key, task)| key.0 == *framework && !task.muted);
        for (key, task) in running {
            task.muted = true;
            task.state = TaskState::TaskKilling;
            task.updates.clear();
            actions.push(AgentAction::EndsAt(key.clone(), now + rng.range(0, 500)));
        }
    }

    /// What the kernel would refuse: two tasks on one port.
    fn check_port(&self, info: &TaskInfo) {
        let Some(port) = wire::first_port(&info.resources) else {
            return;
        };
        let others = self.tasks.values().filter(|task| !task.state.is_terminal());
        let mut ports = others.filter_map(|task| wire::first_port(&task.info.resources));
        assert!(
            ports.all(|other| other != port),
            "port {port} of agent {} is given to two tasks",
            self.index
        );
    }

    /// What the agent would refuse: a task whose volume is not there.
    fn check_volumes(&self, info: &TaskInfo) {
        for id in info.resources.iter().filter_map(operations::volume_id) {
            assert!(
                self.volumes.has(id),
                "agent {} has no volume {id} for {}",
                self.index,
                info.task_id
            );
        }
    }

    fn update(&mut self, now: u64, key: &TaskKey, state: TaskState, actions: &mut Vec<AgentAction>) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        self.next_uuid += 1;
        let status = wire::status(&task.info, state, self.next_uuid, now);
        task.state = state;
        task.updates.push_back(status.clone());
        actions.push(AgentAction::Generated(key.clone(), status));
        let is_head = task.updates.len() == 1;
        // A new latest state is told at once, with the head that is in flight already.
        if self.registered && (is_head || state.is_terminal()) {
            actions.push(AgentAction::Send(head_message(key, task)));
            if self.forgets {
                task.updates.clear();
            }
        }
    }

    fn acknowledged(&mut self, key: &TaskKey, uuid: &[u8], actions: &mut Vec<AgentAction>) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        if task
            .updates
            .front()
            .is_none_or(|head| head.uuid.as_deref() != Some(uuid))
        {
            return;
        }
        task.updates.pop_front();
        if !task.updates.is_empty() {
            actions.push(AgentAction::Send(head_message(key, task)));
        } else if task.state.is_terminal() {
            self.tasks.remove(key);
        }
    }

    /// Sends the head of every queue again.
    pub(crate) fn resend(&self, actions: &mut Vec<AgentAction>) {
        if self.registered {
            let heads = self.tasks.iter().filter(|(_, task)| !task.updates.is_empty());
            actions.extend(heads.map(|(key, task)| AgentAction::Send(head_message(key, task))));
        }
    }

    pub(crate) fn unacknowledged(&self) -> usize {
        self.tasks.values().map(|task| task.updates.len()).sum()
    }

    pub(crate) fn runs(&self, key: &TaskKey) -> bool {
        self.tasks.get(key).is_some_and(|task| !task.state.is_terminal())
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &TaskKey> {
        self.tasks
            .iter()
            .filter(|(_, task)| !task.state.is_terminal())
            .map(|(key, _)| key)
    }
}

impl ModelTask {
    /// Of a removed framework, and ended.
    fn is_over(&self) -> bool {
        self.muted && self.state.is_terminal()
    }
}

fn head_message(key: &TaskKey, task: &ModelTask) -> link::AgentMessage {
    let update = link::StatusUpdate {
        framework_id: key.0.clone(),
        status: task.updates.front().expect("only called with a head").clone(),
        latest_state: task.state.into(),
    };
    link::AgentMessage {
        body: Some(agent_message::Body::StatusUpdate(update)),
    }
}

fn wire_task(task: &ModelTask) -> Task {
    let head = task.updates.front();
    Task {
        name: task.info.name.clone(),
        task_id: task.info.task_id.clone(),
        framework_id: task.framework.clone(),
        agent_id: task.info.agent_id.clone(),
        state: task.state.into(),
        resources: task.info.resources.clone(),
        status_update_state: head.map(|status| status.state),
        status_update_uuid: head.and_then(|status| status.uuid.clone()),
        ..Task::default()
    }
}
