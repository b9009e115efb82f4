//! The loop around the core: receive, step, carry out.
//!
//! The effects of a step wait until its checkpoints are on disk, and so do those of every later step: one queue keeps the
//! order in which the core decided. Only launches begin at once, up to the point where the program would start: what they make
//! until then is removed by recovery, should the checkpoint never have come to disk.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use proffer_proto::link::master_message::Body;
use proffer_proto::link::{AgentMessage, agent_message};
use proffer_proto::v1;
use tokio::sync::{mpsc, oneshot};

use crate::checkpoint::{Checkpoint, Need, journal};
use crate::checks;
use crate::containerizer::{ContainerId, Exit};
use crate::core::{Core, Effect, ExecutorCall, Ids, Input, LaunchOrder, Refusal, Timestamp};
use crate::faults;
use crate::launcher::{self, Ended, Launcher, Releases, Resizes};
use crate::link::Stream;
use crate::persistent::Layouts;

const SIGTERM: i32 = 15;
/// Events that are taken in one go.
const EVENTS_MAX: usize = 256;
/// How long an agent that leaves waits for the traces of its containers to be removed.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);

/// What the loop is told.
#[allow(clippy::large_enum_variant, reason = "events are moved once, and most are messages")]
pub(crate) enum Event {
    Input(Input),
    Attached(Stream),
    /// A call of an executor, with where the events of a SUBSCRIBE go.
    Executor {
        token: String,
        call: Box<v1::executor::Call>,
        answer: oneshot::Sender<Result<(), Refusal>>,
        events: Option<mpsc::Sender<v1::executor::Event>>,
    },
    /// Looks at the state between two steps.
    Inspect(Box<dyn FnOnce(&Core) + Send>),
    /// Stop and leave the tasks to the next agent process.
    Stop,
}

/// The executors that wait for an answer, or hear events.
#[derive(Default)]
struct Executors {
    numbers: u64,
    answers: HashMap<u64, oneshot::Sender<Result<(), Refusal>>>,
    streams: HashMap<u64, mpsc::Sender<v1::executor::Event>>,
}

/// The loop's state.
pub(crate) struct Driver {
    core: Core,
    launcher: Arc<Launcher>,
    checkpoint: Checkpoint,
    events: mpsc::Sender<Event>,
    stream: Option<Stream>,
    /// Effects that wait for the ticket before them, oldest first.
    waiting: VecDeque<(u64, Vec<Effect>)>,
    next_ticket: u64,
    sandboxes: HashMap<ContainerId, PathBuf>,
    clock: Clock,
    releases: Releases,
    resizes: Resizes,
    layouts: Layouts,
    executors: Executors,
    stopped: bool,
    /// Whether the agent left the cluster, with nothing to come back to.
    left: bool,
}

impl Driver {
    pub(crate) fn new(
        core: Core,
        launcher: Arc<Launcher>,
        checkpoint: Checkpoint,
        events: mpsc::Sender<Event>,
        clock: Clock,
    ) -> Self {
        let (layout, mut sandboxes) = (&launcher.layout, HashMap::new());
        let tasks = core.tasks().filter(|(_, task)| task.is_alive() && !task.is_entrusted());
        for (name, task) in tasks {
            if let Ok(path) = launcher::sandbox_path(layout, &name.framework, &task.info, &task.container) {
                sandboxes.insert(task.container.clone(), path);
            }
        }
        for (name, executor) in core.executors() {
            if let Ok(path) = layout.sandbox(&name.framework, &name.executor, executor.container.as_str()) {
                sandboxes.insert(executor.container.clone(), path);
            }
        }
        let releases = Releases::start(Arc::clone(&launcher));
        let resizes = Resizes::start(Arc::clone(&launcher));
        let layouts = Layouts::start(Arc::clone(&launcher), events.clone());
        Self {
            core,
            launcher,
            checkpoint,
            events,
            stream: None,
            waiting: VecDeque::new(),
            next_ticket: 0,
            sandboxes,
            clock,
            releases,
            resizes,
            layouts,
            executors: Executors::default(),
            stopped: false,
            left: false,
        }
    }

