//! Keeps one stream to the leading master.
//!
//! The configured masters are tried in turn; one that does not lead names the leader in the metadata `proffer-leader` of its
//! refusal. A broken stream is noticed by HTTP/2 keep-alive within ten seconds, a master that stands still by its missing
//! pings. Between attempts: jittered exponential back-off, begun anew after every registration.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use proffer_proto::api::agent_link_client::AgentLinkClient;
use proffer_proto::link::{AgentMessage, MasterMessage, master_message};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::core::Input;
use crate::driver::Event;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a master may take to answer Register.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(15);
/// Messages waiting to be sent; what does not fit is dropped, and sent again if it matters.
const OUTBOUND_MAX: usize = 4096;
/// A Register lists every task of the agent.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// How many hints to a leader are followed without a pause.
const HINTS_MAX: u32 = 3;

/// The driver's end of a stream; dropping it closes the stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) session: u64,
    pub(crate) outbound: mpsc::Sender<AgentMessage>,
    /// Dropped with the stream, which ends it at once.
    pub(crate) open: oneshot::Sender<()>,
}

/// How a stream ended.
struct Ended {
    registered: bool,
    leader: Option<String>,
    reason: String,
}

/// Connects again and again until the driver is gone.
pub(crate) async fn run(masters: Vec<String>, events: mpsc::Sender<Event>) {
    let mut backoff = BACKOFF_MIN;
    let mut turn = 0;
    let mut hint: Option<String> = None;
    let mut hints = 0;
    let mut said = None;
    for session in 1.. {
        let master = hint.take().unwrap_or_else(|| {
            turn += 1;
            masters[(turn - 1) % masters.len()].clone()
        });
        let ended = attach(&master, session, &events).await;
        if events.is_closed() {
            return;
        }
        if ended.registered {
            tracing::warn!(master, reason = ended.reason, "lost the master");
            (backoff, hints, said) = (BACKOFF_MIN, 0, None);
        } else {
            // Said once for as long as it stays the same: the agent goes on trying.
            match said.replace(ended.reason.clone()) == Some(ended.reason.clone()) {
                true => tracing::debug!(master, reason = ended.reason, "cannot register with the master"),
                false => tracing::warn!(master, reason = ended.reason, "cannot register with the master"),
            }
        }
        if let Some(leader) = ended.leader.filter(|leader| *leader != master && hints < HINTS_MAX) {
            hints += 1;
            hint = Some(leader);
            continue;
        }
        hints = 0;
        tokio::time::sleep(jittered(backoff)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// One stream, from the connection to its end.
async fn attach(master: &str, session: u64, events: &mpsc::Sender<Event>) -> Ended {
    let failed = |reason: String| Ended {
        registered: false,
        leader: None,
        reason,
    };
    let endpoint = match Endpoint::from_shared(format!("http://{master}")) {
        Ok(endpoint) => endpoint,
        Err(error) => return failed(format!("`{master}` is not HOST:PORT: {error}")),
    };
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    let channel = match endpoint.connect().await {
        Ok(channel) => channel,
        Err(error) => return failed(chain(&error)),
    };
    let (outbound, sending) = mpsc::channel(OUTBOUND_MAX);
    let (open, closed) = oneshot::channel();
    if events
        .send(Event::Attached(Stream {
            session,
            outbound,
            open,
        }))
        .await
        .is_err()
    {
        return failed("the agent stops".into());
    }
    let ended = tokio::select! {
        ended = receive(AgentLinkClient::new(channel), sending, session, events) => ended,
        _ = closed => failed("the agent closed the stream".into()),
    };
    let _ = events.send(Event::Input(Input::Detached(session))).await;
    ended
}

async fn receive(
    client: AgentLinkClient<tonic::transport::Channel>,
    sending: mpsc::Receiver<AgentMessage>,
    session: u64,
    events: &mpsc::Sender<Event>,
) -> Ended {
    let mut client = client
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let mut registered = false;
    let mut patience = REGISTER_TIMEOUT;
    let attached = tokio::time::timeout(REGISTER_TIMEOUT, client.attach(ReceiverStream::new(sending))).await;
    let mut messages = match attached {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return refused(registered, &status),
        Err(_) => {
            return Ended {
                registered,
                leader: None,
                reason: "the master does not answer".into(),
            };
        }
    };
    loop {
        let message: MasterMessage = match tokio::time::timeout(patience, messages.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => {
                return Ended {
                    registered,
                    leader: None,
                    reason: "the master ended the stream".into(),
                };
            }
            Ok(Err(status)) => return refused(registered, &status),
            Err(_) => {
                let reason = format!("heard nothing for {patience:?}");
                return Ended {
                    registered,
                    leader: None,
                    reason,
                };
            }
        };
        if let Some(master_message::Body::Registered(answer)) = &message.body {
            registered = true;
            let interval = Duration::try_from_secs_f64(answer.ping_interval_seconds).unwrap_or(REGISTER_TIMEOUT);
            patience = (interval * 3).clamp(Duration::from_secs(1), Duration::from_secs(3600));
        }
        if events
            .send(Event::Input(Input::Message(session, message)))
            .await
            .is_err()
        {
            return Ended {
                registered,
                leader: None,
                reason: "the agent stops".into(),
            };
        }
    }
}

fn refused(registered: bool, status: &tonic::Status) -> Ended {
    let leader = status
        .metadata()
        .get("proffer-leader")
        .and_then(|leader| leader.to_str().ok());
    let leader = leader.filter(|leader| !leader.is_empty()).map(str::to_owned);
    Ended {
        registered,
        leader,
        reason: format!("{}: {}", status.code(), status.message()),
    }
}

/// Between a half and the whole of a span, so that agents that lost the same master do not return as a herd.
fn jittered(span: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    span.mul_f64(0.5 + (random % 1024) as f64 / 2048.0)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
