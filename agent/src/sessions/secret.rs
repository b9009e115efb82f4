//! Who may act inside containers, and ask for anything from inside one: whoever can read the agent's token.
//!
//! A task reaches the agent's port like everybody else on the host, but not the file of the token, which only root can read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use tonic::Status;

/// Characters of a token that the agent makes.
const LENGTH: usize = 64;
/// A shorter one is guessed too soon.
const LENGTH_MIN: usize = 16;

/// The agent's token.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// Reads the file, or makes it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let refuse = |problem: &str| Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        match fs::read_to_string(path) {
            Ok(text) => {
                let status = fs::metadata(path)?;
                if status.mode() & 0o077 != 0 {
                    return refuse("others than its owner can read or change it; `chmod 600` it");
                }
                let token = text.trim();
                let plain = token.bytes().all(|byte| byte.is_ascii_graphic());
                if token.len() < LENGTH_MIN || !plain {
                    return refuse("it must hold 16 or more visible ASCII characters");
                }
                Ok(Secret(token.to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path),
            Err(error) => Err(error),
        }
    }

    fn make(path: &Path) -> io::Result<Self> {
        let token: String = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()]
            .map(|part| part.simple().to_string())
            .concat();
        debug_assert_eq!(token.len(), LENGTH);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{token}")?;
        file.sync_all()?;
        Ok(Secret(token))
    }

    /// Whether the value of an `authorization` header is `Bearer` and the token.
    pub(crate) fn check(&self, header: Option<&[u8]>) -> Result<(), Status> {
        let Some(given) = header.and_then(|header| header.strip_prefix(b"Bearer ")) else {
            return Err(Status::unauthenticated(
                "authorization: `Bearer` and the agent's token are needed for what goes on inside containers; it is in the file \
                 that the agent's flag `token-file` names",
            ));
        };
        // In a time that says nothing about where they differ.
        let own = self.0.as_bytes();
        let differs = own
            .iter()
            .zip(given)
            .fold(own.len() ^ given.len(), |sum, (a, b)| sum | usize::from(a ^ b));
        match differs {
            0 => Ok(()),
            _ => Err(Status::unauthenticated("authorization: this is not the agent's token")),
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_is_root_s_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let secret = Secret::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let token = fs::read_to_string(&path).unwrap().trim().to_owned();
        assert_eq!(Secret::open(&path).unwrap().0, token);
        let header = |text: &str| secret.check(Some(text.as_bytes()));
        assert!(header(&format!("Bearer {token}")).is_ok());
        for wrong in [
            "",
            "Bearer ",
            "Bearer x",
            &token,
            &format!("Bearer {token}x"),
            &format!("Bearer {}", &token[1..]),
        ] {
            assert_eq!(
                header(wrong).unwrap_err().code(),
                tonic::Code::Unauthenticated,
                "{wrong}"
            );
        }
        assert!(secret.check(None).is_err());

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Secret::open(&path).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short\n").unwrap();
        assert!(Secret::open(&path).unwrap_err().to_string().contains("16 or more"));
    }
}
