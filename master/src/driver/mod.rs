//! The loop around the core: receive, `step`, carry out effects.
//!
//! One thread owns the core, the raft member and the applied registry. Whatever waits is taken together, so that the
//! proposals of many callers share one sync of the log. What the core says to agents, schedulers and callers is
//! handed to bounded queues; nothing here waits for a peer.

mod effects;
mod fatal;
mod handle;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use proffer_master_core::{ConnectionId, Effects, Input, Master, ProposalId, RequestId, StreamId, Timestamp};
use proffer_proto::registry::{Change, Registry};
use proffer_proto::{link, v1};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

pub use handle::{Ended, Handle, Request, WAITING_OF_ONE_AGENT};
use handle::{QUEUE_LENGTH, Reply};

use crate::applied::{self, AppliedRegistry};
use crate::clock::Clock;
use crate::home::Home;
use crate::outbox::Outbox;
use crate::raft::{self, Outcome, Replica, Start};

/// The first byte of an entry's data says what the rest is.
const ENTRY_CHANGE: u8 = 1;
/// How many inputs are taken together.
const TAKEN_AT_ONCE: usize = 512;
/// Of an election timeout of ten of these.
const RAFT_TICK: Duration = Duration::from_millis(100);
const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// How often a failed applied registry is made anew while running. Each costs what sled held in memory.
const REBUILDS: u32 = 3;

/// The driver must stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Replication failed.
    #[error(transparent)]
    Raft(#[from] raft::Error),
    /// What the log or a snapshot holds was not written by this version.
    #[error("{what} cannot be decoded; it may have been written by a newer version")]
    Undecodable {
        /// What is not understood.
        what: &'static str,
        /// Why not.
        source: prost::DecodeError,
    },
    /// An entry is of an unknown kind.
    #[error("entry {index} of the raft log is of kind {kind}, which this version does not know")]
    UnknownEntry {
        /// Its index.
        index: u64,
        /// Its kind.
        kind: u8,
    },
    /// The applied registry is ahead of the log.
    #[error(
        "the raft log ends with entry {last}, but entry {applied} was applied before: its end is lost. {}",
        crate::log::ADVICE
    )]
    LogTooShort {
        /// The last entry.
        last: u64,
        /// What was applied.
        applied: u64,
    },
    /// No thread could be started.
    #[error("cannot start the driver's thread")]
    Thread(#[source] std::io::Error),
}

/// What the driver needs to know beside the core's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A snapshot is taken after so many entries.
    pub snapshot_entries: u64,
    /// Where this master is reached, `host:port`; told to those who look for the leader.
    pub advertise: String,
}

/// A caller who waits.
struct Waiting {
    reply: Reply,
    /// For SUBSCRIBE: the stream that is opened by the answer.
    stream: Option<StreamId>,
}

/// A scheduler's event stream.
struct Stream {
    outbox: Outbox<v1::scheduler::Event>,
    text: String,
}

pub(crate) struct Driver {
    master: Master,
    replica: Replica,
    /// None while it has failed.
    registry: Option<AppliedRegistry>,
    registry_path: PathBuf,
    /// It has failed and is to be made anew.
    registry_lost: bool,
    /// How often it is made anew before the next start has to do it.
    rebuilds_left: u32,
    /// Changes up to here were restored and are not told to the core again.
    restored: u64,
    settings: Settings,
    cluster_id: String,
    clock: Clock,
    inputs: VecDeque<Input>,
    effects: Effects,
    outcomes: Vec<Outcome>,
    wake: Option<Timestamp>,
    /// When the applied registry is to be written back.
    flush_at: Option<Instant>,
    next_request: u64,
    waiting: HashMap<RequestId, Waiting>,
    agents: HashMap<ConnectionId, Outbox<link::MasterMessage>>,
    streams: HashMap<StreamId, Stream>,
    stream_ids: HashMap<String, StreamId>,
    leader: watch::Sender<Option<String>>,
    /// Held as long as the work directory is used.
    _lock: std::fs::File,
}

