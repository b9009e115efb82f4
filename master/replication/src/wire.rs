//! Messages as bytes, and which of them a member takes at all.

use protobuf::Message as _;
use raft::eraftpb::Message;

/// Why a message is not taken. The sender has a bug, is of another group, or is no master.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be decoded.
    #[error("the message cannot be decoded: {0}")]
    Undecodable(String),
    /// It is for another member.
    #[error("the message is for member {0}")]
    NotMine(u64),
    /// A kind of message that is never sent among members.
    #[error("a message of kind {0} is not sent among masters")]
    Kind(String),
    /// Something in it cannot be.
    #[error("the message is wrong: {0}")]
    Wrong(&'static str),
    /// This member was removed.
    #[error("this member was removed from the group")]
    Removed,
}

/// The message as bytes.
pub fn encode(message: &Message) -> Vec<u8> {
    // A message of eraftpb has no required fields, and no writer that could fail.
    message.write_to_bytes().unwrap_or_default()
}

/// The message of the bytes; whether a member takes it is decided by [`crate::Member::receive`].
///
/// # Errors
/// [`Refusal::Undecodable`].
pub fn decode(bytes: &[u8]) -> Result<Message, Refusal> {
    Message::parse_from_bytes(bytes).map_err(|error| Refusal::Undecodable(error.to_string()))
}
