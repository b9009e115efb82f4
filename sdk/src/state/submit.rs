//! Makes a call until it is answered, and keeps account of what earlier attempts may have done.

use proffer_proto::api::state_client::StateClient;
use proffer_proto::state::{Call, answer, call};
use tonic::{Code, Status};

use super::{State, StateError};
use crate::connection::MESSAGE_BYTES_MAX;
use crate::finder::Failed;
use crate::leader::Connection;
use crate::masters::leader_of;

/// The answer to a write.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) body: answer::Body,
    /// An earlier attempt got no answer, and may have been carried out.
    pub(super) in_doubt: bool,
}

/// Why an attempt has no answer.
pub(super) enum Failure {
    /// There will be no other one.
    Final(StateError),
    /// The next master may have one.
    Again(Failed, String),
}

impl State {
    pub(super) async fn read(&self, body: call::Body) -> Result<answer::Body, StateError> {
        let call = self.call(body);
        let reading = async {
            loop {
                let connection = self.leader.connection().await;
                if let Some(answer) = self.attempt(&connection, call.clone()).await? {
                    return Ok(answer);
                }
            }
        };
        match tokio::time::timeout(self.timeout, reading).await {
            Ok(answer) => answer,
            Err(_) => Err(StateError::Unavailable(self.leader.why().await)),
        }
    }

    /// A write is sent only to a master that has answered a read as the leader. A master that never led refuses with the same
    /// words as one that lost the leadership with the write in hand; so the refusals that say nothing are taken by the read.
    pub(super) async fn write(&self, body: call::Body) -> Result<Answered, StateError> {
        let call = self.call(body);
        let probe = self.call(probe(&call));
        let mut in_doubt = false;
        let writing = async {
            loop {
                let connection = self.leader.connection().await;
                if !connection.confirmed {
                    self.attempt(&connection, probe.clone()).await?;
                    continue;
                }
                // Where this is dropped before the answer comes, the attempt counts.
                let doubt_before = std::mem::replace(&mut in_doubt, true);
                match self.attempt(&connection, call.clone()).await {
                    Ok(Some(body)) => return Ok((body, doubt_before)),
                    Ok(None) => {}
                    Err(error) => {
                        in_doubt = doubt_before;
                        return Err(error);
                    }
                }
            }
        };
        let written = tokio::time::timeout(self.timeout, writing).await;
        match written {
            Ok(Ok((body, in_doubt))) => Ok(Answered { body, in_doubt }),
            // What is rejected now was rejected before.
            Ok(Err(error @ StateError::Rejected(_))) => Err(error),
            Ok(Err(error)) if in_doubt => Err(StateError::Unknown(error.to_string())),
            Ok(Err(error)) => Err(error),
            Err(_) if in_doubt => Err(StateError::Unknown(self.leader.why().await)),
            Err(_) => Err(StateError::Unavailable(self.leader.why().await)),
        }
    }

    /// One attempt at one master. `None`: another one may have an answer.
    async fn attempt(&self, connection: &Connection, call: Call) -> Result<Option<answer::Body>, StateError> {
        match submit(connection, call).await {
            Ok(body) => {
                self.leader.confirm(connection).await;
                Ok(Some(body))
            }
            Err(Failure::Final(error)) => {
                self.leader.confirm(connection).await;
                Err(error)
            }
            Err(Failure::Again(failed, why)) => {
                self.leader.failed(connection, failed, why).await;
                Ok(None)
            }
        }
    }

    fn call(&self, body: call::Body) -> Call {
        Call {
            namespace: self.namespace.clone(),
            body: Some(body),
        }
    }
}

async fn submit(connection: &Connection, call: Call) -> Result<answer::Body, Failure> {
    let mut client = StateClient::new(connection.channel.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let answered = tokio::time::timeout(connection.answer_timeout, client.submit(call)).await;
    let answered = answered.map_err(|_| {
        let why = format!("{} does not answer", connection.address);
        Failure::Again(Failed::Silent, why)
    })?;
    let answer = answered.map_err(|status| Failure::from_status(&status))?.into_inner();
    answer.body.ok_or_else(|| {
        let why = "the master answered something that this version does not know".to_owned();
        Failure::Final(StateError::Refused(why))
    })
}

/// A read that a leader answers where it accepts the call.
fn probe(call: &Call) -> call::Body {
    let key = match &call.body {
        Some(call::Body::Put(put)) => put.key.clone(),
        Some(call::Body::Delete(delete)) => delete.key.clone(),
        _ => String::new(),
    };
    call::Body::Get(proffer_proto::state::Get { key })
}

impl Failure {
    pub(super) fn from_status(status: &Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            Code::InvalidArgument
            | Code::OutOfRange
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated => Failure::Final(StateError::Rejected(text)),
            Code::FailedPrecondition => Failure::Final(StateError::Refused(text)),
            Code::ResourceExhausted => Failure::Final(StateError::Full(text)),
            Code::Unimplemented => Failure::Final(StateError::Unsupported(text)),
            code => Failure::Again(Failed::NotLeading(leader_of(status)), format!("{code:?}: {text}")),
        }
    }
}
