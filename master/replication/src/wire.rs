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
    check_fields(bytes, MESSAGE).ok_or_else(|| Refusal::Undecodable("it has groups or is cut short".to_owned()))?;
    Message::parse_from_bytes(bytes).map_err(|error| Refusal::Undecodable(error.to_string()))
}

/// The fields of a message that are messages themselves.
struct Nested(&'static [(u64, Nested)]);

/// `Message`: its entries, and its snapshot with metadata and configuration.
const MESSAGE: &Nested = &Nested(&[(7, Nested(&[])), (9, Nested(&[(2, Nested(&[(1, Nested(&[]))]))]))]);

/// Refuses groups, which rust-protobuf 2 skips by recursion: a message of nested groups would exhaust the stack
/// (RUSTSEC-2024-0437). No message of raft has any.
fn check_fields(mut bytes: &[u8], nested: &Nested) -> Option<()> {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match tag & 7 {
            0 => {
                varint(&mut bytes)?;
            }
            1 => bytes = bytes.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (field, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                if let Some((_, inner)) = nested.0.iter().find(|(number, _)| *number == tag >> 3) {
                    check_fields(field, inner)?;
                }
            }
            5 => bytes = bytes.get(4..)?,
            _ => return None,
        }
    }
    Some(())
}

/// Base-128, the lowest seven bits first.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::{Entry, MessageType, Snapshot};

    use super::*;

    #[test]
    fn a_message_reads_back() -> Result<(), Refusal> {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgAppend);
        (message.from, message.to, message.term) = (1, u64::MAX, 300);
        let data = vec![7; 1000].into();
        let entry = Entry {
            data,
            ..Entry::default()
        };
        message.set_entries(vec![entry.clone(), entry].into());
        message.set_snapshot(crate::bootstrap(&[1, 2, 3], b"state".to_vec()));
        assert_eq!(decode(&encode(&message))?, message);
        let empty = Message::default();
        assert_eq!(decode(&encode(&empty))?, empty);
        Ok(())
    }

    #[test]
    fn nested_groups_do_not_exhaust_the_stack() {
        // Field 20, a group that is never closed.
        let groups = [0xa3, 0x01].repeat(1_000_000);
        assert!(matches!(decode(&groups), Err(Refusal::Undecodable(_))));
        let mut inside = Message::default();
        let mut snapshot = Snapshot::default();
        snapshot
            .mut_metadata()
            .unknown_fields
            .add_length_delimited(30, groups.clone());
        inside.set_snapshot(snapshot);
        assert!(decode(&encode(&inside)).is_ok(), "bytes are bytes, whatever is in them");
        // The same groups where the message has its metadata.
        let mut bytes = vec![0x4a];
        let length = |bytes: &mut Vec<u8>, mut length: usize| {
            while length > 0x7f {
                bytes.push(length as u8 | 0x80);
                length >>= 7;
            }
            bytes.push(length as u8);
        };
        let mut metadata = vec![0x12];
        length(&mut metadata, groups.len());
        metadata.extend(&groups);
        length(&mut bytes, metadata.len());
        bytes.extend(&metadata);
        assert!(matches!(decode(&bytes), Err(Refusal::Undecodable(_))));
    }
}
