//! What other masters send, checked before the driver hears of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use proffer_proto::raft::snapshot_piece::Body;
use proffer_proto::raft::{Envelope, SnapshotHead, SnapshotPiece, StreamEnd};
use proffer_replication::eraftpb::{Message, MessageType};
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::{Event, Me, Shared, introduce};
use crate::formation::PROTOCOL;

/// The receiving side.
#[derive(Debug, Clone)]
pub struct Incoming {
    shared: Arc<Shared>,
    /// From whom a snapshot is coming.
    receiving: Arc<Mutex<BTreeSet<u64>>>,
}

/// Who sends, to whom; the same for messages and snapshots.
struct Head<'a> {
    protocol: u32,
    cluster_id: &'a str,
    from: u64,
    to: u64,
    from_address: &'a str,
}

impl Incoming {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            receiving: Arc::default(),
        }
    }

    /// Who this master is.
    pub fn me(&self) -> &Me {
        &self.shared.me
    }

    /// Looks for others of the group at these addresses as well, until the leader is known.
    pub fn seek(&self, addresses: Vec<String>) {
        tokio::spawn(introduce::at_addresses(self.shared.clone(), addresses));
    }

    /// A member of this cluster says where it is.
    ///
    /// # Errors
    /// It was removed.
    pub fn heard(&self, member: u64, address: &str) -> Result<(), String> {
        self.check_member(member)?;
        self.shared.book.heard(member, address);
        Ok(())
    }

    /// Tells people, once, of a master of another cluster.
    pub fn tell_stranger(&self, address: &str, cluster_id: &str) {
        if self.shared.book.is_news(&format!("{address} {cluster_id}")) {
            tracing::error!(
                address,
                their_cluster_id = cluster_id,
                our_cluster_id = self.shared.me.cluster_id,
                "a master of another cluster speaks to this one: one of the two is started with the other's address"
            );
        }
    }

    /// Takes messages until the sender ends. Where the driver is busy the sender waits.
    ///
    /// # Errors
    /// The stream broke, or this master stops.
    pub async fn deliver(
        &self,
        mut stream: impl Stream<Item = Result<Envelope, Status>> + Unpin,
    ) -> Result<StreamEnd, Status> {
        let mut known = None;
        loop {
            let next = tokio::select! {
                next = stream.next() => next,
                () = self.shared.events.closed() => return Err(Status::unavailable("the master is stopping")),
            };
            let Some(envelope) = next.transpose()? else {
                return Ok(StreamEnd::default());
            };
            let head = Head::of(&envelope);
            if let Err(refusal) = self.check(&head) {
                return Ok(refused(refusal));
            }
            let sender = (envelope.from, envelope.from_address.clone());
            if known.as_ref() != Some(&sender) {
                if !self.shared.book.heard(sender.0, &sender.1) {
                    return Ok(refused(
                        "too many masters that this one does not know send to it".to_owned(),
                    ));
                }
                known = Some(sender);
            }
            for bytes in &envelope.messages {
                let message = match self.decode(bytes, envelope.from) {
                    Ok(message) if message.get_msg_type() != MessageType::MsgSnapshot => message,
                    Ok(_) => return Ok(refused("a snapshot is sent by SendSnapshot".to_owned())),
                    Err(refusal) => return Ok(refused(refusal)),
                };
                self.hand_over(message).await?;
            }
        }
    }

    /// Takes one snapshot.
    ///
    /// # Errors
    /// The stream broke or stalled, or this master stops.
    pub async fn snapshot(
        &self,
        mut pieces: impl Stream<Item = Result<SnapshotPiece, Status>> + Unpin,
    ) -> Result<StreamEnd, Status> {
        let Some(Body::Head(head)) = self.piece(&mut pieces).await? else {
            return Ok(refused("the first piece must be the head".to_owned()));
        };
        let checked = self
            .check(&Head::of_snapshot(&head))
            .and_then(|()| self.snapshot_message(&head));
        let mut message = match checked {
            Ok(message) => message,
            Err(refusal) => return Ok(refused(refusal)),
        };
        let Some(_receiving) = Receiving::begin(&self.receiving, head.from) else {
            let refusal = format!("another snapshot of member {} is on its way", head.from);
            return Ok(refused(refusal));
        };
        let mut data = Vec::new();
        while let Some(body) = self.piece(&mut pieces).await? {
            let Body::Data(piece) = body else {
                return Ok(refused("there is a second head".to_owned()));
            };
            let wanted = head.data_bytes - data.len() as u64;
            if piece.len() as u64 > wanted {
                return Ok(refused(format!(
                    "it has more than the {} bytes that its head says",
                    head.data_bytes
                )));
            }
            if !grow(&mut data, piece.len(), head.data_bytes as usize) {
                return Ok(refused(format!("there is no memory for its {} bytes", head.data_bytes)));
            }
            data.extend_from_slice(&piece);
        }
        if (data.len() as u64) < head.data_bytes {
            return Ok(refused(format!(
                "it ends after {} of {} bytes",
                data.len(),
                head.data_bytes
            )));
        }
        if crc32c::crc32c(&data) != head.data_crc {
            return Ok(refused("its checksum is wrong".to_owned()));
        }
        message.mut_snapshot().data = data.into();
        self.hand_over(message).await?;
        Ok(StreamEnd::default())
    }

    async fn piece(
        &self,
        pieces: &mut (impl Stream<Item = Result<SnapshotPiece, Status>> + Unpin),
    ) -> Result<Option<Body>, Status> {
        let piece = tokio::time::timeout(self.shared.patience.piece, pieces.next()).await;
        let piece = piece.map_err(|_| Status::deadline_exceeded("the next piece of the snapshot does not come"))?;
        match piece.transpose()? {
            Some(SnapshotPiece { body: Some(body) }) => Ok(Some(body)),
            Some(SnapshotPiece { body: None }) => Err(Status::invalid_argument("body: a head or data is accepted")),
            None => Ok(None),
        }
    }

    fn snapshot_message(&self, head: &SnapshotHead) -> Result<Message, String> {
        let most = self.shared.snapshot_bytes_max;
        if head.data_bytes > most {
            return Err(format!(
                "it has {} bytes, and at most {most} are taken",
                head.data_bytes
            ));
        }
        let message = self.decode(&head.message, head.from)?;
        if message.get_msg_type() != MessageType::MsgSnapshot || !message.get_snapshot().data.is_empty() {
            return Err("its message must be a MsgSnapshot without data".to_owned());
        }
        Ok(message)
    }

    fn decode(&self, bytes: &[u8], from: u64) -> Result<Message, String> {
        let message = proffer_replication::decode(bytes).map_err(|refusal| refusal.to_string())?;
        if message.from != from || message.to != self.shared.me.member {
            return Err(format!(
                "a message from member {} to member {} is not one from member {from} to this one",
                message.from, message.to
            ));
        }
        Ok(message)
    }

    fn check(&self, head: &Head<'_>) -> Result<(), String> {
        let me = &self.shared.me;
        if head.protocol != PROTOCOL {
            return Err(format!(
                "the protocol is {}, and this master speaks {PROTOCOL}",
                head.protocol
            ));
        }
        if head.cluster_id != me.cluster_id {
            self.tell_stranger(head.from_address, head.cluster_id);
            return Err(format!(
                "this master is of cluster {}, not {}",
                me.cluster_id, head.cluster_id
            ));
        }
        if head.to != me.member {
            return Err(format!(
                "this master is member {}, not {}, which was here before: `proffer masters rm {}` takes that out of the group",
                me.member, head.to, head.to
            ));
        }
        if head.from == 0 || head.from == me.member {
            return Err(format!("from: {} cannot be another member's id", head.from));
        }
        self.check_member(head.from)?;
        crate::config::host_and_port(head.from_address).map_err(|accepted| format!("from_address: {accepted}"))?;
        Ok(())
    }

    fn check_member(&self, member: u64) -> Result<(), String> {
        if self.shared.book.is_removed(member) {
            return Err(format!(
                "member {member} was removed from the group; to come back, it starts with an empty work directory and --join"
            ));
        }
        Ok(())
    }

    async fn hand_over(&self, message: Message) -> Result<(), Status> {
        let event = Event::Message(Box::new(message));
        let stopping = |_| Status::unavailable("the master is stopping");
        self.shared.events.send(event).await.map_err(stopping)
    }
}

