//! Keeps one stream to the leading master.
//!
//! One that does not lead names the leader in the metadata `proffer-leader` of its refusal, where it knows it; [`search`]
//! decides who is asked next. A master that is gone or stands still is noticed by HTTP/2 keep-alive within eight seconds.

pub mod search;

use std::collections::BTreeMap;
use std::time::Duration;

use proffer_proto::api::agent_link_client::AgentLinkClient;
use proffer_proto::link::{AgentMessage, MasterMessage, master_message};
use proffer_proto::metadata::CLUSTER;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use crate::causes::with_causes;
use crate::core::Input;
use crate::driver::Event;
use search::{End, Search};

/// A stream on which nothing came for so long is asked for a sign of life.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// How long the sign may take; a new leader has thousands of agents to answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a master may take to answer Register.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(15);
/// Messages waiting to be sent; what does not fit is dropped, and sent again if it matters.
const OUTBOUND_MAX: usize = 4096;
/// A Register lists every task of the agent.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

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
    end: End,
    reason: String,
}

/// Connects again and again until the driver is gone. Masters of another cluster than the agent's are told so, and refuse it.
pub(crate) async fn run(masters: Vec<String>, mut cluster: Option<String>, events: mpsc::Sender<Event>) {
    let mut search = Search::new(masters);
    // A master that knows no leader is asked again on the same connection.
    let mut kept: Option<(String, Channel)> = None;
    // What each master was last reported to say.
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    for session in 1.. {
        let master = search.candidate().to_owned();
        let channel = match kept.take_if(|(address, _)| *address == master) {
            Some((_, channel)) => Ok(channel),
            None => connect(&master, search.connect_timeout()).await,
        };
        let Ended { end, reason } = match channel {
            Ok(channel) => {
                kept = Some((master.clone(), channel.clone()));
                attach(channel, session, &mut cluster, &events).await
            }
            Err(reason) => Ended::unreached(reason),
        };
        if events.is_closed() {
            return;
        }
        if end == End::Lost {
            tracing::warn!(master, reason, "lost the master");
            said.clear();
        } else {
            // Said once for as long as it stays the same: the agent goes on trying.
            match said.insert(master.clone(), reason.clone()) == Some(reason.clone()) {
                true => tracing::debug!(master, reason, "cannot register with the master"),
                false => tracing::warn!(master, reason, "cannot register with the master"),
            }
        }
        if !matches!(end, End::NotLeading(_)) {
            kept = None;
        }
        tokio::time::sleep(search.ended(end)).await;
    }
}

async fn connect(master: &str, timeout: Duration) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{master}"))
        .map_err(|error| format!("`{master}` is not HOST:PORT: {error}"))?
        .connect_timeout(timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    match tokio::time::timeout(timeout, endpoint.connect()).await {
        Ok(connected) => connected.map_err(|error| with_causes(&error)),
        Err(_) => Err(format!("no connection within {} ms", timeout.as_millis())),
    }
}

/// One stream, from its beginning to its end.
async fn attach(channel: Channel, session: u64, cluster: &mut Option<String>, events: &mpsc::Sender<Event>) -> Ended {
    let (outbound, sending) = mpsc::channel(OUTBOUND_MAX);
    let (open, closed) = oneshot::channel();
    let stream = Stream {
        session,
        outbound,
        open,
    };
    if events.send(Event::Attached(stream)).await.is_err() {
        return Ended::unreached("the agent stops");
    }
    let mut registered = false;
    let ended = tokio::select! {
        ended = receive(AgentLinkClient::new(channel), sending, session, cluster, events, &mut registered) => ended,
        _ = closed => Ended::unreached("the agent closed the stream"),
    };
    let _ = events.send(Event::Input(Input::Detached(session))).await;
    match registered {
        true => Ended {
            end: End::Lost,
            ..ended
        },
        false => ended,
    }
}

/// Passes messages on until the stream ends.
async fn receive(
    client: AgentLinkClient<tonic::transport::Channel>,
    sending: mpsc::Receiver<AgentMessage>,
    session: u64,
    cluster: &mut Option<String>,
    events: &mpsc::Sender<Event>,
    registered: &mut bool,
) -> Ended {
    let mut client = client
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let mut request = tonic::Request::new(ReceiverStream::new(sending));
    if let Some(cluster) = cluster.as_deref().and_then(|cluster| cluster.parse().ok()) {
        request.metadata_mut().insert(CLUSTER, cluster);
    }
    let mut patience = REGISTER_TIMEOUT;
    let attached = tokio::time::timeout(patience, client.attach(request)).await;
    let response = match attached {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => return Ended::by(&status),
        Err(_) => return Ended::unreached("the master does not answer"),
    };
    let theirs = response.metadata().get(CLUSTER);
    let theirs = theirs.and_then(|theirs| theirs.to_str().ok()).map(str::to_owned);
    let mut messages = response.into_inner();
    loop {
        let message: MasterMessage = match tokio::time::timeout(patience, messages.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return Ended::unreached("the master ended the stream"),
            Ok(Err(status)) => return Ended::by(&status),
            Err(_) => return Ended::unreached(format!("heard nothing for {patience:?}")),
        };
        if let Some(master_message::Body::Registered(answer)) = &message.body {
            *registered = true;
            if let Some(theirs) = theirs.clone() {
                *cluster = Some(theirs.clone());
                if events.send(Event::Input(Input::Cluster(theirs))).await.is_err() {
                    return Ended::unreached("the agent stops");
                }
            }
            let interval = Duration::try_from_secs_f64(answer.ping_interval_seconds).unwrap_or(REGISTER_TIMEOUT);
            patience = (interval * 3).clamp(Duration::from_secs(1), Duration::from_secs(3600));
        }
        let input = Event::Input(Input::Message(session, message));
        if events.send(input).await.is_err() {
            return Ended::unreached("the agent stops");
        }
    }
}

impl Ended {
    fn unreached(reason: impl Into<String>) -> Self {
        Ended {
            end: End::Unreached,
            reason: reason.into(),
        }
    }

    fn by(status: &tonic::Status) -> Self {
        Ended {
            end: End::of(status),
            reason: format!("{}: {}", status.code(), status.message()),
        }
    }
}
