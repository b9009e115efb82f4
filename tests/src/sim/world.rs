//! The queue of events, the network, the faults.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use proffer_master_core::{Answer, Config, ConnectionId, Effect, Input, RequestId, StreamId};
use proffer_proto::link::{AgentMessage, MasterMessage, Register, master_message};
use proffer_proto::v1::scheduler::{Call, Event as SchedulerEvent};
use proffer_proto::v1::{FrameworkId, TaskState, TaskStatus};

use super::agent::{AgentAction, ModelAgent};
use super::checkers::{self, DurableBeforeVisible, NoTaskTwice, OffersExclusive, UpdatesNotLost, Violation};
use super::framework::{FrameworkAction, ModelFramework};
use super::master::MasterHost;
use super::rng::Rng;
use super::trace::Trace;
use super::wire::TaskKey;

/// The resources of every model agent, as `agent.rs` registers them.
const AGENT_CPUS: f64 = 4.0;
/// Faults happen until then, in virtual milliseconds.
const HEAL_AT: u64 = 60_000;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many agents.
    pub agents: usize,
    /// How many frameworks.
    pub frameworks: usize,
    /// How many tasks each framework wants finished.
    pub tasks: u64,
    /// How long after healing everything must be done, in virtual milliseconds.
    pub settle_ms: u64,
    /// Prints every line of the history to standard error.
    pub print: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            agents: 4,
            frameworks: 3,
            tasks: 12,
            settle_ms: 240_000,
            print: false,
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// Events handled.
    pub events: u64,
    /// Faults injected.
    pub faults: u64,
    /// Tasks started.
    pub tasks: usize,
    /// Equal for every run of one seed.
    pub trace_hash: u64,
}

/// A run in which something did not hold.
#[derive(Debug, Clone)]
pub struct SimFailure {
    /// The seed that shows it again.
    pub seed: u64,
    /// What did not hold.
    pub violation: Violation,
    /// When, in virtual milliseconds.
    pub at_ms: u64,
    /// The end of the history.
    pub history: String,
}

impl fmt::Display for SimFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.history)?;
        writeln!(
            f,
            "seed {} at {} ms: {}: {}",
            self.seed, self.at_ms, self.violation.checker, self.violation.what
        )?;
        write!(
            f,
            "replay it: cargo run -p proffer-tests --bin proffer-sim -- --seed {} --trace",
            self.seed
        )
    }
}

impl std::error::Error for SimFailure {}

/// Runs one seed to its end.
///
/// # Errors
/// A checker saw something that must not be.
pub fn run(seed: u64, options: &Options) -> Result<Report, Box<SimFailure>> {
    let mut world = World::new(seed, options.clone());
    match world.run() {
        Ok(()) => Ok(world.report()),
        Err(violation) => Err(Box::new(SimFailure {
            seed,
            violation,
            at_ms: world.now - START,
            history: world.trace.tail(),
        })),
    }
}

/// Virtual time begins here, so that timestamps look like those of a real clock.
const START: u64 = 1_700_000_000_000;

type Step = Result<(), Violation>;

#[derive(Debug)]
enum Event {
    ToMaster {
        link: u64,
        input: Input,
    },
    ToAgent {
        agent: usize,
        connection: ConnectionId,
        message: Box<MasterMessage>,
    },
    ToFramework {
        framework: usize,
        stream: StreamId,
        event: Box<SchedulerEvent>,
    },
    AgentConnect {
        agent: usize,
    },
    AgentNotices {
        agent: usize,
        connection: ConnectionId,
    },
    AgentRetry {
        agent: usize,
    },
    AgentStart {
        agent: usize,
    },
    TaskEnds {
        agent: usize,
        key: TaskKey,
    },
    FrameworkConnect {
        framework: usize,
    },
    FrameworkNotices {
        framework: usize,
        stream: StreamId,
    },
    FrameworkTimer {
        framework: usize,
    },
    FrameworkStart {
        framework: usize,
    },
    Call {
        framework: usize,
        stream: StreamId,
        call: Box<Call>,
    },
    Commit {
        epoch: u64,
    },
    Tick {
        epoch: u64,
        at: u64,
    },
    MasterStart,
    Fault,
    Heal,
}

