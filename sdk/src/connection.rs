//! One subscription of a framework at the leading master: its events, and the calls made within it.
//!
//! This is the lower of the two levels: nothing is acknowledged, reconciled or subscribed again by itself. The upper one
//! is [`crate::run`].

use std::time::Duration;

use futures_util::Stream;
use proffer_proto::api::scheduler_client::SchedulerClient;
use proffer_proto::v1::FrameworkInfo;
use proffer_proto::v1::scheduler::event::{self, Subscribed};
use proffer_proto::v1::scheduler::{Call, Event, call};
use tokio::time::Instant;
use tonic::Streaming;

use crate::calls::{CallError, Calls, STREAM_ID_METADATA};
use crate::finder::{Failed, Finder};
use crate::line::Line;
use crate::masters::{Masters, leader_of};

/// The interval of heartbeats where the master does not say.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// So many heartbeats missing in a row end a subscription.
const HEARTBEATS_MISSED_MAX: u32 = 5;
/// The largest message; OFFERS of 10,000 agents is about 5 MiB.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The master refuses the subscription: trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("subscription rejected: {0}")]
pub struct SubscribeRejected(pub String);

/// The subscription is over; the framework may subscribe again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("subscription ended: {0}")]
pub struct Disconnected(pub String);

/// Subscribes a framework at the leading master, waiting for one for as long as it takes.
///
/// To fail over to a new scheduler process, the info carries the framework's id.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use proffer_sdk::{Framework, Masters, connect};
///
/// let masters: Masters = "127.0.0.1:5050".parse()?;
/// let (mut events, calls) = connect(&masters, Framework::new("listener")).await?;
/// loop {
///     let event = events.next().await?;
///     if let Some(offers) = event.offers {
///         calls.decline(offers.offers.into_iter().map(|offer| offer.id).collect(), None).await?;
///     }
/// }
/// # }
/// ```
pub async fn connect(
    masters: &Masters,
    framework: impl Into<FrameworkInfo>,
) -> Result<(Events, Calls), SubscribeRejected> {
    let subscribe = call::Subscribe {
        framework_info: framework.into(),
        ..Default::default()
    };
    connect_with(masters, subscribe).await
}

/// As [`connect`], with suppressed roles and offer constraints.
pub async fn connect_with(masters: &Masters, subscribe: call::Subscribe) -> Result<(Events, Calls), SubscribeRejected> {
    Connector::new(masters.clone()).connect(subscribe).await
}

/// Subscribes again and again, remembering the last leader.
#[derive(Debug)]
pub(crate) struct Connector {
    finder: Finder,
}

impl Connector {
    pub(crate) fn new(masters: Masters) -> Self {
        Connector {
            finder: Finder::new(masters),
        }
    }

    /// Safe to cancel: the next attempt goes on where this one stopped.
    pub(crate) async fn connect(&mut self, subscribe: call::Subscribe) -> Result<(Events, Calls), SubscribeRejected> {
        let call = Call {
            framework_id: subscribe.framework_info.id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(Box::new(subscribe)),
            ..Default::default()
        };
        loop {
            let address = self.finder.candidate();
            let failed = match self.subscribe_at(&address, call.clone()).await {
                Ok(subscription) => {
                    self.finder.found(&address);
                    return Ok(subscription);
                }
                Err(Failure::Rejected(text)) => return Err(SubscribeRejected(text)),
                Err(Failure::Useless(failed, why)) => {
                    tracing::debug!(master = address, ?failed, why, "cannot subscribe there");
                    failed
                }
            };
            tokio::time::sleep(self.finder.failed(failed)).await;
        }
    }

    async fn subscribe_at(&self, address: &str, call: Call) -> Result<(Events, Calls), Failure> {
        let line = self
            .finder
            .line(address)
            .await
            .map_err(|why| Failure::Useless(Failed::Unreachable, why))?;
        // An answer takes one commit of the registry.
        let subscribed = tokio::time::timeout(self.finder.answer_timeout(), subscribe(line, call)).await;
        subscribed.unwrap_or_else(|_| {
            let why = "no answer to SUBSCRIBE in time".to_owned();
            Err(Failure::Useless(Failed::Silent, why))
        })
    }
}

