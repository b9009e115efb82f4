//! Agents' streams.
//!
//! The messages of one direction are passed on in order. A stream whose reader is slow makes its agent wait (through
//! HTTP/2's flow control), and no one else. An agent that floods the master waits too: only so many of its messages stand
//! before the driver at a time.

use std::sync::Arc;

use proffer_master_core::ConnectionId;
use proffer_proto::api::agent_link_server::AgentLink;
use proffer_proto::link::agent_message::Body;
use proffer_proto::link::{AgentMessage, MasterMessage};
use tokio::sync::{Semaphore, oneshot};
use tonic::{Request, Response, Status, Streaming};

use super::{PeerAddress, status};
use crate::driver::{self, Ended, Handle};
use crate::outbox::{Bounds, Outbox, Reader, outbox};

#[derive(Debug)]
pub(super) struct Service {
    handle: Handle,
    /// Where this master is reached.
    address: String,
    bounds: Bounds,
}

impl Service {
    pub(super) fn new(handle: Handle, address: String, bounds: Bounds) -> Self {
        Self {
            handle,
            address,
            bounds,
        }
    }
}

#[tonic::async_trait]
impl AgentLink for Service {
    type AttachStream = Reader<MasterMessage>;

    async fn attach(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Reader<MasterMessage>>, Status> {
        // The core closes the stream of an agent that it does not want without a word; here is the word.
        let leader = self.handle.leader();
        if leader.as_ref() != Some(&self.address) {
            return Err(status::not_leader(leader));
        }
        let peer = request.extensions().get::<PeerAddress>();
        let address = peer.map_or_else(String::new, |peer| peer.0.to_string());
        let connection = self.handle.new_connection();
        let (left, has_left) = oneshot::channel::<()>();
        let handle = self.handle.clone();
        let (outbox, reader) = outbox(self.bounds, move || {
            drop(left);
            handle.end(Ended::Agent(connection));
        });
        let link = Link {
            handle: self.handle.clone(),
            connection,
            address,
            places: Arc::new(Semaphore::new(driver::WAITING_OF_ONE_AGENT)),
        };
        // The answer must not wait for the first message: some peers send it only after they have the answer.
        tokio::spawn(async move {
            tokio::select! {
                () = link.read(request.into_inner(), outbox) => {}
                _ = has_left => {}
            }
        });
        Ok(Response::new(reader))
    }
}

struct Link {
    handle: Handle,
    connection: ConnectionId,
    address: String,
    /// Of its messages that wait for the driver.
    places: Arc<Semaphore>,
}

/// However the reading ends, by a panic too.
impl Drop for Link {
    fn drop(&mut self) {
        self.handle.end(Ended::Agent(self.connection));
    }
}

impl Link {
    async fn read(&self, mut incoming: Streaming<AgentMessage>, outbox: Outbox<MasterMessage>) {
        let connection = self.connection;
        let register = match incoming.message().await {
            Ok(Some(AgentMessage {
                body: Some(Body::Register(register)),
            })) => Box::new(register),
            Ok(Some(_)) => {
                outbox.fail(Status::invalid_argument(
                    "body: the first message of a stream must be register",
                ));
                return;
            }
            Ok(None) => return,
            Err(status) => {
                outbox.fail(status);
                return;
            }
        };
        let register = driver::Request::AgentRegister {
            connection,
            register,
            address: self.address.clone(),
            outbox,
        };
        if self.handle.send(register).await.is_err() {
            return;
        }
        loop {
            match incoming.message().await {
                Ok(Some(message)) => {
                    let Ok(place) = self.places.clone().acquire_owned().await else {
                        break;
                    };
                    let message = driver::Request::AgentMessage {
                        connection,
                        message: Box::new(message),
                        place,
                    };
                    if self.handle.send(message).await.is_err() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(status) => {
                    tracing::debug!(%connection, %status, "an agent's stream broke");
                    break;
                }
            }
        }
    }
}