/// A started driver.
#[derive(Debug)]
pub struct Running {
    /// For the transport.
    pub handle: Handle,
    /// How it ended.
    pub ended: oneshot::Receiver<Result<(), Error>>,
}

/// Starts the driver's thread. It has elected itself, and the registry is restored, when this returns, if it is alone.
///
/// # Errors
/// What is in the work directory cannot be used.
pub fn start(home: Home, core: proffer_master_core::Config, settings: Settings) -> Result<Running, Error> {
    let (requests, requests_of_driver) = mpsc::channel(QUEUE_LENGTH);
    let (ended_streams, ended_streams_of_driver) = mpsc::unbounded_channel();
    let (leader, leader_of_handle) = watch::channel(None);
    let (ended, ended_of_caller) = oneshot::channel();
    let mut driver = Driver::new(home, core, settings, leader)?;
    driver.settle()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(Error::Thread)?;
    std::thread::Builder::new()
        .name("driver".to_owned())
        .spawn(move || {
            let result = runtime.block_on(driver.run(requests_of_driver, ended_streams_of_driver));
            // Nobody may be left to hear it.
            let _ = ended.send(result);
        })
        .map_err(Error::Thread)?;
    Ok(Running {
        handle: Handle::new(requests, ended_streams, leader_of_handle),
        ended: ended_of_caller,
    })
}

impl Driver {
    fn new(
        home: Home,
        core: proffer_master_core::Config,
        settings: Settings,
        leader: watch::Sender<Option<String>>,
    ) -> Result<Self, Error> {
        let mut master = Master::new(core);
        let snapshot_index = home.recovered.snapshot.index;
        let last = snapshot_index + home.recovered.entries.len() as u64;
        let (applied, registry, restored) = match AppliedRegistry::open(&home.registry) {
            Ok((_, _, index)) if index > last => return Err(Error::LogTooShort { last, applied: index }),
            Ok((applied, registry, index)) if index >= snapshot_index => (Some(applied), registry, index),
            Ok((_, _, index)) => {
                tracing::info!(index, snapshot_index, "the applied registry is older than the snapshot");
                let registry = decode_registry(&home.snapshot.data)?;
                (None, registry, snapshot_index)
            }
            Err(error) => {
                tracing::info!(reason = %error, "the applied registry is made anew from snapshot and log");
                (None, decode_registry(&home.snapshot.data)?, snapshot_index)
            }
        };
        let applied = applied.or_else(|| rebuild(&home.registry, &registry, restored));
        master.restore(registry);
        let start = Start {
            id: home.identity.member,
            recovered: home.recovered,
            snapshot: home.snapshot,
            committed: restored,
        };
        let replica = Replica::start(start, Box::new(home.wal), home.snapshots)?;
        Ok(Self {
            master,
            replica,
            registry: applied,
            registry_path: home.registry,
            registry_lost: false,
            rebuilds_left: REBUILDS,
            restored,
            settings,
            cluster_id: home.identity.cluster_id,
            clock: Clock::start(),
            inputs: VecDeque::new(),
            effects: Effects::new(),
            outcomes: Vec::new(),
            wake: None,
            flush_at: None,
            next_request: 0,
            waiting: HashMap::new(),
            agents: HashMap::new(),
            streams: HashMap::new(),
            stream_ids: HashMap::new(),
            leader,
            _lock: home.lock,
        })
    }