/// One TCP connection: an agent's link or a scheduler's event stream.
#[derive(Debug)]
struct Link {
    epoch: u64,
    broken: bool,
    to_master_free_at: u64,
    from_master_free_at: u64,
    end: LinkEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinkEnd {
    Agent(usize),
    Framework(usize),
}

struct World {
    options: Options,
    now: u64,
    rng: Rng,
    trace: Trace,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    master: MasterHost,
    /// Grows with every crash of the master; what belongs to an older epoch is void.
    epoch: u64,
    wake: Option<u64>,
    agents: Vec<ModelAgent>,
    frameworks: Vec<ModelFramework>,
    /// By the number of the connection or stream, which share one counter.
    links: BTreeMap<u64, Link>,
    next_link: u64,
    next_request: u64,
    subscribing: BTreeMap<RequestId, (usize, StreamId)>,
    open_streams: BTreeSet<StreamId>,
    call_free_at: Vec<u64>,
    events: u64,
    faults: u64,
    healed: bool,
    durable: DurableBeforeVisible,
    no_task_twice: NoTaskTwice,
    offers: OffersExclusive,
    updates: UpdatesNotLost,
}

impl World {
    fn new(seed: u64, options: Options) -> Self {
        let mut rng = Rng::new(seed);
        let config = Config {
            ping_interval: Duration::from_secs(1),
            ping_misses: 4,
            agent_timeout: Duration::from_secs(8),
            agent_reregister_timeout: Duration::from_secs(15),
            framework_resubscribe_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(5),
            offer_timeout: rng.one_in(2).then(|| Duration::from_secs(3)),
            ..Config::default()
        };
        let frameworks = (0..options.frameworks)
            // One framework in four is removed when it stays away for long.
            .map(|index| ModelFramework::new(index, options.tasks, if rng.one_in(4) { 5.0 } else { 3600.0 }))
            .collect();
        World {
            now: START,
            trace: Trace::new(options.print),
            queue: BTreeMap::new(),
            sequence: 0,
            master: MasterHost::new(config),
            epoch: 0,
            wake: None,
            agents: (0..options.agents).map(ModelAgent::new).collect(),
            frameworks,
            links: BTreeMap::new(),
            next_link: 0,
            next_request: 0,
            subscribing: BTreeMap::new(),
            open_streams: BTreeSet::new(),
            call_free_at: vec![0; options.frameworks],
            events: 0,
            faults: 0,
            healed: false,
            durable: DurableBeforeVisible::default(),
            no_task_twice: NoTaskTwice::default(),
            offers: OffersExclusive::default(),
            updates: UpdatesNotLost::default(),
            options,
            rng,
        }
    }

    fn run(&mut self) -> Step {
        self.after(0, Event::MasterStart);
        for agent in 0..self.agents.len() {
            let delay = self.rng.range(0, 500);
            self.after(delay, Event::AgentConnect { agent });
            self.after(2_000, Event::AgentRetry { agent });
        }
        for framework in 0..self.frameworks.len() {
            let delay = self.rng.range(0, 500);
            self.after(delay, Event::FrameworkConnect { framework });
            self.after(1_000, Event::FrameworkTimer { framework });
        }
        self.after(1_000, Event::Fault);
        self.after(HEAL_AT, Event::Heal);
        let end = START + HEAL_AT + self.options.settle_ms;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > end {
                return self.finish();
            }
            self.now = at;
            self.events += 1;
            self.handle(event)?;
            if let Some(core) = &self.master.core {
                checkers::resources_conserved(core)?;
            }
            if self.healed && self.events.is_multiple_of(64) && self.finish().is_ok() {
                return Ok(());
            }
        }
        self.finish()
    }

