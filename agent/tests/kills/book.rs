//! What a master knows of every task that it launched, and what must be true of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::ensure;
use proffer_proto::link::{self, MasterMessage, master_message};
use proffer_proto::v1;
use proffer_proto::v1::TaskState::{self, *};

use crate::Random;
use crate::master::Stream;
use crate::support::shell;

const FRAMEWORK: &str = "framework-1";

#[derive(Debug)]
pub(crate) struct Task {
    kind: Kind,
    /// The executor of its pod, and the other of its group.
    group: Option<(String, String)>,
    /// An update said that it runs.
    ran: bool,
    kill_sent: bool,
    end: Option<End>,
}

/// What a task does, and so how it may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Ends with this code after so many milliseconds.
    Ends { code: u64, after_ms: u64 },
    /// The same, and leaves a process of its own behind.
    Leaves { code: u64 },
    /// Ends when it is killed.
    Lasts { stubborn: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// The agent never had it.
    NeverHad,
    /// An update said so.
    Said(TaskState, String),
}

/// Every task, and what was wrong.
pub(crate) struct Book {
    random: Random,
    stream: Option<Stream>,
    /// Streams so far.
    session: u64,
    tasks: BTreeMap<String, Task>,
    faults: Vec<String>,
    acknowledgements_lost: u64,
}

