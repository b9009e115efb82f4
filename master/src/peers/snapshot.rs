//! Snapshots to one master: one at a time, in pieces, on a connection of their own so that messages need not wait for them.

use std::sync::Arc;

use proffer_proto::raft::snapshot_piece::Body;
use proffer_proto::raft::{SnapshotHead, SnapshotPiece};
use proffer_replication::eraftpb::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::{Event, Shared, dial};
use crate::formation::PROTOCOL;

const PIECE_BYTES: usize = 256 << 10;

/// Sends the snapshots that come, and tells how each ended.
pub(super) async fn send_all(shared: Arc<Shared>, id: u64, mut messages: mpsc::UnboundedReceiver<Message>) {
    while let Some(mut message) = messages.recv().await {
        let data = std::mem::take(&mut message.mut_snapshot().data);
        let index = message.get_snapshot().get_metadata().index;
        let bytes = data.len();
        tracing::info!(member = id, index, bytes, "a snapshot is sent to a master");
        let result = send(&shared, id, &message, &data).await;
        match &result {
            Ok(()) => tracing::info!(member = id, index, "a master has the snapshot"),
            Err(reason) => tracing::warn!(member = id, index, reason, "a snapshot could not be sent"),
        }
        let whole = result.is_ok();
        shared.tell(Event::SnapshotSent { id, whole }).await;
    }
}

async fn send(shared: &Shared, id: u64, message: &Message, data: &[u8]) -> Result<(), String> {
    let address = shared.book.address(id).ok_or("its address is not known")?;
    let mut client = shared.dial.connect(&address).await?;
    let head = SnapshotHead {
        protocol: PROTOCOL,
        cluster_id: shared.me.cluster_id.clone(),
        from: shared.me.member,
        to: id,
        from_address: shared.me.address.clone(),
        message: proffer_replication::encode(message),
        data_bytes: data.len() as u64,
        data_crc: crc32c::crc32c(data),
    };
    let (pieces, body) = mpsc::channel(2);
    let within = shared.patience.piece;
    let feed = async move {
        let head = std::iter::once(Body::Head(head));
        let data = data.chunks(PIECE_BYTES).map(|piece| Body::Data(piece.to_vec()));
        for body in head.chain(data) {
            let piece = SnapshotPiece { body: Some(body) };
            match tokio::time::timeout(within, pieces.send(piece)).await {
                Ok(Ok(())) => {}
                // The call has ended, and says why.
                Ok(Err(_)) => std::future::pending().await,
                Err(_) => return false,
            }
        }
        true
    };
    let call = client.send_snapshot(ReceiverStream::new(body));
    tokio::pin!(call);
    let taken = tokio::select! {
        answer = &mut call => return end(answer),
        taken = feed => taken,
    };
    if !taken {
        return Err("it takes no more of it".to_owned());
    }
    match tokio::time::timeout(shared.patience.answer, call).await {
        Ok(answer) => end(answer),
        Err(_) => Err("it has the whole, and does not answer".to_owned()),
    }
}

fn end(answer: Result<Response<proffer_proto::raft::StreamEnd>, Status>) -> Result<(), String> {
    match answer {
        Ok(answer) => answer.into_inner().refusal.map_or(Ok(()), Err),
        Err(status) => Err(dial::reason_of(&status)),
    }
}