    fn finish(&self) -> Step {
        checkers::progress_after_heal(&self.agents, &self.frameworks)?;
        let alive: BTreeSet<&FrameworkId> = self
            .frameworks
            .iter()
            .filter_map(|framework| framework.id.as_ref())
            .collect();
        self.updates.finish(|(framework, _)| alive.contains(framework))
    }

    fn report(&self) -> Report {
        Report {
            virtual_ms: self.now - START,
            events: self.events,
            faults: self.faults,
            tasks: self.no_task_twice.count(),
            trace_hash: self.trace.hash(),
        }
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    fn note(&mut self, text: fmt::Arguments<'_>) {
        self.trace.line(self.now - START, text);
    }

    fn handle(&mut self, event: Event) -> Step {
        match event {
            Event::ToMaster { link, input } => {
                let usable = self
                    .links
                    .get(&link)
                    .is_some_and(|link| !link.broken && link.epoch == self.epoch);
                if usable { self.step_master(input) } else { Ok(()) }
            }
            Event::ToAgent {
                agent,
                connection,
                message,
            } => self.to_agent(agent, connection, *message),
            Event::ToFramework {
                framework,
                stream,
                event,
            } => self.to_framework(framework, stream, *event),
            Event::AgentConnect { agent } => self.agent_connect(agent),
            Event::AgentNotices { agent, connection } => {
                self.agent_notices(agent, connection);
                Ok(())
            }
            Event::AgentRetry { agent } => {
                self.after(2_000, Event::AgentRetry { agent });
                let mut actions = Vec::new();
                if self.agents[agent].up {
                    self.agents[agent].resend(&mut actions);
                }
                self.agent_actions(agent, actions)
            }
            Event::AgentStart { agent } => {
                self.note(format_args!("agent {agent} starts again"));
                self.agents[agent].up = true;
                self.agent_connect(agent)
            }
            Event::TaskEnds { agent, key } => {
                let state = if self.rng.one_in(8) {
                    TaskState::TaskFailed
                } else {
                    TaskState::TaskFinished
                };
                let mut actions = Vec::new();
                let now = self.now;
                self.agents[agent].end(now, &key, state, &mut actions);
                self.agent_actions(agent, actions)
            }
            Event::FrameworkConnect { framework } => self.framework_connect(framework),
            Event::FrameworkNotices { framework, stream } => {
                self.framework_notices(framework, stream);
                Ok(())
            }
            Event::FrameworkTimer { framework } => self.framework_timer(framework),
            Event::FrameworkStart { framework } => {
                self.note(format_args!("framework {framework} starts again"));
                self.frameworks[framework].up = true;
                self.framework_connect(framework)
            }
            Event::Call {
                framework,
                stream,
                call,
            } => self.call_arrives(framework, stream, call),
            Event::Commit { epoch } if epoch == self.epoch => {
                let now = self.now;
                let effects = self.master.commit(now);
                self.durable.read(&self.master.shadow);
                self.effects(effects)
            }
            Event::Tick { epoch, at } if epoch == self.epoch && self.wake == Some(at) => {
                self.wake = None;
                self.step_master(Input::Tick)
            }
            Event::Commit { .. } | Event::Tick { .. } => Ok(()),
            Event::MasterStart => {
                self.note(format_args!("master starts"));
                let now = self.now;
                let effects = self.master.start(now);
                self.durable.read(&self.master.shadow);
                self.effects(effects)
            }
            Event::Fault => self.fault(),
            Event::Heal => self.heal(),
        }
    }

    fn step_master(&mut self, input: Input) -> Step {
        self.note(format_args!("master <- {}", brief_input(&input)));
        if let Input::SchedulerDisconnected { stream } = &input {
            self.open_streams.remove(stream);
            self.offers.stream_ended(*stream);
        }
        let now = self.now;
        let effects = self.master.step(now, input);
        self.effects(effects)
    }

    fn effects(&mut self, effects: Vec<Effect>) -> Step {
        for effect in effects {
            match effect {
                Effect::Propose { id, change } => {
                    self.master.pending.push_back((id, *change));
                    let delay = self.rng.range(0, 20);
                    let epoch = self.epoch;
                    self.after(delay, Event::Commit { epoch });
                }
                Effect::SendAgent { connection, message } => self.send_agent(connection, message)?,
                Effect::CloseAgent { connection } => self.close(connection.0),
                Effect::SendEvent { stream, event } => self.send_event(stream, event)?,
                Effect::CloseStream { stream } => {
                    self.open_streams.remove(&stream);
                    self.offers.stream_ended(stream);
                    self.close(stream.0);
                }
                Effect::Answer { request, answer } => self.answer(request, answer),
                Effect::Wake { at } => {
                    let at = at.0.max(self.now);
                    self.wake = Some(at);
                    let epoch = self.epoch;
                    self.at(at, Event::Tick { epoch, at });
                }
            }
        }
        Ok(())
    }

    fn send_agent(&mut self, connection: ConnectionId, message: Box<MasterMessage>) -> Step {
        match &message.body {
            Some(master_message::Body::Registered(registered)) => self.durable.agent_told(&registered.agent_id)?,
            Some(master_message::Body::ShutdownFramework(shutdown)) => {
                self.durable.framework_shut_down(&shutdown.framework_id)?;
            }
            _ => {}
        }
        let Some((at, LinkEnd::Agent(agent))) = self.from_master(connection.0) else {
            return Ok(());
        };
        self.at(
            at,
            Event::ToAgent {
                agent,
                connection,
                message,
            },
        );
        Ok(())
    }

    fn send_event(&mut self, stream: StreamId, event: Box<SchedulerEvent>) -> Step {
        if let Some(subscribed) = &event.subscribed {
            self.durable.framework_told(&subscribed.framework_id)?;
        }
        for offer in event.offers.iter().flat_map(|offers| &offers.offers) {
            self.offers.offered(stream, offer, AGENT_CPUS)?;
        }
        if let Some(rescind) = &event.rescind {
            self.offers.ended(&rescind.offer_id);
        }
        let Some((at, LinkEnd::Framework(framework))) = self.from_master(stream.0) else {
            return Ok(());
        };
        self.at(
            at,
            Event::ToFramework {
                framework,
                stream,
                event,
            },
        );
        Ok(())
    }

    fn answer(&mut self, request: RequestId, answer: Answer) {
        let Some((framework, stream)) = self.subscribing.remove(&request) else {
            return;
        };
        match answer {
            Answer::Accepted => {
                self.open_streams.insert(stream);
            }
            Answer::Rejected(rejection) => {
                self.note(format_args!("framework {framework} is refused: {rejection}"));
                // Its failover timeout ran out while it was away: it starts again as a new framework.
                self.frameworks[framework].id = None;
                self.frameworks[framework].tasks.clear();
                self.close(stream.0);
            }
            _ => self.close(stream.0),
        }
    }

    /// When a message of the master arrives at the other end, if the link holds.
    fn from_master(&mut self, link: u64) -> Option<(u64, LinkEnd)> {
        let delay = self.delay();
        let link = self
            .links
            .get_mut(&link)
            .filter(|link| !link.broken && link.epoch == self.epoch)?;
        link.from_master_free_at = link.from_master_free_at.max(self.now + delay);
        Some((link.from_master_free_at, link.end))
    }

    fn to_master(&mut self, link_id: u64, input: Input) {
        let delay = self.delay();
        let Some(link) = self.links.get_mut(&link_id) else {
            return;
        };
        link.to_master_free_at = link.to_master_free_at.max(self.now + delay);
        let at = link.to_master_free_at;
        self.at(at, Event::ToMaster { link: link_id, input });
    }

    fn delay(&mut self) -> u64 {
        if self.rng.one_in(50) {
            self.rng.range(20, 400)
        } else {
            self.rng.range(0, 5)
        }
    }

    fn open_link(&mut self, end: LinkEnd) -> u64 {
        self.next_link += 1;
        let link = Link {
            epoch: self.epoch,
            broken: false,
            to_master_free_at: 0,
            from_master_free_at: 0,
            end,
        };
        self.links.insert(self.next_link, link);
        self.next_link
    }

    /// The master closes a link after what it sent before.
    fn close(&mut self, link_id: u64) {
        let Some((at, end)) = self.from_master(link_id) else {
            return;
        };
        self.links.get_mut(&link_id).expect("just found").epoch = u64::MAX;
        self.notice(at, link_id, end);
    }

    fn notice(&mut self, at: u64, link: u64, end: LinkEnd) {
        match end {
            LinkEnd::Agent(agent) => self.at(
                at,
                Event::AgentNotices {
                    agent,
                    connection: ConnectionId(link),
                },
            ),
            LinkEnd::Framework(framework) => {
                self.at(
                    at,
                    Event::FrameworkNotices {
                        framework,
                        stream: StreamId(link),
                    },
                );
            }
        }
    }

    /// The network breaks a link: what is in flight is lost, and each end notices in its own time.
    fn break_link(&mut self, link_id: u64) {
        let (first, second) = (self.rng.range(0, 3_000), self.rng.range(0, 3_000));
        let Some(link) = self
            .links
            .get_mut(&link_id)
            .filter(|link| !link.broken && link.epoch == self.epoch)
        else {
            return;
        };
        link.broken = true;
        let end = link.end;
        self.notice(self.now + first, link_id, end);
        // The master's side is told through a link of its own, which nothing else uses.
        let notice = self.open_link(end);
        let input = match end {
            LinkEnd::Agent(_) => Input::AgentDisconnected {
                connection: ConnectionId(link_id),
            },
            LinkEnd::Framework(_) => Input::SchedulerDisconnected {
                stream: StreamId(link_id),
            },
        };
        self.at(self.now + second, Event::ToMaster { link: notice, input });
    }

    fn agent_connect(&mut self, agent: usize) -> Step {
        let model = &self.agents[agent];
        if !model.up || model.connection.is_some() {
            return Ok(());
        }
        if self.master.core.is_none() {
            let delay = self.rng.range(50, 500);
            self.after(delay, Event::AgentConnect { agent });
            return Ok(());
        }
        let register: Register = model.register();
        let connection = ConnectionId(self.open_link(LinkEnd::Agent(agent)));
        self.agents[agent].connection = Some(connection);
        self.agents[agent].registered = false;
        let address = format!("10.0.0.{agent}:5051");
        self.to_master(
            connection.0,
            Input::AgentRegister {
                connection,
                register: Box::new(register),
                address,
            },
        );
        Ok(())
    }

    fn agent_notices(&mut self, agent: usize, connection: ConnectionId) {
        if self.agents[agent].connection == Some(connection) {
            self.note(format_args!("agent {agent} lost {connection}"));
            self.agents[agent].connection = None;
            self.agents[agent].registered = false;
            let delay = self.rng.range(10, 1_000);
            self.after(delay, Event::AgentConnect { agent });
        }
    }

    fn to_agent(&mut self, agent: usize, connection: ConnectionId, message: MasterMessage) -> Step {
        if !self.agents[agent].up || self.agents[agent].connection != Some(connection) {
            return Ok(());
        }
        if self.links.get(&connection.0).is_some_and(|link| link.broken) {
            return Ok(());
        }
        let Some(body) = message.body else { return Ok(()) };
        self.note(format_args!("agent {agent} <- {}", brief(&body)));
        let mut actions = Vec::new();
        let now = self.now;
        self.agents[agent].handle(now, body, &mut self.rng, &mut actions);
        self.agent_actions(agent, actions)
    }

    fn agent_actions(&mut self, agent: usize, actions: Vec<AgentAction>) -> Step {
        for action in actions {
            match action {
                AgentAction::Send(message) => self.agent_sends(agent, message),
                AgentAction::Started(key) => self.no_task_twice.started(&key)?,
                AgentAction::Generated(key, status) => self.updates.generated(&key, &status),
                AgentAction::Forgot(key) => self.updates.forgot(&key),
                AgentAction::EndsAt(key, at) => self.at(at, Event::TaskEnds { agent, key }),
            }
        }
        Ok(())
    }

    fn agent_sends(&mut self, agent: usize, message: AgentMessage) {
        let Some(connection) = self.agents[agent].connection.filter(|_| self.agents[agent].up) else {
            return;
        };
        self.to_master(
            connection.0,
            Input::AgentMessage {
                connection,
                message: Box::new(message),
            },
        );
    }

    fn framework_connect(&mut self, framework: usize) -> Step {
        let model = &self.frameworks[framework];
        if !model.up || model.stream.is_some() {
            return Ok(());
        }
        if self.master.core.is_none() {
            let delay = self.rng.range(50, 500);
            self.after(delay, Event::FrameworkConnect { framework });
            return Ok(());
        }
        let call = Box::new(model.subscribe());
        let stream = StreamId(self.open_link(LinkEnd::Framework(framework)));
        self.frameworks[framework].stream = Some(stream);
        self.frameworks[framework].subscribed = false;
        let request = self.request();
        self.subscribing.insert(request, (framework, stream));
        self.to_master(stream.0, Input::Subscribe { request, stream, call });
        Ok(())
    }

    fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    fn framework_notices(&mut self, framework: usize, stream: StreamId) {
        if self.frameworks[framework].stream == Some(stream) {
            self.note(format_args!("framework {framework} lost {stream}"));
            self.drop_stream(framework);
            let delay = self.rng.range(10, 1_000);
            self.after(delay, Event::FrameworkConnect { framework });
        }
    }

    fn drop_stream(&mut self, framework: usize) {
        self.frameworks[framework].stream = None;
        self.frameworks[framework].subscribed = false;
    }

    fn to_framework(&mut self, framework: usize, stream: StreamId, event: SchedulerEvent) -> Step {
        let model = &mut self.frameworks[framework];
        if !model.up || model.stream != Some(stream) {
            return Ok(());
        }
        if self.links.get(&stream.0).is_some_and(|link| link.broken) {
            return Ok(());
        }
        let mut actions = Vec::new();
        let text = brief_event(&event);
        model.handle(event, &mut self.rng, &mut actions);
        self.note(format_args!("framework {framework} <- {text}"));
        for action in actions {
            match action {
                FrameworkAction::Call(call) => self.send_call(framework, call),
                FrameworkAction::Saw(status) => self.saw(framework, &status)?,
                FrameworkAction::Resubscribe => {
                    self.break_link(stream.0);
                    self.framework_notices(framework, stream);
                }
                FrameworkAction::Removed => {
                    self.frameworks[framework].id = None;
                    self.frameworks[framework].tasks.clear();
                    self.break_link(stream.0);
                    self.framework_notices(framework, stream);
                }
            }
        }
        Ok(())
    }

    fn saw(&mut self, framework: usize, status: &TaskStatus) -> Step {
        let Some(id) = self.frameworks[framework].id.clone() else {
            return Ok(());
        };
        self.updates.saw(&(id, status.task_id.clone()), status)
    }

    fn send_call(&mut self, framework: usize, call: Call) {
        let Some(stream) = self.frameworks[framework].stream else {
            return;
        };
        let at = (self.now + self.delay()).max(self.call_free_at[framework]);
        self.call_free_at[framework] = at;
        self.at(
            at,
            Event::Call {
                framework,
                stream,
                call: Box::new(call),
            },
        );
    }

    fn call_arrives(&mut self, framework: usize, stream: StreamId, call: Box<Call>) -> Step {
        // Calls go over connections of their own: only the master's end of the stream counts.
        if self.master.core.is_none() || self.rng.one_in(if self.healed { u64::MAX } else { 100 }) {
            return Ok(());
        }
        let open = self.open_streams.contains(&stream).then_some(stream);
        if open.is_some() {
            let accepted = call.accept.iter().flat_map(|accept| &accept.offer_ids);
            let declined = call.decline.iter().flat_map(|decline| &decline.offer_ids);
            for id in accepted.chain(declined) {
                self.offers.ended(id);
            }
        }
        let request = self.request();
        self.note(format_args!("master <- framework {framework} {:?}", call.r#type()));
        let now = self.now;
        let effects = self.master.step(
            now,
            Input::SchedulerCall {
                request,
                stream: open,
                call,
            },
        );
        self.effects(effects)
    }

    fn framework_timer(&mut self, framework: usize) -> Step {
        let delay = self.rng.range(500, 4_000);
        self.after(delay, Event::FrameworkTimer { framework });
        let model = &self.frameworks[framework];
        if !model.up || !model.subscribed {
            return Ok(());
        }
        let call = if self.healed || self.rng.one_in(2) {
            model.reconcile()
        } else {
            Some(model.whim(&mut self.rng))
        };
        if self.healed {
            let revive = self.frameworks[framework].revive();
            self.send_call(framework, revive);
        }
        if let Some(call) = call {
            self.send_call(framework, call);
        }
        Ok(())
    }

    fn fault(&mut self) -> Step {
        if self.healed {
            return Ok(());
        }
        let next = self.rng.range(100, 3_000);
        self.after(next, Event::Fault);
        self.faults += 1;
        match self.rng.range(0, 9) {
            0 => self.crash_master(),
            1 | 2 => self.crash_agent(),
            3 | 4 => self.crash_framework(),
            5 | 6 => self.stall_a_link(),
            _ => {
                if let Some(link) = self.random_link() {
                    self.note(format_args!("fault: link {link} breaks"));
                    self.break_link(link);
                }
            }
        }
        Ok(())
    }

    fn random_link(&mut self) -> Option<u64> {
        let usable: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| !link.broken && link.epoch == self.epoch)
            .map(|(id, _)| *id)
            .collect();
        if usable.is_empty() {
            return None;
        }
        Some(usable[self.rng.range(0, usable.len() as u64 - 1) as usize])
    }

    /// One direction of a link stands still for a while.
    fn stall_a_link(&mut self) {
        let Some(id) = self.random_link() else { return };
        let until = self.now + self.rng.range(500, 12_000);
        let outward = self.rng.one_in(2);
        self.note(format_args!(
            "fault: link {id} stalls until {} outward {outward}",
            until - START
        ));
        let link = self.links.get_mut(&id).expect("just chosen");
        if outward {
            link.from_master_free_at = until
        } else {
            link.to_master_free_at = until
        }
    }

    fn crash_master(&mut self) {
        if self.master.core.is_none() {
            return;
        }
        let survivors = self.rng.range(0, self.master.pending.len() as u64) as usize;
        self.note(format_args!(
            "fault: master crashes, {survivors} pending changes reached the disk"
        ));
        let now = self.now;
        self.master.crash(now, survivors);
        self.epoch += 1;
        self.wake = None;
        self.open_streams.clear();
        self.subscribing.clear();
        self.offers.master_ended();
        let ends: Vec<(u64, LinkEnd)> = self
            .links
            .iter()
            .filter(|(_, link)| !link.broken)
            .map(|(id, link)| (*id, link.end))
            .collect();
        self.links.clear();
        for (link, end) in ends {
            let delay = self.rng.range(0, 1_500);
            self.notice(self.now + delay, link, end);
        }
        let delay = self.rng.range(100, 6_000);
        self.after(delay, Event::MasterStart);
    }

    fn crash_agent(&mut self) {
        let agent = self.rng.range(0, self.agents.len() as u64 - 1) as usize;
        if !self.agents[agent].up {
            return;
        }
        self.note(format_args!("fault: agent {agent} crashes"));
        if let Some(connection) = self.agents[agent].connection {
            self.break_link(connection.0);
        }
        self.agents[agent].up = false;
        self.agents[agent].connection = None;
        self.agents[agent].registered = false;
        // Sometimes it is away for so long that it is marked unreachable.
        let delay = if self.rng.one_in(4) {
            self.rng.range(9_000, 25_000)
        } else {
            self.rng.range(50, 3_000)
        };
        self.after(delay, Event::AgentStart { agent });
    }

    fn crash_framework(&mut self) {
        let framework = self.rng.range(0, self.frameworks.len() as u64 - 1) as usize;
        if !self.frameworks[framework].up {
            return;
        }
        self.note(format_args!("fault: framework {framework} crashes"));
        if let Some(stream) = self.frameworks[framework].stream {
            self.break_link(stream.0);
        }
        self.drop_stream(framework);
        self.frameworks[framework].up = false;
        let delay = if self.rng.one_in(4) {
            self.rng.range(5_000, 20_000)
        } else {
            self.rng.range(50, 2_000)
        };
        self.after(delay, Event::FrameworkStart { framework });
    }

    fn heal(&mut self) -> Step {
        self.note(format_args!("the faults are over"));
        self.healed = true;
        Ok(())
    }
}

fn brief(body: &master_message::Body) -> String {
    use master_message::Body;
    match body {
        Body::Registered(registered) => format!("registered {}", registered.agent_id),
        Body::Rejected(rejected) => format!("rejected: {}", rejected.message),
        Body::Launch(launch) => {
            let ids: Vec<_> = launch.tasks.iter().map(|task| task.task_id.value.as_str()).collect();
            format!("launch {} of {}", ids.join(" "), launch.framework.name)
        }
        Body::Kill(kill) => format!("kill {} of {}", kill.task_id, kill.framework_id),
        Body::Acknowledge(ack) => format!("acknowledge {} of {}", ack.task_id, ack.framework_id),
        Body::ShutdownFramework(shutdown) => format!("shut down {}", shutdown.framework_id),
        Body::Ping(ping) => format!("ping {}", ping.sequence),
        Body::FrameworkMessage(_) => "message".to_owned(),
        Body::ShutdownExecutor(_) => "shut down an executor".to_owned(),
        Body::UpdateFramework(_) => "update framework".to_owned(),
    }
}

fn brief_event(event: &SchedulerEvent) -> String {
    if let Some(update) = &event.update {
        return format!(
            "UPDATE {} {:?} {:?}",
            update.status.task_id,
            update.status.state(),
            update.status.message()
        );
    }
    if let Some(offers) = &event.offers {
        let ids: Vec<_> = offers.offers.iter().map(|offer| offer.id.value.as_str()).collect();
        return format!("OFFERS {}", ids.join(" "));
    }
    if let Some(error) = &event.error {
        return format!("ERROR {}", error.message);
    }
    format!("{:?}", event.r#type())
}

fn brief_input(input: &Input) -> String {
    match input {
        Input::AgentRegister {
            connection, register, ..
        } => {
            format!(
                "register {connection} {:?} {} tasks",
                register.agent.id.as_ref().map(|id| &id.value),
                register.tasks.len()
            )
        }
        Input::AgentMessage { connection, message } => match &message.body {
            Some(proffer_proto::link::agent_message::Body::StatusUpdate(update)) => {
                format!(
                    "{connection} update {} {:?}",
                    update.status.task_id,
                    update.status.state()
                )
            }
            _ => format!("{connection} message"),
        },
        Input::AgentDisconnected { connection } => format!("{connection} disconnected"),
        Input::SchedulerDisconnected { stream } => format!("{stream} disconnected"),
        Input::Subscribe { stream, call, .. } => {
            format!(
                "subscribe {stream} {:?}",
                call.framework_id.as_ref().map(|id| &id.value)
            )
        }
        Input::Tick => "tick".to_owned(),
        other => format!("{other:?}").chars().take(80).collect(),
    }
}