    async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut ended: mpsc::UnboundedReceiver<Ended>,
    ) -> Result<(), Error> {
        let mut taken = Vec::with_capacity(TAKEN_AT_ONCE);
        let mut ends = Vec::new();
        let mut raft_tick = tokio::time::interval(RAFT_TICK);
        // The last, and so the first to be dropped: nobody sees a stream end, and nothing is written, after a panic.
        let _fatal = fatal::OnPanic(fatal::end_process);
        loop {
            let wake = self.wake.map(|at| self.clock.until(at));
            let flush = self.flush_at;
            let must_tick = !self.replica.is_alone();
            tokio::select! {
                count = requests.recv_many(&mut taken, TAKEN_AT_ONCE) => {
                    if count == 0 {
                        break;
                    }
                }
                Some(end) = ended.recv() => ends.push(end),
                () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => {}
                _ = raft_tick.tick(), if must_tick => self.replica.tick(),
                () = async { tokio::time::sleep_until(flush.unwrap_or_else(Instant::now)).await }, if flush.is_some() => {
                    self.flush();
                }
            }
            while let Ok(end) = ended.try_recv() {
                ends.push(end);
            }
            if !ends.is_empty() {
                // What a stream said before it ended is heard first; what comes meanwhile is not.
                let waiting = requests.len();
                requests.recv_many(&mut taken, waiting).await;
            }
            for request in taken.drain(..) {
                if !self.accept(request) {
                    self.stop();
                    return Ok(());
                }
            }
            for end in ends.drain(..) {
                self.ended(end);
            }
            if self.wake.is_some_and(|at| at <= self.clock.now()) {
                self.wake = None;
                self.inputs.push_back(Input::Tick);
            }
            self.settle()?;
        }
        self.stop();
        Ok(())
    }

    /// Steps until nothing is left to do but wait.
    fn settle(&mut self) -> Result<(), Error> {
        loop {
            while let Some(input) = self.inputs.pop_front() {
                self.step(input);
            }
            let mut outcomes = std::mem::take(&mut self.outcomes);
            self.replica.drive(&mut outcomes)?;
            for outcome in outcomes.drain(..) {
                self.replicated(outcome)?;
            }
            self.outcomes = outcomes;
            if self.inputs.is_empty() {
                break;
            }
        }
        self.mend_registry();
        if self.replica.since_snapshot() >= self.settings.snapshot_entries {
            let index = self.replica.applied();
            tracing::info!(index, "a snapshot of the registry is taken");
            self.replica.snapshot(self.master.registry().encode_to_vec())?;
        }
        Ok(())
    }

    fn step(&mut self, input: Input) {
        let now = self.clock.now();
        let mut effects = std::mem::take(&mut self.effects);
        {
            let _span = tracing::trace_span!("step", now = now.0).entered();
            tracing::trace!(?input);
            self.master.step(now, input, &mut effects);
        }
        for effect in effects.drain() {
            self.carry_out(effect);
        }
        self.effects = effects;
    }

    fn replicated(&mut self, outcome: Outcome) -> Result<(), Error> {
        match outcome {
            Outcome::Committed { index, proposal, data } => {
                let change = decode_entry(index, &data)?;
                if index > self.restored {
                    self.apply(index, &change);
                    let proposal = proposal.map(ProposalId);
                    self.inputs.push_back(Input::Committed {
                        index,
                        proposal,
                        change,
                    });
                }
            }
            Outcome::Dropped { proposal } => {
                let proposal = ProposalId(proposal);
                self.inputs.push_back(Input::ProposalDropped { proposal });
            }
            Outcome::Led { term } => {
                tracing::info!(term, "this master leads");
                // One term has one leader, so no two masters of the cluster make the same ids.
                let cluster = self.cluster_id.split('-').next().unwrap_or_default();
                let incarnation = format!("{cluster}-{term}");
                self.leader.send_replace(Some(self.settings.advertise.clone()));
                self.inputs.push_back(Input::BecameLeader { incarnation });
            }
            Outcome::LostLeadership => {
                tracing::info!("this master leads no more");
                self.leader.send_replace(None);
                self.inputs.push_back(Input::LostLeadership);
            }
            Outcome::Restored { index, data } => {
                let registry = decode_registry(&data)?;
                self.registry = rebuild(&self.registry_path, &registry, index);
                self.restored = index;
                self.master.restore(registry);
            }
            Outcome::Send(message) => {
                tracing::debug!(to = message.to, "there is no way to other masters yet");
            }
        }
        Ok(())
    }

    fn apply(&mut self, index: u64, change: &Change) {
        let Some(registry) = &mut self.registry else { return };
        match registry.apply(index, change) {
            Ok(()) => {
                self.flush_at.get_or_insert_with(|| Instant::now() + FLUSH_AFTER);
            }
            Err(error) => self.registry_failed(&error),
        }
    }

    fn flush(&mut self) {
        self.flush_at = None;
        let Some(registry) = &mut self.registry else { return };
        if let Err(error) = registry.flush() {
            self.registry_failed(&error);
        }
    }

    fn registry_failed(&mut self, error: &applied::Error) {
        tracing::warn!(%error, "the applied registry failed and is thrown away");
        if let Some(registry) = self.registry.take() {
            registry.abandon();
        }
        self.registry_lost = true;
        if let Err(error) = applied::remove(&self.registry_path) {
            tracing::warn!(%error, "the applied registry cannot be removed");
        }
    }

    /// Makes a failed applied registry anew. The core must have heard of everything that is applied.
    fn mend_registry(&mut self) {
        if !std::mem::take(&mut self.registry_lost) {
            return;
        }
        if self.rebuilds_left == 0 {
            tracing::warn!("the applied registry fails again and again; the next start makes it anew");
            return;
        }
        self.rebuilds_left -= 1;
        let index = self.replica.applied();
        self.registry = rebuild(&self.registry_path, &self.master.registry(), index);
        if self.registry.is_some() {
            tracing::info!(index, "the applied registry is made anew");
        }
    }

    fn ended(&mut self, end: Ended) {
        match end {
            Ended::Agent(connection) => {
                if self.agents.remove(&connection).is_some() {
                    self.inputs.push_back(Input::AgentDisconnected { connection });
                }
            }
            Ended::Scheduler(stream) => {
                if self.forget_stream(stream) {
                    self.inputs.push_back(Input::SchedulerDisconnected { stream });
                }
            }
        }
    }

    fn forget_stream(&mut self, stream: StreamId) -> bool {
        let forgotten = self.streams.remove(&stream);
        if let Some(forgotten) = &forgotten {
            self.stream_ids.remove(&forgotten.text);
        }
        forgotten.is_some()
    }

    fn stop(&mut self) {
        self.waiting.clear();
        self.agents.clear();
        self.streams.clear();
        self.flush();
        tracing::info!(applied = self.replica.applied(), "the driver has stopped");
    }
}

fn rebuild(path: &std::path::Path, registry: &Registry, index: u64) -> Option<AppliedRegistry> {
    AppliedRegistry::rebuild(path, registry, index)
        .inspect_err(|error| tracing::warn!(%error, "the applied registry cannot be written; the master runs without"))
        .ok()
}

fn decode_registry(data: &[u8]) -> Result<Registry, Error> {
    Registry::decode(data).map_err(|source| Error::Undecodable {
        what: "the snapshot",
        source,
    })
}

fn encode_entry(change: &Change) -> Vec<u8> {
    let mut data = Vec::with_capacity(1 + change.encoded_len());
    data.push(ENTRY_CHANGE);
    data.extend_from_slice(&change.encode_to_vec());
    data
}

fn decode_entry(index: u64, data: &[u8]) -> Result<Change, Error> {
    match data.split_first() {
        Some((&ENTRY_CHANGE, change)) => Change::decode(change).map_err(|source| Error::Undecodable {
            what: "an entry of the raft log",
            source,
        }),
        Some((&kind, _)) => Err(Error::UnknownEntry { index, kind }),
        None => Err(Error::UnknownEntry { index, kind: 0 }),
    }
}
