//! One simulated agent: its tasks, and the updates that nobody has acknowledged yet.
//!
//! A task whose command is `sleep SECONDS` finishes after so long; any other runs until it is killed. Updates are sent in
//! order, one of a task at a time, and again until they are acknowledged, as a real agent does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proffer_proto::link::{self, AgentMessage, MasterMessage, agent_message, master_message};
use proffer_proto::v1::{self, TaskState};
use tokio::time::Instant;

use super::fleet::Ledger;

const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What an agent makes of a message, beside what it sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum News {
    /// Nothing that concerns its stream.
    None,
    /// The master has admitted it and pings so often.
    Registered(Duration),
    /// The master does not want it.
    Rejected,
}

/// An agent.
#[derive(Debug)]
pub(super) struct Agent {
    number: usize,
    info: v1::AgentInfo,
    frameworks: BTreeMap<String, v1::FrameworkInfo>,
    tasks: BTreeMap<(String, String), Task>,
    /// When tasks end; of some that have ended otherwise, too.
    ends: BinaryHeap<Reverse<(Instant, (String, String))>>,
    /// No update is to be sent again before.
    retries_from: Option<Instant>,
    uuids: Uuids,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
struct Task {
    wire: v1::Task,
    updates: VecDeque<v1::TaskStatus>,
    attempts: u32,
    retry_at: Option<Instant>,
}

impl Agent {
    pub(super) fn new(number: usize, info: v1::AgentInfo, ledger: Arc<Ledger>) -> Self {
        Agent {
            number,
            info,
            frameworks: BTreeMap::new(),
            tasks: BTreeMap::new(),
            ends: BinaryHeap::new(),
            retries_from: None,
            uuids: Uuids::new(),
            ledger,
        }
    }

    /// The first message of every stream: the whole truth.
    pub(super) fn register(&self) -> AgentMessage {
        message(agent_message::Body::Register(link::Register {
            protocol: 1,
            agent: self.info.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tasks: self.tasks.values().map(Task::to_wire).collect(),
            frameworks: self.frameworks.values().cloned().collect(),
            ..Default::default()
        }))
    }

    /// Takes a message of the master; what is to be sent is appended.
    pub(super) fn handle(&mut self, now: Instant, message: MasterMessage, out: &mut Vec<AgentMessage>) -> News {
        use master_message::Body;
        match message.body {
            Some(Body::Registered(registered)) => {
                self.info.id = Some(registered.agent_id);
                for (name, task) in &mut self.tasks {
                    task.attempts = 0;
                    task.send_head(now, &name.0, out);
                }
                self.plan_retries();
                let interval = Duration::try_from_secs_f64(registered.ping_interval_seconds);
                return News::Registered(interval.unwrap_or(RETRY_MAX));
            }
            Some(Body::Rejected(_)) => return News::Rejected,
            Some(Body::Launch(launch)) => self.launch(now, launch, out),
            Some(Body::Kill(kill)) => {
                let name = (kill.framework_id.value, kill.task_id.value);
                self.change(now, &name, TaskState::TaskKilled, out);
            }
            Some(Body::Acknowledge(acknowledge)) => self.acknowledge(now, acknowledge, out),
            Some(Body::ShutdownFramework(shutdown)) => self.shut_down(&shutdown.framework_id, out),
            Some(Body::Ping(ping)) => out.push(self::message(agent_message::Body::Pong(link::Pong {
                sequence: ping.sequence,
            }))),
            _ => {}
        }
        News::None
    }

    /// Ends the tasks whose time has come. Without a stream (`out` is `None`) the updates wait.
    pub(super) fn tick(&mut self, now: Instant, out: &mut Vec<AgentMessage>) {
        while let Some(Reverse((at, _))) = self.ends.peek()
            && *at <= now
            && let Some(Reverse((_, name))) = self.ends.pop()
        {
            let is_over = |task: &Task| task.wire.state().is_terminal();
            if self.tasks.get(&name).is_none_or(is_over) {
                continue;
            }
            self.ledger.freed.put(self.number, now);
            out.push(message(agent_message::Body::Freed(link::Freed {
                framework_id: v1::FrameworkId { value: name.0.clone() },
                task_id: v1::TaskId { value: name.1.clone() },
            })));
            self.change(now, &name, TaskState::TaskFinished, out);
        }
        if self.retries_from.is_some_and(|at| at <= now) {
            for (name, task) in &mut self.tasks {
                if task.retry_at.is_some_and(|at| at <= now) {
                    task.send_head(now, &name.0, out);
                }
            }
            self.plan_retries();
        }
    }