impl Book {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            stream: None,
            session: 0,
            tasks: BTreeMap::new(),
            faults: Vec::new(),
            acknowledgements_lost: 0,
        }
    }

    /// What was wrong so far.
    pub(crate) fn faults(&self) -> &[String] {
        &self.faults
    }

    /// How many tasks have not ended.
    pub(crate) fn open(&self) -> usize {
        self.tasks.values().filter(|task| task.end.is_none()).count()
    }

    pub(crate) fn open_tasks(&self) -> Vec<(&String, &Task)> {
        self.tasks.iter().filter(|(_, task)| task.end.is_none()).collect()
    }

    /// Whether an agent is registered, for all that is known.
    pub(crate) fn is_attended(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !stream.is_closed())
    }

    /// The agent is dead.
    pub(crate) fn abandoned(&mut self) {
        self.stream = None;
    }

    /// Launches until so many have not ended, and kills some.
    pub(crate) fn load(&mut self, tasks_max: usize) {
        if !self.is_attended() {
            return;
        }
        while self.open() < tasks_max {
            let kind = match self.random.below(8) {
                0 => Kind::Lasts { stubborn: false },
                1 => Kind::Lasts { stubborn: true },
                2 => Kind::Leaves {
                    code: self.random.below(200),
                },
                _ => Kind::Ends {
                    code: self.random.below(4),
                    after_ms: self.random.below(300),
                },
            };
            match self.random.below(4) {
                0 => {
                    let code = self.random.below(2);
                    let after_ms = self.random.below(300);
                    self.launch(&[kind, Kind::Ends { code, after_ms }]);
                }
                _ => self.launch(&[kind]),
            }
        }
        let lasting: Vec<String> = self.lasting().collect();
        for id in lasting {
            if self.random.below(40) == 0 {
                self.kill(&id);
            }
        }
    }

    /// Kills what does not end by itself.
    pub(crate) fn end_all(&mut self) {
        let lasting: Vec<String> = self.lasting().filter(|id| !self.tasks[id].kill_sent).collect();
        for id in lasting {
            self.kill(&id);
        }
    }

    fn lasting(&self) -> impl Iterator<Item = String> {
        let lasts = |task: &Task| task.end.is_none() && matches!(task.kind, Kind::Lasts { .. });
        self.tasks
            .iter()
            .filter(move |(_, task)| lasts(task))
            .map(|(id, _)| id.clone())
    }

    /// The agent says what it has: the whole truth.
    pub(crate) fn registered(&mut self, register: &link::Register, stream: Stream) -> u64 {
        self.session += 1;
        self.stream = Some(stream);
        let mut kills = Vec::new();
        for (id, task) in self.tasks.iter_mut().filter(|(_, task)| task.end.is_none()) {
            let listed = register.tasks.iter().any(|listed| listed.task_id.value == *id);
            if !listed && task.ran {
                self.faults.push(format!("{id} is lost: {task:?}"));
                task.end = Some(End::NeverHad);
            } else if !listed {
                task.end = Some(End::NeverHad);
            } else if task.kill_sent {
                kills.push(id.clone());
            }
        }
        for listed in &register.tasks {
            if !self.tasks.contains_key(&listed.task_id.value) {
                self.faults.push(format!("{} is not known", listed.task_id.value));
            }
        }
        for id in kills {
            self.kill(&id);
        }
        self.session
    }

    pub(crate) fn heard(&mut self, session: u64, update: link::StatusUpdate) {
        let id = update.status.task_id.value.clone();
        let state = update.status.state();
        let Some(task) = self.tasks.get_mut(&id) else {
            self.faults.push(format!("an update of {id}, which is not known"));
            return;
        };
        match state {
            TaskRunning => task.ran = true,
            TaskFinished | TaskFailed | TaskKilled | TaskLost | TaskDropped | TaskGone | TaskError => {
                let end = End::Said(state, update.status.message().to_owned());
                match &task.end {
                    None => task.end = Some(end),
                    Some(before) if *before == end => {}
                    Some(before) => self
                        .faults
                        .push(format!("{id} has ended twice: {before:?}, then {end:?}")),
                }
            }
            other => self.faults.push(format!("{id} is {other:?}")),
        }
        // The agent has to say it again then.
        if self.random.below(8) == 0 {
            self.acknowledgements_lost += 1;
            return;
        }
        if session == self.session {
            self.send(master_message::Body::Acknowledge(link::Acknowledge {
                framework_id: update.framework_id,
                task_id: update.status.task_id,
                uuid: update.status.uuid.unwrap_or_default(),
            }));
        }
    }

    /// Looks at what every task did, when all have ended: each writes a line whenever it is started.
    pub(crate) fn check(&mut self, sandboxes: &Path) -> anyhow::Result<()> {
        let mut faults = std::mem::take(&mut self.faults);
        for (id, task) in &self.tasks {
            let runs = match &task.group {
                None => runs(&sandboxes.join(FRAMEWORK).join(id), Path::new("")),
                Some((pod, _)) => runs(&sandboxes.join(FRAMEWORK).join(pod), &Path::new("tasks").join(id)),
            };
            let other = task.group.as_ref().and_then(|(_, other)| self.tasks.get(other));
            if let Some(fault) = task.fault(runs, other) {
                faults.push(format!("{id}: {fault}: {task:?}, started runs times"));
            }
        }
        ensure!(faults.is_empty(), "{} faults: {faults:#?}", faults.len());
        Ok(())
    }

    pub(crate) fn figures(&self) -> String {
        let count = |holds: &dyn Fn(&End) -> bool| {
            let ends = self.tasks.values().filter_map(|task| task.end.as_ref());
            ends.filter(|end| holds(end)).count()
        };
        let never = count(&|end| *end == End::NeverHad);
        let dropped = count(&|end| matches!(end, End::Said(TaskLost | TaskDropped, _)));
        let killed = count(&|end| matches!(end, End::Said(TaskKilled, _)));
        let ended = count(&|end| matches!(end, End::Said(TaskFinished | TaskFailed, _)));
        format!(
            "{} tasks, {ended} ended by themselves, {killed} killed, {dropped} told not to have been started, {never} not \
             received; {} registrations, {} acknowledgements lost",
            self.tasks.len(),
            self.session,
            self.acknowledgements_lost
        )
    }

    /// One task, or two as a group in a pod of their own.
    fn launch(&mut self, kinds: &[Kind]) {
        let first = self.tasks.len();
        let ids: Vec<String> = (first..)
            .take(kinds.len())
            .map(|number| format!("task-{number}"))
            .collect();
        let pod = (ids.len() > 1).then(|| format!("pod-{first}"));
        let mut infos = Vec::new();
        for (index, kind) in kinds.iter().enumerate() {
            infos.push(info(&ids[index], *kind));
            let other = &ids[ids.len() - 1 - index];
            let launched = Task {
                kind: *kind,
                group: pod.clone().map(|pod| (pod, other.clone())),
                ran: false,
                kill_sent: false,
                end: None,
            };
            self.tasks.insert(ids[index].clone(), launched);
        }
        let framework = v1::FrameworkInfo {
            user: "nobody".into(),
            name: "kills".into(),
            id: Some(FRAMEWORK.into()),
            ..Default::default()
        };
        let group = pod.is_some().then_some(true);
        let executor = pod.map(|pod| v1::ExecutorInfo {
            executor_id: pod.as_str().into(),
            r#type: Some(v1::executor_info::Type::Default.into()),
            ..Default::default()
        });
        self.send(master_message::Body::Launch(link::Launch {
            framework,
            executor: executor.map(Box::new),
            tasks: infos,
            group,
            start_executor: group,
        }));
    }

    fn kill(&mut self, id: &str) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.kill_sent = true;
        let grace_period = Some(v1::DurationInfo {
            nanoseconds: [0, 20_000_000, 200_000_000][self.random.below(3) as usize],
        });
        self.send(master_message::Body::Kill(link::Kill {
            framework_id: v1::FrameworkId {
                value: FRAMEWORK.into(),
            },
            task_id: v1::TaskId { value: id.into() },
            kill_policy: Some(v1::KillPolicy { grace_period }),
            drain: None,
        }));
    }

    fn send(&self, body: master_message::Body) {
        if let Some(stream) = &self.stream {
            // Whether the agent lives is what nobody knows.
            let _ = stream.send(Ok(MasterMessage { body: Some(body) }));
        }
    }
}

