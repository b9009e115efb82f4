//! What the records are, so that missing and changed ones are noticed.

use super::Error;

/// Kept in a record of its own, which is written in the same batch as the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Summary {
    /// Every change up to this index is in.
    pub(super) applied: u64,
    records: u64,
    /// The sum of the records' fingerprints.
    digest: u64,
}

impl Summary {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.records += 1;
        self.digest = self.digest.wrapping_add(fingerprint(key, value));
    }

    pub(super) fn subtract(&mut self, key: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_sub(1);
        self.digest = self.digest.wrapping_sub(fingerprint(key, value));
    }

    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(28);
        for word in [self.applied, self.records, self.digest] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let valid = bytes.len() == 28 && crc32c::crc32c(&bytes[..24]).to_be_bytes() == bytes[24..];
        if !valid {
            return Err(Error::NotWhole("its summary is wrong"));
        }
        let word = |at: usize| {
            bytes[at..at + 8]
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte))
        };
        Ok(Self {
            applied: word(0),
            records: word(8),
            digest: word(16),
        })
    }
}

/// A number that a changed record is unlikely to keep.
fn fingerprint(key: &[u8], value: &[u8]) -> u64 {
    let forward = crc32c::crc32c_append(crc32c::crc32c(key), value);
    let other = crc32c::crc32c_append(crc32c::crc32c_append(key.len() as u32, value), key);
    u64::from(forward) << 32 | u64::from(other)
}
