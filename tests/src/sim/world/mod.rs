//! The queue of events, and who hears what.

mod agents;
mod effects;
mod event;
mod faults;
mod finish;
mod frameworks;
mod group;
mod links;
mod masters;
mod orders;
mod peers;
mod setup;
mod state;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proffer_master_core::{Config, Master, RequestId, StreamId};
use proffer_proto::registry::Change;

use super::agent::ModelAgent;
use super::checkers::{
    CommittedNeverLost, ConfigurationsEqual, DurableBeforeVisible, FrameworksKept, NoRemovedLeader, NoTaskLost,
    NoTaskTwice, OffersExclusive, OneLeaderATerm, Operation, StatesEqual, UpdatesNotLost, Violation, VolumesKept,
};
use super::framework::ModelFramework;
use super::masters::{Machine, Network, Output};
use super::operator::Operator;
use super::options::Options;
use super::queue::Queue;
use super::report::{Report, SimFailure};
use super::rng::Rng;
use super::state_client::StateClient;
use super::trace::Trace;
use super::watcher::Watcher;
pub(crate) use event::Event;
use event::ToMaster;
use links::Link;

/// Virtual time begins here, so that timestamps look like those of a real clock.
const START: u64 = 1_700_000_000_000;
/// Whether everything is done is looked at after so many events.
const LOOK_EVERY: u64 = 64;

type Step = Result<(), Violation>;

/// Runs one seed to its end.
///
/// # Errors
/// A checker saw something that must not be.
pub fn run(seed: u64, options: &Options) -> Result<Report, Box<SimFailure>> {
    let mut world = World::new(seed, options.clone());
    // A panic of what is simulated ends a master in reality, and the run here.
    let result = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation::new("no_panic", text.unwrap_or_default()))
    });
    match result {
        Ok(()) => Ok(world.report()),
        Err(violation) => Err(Box::new(SimFailure {
            seed,
            violation,
            at_ms: world.now - START,
            history: world.trace.tail(),
        })),
    }
}

struct World {
    options: Options,
    now: u64,
    rng: Rng,
    trace: Trace,
    queue: Queue<Event>,
    /// How much the frameworks' state may hold, where that is little.
    state_bytes_max: Option<u64>,
    report: Report,
    healed: bool,

    // The masters.
    config: Config,
    snapshot_entries: u64,
    /// How many entries before a snapshot a member keeps for followers that lag.
    tail_entries_max: usize,
    machines: Vec<Machine>,
    /// Where a member lives, or lived.
    seats: BTreeMap<u64, usize>,
    network: Network,
    operator: Operator,
    /// Members that never come back.
    lost: Vec<u64>,
    outputs: Vec<Output>,

    // Around them.
    agents: Vec<ModelAgent>,
    frameworks: Vec<ModelFramework>,
    clients: Vec<StateClient>,
    watchers: Vec<Watcher>,
    /// By the number of the connection or stream, which share one counter.
    links: BTreeMap<u64, Link>,
    next_link: u64,
    next_request: u64,
    subscribing: BTreeMap<RequestId, (usize, StreamId)>,
    watching: BTreeMap<RequestId, StreamId>,
    open_streams: BTreeSet<StreamId>,
    call_free_at: Vec<u64>,
    /// Calls about the frameworks' state that a master has: whose, and which attempt.
    asking: BTreeMap<RequestId, (usize, u64)>,
    operations: Vec<Operation>,
    next_moment: u64,

    // What was committed, and what follows from it.
    log: Vec<(u64, Change)>,
    replay: Master,

    committed: CommittedNeverLost,
    configurations: ConfigurationsEqual,
    leaders: OneLeaderATerm,
    states: StatesEqual,
    durable: DurableBeforeVisible,
    kept: FrameworksKept,
    no_removed_leader: NoRemovedLeader,
    no_task_lost: NoTaskLost,
    no_task_twice: NoTaskTwice,
    offers: OffersExclusive,
    updates: UpdatesNotLost,
    volumes: VolumesKept,
}

