//! Keeps the stream of one simulated agent, looking for the leader as a real agent does.
//!
//! Only the connection differs: agents of one group share it, because ten thousand of them run in one process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proffer_agent::search::{End, Search};
use proffer_proto::api::agent_link_client::AgentLinkClient;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::agent::{Agent, News};
use super::fleet::Ledger;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const REGISTER_TIMEOUT: Duration = Duration::from_secs(15);
const MESSAGE_BYTES_MAX: usize = 64 << 20;
const OUTBOUND_MAX: usize = 64;

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
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_lazy();
        channels.insert(master.to_owned(), channel.clone());
        Ok(channel)
    }
}

/// Connects again and again.
pub(super) async fn run(mut agent: Agent, lines: Arc<Lines>, masters: Vec<String>, ledger: Arc<Ledger>) {
    let mut search = Search::new(masters);
    let mut round = None;
    loop {
        let end = attach(&mut agent, &lines, search.candidate(), &ledger, &mut round).await;
        tokio::time::sleep(search.ended(end)).await;
    }
}

async fn attach(agent: &mut Agent, lines: &Lines, master: &str, ledger: &Ledger, round: &mut Option<u64>) -> End {
    let Ok(channel) = lines.channel(master) else {
        return End::Unreached;
    };
    let mut client = AgentLinkClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (outbound, sending) = mpsc::channel(OUTBOUND_MAX);
    if outbound.try_send(agent.register()).is_err() {
        return End::Unreached;
    }
    let attached = tokio::time::timeout(REGISTER_TIMEOUT, client.attach(ReceiverStream::new(sending))).await;
    let mut messages = match attached {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return End::of(&status),
        Err(_) => return End::Unreached,
    };
    let mut registration = Registration { ledger, counted: false };
    let mut patience = REGISTER_TIMEOUT;
    let mut out = Vec::new();
    let mut heard = Instant::now();
    let end = loop {
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
                    News::Rejected => break End::Unreached,
                }
            }
            Ok(Ok(None)) => break End::Unreached,
            Ok(Err(status)) => break End::of(&status),
            Err(_) if now >= heard + patience => break End::Unreached,
            Err(_) => agent.tick(now, &mut out),
        }
        for message in out.drain(..) {
            // A stream that takes nothing any more ends by itself.
            if outbound.send(message).await.is_err() {
                break;
            }
        }
    };
    match registration.counted {
        true => End::Lost,
        false => end,
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
