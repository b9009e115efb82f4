//! The first bytes on a connection between two workers.
//!
//! The side that connects says who it is; the side that accepts answers with one byte and its own attempt. Only workers of
//! the same job, attempt and size that know the attempt's token get through: after this, everything on the connection is
//! trusted.
//!
//! ```text
//! hello:  magic 8 · length of the rest u16 · attempt u64 · index u32 · peers u32 · token 32 · job (utf-8)
//! answer: verdict u8 · attempt u64                                                       all big-endian
//! ```

use std::fmt;

const MAGIC: &[u8; 8] = b"prffrst\x01";
const FIXED_BYTES: usize = 8 + 4 + 4 + TOKEN_BYTES;

/// The length of a token.
pub(crate) const TOKEN_BYTES: usize = 32;

/// The longest job id, in bytes.
pub(crate) const JOB_BYTES_MAX: usize = 128;

/// The length of what precedes the variable part.
pub(super) const HEAD_BYTES: usize = 10;

/// The length of an answer.
pub(super) const ANSWER_BYTES: usize = 9;

/// Who a worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) job: String,
    pub(super) attempt: u64,
    pub(super) index: u32,
    pub(super) peers: u32,
    pub(super) token: [u8; TOKEN_BYTES],
}

/// Whether a peer is let in, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verdict {
    Accepted = 0,
    OtherJob = 1,
    OtherAttempt = 2,
    OtherSize = 3,
    OtherToken = 4,
    /// An index that is not expected here, or is connected already.
    OtherIndex = 5,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Accepted => "accepted",
            Verdict::OtherJob => "belongs to another job",
            Verdict::OtherAttempt => "belongs to another attempt",
            Verdict::OtherSize => "counts another number of workers",
            Verdict::OtherToken => "knows another token",
            Verdict::OtherIndex => "does not expect this index",
        })
    }
}

impl Hello {
    pub(super) fn encode(&self) -> Vec<u8> {
        let length = (FIXED_BYTES + self.job.len()) as u16;
        let mut bytes = Vec::with_capacity(HEAD_BYTES + usize::from(length));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&self.attempt.to_be_bytes());
        bytes.extend_from_slice(&self.index.to_be_bytes());
        bytes.extend_from_slice(&self.peers.to_be_bytes());
        bytes.extend_from_slice(&self.token);
        bytes.extend_from_slice(self.job.as_bytes());
        bytes
    }

    /// The length of the rest, from the head. None if these are not the bytes of a worker.
    pub(super) fn rest_bytes(head: &[u8; HEAD_BYTES]) -> Option<usize> {
        let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
        (head.starts_with(MAGIC) && (FIXED_BYTES..=FIXED_BYTES + JOB_BYTES_MAX).contains(&length)).then_some(length)
    }

    pub(super) fn decode(rest: &[u8]) -> Option<Hello> {
        let (attempt, rest) = rest.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let (peers, rest) = rest.split_first_chunk()?;
        let (token, job) = rest.split_first_chunk()?;
        Some(Hello {
            job: std::str::from_utf8(job).ok()?.to_owned(),
            attempt: u64::from_be_bytes(*attempt),
            index: u32::from_be_bytes(*index),
            peers: u32::from_be_bytes(*peers),
            token: *token,
        })
    }

    /// What the worker `self` says to `other`, which connects.
    pub(super) fn judge(&self, other: &Hello) -> Verdict {
        // Compares all bytes, so that the time taken tells nothing of the token.
        let differing = self.token.iter().zip(&other.token).fold(0, |all, (a, b)| all | (a ^ b));
        match () {
            () if self.job != other.job => Verdict::OtherJob,
            () if self.attempt != other.attempt => Verdict::OtherAttempt,
            () if self.peers != other.peers => Verdict::OtherSize,
            () if differing != 0 => Verdict::OtherToken,
            // Lower indices accept, higher ones connect.
            () if other.index <= self.index || other.index >= self.peers => Verdict::OtherIndex,
            () => Verdict::Accepted,
        }
    }

    pub(super) fn answer(&self, verdict: Verdict) -> [u8; ANSWER_BYTES] {
        let mut bytes = [verdict as u8; ANSWER_BYTES];
        bytes[1..].copy_from_slice(&self.attempt.to_be_bytes());
        bytes
    }
}

/// Reads an answer: the verdict and the attempt of the one who gave it.
pub(super) fn decode_answer(bytes: &[u8; ANSWER_BYTES]) -> Option<(Verdict, u64)> {
    use Verdict::{Accepted, OtherAttempt, OtherIndex, OtherJob, OtherSize, OtherToken};
    let verdict = [Accepted, OtherJob, OtherAttempt, OtherSize, OtherToken, OtherIndex]
        .into_iter()
        .find(|verdict| *verdict as u8 == bytes[0])?;
    let (_, attempt) = bytes.split_last_chunk()?;
    Some((verdict, u64::from_be_bytes(*attempt)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            job: "requests".into(),
            attempt: 3,
            index: 1,
            peers: 4,
            token: [7; TOKEN_BYTES],
        }
    }

    #[test]
    fn a_hello_survives_the_wire() {
        let bytes = hello().encode();
        let (head, rest) = bytes.split_first_chunk().unwrap();
        assert_eq!(Hello::rest_bytes(head), Some(rest.len()));
        assert_eq!(Hello::decode(rest), Some(hello()));
        assert_eq!(Hello::rest_bytes(b"GET / HTTP"), None);
        assert_eq!(Hello::decode(&rest[..20]), None);
        assert_eq!(
            decode_answer(&hello().answer(Verdict::OtherToken)),
            Some((Verdict::OtherToken, 3))
        );
        assert_eq!(decode_answer(&[9; ANSWER_BYTES]), None);
    }

    #[test]
    fn only_the_same_job_attempt_size_and_token_is_let_in() {
        let me = hello();
        let peer = Hello { index: 2, ..hello() };
        assert_eq!(me.judge(&peer), Verdict::Accepted);
        assert_eq!(
            me.judge(&Hello {
                job: "other".into(),
                ..peer.clone()
            }),
            Verdict::OtherJob
        );
        assert_eq!(
            me.judge(&Hello {
                attempt: 2,
                ..peer.clone()
            }),
            Verdict::OtherAttempt
        );
        assert_eq!(
            me.judge(&Hello {
                peers: 5,
                ..peer.clone()
            }),
            Verdict::OtherSize
        );
        assert_eq!(
            me.judge(&Hello {
                token: [8; TOKEN_BYTES],
                ..peer.clone()
            }),
            Verdict::OtherToken
        );
        assert_eq!(
            me.judge(&Hello {
                index: 1,
                ..peer.clone()
            }),
            Verdict::OtherIndex
        );
        assert_eq!(me.judge(&Hello { index: 4, ..peer }), Verdict::OtherIndex);
    }
}