impl World {
    fn run(&mut self) -> Step {
        self.begin();
        let end = START + self.options.faults_ms + self.options.settle_ms;
        while let Some((at, event)) = self.queue.pop() {
            if at > end {
                return self.finish();
            }
            self.now = at;
            self.report.events += 1;
            self.handle(event)?;
            if self.healed && self.report.events.is_multiple_of(LOOK_EVERY) && self.settled().is_ok() {
                return self.finish();
            }
        }
        self.finish()
    }

    fn report(&self) -> Report {
        Report {
            seeds: 1,
            virtual_ms: self.now - START,
            terms: self.leaders.count(),
            group_changes: self.configurations.count(),
            committed: self.committed.count(),
            tasks: self.no_task_twice.count() as u64,
            updates: self.updates.count(),
            operations: self.volumes.count(),
            trace_hash: self.trace.hash(),
            ..self.report
        }
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: u64, event: Event) {
        self.queue.add(at, event);
    }

    /// For a running master, after a while; void if it ends before.
    fn master_after(&mut self, delay: u64, machine: usize, what: ToMaster) {
        let incarnation = self.machines[machine].incarnation;
        let event = Event::Master {
            machine,
            incarnation,
            what,
        };
        self.after(delay, event);
    }

    fn note(&mut self, text: fmt::Arguments<'_>) {
        self.trace.line(self.now - START, text);
    }

    fn detail(&self, text: impl FnOnce() -> String) {
        self.trace.detail(self.now - START, text);
    }

    fn handle(&mut self, event: Event) -> Step {
        match event {
            Event::Master {
                machine,
                incarnation,
                what,
            } => self.tell_master(machine, incarnation, what)?,
            Event::MasterStart { machine } => self.start_master(machine)?,
            Event::Crash { machine } => {
                if self.machines[machine].process.is_some() {
                    self.crash_master(machine, masters::End::Killed);
                }
            }
            Event::Outage => self.outage(),
            Event::Resume { machine, incarnation } => self.resume(machine, incarnation),
            Event::DiskDone { machine, incarnation } => self.disk_done(machine, incarnation)?,
            Event::DiskMended { machine } => {
                self.machines[machine].disk.slow = false;
                self.machines[machine].disk.full = false;
            }
            Event::Retire { machine, member } => self.retire(machine, member),
            Event::NetworkMended => self.mend_network(),
            Event::ToAgent {
                agent,
                connection,
                message,
            } => self.deliver_to_agent(agent, connection, *message)?,
            Event::ToFramework {
                framework,
                stream,
                event,
            } => self.deliver_to_framework(framework, stream, *event)?,
            Event::ToWatcher { watcher, stream, event } => self.deliver_to_watcher(watcher, stream, *event),
            Event::WatchConnect { watcher } => self.watch_connect(watcher),
            Event::WatchNotices { watcher, stream } => self.watch_notices(watcher, stream),
            Event::LinkTimesOut { link } => self.link_times_out(link),
            Event::AgentConnect { agent } => self.agent_connect(agent),
            Event::AgentNotices { agent, connection } => self.agent_notices(agent, connection),
            Event::AgentRetry { agent } => self.agent_retry(agent)?,
            Event::AgentStart { agent } => self.agent_start(agent),
            Event::TaskEnds { agent, key } => self.task_ends(agent, &key)?,
            Event::FrameworkConnect { framework } => self.framework_connect(framework),
            Event::FrameworkNotices { framework, stream } => self.framework_notices(framework, stream),
            Event::FrameworkTimer { framework } => self.framework_timer(framework),
            Event::FrameworkStart { framework } => self.framework_start(framework),
            Event::StateNext { client } => self.state_next(client),
            Event::StateRefused { client, attempt } => self.state_refused(client, attempt),
            Event::StateAnswered {
                client,
                attempt,
                answer,
            } => self.state_answered(client, attempt, *answer),
            Event::StateNotTaken { client, attempt } => self.state_not_taken(client, attempt),
            Event::StateGivenUp { client, attempt } => self.state_given_up(client, attempt),
            Event::Operator => self.operate()?,
            Event::Order => self.order()?,
            Event::Fault => self.fault()?,
            Event::Heal => self.heal(),
        }
        Ok(())
    }
}
