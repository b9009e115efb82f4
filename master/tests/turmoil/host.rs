//! A group of simulated machines, each with one member and its real connections.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proffer_master::peers::{Event, Incoming, Me, Peers};
use proffer_proto::api::raft_server::{Raft, RaftServer};
use proffer_proto::raft::{
    Envelope, Founded, Founding, Introduction, JoinAnswer, JoinRequest, SnapshotPiece, StreamEnd,
};
use proffer_replication::eraftpb::{HardState, MessageType};
use proffer_replication::{Member, Outcome, Role, Settings, Start, bootstrap};
use tokio::sync::mpsc;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use turmoil::net::TcpListener;

use crate::network;

const PORT: u16 = 5050;
const TICK: Duration = Duration::from_millis(50);
/// Of simulated time, within which everything that is waited for must come.
const PATIENCE: Duration = Duration::from_secs(60);
/// So large that a snapshot has several pieces.
const PADDING: usize = 4 << 20;

pub(crate) fn name(id: u64) -> String {
    format!("master-{id}")
}

/// What a test sees of a member, and what it wants of it.
#[derive(Debug, Default)]
struct View {
    leads: bool,
    committed: Vec<String>,
    restored: usize,
    unreachable: usize,
    snapshots_begun: usize,
    snapshots_failed: usize,
    proposals: VecDeque<String>,
    compact: bool,
}

type SharedView = Arc<Mutex<View>>;

fn look(view: &SharedView) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The machines and the network between them.
pub(crate) struct Group {
    pub(crate) sim: turmoil::Sim<'static>,
    views: BTreeMap<u64, SharedView>,
}

impl Group {
    /// Machines that run as long as the test does, not yet with a leader.
    pub(crate) fn new(seed: u64, members: u64) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .simulation_duration(Duration::from_secs(3600))
            .tick_duration(Duration::from_millis(5))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(10))
            .tcp_capacity(1 << 14)
            .build();
        let mut views = BTreeMap::new();
        for id in 1..=members {
            let view = SharedView::default();
            views.insert(id, view.clone());
            sim.host(name(id), move || run(id, members, seed, view.clone()));
        }
        Group { sim, views }
    }

    /// Waits for a leader that all others follow no other beside.
    pub(crate) fn leader(&mut self) -> u64 {
        self.until("a leader", |group| group.leaders().len() == 1);
        self.leaders()[0]
    }

    pub(crate) fn leaders(&self) -> Vec<u64> {
        let leads = self.views.iter().filter(|(_, view)| look(view).leads);
        leads.map(|(id, _)| *id).collect()
    }

    pub(crate) fn others(&self, than: u64) -> Vec<u64> {
        self.views.keys().copied().filter(|&id| id != than).collect()
    }

    /// Proposes at a member, whether or not it leads.
    pub(crate) fn propose(&mut self, at: u64, text: &str) {
        look(&self.views[&at]).proposals.push_back(text.to_owned());
    }

    /// Proposes at whoever leads, again and again, until a leader has it committed.
    pub(crate) fn commit(&mut self, text: &str) {
        let mut proposed = Vec::new();
        let views = self.views.clone();
        self.until(&format!("{text:?} to be committed"), |_| {
            let leads = views.iter().filter(|(_, view)| look(view).leads);
            for (id, view) in leads {
                if !proposed.contains(id) {
                    proposed.push(*id);
                    look(view).proposals.push_back(text.to_owned());
                }
            }
            views
                .values()
                .any(|view| look(view).committed.iter().any(|committed| committed == text))
        });
    }

    /// Lets a member forget the log that it has told.
    pub(crate) fn compact(&mut self, at: u64) {
        look(&self.views[&at]).compact = true;
    }

    /// What a member was told, each once although it may have been proposed at several leaders.
    pub(crate) fn committed(&self, at: u64) -> Vec<String> {
        let mut committed = look(&self.views[&at]).committed.clone();
        let mut seen = std::collections::BTreeSet::new();
        committed.retain(|text| seen.insert(text.clone()));
        committed
    }

    pub(crate) fn unreachable(&self, at: u64) -> usize {
        look(&self.views[&at]).unreachable
    }

    pub(crate) fn restored(&self, at: u64) -> usize {
        look(&self.views[&at]).restored
    }

    pub(crate) fn snapshots_begun(&self, at: u64) -> usize {
        look(&self.views[&at]).snapshots_begun
    }

    pub(crate) fn snapshots_failed(&self, at: u64) -> usize {
        look(&self.views[&at]).snapshots_failed
    }

    pub(crate) fn run_for(&mut self, span: Duration) {
        let end = self.sim.elapsed() + span;
        while self.sim.elapsed() < end {
            self.step();
        }
    }

    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let end = self.sim.elapsed() + PATIENCE;
        while !holds(self) {
            assert!(self.sim.elapsed() < end, "waited for {what} in vain: {:?}", self.views);
            self.step();
        }
    }

    fn step(&mut self) {
        self.sim.step().expect("no machine fails");
    }
}

