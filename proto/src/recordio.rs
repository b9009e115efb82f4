//! RecordIO, the framing of the HTTP streams: the length of a record in decimal digits, a line feed, the record.

use bytes::{Buf as _, Bytes, BytesMut};

/// The largest record that is accepted unless told otherwise, in bytes.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// Why bytes are no records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// The bytes before the line feed are no length.
    #[error("a record begins with {seen:?}; accepted: its length in decimal digits and a line feed")]
    Length {
        /// The bytes that were seen, at most a few.
        seen: String,
    },
    /// The record is longer than is accepted.
    #[error("a record is {length} bytes long; accepted: 1 to {maximum}")]
    Size {
        /// The length that was announced.
        length: u64,
        /// The largest that is accepted.
        maximum: usize,
    },
    /// The stream ended within a record.
    #[error("the stream ended {missing} bytes before the end of a record")]
    Truncated {
        /// How many bytes were still to come, as far as is known.
        missing: usize,
    },
}

/// Frames a record.
pub fn encode(record: &[u8]) -> Bytes {
    let mut framed = Vec::with_capacity(record.len() + 12);
    framed.extend_from_slice(record.len().to_string().as_bytes());
    framed.push(b'\n');
    framed.extend_from_slice(record);
    framed.into()
}

/// Takes records out of bytes that arrive in any chunks.
///
/// It holds at most one incomplete record besides the chunk that was pushed last.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    maximum: usize,
    /// The length of the record that has begun.
    length: Option<usize>,
    failed: Option<FramingError>,
}

/// More digits than this are no length that could be accepted.
const DIGITS_MAX: usize = 19;

impl Default for Decoder {
    fn default() -> Self {
        Self::new(RECORD_BYTES_MAX)
    }
}

impl Decoder {
    /// A decoder that accepts records of up to `maximum` bytes.
    pub fn new(maximum: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            maximum,
            length: None,
            failed: None,
        }
    }

    /// Adds bytes as they arrived.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// Takes the next complete record, or `None` where more bytes are needed.
    ///
    /// # Errors
    /// The bytes are no records; the stream cannot be used any further, and every later call says the same.
    pub fn next_record(&mut self) -> Result<Option<Bytes>, FramingError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.take();
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    /// Says that the stream has ended.
    ///
    /// # Errors
    /// It ended within a record.
    pub fn finish(&self) -> Result<(), FramingError> {
        match (&self.failed, self.length) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(length)) if length > self.buffer.len() => Err(FramingError::Truncated {
                missing: length - self.buffer.len(),
            }),
            (None, None) if !self.buffer.is_empty() => Err(FramingError::Truncated { missing: 1 }),
            _ => Ok(()),
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>, FramingError> {
        let length = match self.length {
            Some(length) => length,
            None => match self.take_length()? {
                Some(length) => *self.length.insert(length),
                None => return Ok(None),
            },
        };
        if self.buffer.len() < length {
            return Ok(None);
        }
        self.length = None;
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    fn take_length(&mut self) -> Result<Option<usize>, FramingError> {
        let digits = self.buffer.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let ended = self.buffer.get(digits).is_some();
        if digits > DIGITS_MAX || (ended && (digits == 0 || self.buffer[digits] != b'\n')) {
            let seen = &self.buffer[..self.buffer.len().min(DIGITS_MAX + 1)];
            return Err(FramingError::Length {
                seen: seen.escape_ascii().to_string(),
            });
        }
        if !ended {
            return Ok(None);
        }
        let length = self.buffer[..digits]
            .iter()
            .fold(0u64, |length, digit| length * 10 + u64::from(digit - b'0'));
        self.buffer.advance(digits + 1);
        match usize::try_from(length) {
            Ok(accepted @ 1..) if accepted <= self.maximum => Ok(Some(accepted)),
            _ => Err(FramingError::Size {
                length,
                maximum: self.maximum,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn drain(decoder: &mut Decoder) -> Result<Vec<Bytes>, FramingError> {
        let mut records = Vec::new();
        while let Some(record) = decoder.next_record()? {
            records.push(record);
        }
        Ok(records)
    }

    proptest! {
        #[test]
        fn records_survive_any_chunking(
            records in vec(vec(any::<u8>(), 1..40), 0..8),
            cuts in vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let stream: Vec<u8> = records.iter().flat_map(|record| encode(record)).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut decoder = Decoder::default();
            let mut decoded = Vec::new();
            for ends in cuts.windows(2) {
                decoder.push(&stream[ends[0]..ends[1]]);
                decoded.extend(drain(&mut decoder).unwrap());
            }
            prop_assert_eq!(decoder.finish(), Ok(()));
            prop_assert_eq!(decoded, records);
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in vec(prop_oneof![Just(b'\n'), b'0'..=b'9', any::<u8>()], 0..64)) {
            let mut decoder = Decoder::new(32);
            decoder.push(&bytes);
            let first = drain(&mut decoder);
            if first.is_err() {
                decoder.push(b"1\na");
                prop_assert_eq!(drain(&mut decoder), first);
            }
        }
    }

    #[test]
    fn what_is_no_length_is_shown() {
        for (bytes, seen) in [
            (&b"{\"type\""[..], "{\\\"type\\\""),
            (b"\n", "\\n"),
            (b"12 ", "12 "),
            (b"-1\n", "-1\\n"),
            (b"99999999999999999999", "99999999999999999999"),
        ] {
            let mut decoder = Decoder::default();
            decoder.push(bytes);
            assert_eq!(decoder.next_record(), Err(FramingError::Length { seen: seen.into() }));
        }
    }

    #[test]
    fn a_record_is_neither_empty_nor_too_long() {
        for (bytes, length) in [
            (&b"0\n"[..], 0),
            (b"6\n", 6),
            (b"9999999999999999999\n", 9_999_999_999_999_999_999),
        ] {
            let mut decoder = Decoder::new(5);
            decoder.push(bytes);
            assert_eq!(decoder.next_record(), Err(FramingError::Size { length, maximum: 5 }));
        }
    }

    #[test]
    fn the_end_within_a_record_is_noticed() {
        let mut decoder = Decoder::default();
        decoder.push(b"5\nab");
        assert_eq!(decoder.next_record(), Ok(None));
        assert_eq!(decoder.finish(), Err(FramingError::Truncated { missing: 3 }));
        decoder.push(b"cde1");
        assert_eq!(decoder.next_record(), Ok(Some(Bytes::from_static(b"abcde"))));
        assert_eq!(decoder.next_record(), Ok(None));
        assert_eq!(decoder.finish(), Err(FramingError::Truncated { missing: 1 }));
    }
}
