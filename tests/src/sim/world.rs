//! The queue of events, the network, the faults.

mod agents;
mod brief;
mod faults;
mod frameworks;
mod links;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use proffer_master_core::{Answer, Config, ConnectionId, Effect, Input, RequestId, StreamId};
use proffer_proto::link::{MasterMessage, master_message};
use proffer_proto::v1::scheduler::{Call, Event as SchedulerEvent};
use proffer_proto::v1::{FrameworkId, TaskState};

use super::agent::ModelAgent;
use super::checkers::{self, DurableBeforeVisible, NoTaskTwice, OffersExclusive, UpdatesNotLost, Violation};
use super::framework::ModelFramework;
use super::master::MasterHost;
use super::rng::Rng;
use super::trace::Trace;
use super::wire::TaskKey;
use brief::brief_input;

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
        input: Box<Input>,
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
                if usable { self.step_master(*input) } else { Ok(()) }
            }
            Event::ToAgent {
                agent,
                connection,
                message,
            } => self.deliver_to_agent(agent, connection, *message),
            Event::ToFramework {
                framework,
                stream,
                event,
            } => self.deliver_to_framework(framework, stream, *event),
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
        let Some((at, LinkEnd::Agent(agent))) = self.arrival(connection.0) else {
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
        let Some((at, LinkEnd::Framework(framework))) = self.arrival(stream.0) else {
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

    fn heal(&mut self) -> Step {
        self.note(format_args!("the faults are over"));
        self.healed = true;
        Ok(())
    }
}