impl<'a> Head<'a> {
    fn of(envelope: &'a Envelope) -> Self {
        Self {
            protocol: envelope.protocol,
            cluster_id: &envelope.cluster_id,
            from: envelope.from,
            to: envelope.to,
            from_address: &envelope.from_address,
        }
    }

    fn of_snapshot(head: &'a SnapshotHead) -> Self {
        Self {
            protocol: head.protocol,
            cluster_id: &head.cluster_id,
            from: head.from,
            to: head.to,
            from_address: &head.from_address,
        }
    }
}

/// While this lives, no other snapshot is taken from the same member.
struct Receiving {
    all: Arc<Mutex<BTreeSet<u64>>>,
    from: u64,
}

impl Receiving {
    fn begin(all: &Arc<Mutex<BTreeSet<u64>>>, from: u64) -> Option<Self> {
        let is_first = all.lock().unwrap_or_else(PoisonError::into_inner).insert(from);
        is_first.then(|| Self { all: all.clone(), from })
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.from);
    }
}

fn refused(refusal: String) -> StreamEnd {
    StreamEnd { refusal: Some(refusal) }
}

/// Makes room for a piece: memory is taken as data comes, not as the head promises, and never beyond that.
fn grow(data: &mut Vec<u8>, piece: usize, whole: usize) -> bool {
    let needed = data.len() + piece;
    if needed <= data.capacity() {
        return true;
    }
    let room = (data.capacity() * 2).clamp(needed, whole.max(needed));
    data.try_reserve_exact(room - data.len()).is_ok()
}
