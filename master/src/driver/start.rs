//! From a work directory to a running driver.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, mpsc as blocking};

use proffer_master_core::{Effects, Master};
use proffer_replication::{Member, Start};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::handle::PEER_EVENTS_LENGTH;
use super::room::Room;
use super::run::Inbox;
use super::snapshots::SnapshotPolicy;
use super::ticks::Ticks;
use super::turns::Turns;
use super::{Driver, Error, Group, Handle, Keeper, QUEUE_LENGTH, Settings, entry};
use crate::applied::AppliedRegistry;
use crate::clock::Clock;
use crate::home::Home;
use crate::log::Writer;
use crate::peers::{Incoming, Me, Peers};

/// A started driver.
#[derive(Debug)]
pub struct Running {
    /// For the transport.
    pub handle: Handle,
    /// Where the transport hands over what comes from other masters.
    pub incoming: Incoming,
    /// How it ended.
    pub ended: oneshot::Receiver<Result<(), Error>>,
}

/// Starts the driver's thread. When this returns, the registry is restored; and the master leads if it is alone. To be called
/// within the tokio runtime that serves.
///
/// # Errors
/// What is in the work directory cannot be used.
pub fn start(home: Home, core: proffer_master_core::Config, settings: Settings) -> Result<Running, Error> {
    let (requests, requests_of_driver) = mpsc::channel(QUEUE_LENGTH);
    let (ended_streams, ended_streams_of_driver) = mpsc::unbounded_channel();
    let (peer_events, peer_events_of_driver) = mpsc::channel(PEER_EVENTS_LENGTH);
    let (leader, leader_of_handle) = watch::channel(None);
    let (ended, ended_of_caller) = oneshot::channel();
    let me = Me {
        cluster_id: home.identity.cluster_id.clone(),
        cluster: home.identity.cluster.clone(),
        member: home.identity.member,
        address: settings.advertise.clone(),
        level: settings.level,
        version: core.version.clone(),
    };
    let peers = Peers::start(me.clone(), peer_events).map_err(Error::Thread)?;
    let incoming = peers.incoming();
    let driver = Driver::new(home, core, settings, me, peers, leader)?;
    let written = driver.writer.written().clone();
    let inbox = Inbox {
        requests: requests_of_driver,
        ended: ended_streams_of_driver,
        peers: peer_events_of_driver,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(Error::Thread)?;
    let (ready, ready_of_caller) = blocking::channel();
    std::thread::Builder::new()
        .name("driver".to_owned())
        .spawn(move || {
            let result = runtime.block_on(driver.run(inbox, ready));
            // Nobody may be left to hear it.
            let _ = ended.send(result);
        })
        .map_err(Error::Thread)?;
    let mut running = Running {
        handle: Handle::new(requests, ended_streams, leader_of_handle, written),
        incoming,
        ended: ended_of_caller,
    };
    if ready_of_caller.recv().is_err()
        && let Ok(result) = running.ended.try_recv()
    {
        result?;
    }
    Ok(running)
}

impl Driver {
    pub(super) fn new(
        home: Home,
        core: proffer_master_core::Config,
        settings: Settings,
        me: Me,
        peers: Peers,
        leader_address: watch::Sender<Option<String>>,
    ) -> Result<Self, Error> {
        let mut master = Master::new(core);
        let snapshot_index = home.recovered.snapshot.index;
        let last = snapshot_index + home.recovered.entries.len() as u64;
        let (applied, registry, restored) = match AppliedRegistry::open(&home.registry) {
            Ok((_, _, index)) if index > last => return Err(Error::LogTooShort { last, known: index }),
            Ok((applied, registry, index)) if index >= snapshot_index => (Some(applied), registry, index),
            Ok((_, _, index)) => {
                tracing::info!(index, snapshot_index, "the applied registry is older than the snapshot");
                (
                    None,
                    entry::decode_registry(home.snapshot.data.clone())?,
                    snapshot_index,
                )
            }
            Err(error) => {
                tracing::info!(reason = %error, "the applied registry is made anew from snapshot and log");
                (
                    None,
                    entry::decode_registry(home.snapshot.data.clone())?,
                    snapshot_index,
                )
            }
        };
        master.restore(registry);
        let snapshots = SnapshotPolicy::new(settings.snapshot_entries, home.snapshot.data.len() as u64);
        let start = Start {
            hard_state: home.recovered.hard_state,
            snapshot: home.snapshot,
            entries: home.recovered.entries,
            committed: restored,
        };
        let (seed, _) = uuid::Uuid::new_v4().as_u64_pair();
        let member = Member::start(start, proffer_replication::Settings::new(me.member, seed))?;
        let bell = Arc::new(Notify::new());
        let newest = home.recovered.snapshot;
        let writer = Writer::start(Box::new(home.wal), home.snapshots, newest, bell.clone()).map_err(Error::Thread)?;
        let is_missing = applied.is_none();
        let mut keeper = Keeper::start(home.registry, applied, restored, bell.clone()).map_err(Error::Thread)?;
        if is_missing {
            keeper.rebuild(restored, master.image());
        }
        Ok(Self {
            master,
            member,
            writer,
            written: 0,
            keeper,
            peers,
            me,
            group: Group::default(),
            leader: None,
            leader_address,
            snapshots,
            ticks: Ticks::start(),
            turns: Turns::of_current(),
            restored,
            clock: Clock::start(),
            inputs: VecDeque::new(),
            effects: Effects::new(),
            outcomes: Vec::new(),
            proposals: Vec::new(),
            wake: None,
            next_request: 0,
            waiting: HashMap::new(),
            bells: Vec::new(),
            readers: Vec::new(),
            agents: HashMap::new(),
            streams: HashMap::new(),
            stream_ids: HashMap::new(),
            room: Room::new(bell.clone()),
            bell,
            stopping: None,
            _lock: home.lock,
        })
    }
}
