//! Makes a call until it is answered, and keeps account of what earlier attempts may have done.

use proffer_proto::api::state_client::StateClient;
use proffer_proto::state::{Call, answer, call};
use tonic::{Code, Status};

use super::{State, StateError};
use crate::connection::MESSAGE_BYTES_MAX;
use crate::finder::Failed;
use crate::leader::Connection;
use crate::many::Lost;
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
    /// As well; this one has not heard of the call.
    Unsent(Failed, String),
}

/// What came of an attempt that is not final.
enum Attempt {
    Answered(answer::Body),
    /// The master may have carried it out.
    Unanswered,
    /// The master has not heard of it.
    Unsent,
}

impl State {
    pub(super) async fn read(&self, body: call::Body) -> Result<answer::Body, StateError> {
        let call = self.call(body);
        let reading = async {
            loop {
                let connection = self.leader.connection().await;
                if let Attempt::Answered(answer) = self.attempt(&connection, &call).await? {
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
                    self.attempt(&connection, &probe).await?;
                    continue;
                }
                // Where this is dropped before the answer comes, the attempt counts.
                let doubt_before = std::mem::replace(&mut in_doubt, true);
                let attempt = self.attempt(&connection, &call).await;
                in_doubt = doubt_before || matches!(attempt, Ok(Attempt::Unanswered));
                if let Attempt::Answered(body) = attempt? {
                    return Ok((body, doubt_before));
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

    /// One attempt at one master. Where it is not answered, another one may have an answer.
    async fn attempt(&self, connection: &Connection, call: &Call) -> Result<Attempt, StateError> {
        match submit(connection, call).await {
            Ok(body) => {
                self.leader.confirm(connection).await;
                Ok(Attempt::Answered(body))
            }
            Err(Failure::Final(error)) => {
                self.leader.confirm(connection).await;
                Err(error)
            }
            Err(Failure::Again(failed, why)) => {
                self.leader.failed(connection, failed, why).await;
                Ok(Attempt::Unanswered)
            }
            Err(Failure::Unsent(failed, why)) => {
                self.leader.failed(connection, failed, why).await;
                Ok(Attempt::Unsent)
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

async fn submit(connection: &Connection, call: &Call) -> Result<answer::Body, Failure> {
    let answered = tokio::time::timeout(connection.answer_timeout, answer(connection, call)).await;
    let answered = answered.map_err(|_| {
        let why = format!("{} does not answer", connection.address);
        Failure::Again(Failed::Silent, why)
    })?;
    answered?.ok_or_else(|| {
        let why = "the master answered something that this version does not know".to_owned();
        Failure::Final(StateError::Refused(why))
    })
}

async fn answer(connection: &Connection, call: &Call) -> Result<Option<answer::Body>, Failure> {
    let answered = match connection.calls.submit(call.clone()) {
        Ok(answered) => answered.await,
        Err(lost) => Err(lost),
    };
    match answered {
        Ok(answer) => return Ok(answer),
        Err(Lost::Refused(status)) => return Err(Failure::from_status(&status)),
        Err(Lost::Broken(status)) => return Err(Failure::Again(Failed::NotLeading(None), status.to_string())),
        Err(Lost::Unsent(status)) => return Err(Failure::Unsent(Failed::NotLeading(None), status.to_string())),
        Err(Lost::Alone) => {}
    }
    let mut client = StateClient::new(connection.line.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let answered = client.submit(call.clone()).await;
    let answer = answered.map_err(|status| Failure::from_status(&status))?;
    Ok(answer.into_inner().body)
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
