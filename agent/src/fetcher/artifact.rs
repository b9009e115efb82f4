//! What one URI of a command asks for. Pure: it is refused before anything is fetched.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use proffer_proto::v1::command_info::Uri;

use super::checksum::Checksum;

/// The longest URI and the longest name.
const TEXT_BYTES_MAX: usize = 4096;

/// Names in the sandbox that the agent uses.
const RESERVED: [&str; 5] = ["stdout", "stderr", ".tmp", ".fetched", super::LOG_FILE];

/// One artifact to be put into a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    /// As it was written, for messages.
    pub(crate) uri: String,
    /// Where it comes from.
    pub(crate) source: Source,
    /// Its path in the sandbox.
    pub(crate) name: PathBuf,
    /// Whether it is a program.
    pub(crate) executable: bool,
    /// How it is unpacked; none when it stays as it is.
    pub(crate) unpack: Option<Format>,
    /// Whether it is kept for other tasks.
    pub(crate) cache: bool,
    /// What its content must be.
    pub(crate) checksum: Option<Checksum>,
}

/// Where an artifact comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file of the agent's host.
    Local(PathBuf),
    /// A server.
    Remote(http::Uri),
}

/// The archives that can be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Tar,
    TarGz,
    TarXz,
    TarZst,
    Zip,
    /// One compressed file, not an archive.
    Gz,
}

/// The endings of names that say that a file is an archive; longer ones first.
const ENDINGS: [(&str, Format); 9] = [
    (".tar.gz", Format::TarGz),
    (".tgz", Format::TarGz),
    (".tar.xz", Format::TarXz),
    (".txz", Format::TarXz),
    (".tar.zst", Format::TarZst),
    (".tzst", Format::TarZst),
    (".tar", Format::Tar),
    (".zip", Format::Zip),
    (".gz", Format::Gz),
];
/// Archives that Mesos unpacks and we do not.
const REFUSED: [&str; 3] = [".tar.bz2", ".tbz2", ".bz2"];

impl Artifact {
    /// Reads a URI.
    ///
    /// # Errors
    /// What cannot be fetched, and what could be.
    pub(crate) fn parse(uri: &Uri) -> Result<Self, String> {
        let shown: String = uri.value.chars().take(200).collect();
        let failed = |problem: String| format!("command.uris: `{}`: {problem}", shown.escape_debug());
        if uri.value.len() > TEXT_BYTES_MAX || uri.value.contains(['\0', '\n', '\r']) {
            return Err(failed(format!(
                "must be at most {TEXT_BYTES_MAX} bytes without line ends and NUL characters"
            )));
        }
        let source = source(&uri.value).map_err(failed)?;
        let base = match &source {
            Source::Local(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()),
            Source::Remote(url) => url.path().rsplit('/').next().map(unescaped),
        };
        let base = base.filter(|name| !name.is_empty());
        let name = match (&uri.output_file, &base) {
            (Some(name), _) => relative(name).map_err(|problem| failed(format!("output_file: {problem}")))?,
            (None, Some(name)) => relative(name).map_err(|problem| failed(format!("its last part {problem}")))?,
            (None, None) => return Err(failed("names no file: set `output_file`".into())),
        };
        if RESERVED.iter().any(|reserved| Path::new(reserved) == name) {
            return Err(failed(format!(
                "`{}` is a name that the agent needs itself: set another `output_file`",
                name.display()
            )));
        }
        let executable = uri.executable();
        let unpack = if uri.extract() && !executable {
            let ending = base.unwrap_or_default().to_ascii_lowercase();
            format(&ending).map_err(failed)?
        } else {
            None
        };
        let checksum = uri.checksum.as_deref().map(str::parse).transpose();
        Ok(Artifact {
            uri: uri.value.clone(),
            source,
            name,
            executable,
            unpack,
            cache: uri.cache(),
            checksum: checksum.map_err(|problem: String| failed(format!("checksum: {problem}")))?,
        })
    }
}

impl fmt::Display for Artifact {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.uri)
    }
}

fn source(value: &str) -> Result<Source, String> {
    let path = value
        .strip_prefix("file://localhost")
        .or_else(|| value.strip_prefix("file://"));
    let path = path.unwrap_or(value);
    if path.starts_with('/') {
        return Ok(Source::Local(PathBuf::from(path)));
    }
    let accepted = "http://…, https://…, file:///… and absolute paths are accepted";
    let Some((scheme, _)) = value.split_once("://") else {
        return Err(format!("is no absolute path; {accepted}"));
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(format!("cannot be fetched; {accepted}"));
    }
    let without_fragment = value.split('#').next().unwrap_or(value);
    remote(without_fragment).map(Source::Remote)
}

