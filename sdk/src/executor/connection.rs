//! One subscription with the agent.

use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use proffer_proto::api::executor_client::ExecutorClient;
use proffer_proto::v1::executor::event::Subscribed;
use proffer_proto::v1::executor::{Call, Event, call};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use super::options::Options;
use crate::masters;

/// How long a connection, or the answer to SUBSCRIBE, may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Five heartbeats of an agent.
const SILENCE_MAX: Duration = Duration::from_secs(150);

/// Why there is no subscription, or none any more.
#[derive(Debug)]
pub(super) enum Failure {
    /// Trying again does not help.
    Refused(String),
    /// The agent is away.
    Away(String),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let text = format!("{:?}: {}", status.code(), status.message());
        match status.code() {
            Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => {
                Failure::Refused(text)
            }
            _ => Failure::Away(text),
        }
    }
}

/// Makes calls within one subscription.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    client: ExecutorClient<Channel>,
    options: Options,
}

/// The events of one subscription.
#[derive(Debug)]
pub(super) struct Events(Streaming<Event>);

/// Subscribes; what is answered first comes beside the events.
pub(super) async fn subscribe(
    options: &Options,
    subscribe: call::Subscribe,
) -> Result<(Subscribed, Events, Calls), Failure> {
    let attempt = async {
        let mut calls = Calls {
            client: ExecutorClient::new(channel(options).await?),
            options: options.clone(),
        };
        let call = Call {
            subscribe: Some(subscribe),
            ..calls.call(call::Type::Subscribe)
        };
        let request = calls.request(call)?;
        let mut events = Events(calls.client.subscribe(request).await?.into_inner());
        let first = events.next().await?;
        let subscribed = first.subscribed;
        let subscribed = subscribed.ok_or_else(|| Failure::Away("the first event is not SUBSCRIBED".into()))?;
        Ok((subscribed, events, calls))
    };
    let timed = tokio::time::timeout(TIMEOUT, attempt).await;
    timed.unwrap_or_else(|_| Err(Failure::Away("no answer to SUBSCRIBE in time".into())))
}

async fn channel(options: &Options) -> Result<Channel, Failure> {
    match &options.socket {
        Some(path) => unix_channel(path).await,
        None => masters::channel(&options.agent, TIMEOUT).await,
    }
    .map_err(Failure::Away)
}

async fn unix_channel(path: &Path) -> Result<Channel, String> {
    let failed = |error: tonic::transport::Error| format!("{}: {}", path.display(), masters::cause_of(&error));
    let own = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = own.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is only a name.
    let endpoint = Endpoint::from_static("http://agent");
    endpoint.connect_with_connector(connector).await.map_err(failed)
}

impl Calls {
    /// A call of this executor without a payload.
    pub(super) fn call(&self, kind: call::Type) -> Call {
        Call {
            executor_id: self.options.executor_id.clone(),
            framework_id: self.options.framework_id.clone(),
            r#type: Some(kind.into()),
            ..Default::default()
        }
    }

    /// Makes any call but SUBSCRIBE. An `Ok` means that the agent has written down what it says.
    pub(super) async fn submit(&self, call: Call) -> Result<(), Failure> {
        self.client.clone().submit(self.request(call)?).await?;
        Ok(())
    }

    fn request(&self, call: Call) -> Result<Request<Call>, Failure> {
        let mut request = Request::new(call);
        let bearer = format!("Bearer {}", self.options.token).parse();
        let bearer = bearer.map_err(|_| Failure::Refused("the token cannot be sent in a header".into()))?;
        request.metadata_mut().insert("authorization", bearer);
        Ok(request)
    }
}

impl Events {
    /// The next event, heartbeats included. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Event, Failure> {
        match tokio::time::timeout(SILENCE_MAX, self.0.message()).await {
            Ok(Ok(Some(event))) => Ok(event),
            Ok(Ok(None)) => Err(Failure::Away("the agent closed the stream".into())),
            Ok(Err(status)) => Err(status.into()),
            Err(_) => Err(Failure::Away(format!("no heartbeat in {} s", SILENCE_MAX.as_secs()))),
        }
    }
}
