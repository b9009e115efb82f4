//! The stream of messages to one master: kept open, and opened again when it breaks.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use proffer_proto::raft::Envelope;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::Status;

use super::pause::Pause;
use super::queue::Queue;
use super::{Event, Shared, dial};
use crate::formation::PROTOCOL;

/// Messages of about so many bytes travel in one envelope.
const ENVELOPE_BYTES: usize = 512 << 10;
/// A stream that lasts so long is taken for accepted: the other says something only when it ends it.
const SETTLED_AFTER: Duration = Duration::from_millis(250);
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(1);

/// How a stream ended.
#[derive(Debug)]
enum End {
    /// Nobody knows where the member is, or it is elsewhere now.
    Moved,
    /// It cannot be reached, or could no more.
    Broken(String),
    /// It does not take what this master sends.
    Refused(String),
}

/// Keeps the stream to a member open for as long as this is polled.
pub(super) async fn keep(shared: Arc<Shared>, id: u64, queue: Arc<Queue>) {
    let mut pause = Pause::new(PAUSE_FIRST, PAUSE_LAST, shared.me.member ^ id);
    let mut stream = Outgoing {
        shared,
        id,
        queue,
        lost: false,
        said: false,
    };
    loop {
        let stirred = stream.shared.book.stirred(id);
        if let Some(address) = stream.shared.book.address(id) {
            let began = Instant::now();
            stream.queue.open();
            let end = stream.run(&address).await;
            stream.queue.close();
            stream.tell(&address, end).await;
            if began.elapsed() > 2 * PAUSE_LAST {
                pause.reset();
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause.next()) => {}
            // It is there: no need to wait longer.
            () = stirred.notified() => pause.reset(),
        }
    }
}

struct Outgoing {
    shared: Arc<Shared>,
    id: u64,
    queue: Arc<Queue>,
    /// The driver was told that messages are lost, and there was no connection since.
    lost: bool,
    /// People were told, and no stream was accepted since.
    said: bool,
}

impl Outgoing {
    /// One connection, from its opening to its end.
    async fn run(&mut self, address: &str) -> End {
        let mut client = match self.shared.dial.connect(address).await {
            Ok(client) => client,
            Err(reason) => return End::Broken(reason),
        };
        self.lost = false;
        let envelopes = Envelopes {
            head: Envelope {
                protocol: PROTOCOL,
                cluster_id: self.shared.me.cluster_id.clone(),
                from: self.shared.me.member,
                to: self.id,
                from_address: self.shared.me.address.clone(),
                messages: Vec::new(),
            },
            queue: self.queue.clone(),
            greeted: false,
        };
        let stirred = self.shared.book.stirred(self.id);
        let call = client.deliver(envelopes);
        tokio::pin!(call);
        let settled = tokio::time::sleep(SETTLED_AFTER);
        tokio::pin!(settled);
        let mut is_settled = false;
        loop {
            tokio::select! {
                answer = &mut call => return end(answer.map(|answer| answer.into_inner().refusal)),
                () = &mut settled, if !is_settled => {
                    tracing::info!(member = self.id, address, "connected to a master");
                    (is_settled, self.said) = (true, false);
                }
                () = self.queue.overflowed() => {
                    tracing::warn!(member = self.id, address, "a master takes messages too slowly, and some are dropped");
                    self.shared.tell(Event::Unreachable(self.id)).await;
                }
                () = stirred.notified() => {
                    if self.shared.book.address(self.id).as_deref() != Some(address) {
                        return End::Moved;
                    }
                }
            }
        }
    }

    /// Tells the driver of the end, once for each time that there was a connection, and people, once for each time that it lasted.
    async fn tell(&mut self, address: &str, end: End) {
        let member = self.id;
        match &end {
            End::Moved => tracing::info!(member, address, "a master is elsewhere now"),
            End::Refused(reason) if self.shared.book.is_news(reason) => {
                tracing::error!(member, address, reason, "a master refuses what this one sends");
            }
            End::Broken(reason) if !self.said => {
                tracing::warn!(member, address, reason, "a master cannot be reached");
                self.said = true;
            }
            End::Refused(reason) | End::Broken(reason) => {
                tracing::debug!(member, address, reason, "still not connected")
            }
        }
        if !std::mem::replace(&mut self.lost, true) {
            self.shared.tell(Event::Unreachable(member)).await;
        }
    }
}

fn end(answer: Result<Option<String>, Status>) -> End {
    match answer {
        Ok(Some(refusal)) => End::Refused(refusal),
        Ok(None) => End::Broken("it ended the stream".to_owned()),
        Err(status) if status.code() == tonic::Code::InvalidArgument => End::Refused(status.message().to_owned()),
        Err(status) => End::Broken(dial::reason_of(&status)),
    }
}

/// What waits, put into envelopes as the connection takes them.
struct Envelopes {
    head: Envelope,
    queue: Arc<Queue>,
    greeted: bool,
}

impl Stream for Envelopes {
    type Item = Envelope;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Envelope>> {
        if !std::mem::replace(&mut self.greeted, true) {
            // The first is empty: the other hears at once who is there and where.
            return Poll::Ready(Some(self.head.clone()));
        }
        self.queue.poll_take(context, ENVELOPE_BYTES).map(|messages| {
            Some(Envelope {
                messages: messages.iter().map(proffer_replication::encode).collect(),
                ..self.head.clone()
            })
        })
    }
}
