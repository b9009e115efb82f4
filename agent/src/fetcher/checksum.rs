//! Checksums of artifacts: SHA-256.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

const PREFIX: &str = "sha256:";

/// The SHA-256 of a content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checksum([u8; SHA256_OUTPUT_LEN]);

impl FromStr for Checksum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            let shown: String = text.chars().take(100).collect();
            format!("`{}` is not `sha256:` and 64 hexadecimal digits", shown.escape_debug())
        };
        let digits = text.strip_prefix(PREFIX).ok_or_else(bad)?;
        if digits.len() != 2 * SHA256_OUTPUT_LEN || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        for (byte, at) in bytes.iter_mut().zip((0..digits.len()).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| bad())?;
        }
        Ok(Checksum(bytes))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A checksum in the making.
#[derive(Clone)]
pub(super) struct Hasher(Context);

impl Hasher {
    pub(super) fn new() -> Self {
        Hasher(Context::new(&SHA256))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Checksum {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Checksum(bytes)
    }
}

/// The checksum of a short text.
pub(crate) fn of(text: &[u8]) -> Checksum {
    let mut hasher = Hasher::new();
    hasher.update(text);
    hasher.finish()
}

/// Passes a content on and computes its checksum.
pub(super) fn copy(
    from: &mut impl Read,
    to: &mut impl io::Write,
    mut each: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<Checksum> {
    let (mut hasher, mut buffer, mut total) = (Hasher::new(), vec![0; 128 << 10], 0);
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        total += count as u64;
        each(total)?;
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_written_as_it_is_read() {
        // FIPS 180-4, the example "abc".
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of(b"abc").to_string(), text);
        assert_eq!(text.parse(), Ok(of(b"abc")));
        assert_eq!(text.to_uppercase().replace("SHA", "sha").parse(), Ok(of(b"abc")));
        for bad in [
            "",
            "sha256:",
            "ba7816bf",
            &text[..text.len() - 1],
            &format!("{text}0"),
            &text.replace('b', "é"),
        ] {
            assert!(bad.parse::<Checksum>().is_err(), "{bad}");
        }
        let mut copied = Vec::new();
        assert_eq!(copy(&mut &b"abc"[..], &mut copied, |_| Ok(())).unwrap(), of(b"abc"));
        assert_eq!(copied, b"abc");
    }
}