    fn plan_retries(&mut self) {
        self.retries_from = self.tasks.values().filter_map(|task| task.retry_at).min();
    }

    /// When [`Agent::tick`] is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let ends = self.ends.peek().map(|Reverse((at, _))| *at);
        ends.into_iter().chain(self.retries_from).min()
    }

    fn launch(&mut self, now: Instant, launch: link::Launch, out: &mut Vec<AgentMessage>) {
        let framework_id = launch.framework.id.clone().unwrap_or_default();
        self.frameworks.insert(framework_id.value.clone(), launch.framework);
        for info in launch.tasks {
            let name = (framework_id.value.clone(), info.task_id.value.clone());
            if !self.tasks.contains_key(&name) {
                self.tasks.insert(name.clone(), Task::new(&framework_id, &info));
                self.ends
                    .extend(life(&info).map(|life| Reverse((now + life, name.clone()))));
                self.change(now, &name, TaskState::TaskRunning, out);
            }
        }
    }

    fn change(&mut self, now: Instant, name: &(String, String), state: TaskState, out: &mut Vec<AgentMessage>) {
        let Some(task) = self.tasks.get_mut(name) else { return };
        if task.wire.state().is_terminal() {
            return;
        }
        task.wire.state = state.into();
        let uuid = self.uuids.next();
        self.ledger.made(&name.1, state, uuid);
        task.updates.push_back(v1::TaskStatus {
            task_id: task.wire.task_id.clone(),
            state: state.into(),
            agent_id: Some(task.wire.agent_id.clone()),
            executor_id: Some(v1::ExecutorId { value: name.1.clone() }),
            source: Some(v1::task_status::Source::Executor.into()),
            uuid: Some(uuid.to_vec()),
            ..Default::default()
        });
        // A terminal state rides on the head that is in flight, and frees the task's resources.
        if task.updates.len() == 1 || state.is_terminal() {
            task.attempts = 0;
            task.send_head(now, &name.0, out);
            self.retries_from = self.retries_from.into_iter().chain(task.retry_at).min();
        }
    }

    fn acknowledge(&mut self, now: Instant, acknowledge: link::Acknowledge, out: &mut Vec<AgentMessage>) {
        let name = (acknowledge.framework_id.value, acknowledge.task_id.value);
        let Some(task) = self.tasks.get_mut(&name) else { return };
        if task.updates.front().and_then(|head| head.uuid.as_ref()) != Some(&acknowledge.uuid) {
            return;
        }
        self.ledger.acknowledged();
        let over = task.updates.pop_front().is_some_and(|head| head.state().is_terminal());
        if over {
            self.tasks.remove(&name);
            if self.tasks.is_empty() {
                self.retries_from = None;
            }
            return;
        }
        (task.attempts, task.retry_at) = (0, None);
        task.send_head(now, &name.0, out);
        self.retries_from = self.retries_from.into_iter().chain(task.retry_at).min();
    }

    fn shut_down(&mut self, framework_id: &v1::FrameworkId, out: &mut Vec<AgentMessage>) {
        self.frameworks.remove(&framework_id.value);
        self.tasks.retain(|(framework, _), task| {
            if *framework != framework_id.value {
                return true;
            }
            let status = v1::TaskStatus {
                task_id: task.wire.task_id.clone(),
                state: TaskState::TaskKilled.into(),
                agent_id: Some(task.wire.agent_id.clone()),
                uuid: Some(self.uuids.next().to_vec()),
                ..Default::default()
            };
            out.push(update(framework, status, TaskState::TaskKilled));
            false
        });
    }
}

impl Task {
    fn new(framework_id: &v1::FrameworkId, info: &v1::TaskInfo) -> Self {
        Task {
            wire: v1::Task {
                name: info.name.clone(),
                task_id: info.task_id.clone(),
                framework_id: framework_id.clone(),
                agent_id: info.agent_id.clone(),
                state: TaskState::TaskStaging.into(),
                resources: info.resources.clone(),
                ..Default::default()
            },
            updates: VecDeque::new(),
            attempts: 0,
            retry_at: None,
        }
    }

    fn to_wire(&self) -> v1::Task {
        let head = self.updates.front();
        v1::Task {
            statuses: self.updates.back().cloned().into_iter().collect(),
            status_update_state: head.map(|status| status.state),
            status_update_uuid: head.and_then(|status| status.uuid.clone()),
            ..self.wire.clone()
        }
    }

