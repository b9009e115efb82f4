//! What is in an entry of the raft log: a kind, and a change of the registry.

use bytes::Bytes;
use proffer_proto::registry::{Change, Registry};
use prost::Message as _;

use super::Error;

/// The first byte of an entry's data says what the rest is.
const ENTRY_CHANGE: u8 = 1;

pub(super) fn encode(change: &Change) -> Vec<u8> {
    let mut data = Vec::with_capacity(1 + change.encoded_len());
    data.push(ENTRY_CHANGE);
    change.encode_raw(&mut data);
    data
}

/// The change in an entry. What it holds shares the entry's bytes.
pub(super) fn decode(index: u64, data: &Bytes) -> Result<Change, Error> {
    let change = match data.first() {
        Some(&ENTRY_CHANGE) => Change::decode(data.slice(1..)).map_err(|source| Error::Undecodable {
            what: "an entry of the raft log",
            source,
        })?,
        kind => {
            let kind = kind.copied().unwrap_or_default();
            return Err(Error::UnknownEntry { index, kind });
        }
    };
    if change.body.is_none() {
        return Err(Error::UnknownChange { index });
    }
    Ok(change)
}

pub(super) fn decode_registry(data: Bytes) -> Result<Registry, Error> {
    Registry::decode(data).map_err(|source| Error::Undecodable {
        what: "the snapshot",
        source,
    })
}

#[cfg(test)]
mod tests {
    use proffer_proto::registry::{RaiseLevel, change::Body};

    use super::*;

    #[test]
    fn a_change_reads_back() {
        let change = Change {
            body: Some(Body::RaiseLevel(RaiseLevel { level: 2 })),
        };
        assert_eq!(decode(3, &encode(&change).into()).unwrap(), change);
    }

    #[test]
    fn what_a_newer_version_wrote_is_refused_with_its_place() {
        // Field 1000 of a change.
        let newer = Bytes::from_static(&[ENTRY_CHANGE, 0xc2, 0x3e, 0]);
        let refusal = decode(3, &newer).unwrap_err().to_string();
        assert!(
            refusal.contains("entry 3") && refusal.contains("newer version"),
            "{refusal}"
        );
        let refusal = decode(4, &Bytes::from_static(&[9])).unwrap_err().to_string();
        assert!(refusal.contains("entry 4") && refusal.contains("kind 9"), "{refusal}");
    }
}
