//! The stream of calls about the frameworks' state. A list would hold other answers up, and is made alone.

use proffer_proto::api::state_client::StateClient;
use proffer_proto::state::{Answers, Call, Calls, NumberedCall, Refusal, answer, call, numbered_answer};
use tonic::{Status, Streaming};

use crate::connection::MESSAGE_BYTES_MAX;
use crate::line::Line;
use crate::many::{Kind, Outgoing};

/// At the master of a connection.
#[derive(Debug)]
pub(crate) struct StateCalls(pub(crate) Line);

impl Kind for StateCalls {
    type Call = Call;
    /// None: the answer is of a kind that this version does not know.
    type Answer = Option<answer::Body>;
    type Calls = Calls;
    type Answers = Answers;

    fn size(call: &Call) -> usize {
        let body = match &call.body {
            Some(call::Body::Put(put)) => put.key.len() + put.value.len(),
            Some(call::Body::Get(get)) => get.key.len(),
            Some(call::Body::Delete(delete)) => delete.key.len(),
            Some(call::Body::List(_)) | None => 0,
        };
        call.namespace.len() + body + 64
    }

    fn is_alone(call: &Call) -> bool {
        matches!(call.body, Some(call::Body::List(_)))
    }

    fn message(calls: Vec<(u64, Call)>) -> Calls {
        let calls = calls.into_iter().map(|(number, call)| NumberedCall { number, call });
        Calls { calls: calls.collect() }
    }

    fn answers(message: Answers) -> Vec<(u64, Result<Self::Answer, Refusal>)> {
        let answers = message.answers.into_iter().map(|answer| {
            let body = match answer.body {
                Some(numbered_answer::Body::Answer(answer)) => Ok(answer.body),
                Some(numbered_answer::Body::Refusal(refusal)) => Err(refusal),
                None => Ok(None),
            };
            (answer.number, body)
        });
        answers.collect()
    }

    async fn open(&self, outgoing: Outgoing<Self>) -> Result<Streaming<Answers>, Status> {
        let mut client = StateClient::new(self.0.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(client.submit_many(outgoing).await?.into_inner())
    }
}