/// One machine.
async fn run(id: u64, members: u64, seed: u64, view: SharedView) -> turmoil::Result {
    let (events, mut heard) = mpsc::channel(1024);
    let me = Me {
        cluster_id: "simulated".to_owned(),
        cluster: "simulated".to_owned(),
        member: id,
        address: format!("{}:{PORT}", name(id)),
        level: 2,
        version: "test".to_owned(),
    };
    let peers = Peers::with_dial(me, events, network::dial());
    peers.set((1..=members).map(|id| (id, format!("{}:{PORT}", name(id)))).collect());
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    let service = RaftServer::new(Service(peers.incoming())).max_decoding_message_size(64 << 20);
    let serving = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .add_service(service)
        .serve_with_incoming(network::accepted(listener));
    let serving = tokio::spawn(serving);

    let mut hard_state = HardState::default();
    (hard_state.term, hard_state.commit) = (1, 1);
    let start = Start {
        hard_state,
        snapshot: bootstrap(&(1..=members).collect::<Vec<_>>(), Vec::new()),
        ..Start::default()
    };
    let settings = Settings {
        // Whoever lacks what is forgotten needs a snapshot.
        tail_entries_max: 0,
        ..Settings::new(id, seed ^ id)
    };
    let mut member = Member::start(start, settings)?;
    let mut ticks = tokio::time::interval(TICK);
    let mut number = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                member.tick();
                let wanted = std::mem::take(&mut look(&view).proposals);
                for text in wanted {
                    number += 1;
                    // Refused where this member does not lead: the test sees that nothing comes of it.
                    let _ = member.propose(number, text.into_bytes());
                }
                if std::mem::take(&mut look(&view).compact) {
                    member.compact(vec![7; PADDING]);
                }
            }
            event = heard.recv() => match event {
                Some(Event::Message(message)) => member.receive(*message)?,
                Some(Event::Unreachable(id)) => {
                    look(&view).unreachable += 1;
                    member.unreachable(id);
                }
                Some(Event::SnapshotSent { id, whole }) => {
                    look(&view).snapshots_failed += usize::from(!whole);
                    member.snapshot_sent(id, whole);
                }
                None => break,
            },
        }
        carry_out(&mut member, &peers, &view)?;
    }
    serving.abort();
    Ok(())
}

/// Everything is durable at once.
fn carry_out(member: &mut Member, peers: &Peers, view: &SharedView) -> turmoil::Result {
    loop {
        let mut outcomes = Vec::new();
        member.drive(&mut outcomes)?;
        if outcomes.is_empty() {
            break;
        }
        for outcome in outcomes {
            match outcome {
                Outcome::Send(message) => {
                    let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
                    look(view).snapshots_begun += usize::from(is_snapshot);
                    peers.send(*message);
                }
                Outcome::Write(write) => member.written(write.number),
                Outcome::Committed { data, .. } => {
                    look(view).committed.push(String::from_utf8(data.to_vec())?);
                }
                Outcome::Restored { .. } => look(view).restored += 1,
                _ => {}
            }
        }
    }
    look(view).leads = member.status().role == Role::Leader;
    Ok(())
}

/// Messages and snapshots; the rest is not needed here.
struct Service(Incoming);

#[tonic::async_trait]
impl Raft for Service {
    async fn deliver(&self, request: Request<Streaming<Envelope>>) -> Result<Response<StreamEnd>, Status> {
        self.0.deliver(request.into_inner()).await.map(Response::new)
    }

    async fn send_snapshot(&self, request: Request<Streaming<SnapshotPiece>>) -> Result<Response<StreamEnd>, Status> {
        self.0.snapshot(request.into_inner()).await.map(Response::new)
    }

    async fn introduce(&self, _: Request<Introduction>) -> Result<Response<Introduction>, Status> {
        Err(Status::unimplemented("not simulated"))
    }

    async fn found(&self, _: Request<Founding>) -> Result<Response<Founded>, Status> {
        Err(Status::unimplemented("not simulated"))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinAnswer>, Status> {
        Err(Status::unimplemented("not simulated"))
    }
}
