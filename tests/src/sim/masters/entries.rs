//! The data of a log entry, as the driver of the real master writes it.

use proffer_proto::registry::Change;
use prost::Message as _;

/// The first byte says what the rest is.
const CHANGE: u8 = 1;

pub(crate) fn encode(change: &Change) -> Vec<u8> {
    let mut data = Vec::with_capacity(1 + change.encoded_len());
    data.push(CHANGE);
    data.extend_from_slice(&change.encode_to_vec());
    data
}

pub(crate) fn decode(index: u64, data: &[u8]) -> Result<Change, String> {
    match data.split_first() {
        Some((&CHANGE, change)) => Change::decode(change).map_err(|error| format!("entry {index}: {error}")),
        _ => Err(format!("entry {index} is of a kind that nobody wrote")),
    }
}