enum Failure {
    Rejected(String),
    /// The next master is asked.
    Useless(Failed, String),
}

impl Failure {
    fn from_status(status: &tonic::Status) -> Self {
        match (CallError::from_status(status), status.code()) {
            (CallError::Rejected(text), _) | (CallError::NotSubscribed(text), tonic::Code::FailedPrecondition) => {
                Failure::Rejected(text)
            }
            (error, _) => Failure::Useless(Failed::NotLeading(leader_of(status)), error.to_string()),
        }
    }

    fn broken(why: impl Into<String>) -> Self {
        Failure::Useless(Failed::NotLeading(None), why.into())
    }
}

async fn subscribe(line: Line, call: Call) -> Result<(Events, Calls), Failure> {
    let mut client = SchedulerClient::new(line).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let opened = client.subscribe(call).await;
    let response = opened.map_err(|status| Failure::from_status(&status))?;
    let stream_id = response.metadata().get(STREAM_ID_METADATA).cloned();
    let mut stream = response.into_inner();
    let first = stream.message().await.map_err(|status| Failure::from_status(&status))?;
    let first = first.ok_or_else(|| Failure::broken("the stream ended before SUBSCRIBED"))?;
    if let Some(error) = first.error {
        return Err(Failure::Rejected(error.message));
    }
    let subscribed = first.subscribed.clone();
    let subscribed = subscribed.ok_or_else(|| Failure::broken("the first event is not SUBSCRIBED"))?;
    let stream_id = stream_id.ok_or_else(|| Failure::broken(format!("no `{STREAM_ID_METADATA}` in the answer")))?;
    let calls = Calls::new(client, stream_id, subscribed.framework_id.clone());
    Ok((Events::new(stream, *subscribed, first), calls))
}

/// The events of one subscription, beginning with SUBSCRIBED.
///
/// Ends when the stream breaks, or when five heartbeats in a row did not come.
#[derive(Debug)]
pub struct Events {
    stream: Streaming<Event>,
    subscribed: Subscribed,
    first: Option<Event>,
    patience: Duration,
    deadline: Instant,
}

impl Events {
    fn new(stream: Streaming<Event>, subscribed: Subscribed, first: Event) -> Self {
        let interval = subscribed
            .heartbeat_interval_seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|interval| !interval.is_zero())
            .unwrap_or(HEARTBEAT);
        let patience = interval * HEARTBEATS_MISSED_MAX;
        Events {
            stream,
            subscribed,
            first: Some(first),
            patience,
            deadline: Instant::now() + patience,
        }
    }

    /// What the master answered to SUBSCRIBE.
    pub fn subscribed(&self) -> &Subscribed {
        &self.subscribed
    }

    /// The next event, heartbeats included. Safe to cancel.
    pub async fn next(&mut self) -> Result<Event, Disconnected> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let event = match tokio::time::timeout_at(self.deadline, self.stream.message()).await {
            Ok(Ok(Some(event))) => event,
            Ok(Ok(None)) => return Err(Disconnected("the master closed the stream".into())),
            Ok(Err(status)) => return Err(Disconnected(format!("{:?}: {}", status.code(), status.message()))),
            Err(_) => {
                return Err(Disconnected(format!(
                    "no heartbeat in {} seconds",
                    self.patience.as_secs_f64()
                )));
            }
        };
        self.deadline = Instant::now() + self.patience;
        Ok(event)
    }

    /// The events as a stream, which ends after its first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, Disconnected>> + Send {
        futures_util::stream::unfold(Some(self), |events| async move {
            let mut events = events?;
            match events.next().await {
                Ok(event) => Some((Ok(event), Some(events))),
                Err(disconnected) => Some((Err(disconnected), None)),
            }
        })
    }
}

/// Whether an event says only that the master is there.
pub(crate) fn is_heartbeat(event: &Event) -> bool {
    event.r#type() == event::Type::Heartbeat
}