/// Reads the address of a server's file.
pub(super) fn remote(text: &str) -> Result<http::Uri, String> {
    let url: http::Uri = text.parse().map_err(|error| format!("is no URL: {error}"))?;
    let host = url.authority().ok_or("names no host")?;
    if host.as_str().contains('@') {
        return Err("user names and passwords in URLs are not accepted".into());
    }
    Ok(url)
}

fn format(name: &str) -> Result<Option<Format>, String> {
    if let Some(ending) = REFUSED.iter().find(|ending| name.ends_with(**ending)) {
        return Err(format!(
            "{ending} cannot be extracted; tar, tar.gz, tar.xz, tar.zst, zip and gz can. Set `extract` to false to have it as it is"
        ));
    }
    let found = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending));
    Ok(found.map(|(_, format)| *format))
}

/// A path that stays below where it is resolved.
fn relative(name: &str) -> Result<PathBuf, String> {
    let path = Path::new(name);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let short = name.split('/').all(|part| (1..=255).contains(&part.len()));
    let clean = !name.chars().any(char::is_control) && name.len() <= TEXT_BYTES_MAX;
    if plain && short && clean && !name.is_empty() {
        Ok(path.to_owned())
    } else {
        Err(format!(
            "`{}` is not a relative path without `..`, with names of 1 to 255 bytes",
            name.chars().take(200).collect::<String>().escape_debug()
        ))
    }
}

/// `%20` and the like; what is not well written stays as it is.
fn unescaped(text: &str) -> String {
    let (bytes, mut result, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let digits = (*byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) => (result.push(value), at += 3),
            None => (result.push(*byte), at += 1),
        };
    }
    String::from_utf8_lossy(&result).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str, change: impl FnOnce(&mut Uri)) -> Result<Artifact, String> {
        let mut uri = Uri {
            value: value.into(),
            ..Default::default()
        };
        change(&mut uri);
        Artifact::parse(&uri)
    }

    #[test]
    fn a_name_and_a_format_follow_from_the_uri() {
        let named = |value: &str| parse(value, |_| {}).map(|artifact| (artifact.name, artifact.unpack));
        assert_eq!(
            named("http://h/a/b%20c.tar.gz?x=1#y").unwrap(),
            (PathBuf::from("b c.tar.gz"), Some(Format::TarGz))
        );
        assert_eq!(named("file:///a/b.ZIP").unwrap(), ("b.ZIP".into(), Some(Format::Zip)));
        assert_eq!(named("/a/b").unwrap(), ("b".into(), None));
        let program = parse("https://h:8443/run.zip", |uri| uri.executable = Some(true)).unwrap();
        assert_eq!((program.executable, program.unpack), (true, None));
        let elsewhere = parse("http://h/", |uri| uri.output_file = Some("a/b".into())).unwrap();
        assert_eq!(elsewhere.name, PathBuf::from("a/b"));
    }

    #[test]
    fn what_cannot_be_fetched_says_what_could_be() {
        for (value, says) in [
            ("relative/path", "absolute"),
            ("hdfs://h/x", "http://…"),
            ("http://h/", "output_file"),
            ("http://", "URL"),
            ("http://me:secret@h/x", "passwords"),
            ("http://h/%2e%2e", "without `..`"),
            ("http://h/x.tar.bz2", "extract"),
            ("http://h/a\nb", "line ends"),
        ] {
            let error = parse(value, |_| {}).unwrap_err();
            assert!(
                error.starts_with("command.uris: `") && error.contains(says),
                "{value}: {error}"
            );
        }
        for name in ["stdout", "./fetch.log", "", "/x", "../x", "a/../b", "a//b", "a/", "."] {
            let error = parse("/x", |uri| uri.output_file = Some(name.into())).unwrap_err();
            assert!(error.contains("output_file"), "{name}: {error}");
        }
        let error = parse("/x", |uri| uri.checksum = Some("md5:00".into())).unwrap_err();
        assert!(error.contains("checksum") && error.contains("sha256:"), "{error}");
    }
}
