//! Keeps the stream of one simulated agent, by the rules of `agent/src/link.rs`.
//!
//! Only the connection differs: agents of one group share it, because ten thousand of them run in one process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proffer_proto::api::agent_link_client::AgentLinkClient;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::agent::{Agent, News};
use super::fleet::Ledger;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const REGISTER_TIMEOUT: Duration = Duration::from_secs(15);
const MESSAGE_BYTES_MAX: usize = 64 << 20;
const OUTBOUND_MAX: usize = 64;
const HINTS_MAX: u32 = 3;

/// The connections of one group of agents, one to each master.
#[derive(Debug, Default)]
pub(super) struct Lines {
    channels: Mutex<BTreeMap<String, Channel>>,
}

impl Lines {
    fn channel(&self, master: &str) -> Result<Channel, tonic::transport::Error> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(master) {
            return Ok(channel.clone());
        }
        let channel = Endpoint::from_shared(format!("http://{master}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect_lazy();
        channels.insert(master.to_owned(), channel.clone());
        Ok(channel)
    }
}

/// How a stream ended.
#[derive(Debug, Default)]
struct Ended {
    registered: bool,
    leader: Option<String>,
}

/// Connects again and again.
pub(super) async fn run(
    mut agent: Agent,
    lines: Arc<Lines>,
    masters: Arc<[String]>,
    mut turn: usize,
    ledger: Arc<Ledger>,
) {
    let mut backoff = BACKOFF_MIN;
    let mut hint: Option<String> = None;
    let mut hints = 0;
    let mut round = None;
    loop {
        let master = hint.take().unwrap_or_else(|| {
            turn += 1;
            masters[(turn - 1) % masters.len()].clone()
        });
        let ended = attach(&mut agent, &lines, &master, &ledger, &mut round).await;
        if ended.registered {
            (backoff, hints) = (BACKOFF_MIN, 0);
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

async fn attach(agent: &mut Agent, lines: &Lines, master: &str, ledger: &Ledger, round: &mut Option<u64>) -> Ended {
    let Ok(channel) = lines.channel(master) else {
        return Ended::default();
    };
    let mut client = AgentLinkClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (outbound, sending) = mpsc::channel(OUTBOUND_MAX);
    if outbound.try_send(agent.register()).is_err() {
        return Ended::default();
    }
    let attached = tokio::time::timeout(REGISTER_TIMEOUT, client.attach(ReceiverStream::new(sending))).await;
    let mut messages = match attached {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return refused(&status),
        Err(_) => return Ended::default(),
    };
    let mut registration = Registration { ledger, counted: false };
    let mut patience = REGISTER_TIMEOUT;
    let mut out = Vec::new();
    let mut heard = Instant::now();
    loop {
        let due = agent.due().filter(|_| registration.counted);
        let wake = (heard + patience).min(due.unwrap_or(heard + patience));
        let message = tokio::time::timeout_at(wake, messages.message()).await;
        let now = Instant::now();
        match message {
            Ok(Ok(Some(message))) => {
                heard = now;
                match agent.handle(now, message, &mut out) {
                    News::None => {}
                    News::Registered(interval) => {
                        patience = (interval * 3).clamp(Duration::from_secs(1), Duration::from_secs(3600));
                        *round = ledger.attached(*round);
                        registration.counted = true;
                    }
                    News::Rejected => break,
                }
            }
            Ok(Ok(None)) => break,
            Ok(Err(status)) => {
                let ended = refused(&status);
                return Ended {
                    registered: registration.counted,
                    ..ended
                };
            }
            Err(_) if now >= heard + patience => break,
            Err(_) => agent.tick(now, &mut out),
        }
        for message in out.drain(..) {
            // A stream that takes nothing any more ends by itself.
            if outbound.send(message).await.is_err() {
                break;
            }
        }
    }
    Ended {
        registered: registration.counted,
        leader: None,
    }
}

/// Counts an agent as attached for as long as its stream lasts.
struct Registration<'a> {
    ledger: &'a Ledger,
    counted: bool,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        if self.counted {
            self.ledger.detached();
        }
    }
}

fn refused(status: &tonic::Status) -> Ended {
    let leader = status.metadata().get(proffer_sdk::LEADER_METADATA);
    let leader = leader
        .and_then(|leader| leader.to_str().ok())
        .filter(|leader| !leader.is_empty());
    Ended {
        registered: false,
        leader: leader.map(str::to_owned),
    }
}

/// Between a half and the whole of a span.
fn jittered(span: Duration) -> Duration {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    span.mul_f64(0.5 + (high >> 32) as f64 / (1_u64 << 33) as f64)
}