    /// Runs until the agent is to stop. An agent that left the cluster returns what keeps its stream open: its last words are
    /// still on their way.
    ///
    /// # Errors
    /// The journal failed: nothing can be promised any more.
    pub(crate) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Event>,
        mut durable: mpsc::UnboundedReceiver<Result<u64, journal::Error>>,
        first: Vec<Effect>,
    ) -> Result<Option<oneshot::Sender<()>>, journal::Error> {
        self.route(first);
        while !self.stopped {
            let mut wake = self.clock.instant(self.core.wake());
            if let Some(flush_at) = self.checkpoint.flush_at() {
                wake = wake.min(flush_at);
            }
            tokio::select! {
                Some(ticket) = durable.recv() => self.release(ticket?),
                event = inbox.recv() => {
                    let Some(event) = event else { break };
                    self.event(event);
                    for _ in 1..EVENTS_MAX {
                        match inbox.try_recv() {
                            Ok(event) if !self.stopped => self.event(event),
                            _ => break,
                        }
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    if self.checkpoint.flush_at().is_some_and(|at| at <= Instant::now()) {
                        self.checkpoint.flush();
                    }
                    self.step(Input::Tick);
                }
            }
        }
        if !self.left {
            return Ok(None);
        }
        let _ = tokio::time::timeout(RELEASE_PATIENCE, self.releases.finish()).await;
        Ok(self.stream.map(|stream| stream.open))
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Input(input) => {
                if let Input::Detached(session) = &input
                    && self.stream.as_ref().is_some_and(|stream| stream.session == *session)
                {
                    self.stream = None;
                }
                if let Input::Message(_, message) = &input
                    && matches!(message.body, Some(Body::Acknowledge(_)))
                {
                    faults::ACKNOWLEDGED.pass();
                }
                self.step(input);
            }
            Event::Attached(stream) => {
                let session = stream.session;
                self.stream = Some(stream);
                self.step(Input::Attached(session));
            }
            Event::Executor {
                token,
                call,
                answer,
                events,
            } => self.executor_call(token, *call, answer, events),
            Event::Inspect(look) => look(&self.core),
            Event::Stop => self.stopped = true,
        }
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.core.step(self.clock.now(), input, &mut effects);
        self.route(effects);
    }

    /// Writes the checkpoints of a step and carries out the rest, or lets it wait.
    fn route(&mut self, effects: Vec<Effect>) {
        let (mut records, mut rest, mut need) = (Vec::new(), Vec::new(), Need::Nothing);
        let mut gates = Vec::new();
        for effect in effects {
            match effect {
                Effect::Checkpoint(record) => {
                    need = Need::Durable;
                    records.push(record);
                }
                Effect::Write(record) => {
                    need = need.max(Need::Written);
                    records.push(record);
                }
                Effect::Note(record) => records.push(record),
                Effect::Launch(order) => {
                    let (gate, opened) = oneshot::channel();
                    gates.push(gate);
                    self.launch(order, opened);
                }
                // Whether the agent lives, and a container has gone, does not depend on its disk.
                Effect::Send(session, message) if is_so_anyway(&message) => self.send(session, message),
                other => rest.push(other),
            }
        }
        if need > Need::Nothing {
            self.next_ticket += 1;
            if !self.checkpoint.append(records, need, self.next_ticket, gates) {
                self.waiting.push_back((self.next_ticket, rest));
                return;
            }
        } else if !records.is_empty() {
            self.checkpoint.append(records, need, 0, gates);
        }
        match self.waiting.back_mut() {
            Some((_, waiting)) => waiting.append(&mut rest),
            None => rest.into_iter().for_each(|effect| self.perform(effect)),
        }
    }

    /// Carries out what waited for this ticket and those before it.
    fn release(&mut self, ticket: u64) {
        while self.waiting.front().is_some_and(|(waits_for, _)| *waits_for <= ticket) {
            let Some((_, effects)) = self.waiting.pop_front() else {
                break;
            };
            effects.into_iter().for_each(|effect| self.perform(effect));
        }
    }

    fn perform(&mut self, effect: Effect) {
        let containerizer = &self.launcher.containerizer;
        match effect {
            // Taken out of the step before.
            Effect::Checkpoint(_) | Effect::Write(_) | Effect::Note(_) | Effect::Launch(_) => {}
            Effect::Watch(container) => self.watch(container),
            Effect::Terminate(container) => {
                if let Err(error) = containerizer.signal(&container, SIGTERM) {
                    tracing::warn!(container_id = %container, %error, "cannot signal the task");
                }
            }
            Effect::Destroy(container) => {
                if let Err(error) = containerizer.destroy(&container) {
                    tracing::error!(container_id = %container, %error, "cannot kill the task");
                }
            }
            Effect::Check(order) => checks::run(&self.launcher, order, &self.events),
            Effect::Abandon(container) => self.launcher.abandon(&container),
            Effect::Release(container) => {
                let sandbox = self.sandboxes.remove(&container);
                self.releases.push(Ended::Container(container), sandbox);
            }
            Effect::ReleasePod(pod) => {
                let sandbox = self.sandboxes.remove(&pod);
                self.releases.push(Ended::Pod(pod), sandbox);
            }
            Effect::Resize(order) => self.resizes.push(*order),
            Effect::LayOut(wanted) => self.layouts.push(wanted),
            Effect::Answer(request, result) => {
                if result.is_err() {
                    self.executors.streams.remove(&request);
                }
                if let Some(answer) = self.executors.answers.remove(&request) {
                    let _ = answer.send(result);
                }
            }
            Effect::Tell(stream, event) => {
                if let Some(events) = self.executors.streams.get(&stream)
                    && events.try_send(*event).is_err()
                {
                    // It has gone, or reads too slowly; it hears what it missed when it subscribes again.
                    self.executors.streams.remove(&stream);
                }
            }
            Effect::CloseExecutor(stream) => drop(self.executors.streams.remove(&stream)),
            Effect::Send(session, message) => self.send(session, message),
            Effect::Close(session) => {
                if self.stream.as_ref().is_some_and(|stream| stream.session == session) {
                    self.stream = None;
                }
            }
            Effect::Stop => (self.stopped, self.left) = (true, true),
        }
    }

    /// Begins a launch, whose program is started when the gate opens.
    fn launch(&mut self, order: Box<LaunchOrder>, gate: oneshot::Receiver<()>) {
        let framework = order.framework.id.as_ref().map_or("", |id| &id.value);
        let layout = &self.launcher.layout;
        if let Ok(path) = launcher::sandbox_path(layout, framework, &order.task, &order.container) {
            self.sandboxes.insert(order.container.clone(), path);
        }
        if let (Some(pod), Some(executor)) = (order.container.pod(), &order.executor)
            && let Ok(path) = layout.sandbox(framework, executor.info.executor_id.as_str(), pod.as_str())
        {
            self.sandboxes.insert(pod, path);
        }
        self.launcher.clone().launch(order, gate, self.events.clone());
    }

    fn watch(&self, container: ContainerId) {
        let (launcher, events) = (Arc::clone(&self.launcher), self.events.clone());
        tokio::spawn(async move {
            let exit = launcher.containerizer.wait(&container).await.unwrap_or_else(|error| {
                tracing::error!(container_id = %container, %error, "the container cannot be watched");
                Exit {
                    lost: true,
                    ..Exit::default()
                }
            });
            faults::EXITED.pass();
            let _ = events.send(Event::Input(Input::Exited(container, exit))).await;
        });
    }

    fn send(&mut self, session: u64, message: AgentMessage) {
        let Some(stream) = self.stream.as_ref().filter(|stream| stream.session == session) else {
            return;
        };
        let once = matches!(message.body, Some(agent_message::Body::ExecutorExited(_)));
        if stream.outbound.try_send(message).is_err() {
            tracing::debug!("the master reads too slowly: a message is dropped");
            if once {
                // Said by the next Register.
                self.stream = None;
            }
        }
    }

    /// Numbers a call and lets the core see it. The end of a stream is an input too.
    fn executor_call(
        &mut self,
        token: String,
        call: v1::executor::Call,
        answer: oneshot::Sender<Result<(), Refusal>>,
        events: Option<mpsc::Sender<v1::executor::Event>>,
    ) {
        self.executors.numbers += 1;
        let number = self.executors.numbers;
        self.executors.answers.insert(number, answer);
        let stream = events.map(|events| {
            let (watched, inbox) = (events.clone(), self.events.clone());
            self.executors.streams.insert(number, events);
            tokio::spawn(async move {
                watched.closed().await;
                let _ = inbox.send(Event::Input(Input::ExecutorDetached(number))).await;
            });
            number
        });
        self.step(Input::Executor(ExecutorCall {
            request: number,
            stream,
            token,
            call,
        }));
    }
}

/// Whether the message says what nothing on disk can change.
fn is_so_anyway(message: &AgentMessage) -> bool {
    use agent_message::Body::{Freed, Pong};
    matches!(message.body, Some(Pong(_) | Freed(_)))
}

/// The wall clock at start, moved on by the monotonic one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    start_wall: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            start: Instant::now(),
            start_wall: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.start_wall).after(self.start.elapsed())
    }

    /// When to wake; an hour from now where there is nothing to wake for.
    fn instant(&self, at: Option<Timestamp>) -> Instant {
        const HOUR: u64 = 3_600_000_000_000;
        let now = self.now();
        let span = at.map_or(HOUR, |at| at.0.saturating_sub(now.0)).min(HOUR);
        Instant::now() + Duration::from_nanos(span)
    }
}

/// Random identities.
#[derive(Debug)]
pub(crate) struct RandomIds;

impl Ids for RandomIds {
    fn update(&mut self) -> [u8; 16] {
        uuid::Uuid::new_v4().into_bytes()
    }

    fn container(&mut self) -> String {
        uuid::Uuid::new_v4().to_string()
    }

    fn token(&mut self) -> String {
        format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
    }
}