    fn send_head(&mut self, now: Instant, framework: &str, out: &mut Vec<AgentMessage>) {
        let Some(head) = self.updates.front() else {
            self.retry_at = None;
            return;
        };
        out.push(update(framework, head.clone(), self.wire.state()));
        let wait = RETRY_MIN.saturating_mul(1 << self.attempts.min(10)).min(RETRY_MAX);
        self.attempts += 1;
        self.retry_at = Some(now + wait);
    }
}

/// How long the task runs by itself.
fn life(info: &v1::TaskInfo) -> Option<Duration> {
    let line = info.command.as_ref().map_or("", |command| command.value());
    let seconds = line.strip_prefix("sleep ")?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Ids of updates, without asking the kernel for each.
#[derive(Debug)]
struct Uuids {
    /// Of this agent.
    seed: u64,
    made: u64,
}

impl Uuids {
    fn new() -> Self {
        let seed = uuid::Uuid::new_v4().as_u64_pair().0;
        Uuids { seed, made: 0 }
    }

    fn next(&mut self) -> [u8; 16] {
        self.made += 1;
        uuid::Uuid::from_u64_pair(self.seed, self.made).into_bytes()
    }
}

fn update(framework: &str, status: v1::TaskStatus, latest: TaskState) -> AgentMessage {
    message(agent_message::Body::StatusUpdate(link::StatusUpdate {
        framework_id: v1::FrameworkId {
            value: framework.to_owned(),
        },
        status,
        latest_state: latest.into(),
    }))
}

fn message(body: agent_message::Body) -> AgentMessage {
    AgentMessage { body: Some(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered() -> MasterMessage {
        MasterMessage {
            body: Some(master_message::Body::Registered(link::Registered {
                agent_id: v1::AgentId { value: "a1".to_owned() },
                ping_interval_seconds: 15.0,
            })),
        }
    }

    fn launch(line: &str) -> MasterMessage {
        let mut framework = proffer_sdk::Framework::new("f").build();
        framework.id = Some(v1::FrameworkId { value: "f1".to_owned() });
        let task = v1::TaskInfo {
            task_id: v1::TaskId { value: "t1".to_owned() },
            agent_id: v1::AgentId { value: "a1".to_owned() },
            command: Some(v1::CommandInfo {
                value: Some(line.to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        };
        MasterMessage {
            body: Some(master_message::Body::Launch(link::Launch {
                framework,
                tasks: vec![task],
                ..Default::default()
            })),
        }
    }

    fn states(out: &mut Vec<AgentMessage>) -> Vec<(TaskState, Vec<u8>)> {
        let updates = out.drain(..).filter_map(|message| match message.body {
            Some(agent_message::Body::StatusUpdate(update)) => Some(update.status),
            _ => None,
        });
        updates
            .map(|status| (status.state(), status.uuid.clone().unwrap_or_default()))
            .collect()
    }

    fn acknowledge(uuid: Vec<u8>) -> MasterMessage {
        MasterMessage {
            body: Some(master_message::Body::Acknowledge(link::Acknowledge {
                framework_id: v1::FrameworkId { value: "f1".to_owned() },
                task_id: v1::TaskId { value: "t1".to_owned() },
                uuid,
            })),
        }
    }

    #[tokio::test]
    async fn an_update_is_sent_again_until_it_is_acknowledged_and_the_next_one_after_it() {
        let ledger = Arc::new(Ledger::default());
        let mut agent = Agent::new(0, v1::AgentInfo::default(), ledger.clone());
        let (mut out, mut now) = (Vec::new(), Instant::now());
        assert_eq!(
            agent.handle(now, registered(), &mut out),
            News::Registered(Duration::from_secs(15))
        );
        agent.handle(now, launch("sleep 3"), &mut out);
        let running = states(&mut out);
        assert_eq!(running.len(), 1);
        now += RETRY_MIN;
        agent.tick(now, &mut out);
        let repeated = states(&mut out);
        assert!(repeated.iter().all(|update| *update == running[0]), "{repeated:?}");
        agent.handle(now, registered(), &mut out);
        assert_eq!(states(&mut out), running);
        agent.handle(now, acknowledge(running[0].1.clone()), &mut out);
        let finished = states(&mut out);
        assert_eq!(finished[0].0, TaskState::TaskFinished);
        agent.handle(now, acknowledge(finished[0].1.clone()), &mut out);
        assert!(agent.due().is_none() && agent.tasks.is_empty());
        assert_eq!(ledger.unacknowledged(), 0);
    }
}
