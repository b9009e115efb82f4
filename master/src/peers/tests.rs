//! Two masters over loopback sockets: connections that break, masters that do not belong together, snapshots.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use proffer_proto::api::raft_server::{Raft, RaftServer};
use proffer_proto::raft::SnapshotHead;
use proffer_proto::raft::snapshot_piece::Body;
use proffer_proto::raft::{
    Envelope, Founded, Founding, Introduction, JoinAnswer, JoinRequest, SnapshotPiece, StreamEnd,
};
use proffer_replication::bootstrap;
use proffer_replication::eraftpb::Entry;
use tokio::net::{TcpListener, TcpSocket};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::transport;

const PATIENCE: Duration = Duration::from_secs(30);

/// One master: only what is between it and the others.
struct Place {
    peers: Peers,
    events: mpsc::Receiver<Event>,
    address: String,
    introduced: mpsc::UnboundedReceiver<Introduction>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

struct Service {
    incoming: Incoming,
    introduced: mpsc::UnboundedSender<Introduction>,
    times: AtomicUsize,
}

#[tonic::async_trait]
impl Raft for Service {
    async fn deliver(&self, request: Request<Streaming<Envelope>>) -> Result<Response<StreamEnd>, Status> {
        self.incoming.deliver(request.into_inner()).await.map(Response::new)
    }

    async fn send_snapshot(&self, request: Request<Streaming<SnapshotPiece>>) -> Result<Response<StreamEnd>, Status> {
        self.incoming.snapshot(request.into_inner()).await.map(Response::new)
    }

    async fn introduce(&self, request: Request<Introduction>) -> Result<Response<Introduction>, Status> {
        let _ = self.introduced.send(request.into_inner());
        let me = self.incoming.me();
        // It leads from the second time on.
        let leads = self.times.fetch_add(1, Ordering::Relaxed) > 0;
        Ok(Response::new(me.introduction(leads.then(|| me.address.clone()))))
    }

    async fn found(&self, _: Request<Founding>) -> Result<Response<Founded>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinAnswer>, Status> {
        Err(Status::unimplemented(""))
    }
}

struct Making {
    member: u64,
    cluster_id: &'static str,
    patience: Duration,
    events_length: usize,
    snapshot_bytes_max: u64,
    listen: SocketAddr,
}

fn member(member: u64) -> Making {
    Making {
        member,
        cluster_id: "blue",
        patience: PATIENCE,
        events_length: 16,
        snapshot_bytes_max: 16 << 20,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
    }
}

impl Making {
    async fn start(self) -> Place {
        let listener = TcpListener::bind(self.listen).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, events) = mpsc::channel(self.events_length);
        let me = Me {
            cluster_id: self.cluster_id.to_owned(),
            cluster: "test".to_owned(),
            member: self.member,
            address: address.clone(),
            level: 2,
            version: "test".to_owned(),
        };
        let peers = Peers::with(Shared {
            me,
            dial: Dial::default(),
            book: Book::default(),
            events: sender,
            leader: watch::Sender::new(None),
            patience: Patience {
                piece: self.patience,
                answer: self.patience,
            },
            snapshot_bytes_max: self.snapshot_bytes_max,
        });
        let (introductions, introduced) = mpsc::unbounded_channel();
        let service = Service {
            incoming: peers.incoming(),
            introduced: introductions,
            times: AtomicUsize::new(0),
        };
        let router = Routes::new(RaftServer::new(service).max_decoding_message_size(64 << 20)).into_axum_router();
        let (stop, stopped) = watch::channel(false);
        let (_, routers): (_, watch::Receiver<Router>) = watch::channel(router);
        Place {
            peers,
            events,
            address,
            introduced,
            stop,
            serving: tokio::spawn(transport::serve(listener, routers, stopped)),
        }
    }
}

impl Place {
    async fn event(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("an event comes in time").expect("the senders are there")
    }

    async fn message(&mut self) -> Message {
        loop {
            match self.event().await {
                Event::Message(message) => return *message,
                Event::Unreachable(_) => {}
                Event::SnapshotSent { .. } => panic!("no snapshot was sent"),
            }
        }
    }

