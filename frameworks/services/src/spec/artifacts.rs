//! What is brought into the sandbox of an instance before it starts.

use proffer_proto::Rejection;
use serde::Serialize;
use serde_json::Value;

use super::fields::Fields;
use super::values::{at_most, sandbox_path, text};

/// The most artifacts of one service.
pub const ARTIFACTS_MAX: usize = 64;

/// One file that is fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Artifact {
    /// Where it is: `http://`, `https://`, `file:///`, or an absolute path on the agent's host.
    pub uri: String,
    /// `sha256:` and 64 hexadecimal digits: what has another content is not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Whether an archive is unpacked.
    pub extract: bool,
    /// Whether it is made executable.
    pub executable: bool,
    /// Whether the agent keeps it for other instances.
    pub cache: bool,
    /// Its path in the sandbox; the last part of the URI where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Artifact {
    /// A file with all else at its default.
    pub fn new(uri: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            checksum: None,
            extract: true,
            executable: false,
            cache: false,
            path: None,
        }
    }

    pub(super) fn read(value: Value) -> Result<Self, Rejection> {
        let mut fields = Fields::of(value)?;
        let artifact = Self {
            uri: fields.required("uri", "a URI as text")?,
            checksum: fields.optional("checksum", "`sha256:` and 64 hexadecimal digits")?,
            extract: fields.optional("extract", "true or false")?.unwrap_or(true),
            executable: fields.optional("executable", "true or false")?.unwrap_or(false),
            cache: fields.optional("cache", "true or false")?.unwrap_or(false),
            path: fields.optional("path", "a path in the sandbox")?,
        };
        fields.end()?;
        Ok(artifact)
    }

    fn validate(&self) -> Result<(), Rejection> {
        text("uri", &self.uri, 1, 8192)?;
        let known = ["http://", "https://", "file:///", "/"];
        if !known.iter().any(|begin| self.uri.starts_with(begin)) {
            let accepted = "http://, https://, file:/// or an absolute path";
            return Err(Rejection::new("uri", format!("is {:?}", self.uri), accepted));
        }
        if let Some(checksum) = &self.checksum {
            let digits = checksum.strip_prefix("sha256:").unwrap_or_default();
            if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                let accepted = "`sha256:` and 64 hexadecimal digits";
                return Err(Rejection::new("checksum", format!("is {checksum:?}"), accepted));
            }
        }
        if let Some(path) = &self.path {
            sandbox_path("path", path)?;
        }
        Ok(())
    }
}

pub(super) fn validate(artifacts: &[Artifact]) -> Result<(), Rejection> {
    at_most("artifacts", artifacts.len(), ARTIFACTS_MAX)?;
    for (index, artifact) in artifacts.iter().enumerate() {
        let validated = artifact.validate();
        validated.map_err(|rejection| rejection.at(index).within("artifacts"))?;
    }
    Ok(())
}