/// What a task of a kind is launched as.
fn info(id: &str, kind: Kind) -> v1::TaskInfo {
    let line = match kind {
        Kind::Ends { code, after_ms } => format!("echo x >> runs; sleep 0.{after_ms:03}; exit {code}"),
        Kind::Leaves { code } => format!("echo x >> runs; (tail -f runs > /dev/null) & exit {code}"),
        Kind::Lasts { stubborn: false } => "echo x >> runs; exec tail -f runs".to_owned(),
        Kind::Lasts { stubborn: true } => "trap '' TERM; echo x >> runs; while :; do sleep 0.1; done".to_owned(),
    };
    let mut task = shell(id, &line);
    for resource in &mut task.resources {
        resource.scalar = Some(v1::value::Scalar {
            value: if resource.name == "cpus" { 0.1 } else { 32.0 },
        });
    }
    task
}

/// The lines of all containers of a task.
fn runs(sandboxes: &Path, within: &Path) -> usize {
    let containers = std::fs::read_dir(sandboxes).into_iter().flatten().flatten();
    let files = containers.map(|container| container.path().join(within).join("runs"));
    let texts = files.map(|file| std::fs::read_to_string(file).unwrap_or_default());
    texts.map(|text| text.lines().count()).sum()
}

impl Task {
    /// What is wrong with a task that was started so many times, beside the other of its group.
    fn fault(&self, runs: usize, other: Option<&Task>) -> Option<&'static str> {
        if runs > 1 {
            return Some("it was started twice");
        }
        let Some(end) = &self.end else {
            return Some("nobody knows how it ended");
        };
        let (state, message) = match end {
            End::NeverHad if runs == 0 => return None,
            End::NeverHad => return Some("it was started and forgotten"),
            End::Said(state, message) => (*state, message.as_str()),
        };
        let code = |code: u64| {
            let (wanted, text) = match code {
                0 => (TaskFinished, String::new()),
                code => (TaskFailed, format!("exited with code {code}")),
            };
            state == wanted && (code == 0 || message == text) && runs == 1
        };
        let other_ended_well = matches!(other.map(|other| &other.end), Some(Some(End::Said(TaskFinished, _))));
        let with_its_group = message.starts_with("another task of its group failed or was killed");
        let is_right = match (state, self.kind) {
            (TaskKilled, _) if with_its_group => other.is_some() && !other_ended_well,
            (TaskLost | TaskDropped, _) => runs == 0 && !self.ran && message.contains("had not been started"),
            (_, Kind::Ends { code: number, .. } | Kind::Leaves { code: number }) => code(number),
            (TaskKilled, Kind::Lasts { .. }) => self.kill_sent,
            _ => false,
        };
        (!is_right).then_some("it ended in another way than it should")
    }
}

impl fmt::Debug for Book {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Book")
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}