    fn know(&self, others: &[(u64, &str)]) {
        let members = others.iter().map(|(id, address)| (*id, (*address).to_owned()));
        self.peers.set(members.collect());
    }

    async fn stop(mut self) -> SocketAddr {
        self.events.close();
        self.stop.send_replace(true);
        drop(self.peers);
        self.serving.await.unwrap();
        self.address.parse().unwrap()
    }
}

fn message(from: u64, to: u64, index: u64) -> Message {
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgAppend);
    (message.from, message.to, message.index) = (from, to, index);
    message
}

/// Sends numbered messages until one arrives; returns its number, and so skips what was lost.
async fn until_heard(from: &Place, to: &mut Place, ids: (u64, u64), numbers: &mut u64) -> u64 {
    loop {
        *numbers += 1;
        from.peers.send(message(ids.0, ids.1, *numbers));
        let patience = Duration::from_millis(20);
        if let Ok(Some(Event::Message(heard))) = tokio::time::timeout(patience, to.events.recv()).await {
            return heard.index;
        }
    }
}

#[tokio::test]
async fn messages_arrive_in_order_and_are_answered_by_a_master_that_knew_nobody() {
    let (one, mut two) = (member(1).start().await, member(2).start().await);
    one.know(&[(1, &one.address), (2, &two.address)]);
    for index in 1..=100 {
        let mut message = message(1, 2, index);
        let entry = Entry {
            data: vec![7; 50_000].into(),
            ..Entry::default()
        };
        message.set_entries(vec![entry].into());
        one.peers.send(message);
    }
    for index in 1..=100 {
        let message = two.message().await;
        assert_eq!((message.index, message.from), (index, 1));
        assert_eq!(message.get_entries()[0].data.len(), 50_000);
    }
    // The registry of two is empty: it answers where one said it is.
    two.peers.send(message(2, 1, 7));
    let mut one = one;
    assert_eq!(one.message().await.index, 7);
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_connection_comes_back_and_each_loss_is_told_once() {
    let (mut one, mut two) = (member(1).start().await, member(2).start().await);
    one.know(&[(2, &two.address)]);
    let mut numbers = 0;
    until_heard(&one, &mut two, (1, 2), &mut numbers).await;
    // Held so that nobody else gets the port in between.
    let held = TcpSocket::new_v4().unwrap();
    held.set_reuseaddr(true).unwrap();
    for _ in 0..2 {
        let listen = two.stop().await;
        assert!(matches!(one.event().await, Event::Unreachable(2)));
        two = Making { listen, ..member(2) }.start().await;
        let before = numbers;
        assert!(until_heard(&one, &mut two, (1, 2), &mut numbers).await > before);
        assert!(one.events.try_recv().is_err(), "one loss is told once");
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_member_that_came_back_elsewhere_is_found_by_what_it_sends() {
    let (mut one, two) = (member(1).start().await, member(2).start().await);
    one.know(&[(2, &two.address)]);
    two.stop().await;
    assert!(matches!(one.event().await, Event::Unreachable(2)));
    let mut two = member(2).start().await;
    two.know(&[(1, &one.address)]);
    two.peers.send(message(2, 1, 3));
    assert_eq!(one.message().await.index, 3);
    until_heard(&one, &mut two, (1, 2), &mut 0).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_master_introduces_itself_to_each_leader() {
    let (mut one, mut two) = (member(1).start().await, member(2).start().await);
    let three = member(3).start().await;
    // Before anything is known of where the leader is.
    three.peers.leader(Some(1));
    three.know(&[(1, &one.address), (2, &two.address)]);
    // Again, because the first answer says that it does not lead yet.
    for _ in 0..2 {
        let heard = tokio::time::timeout(PATIENCE, one.introduced.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!((heard.member, heard.address), (3, three.address.clone()));
        assert_eq!(heard.cluster_id.as_deref(), Some("blue"));
    }
    three.peers.leader(Some(3));
    three.peers.leader(Some(2));
    let heard = tokio::time::timeout(PATIENCE, two.introduced.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard.member, 3);
    for place in [one, two, three] {
        place.stop().await;
    }
}

/// What a master answers to an envelope.
async fn refusal(place: &Place, change: impl FnOnce(&mut Envelope)) -> String {
    let mut envelope = Envelope {
        protocol: 1,
        cluster_id: "blue".to_owned(),
        from: 1,
        to: 2,
        from_address: "127.0.0.1:1".to_owned(),
        messages: vec![proffer_replication::encode(&message(1, 2, 1))],
    };
    change(&mut envelope);
    let mut client = Dial::default().connect(&place.address).await.unwrap();
    let answer = client.deliver(tokio_stream::iter([envelope])).await.unwrap();
    answer.into_inner().refusal.unwrap_or_default()
}

#[tokio::test]
async fn what_is_not_of_the_group_is_refused_and_the_refusal_says_why() {
    let mut two = member(2).start().await;
    two.peers.set_removed(vec![9]);
    let refusals = [
        (
            refusal(&two, |envelope| envelope.protocol = 2).await,
            "the protocol is 2, and this master speaks 1",
        ),
        (
            refusal(&two, |envelope| envelope.cluster_id = "red".to_owned()).await,
            "this master is of cluster blue, not red",
        ),
        (
            refusal(&two, |envelope| envelope.to = 3).await,
            "this master is member 2, not 3",
        ),
        (refusal(&two, |envelope| envelope.from = 0).await, "from: 0"),
        (refusal(&two, |envelope| envelope.from = 2).await, "from: 2"),
        (
            refusal(&two, |envelope| envelope.from = 9).await,
            "member 9 was removed from the group",
        ),
        (
            refusal(&two, |envelope| envelope.from_address = "nowhere".to_owned()).await,
            "from_address: a host and a port",
        ),
        (
            refusal(&two, |envelope| envelope.messages = vec![vec![0xff; 9]]).await,
            "cannot be decoded",
        ),
        (
            refusal(&two, |envelope| {
                envelope.messages = vec![proffer_replication::encode(&message(5, 2, 1))]
            })
            .await,
            "a message from member 5",
        ),
        (
            refusal(&two, |envelope| {
                let mut message = message(1, 2, 1);
                message.set_msg_type(MessageType::MsgSnapshot);
                envelope.messages = vec![proffer_replication::encode(&message)];
            })
            .await,
            "a snapshot is sent by SendSnapshot",
        ),
    ];
    for (refusal, expected) in refusals {
        assert!(refusal.contains(expected), "{refusal:?} should say {expected:?}");
    }
    assert!(two.events.try_recv().is_err());
    assert_eq!(refusal(&two, |_| {}).await, "");
    assert_eq!(two.message().await.from, 1);
    two.stop().await;
}

#[tokio::test]
async fn a_master_of_another_cluster_is_unreachable() {
    let mut one = member(1).start().await;
    let mut other = Making {
        cluster_id: "red",
        ..member(2)
    }
    .start()
    .await;
    one.know(&[(2, &other.address)]);
    assert!(matches!(one.event().await, Event::Unreachable(2)));
    one.peers.send(message(1, 2, 1));
    assert!(other.events.try_recv().is_err());
    one.stop().await;
    other.stop().await;
}

fn snapshot(to: u64, bytes: usize) -> Message {
    let data: Vec<u8> = (0..bytes).map(|index| ((index * 31) >> 3) as u8).collect();
    let mut message = message(1, to, 0);
    message.set_msg_type(MessageType::MsgSnapshot);
    message.set_snapshot(bootstrap(&[1, 2], data));
    message
}

#[tokio::test]
async fn snapshots_of_any_size_arrive_whole() {
    let (mut one, mut two) = (member(1).start().await, member(2).start().await);
    one.know(&[(2, &two.address)]);
    for bytes in [0, 1, 256 << 10, (3 << 20) + 17] {
        one.peers.send(snapshot(2, bytes));
        let received = two.message().await;
        assert!(received == snapshot(2, bytes), "{bytes} bytes");
        loop {
            match one.event().await {
                Event::SnapshotSent { id: 2, whole: true } => break,
                Event::Unreachable(2) => {}
                event => panic!("{event:?}"),
            }
        }
    }
    one.stop().await;
    two.stop().await;
}

async fn snapshot_failed(place: &mut Place) {
    loop {
        match place.event().await {
            Event::SnapshotSent { whole, .. } => return assert!(!whole),
            Event::Unreachable(_) => {}
            Event::Message(message) => panic!("{message:?}"),
        }
    }
}

#[tokio::test]
async fn every_snapshot_that_cannot_be_sent_is_told() {
    let mut one = Making {
        patience: Duration::from_millis(200),
        ..member(1)
    }
    .start()
    .await;
    // To nobody.
    one.peers.send(snapshot(7, 10));
    snapshot_failed(&mut one).await;
    // To a master that is not there.
    let gone = member(2).start().await.stop().await.to_string();
    one.know(&[(2, &gone)]);
    one.peers.send(snapshot(2, 10));
    snapshot_failed(&mut one).await;
    // To one that takes no such large ones.
    let small = Making {
        snapshot_bytes_max: 1000,
        ..member(3)
    }
    .start()
    .await;
    one.know(&[(3, &small.address)]);
    one.peers.send(snapshot(3, 1001));
    snapshot_failed(&mut one).await;
    // To one whose driver does not take it: nothing reads the events, and there is one place.
    let stalled = Making {
        events_length: 1,
        ..member(4)
    }
    .start()
    .await;
    one.know(&[(4, &stalled.address)]);
    let mut client = Dial::default().connect(&stalled.address).await.unwrap();
    let fills = Envelope {
        protocol: 1,
        cluster_id: "blue".to_owned(),
        from: 1,
        to: 4,
        from_address: one.address.clone(),
        messages: vec![proffer_replication::encode(&message(1, 4, 1))],
    };
    client.deliver(tokio_stream::iter([fills])).await.unwrap();
    one.peers.send(snapshot(4, 10));
    snapshot_failed(&mut one).await;
    for place in [one, small, stalled] {
        place.stop().await;
    }
}

#[tokio::test]
async fn damaged_snapshots_are_refused() {
    let mut two = member(2).start().await;
    let data = b"the registry".to_vec();
    let mut without_data = snapshot(2, 0);
    without_data.mut_snapshot().data = Vec::new().into();
    let head = SnapshotHead {
        protocol: 1,
        cluster_id: "blue".to_owned(),
        from: 1,
        to: 2,
        from_address: "127.0.0.1:1".to_owned(),
        message: proffer_replication::encode(&without_data),
        data_bytes: data.len() as u64,
        data_crc: crc32c::crc32c(&data),
    };
    let wrong_crc = SnapshotHead {
        data_crc: head.data_crc ^ 1,
        ..head.clone()
    };
    let longer = SnapshotHead {
        data_bytes: head.data_bytes + 1,
        ..head.clone()
    };
    let shorter = SnapshotHead {
        data_bytes: head.data_bytes - 1,
        ..head.clone()
    };
    let other_kind = SnapshotHead {
        message: proffer_replication::encode(&message(1, 2, 1)),
        ..head.clone()
    };
    let whole = || Body::Data(data.clone());
    let mut client = Dial::default().connect(&two.address).await.unwrap();
    for (bodies, expected) in [
        (vec![whole()], "the first piece must be the head"),
        (vec![Body::Head(wrong_crc), whole()], "its checksum is wrong"),
        (vec![Body::Head(longer), whole()], "it ends after 12 of 13 bytes"),
        (vec![Body::Head(shorter), whole()], "it has more than the 11 bytes"),
        (vec![Body::Head(other_kind), whole()], "must be a MsgSnapshot"),
        (
            vec![Body::Head(head.clone()), Body::Head(head.clone())],
            "a second head",
        ),
    ] {
        let pieces = bodies.into_iter().map(|body| SnapshotPiece { body: Some(body) });
        let answer = client
            .send_snapshot(tokio_stream::iter(pieces.collect::<Vec<_>>()))
            .await;
        let refusal = answer.unwrap().into_inner().refusal.unwrap_or_default();
        assert!(refusal.contains(expected), "{refusal:?} should say {expected:?}");
    }
    assert!(two.events.try_recv().is_err());
    let pieces = [Body::Head(head), whole()].map(|body| SnapshotPiece { body: Some(body) });
    let answer = client.send_snapshot(tokio_stream::iter(pieces)).await.unwrap();
    assert_eq!(answer.into_inner().refusal, None);
    assert_eq!(&two.message().await.get_snapshot().data[..], &data[..]);
    two.stop().await;
}
