//! Downloads a file: redirects, retries, and going on where a connection broke.
//!
//! What has come is kept over a broken connection. The rest is asked for with `Range` and `If-Range`, so that a file that changed
//! meanwhile comes anew from its beginning (RFC 9110, sections 13.1.5 and 14).

use std::fs::File;
use std::io::{Seek, Write};

use http::header::{self, HeaderMap, HeaderValue};
use http::{StatusCode, Uri};
use http_body_util::BodyExt;

use super::artifact;
use super::checksum::{Checksum, Hasher};
use super::connection::{self, Answer, Error, Settings};
use super::progress::Progress;

const REDIRECTS_MAX: usize = 10;
/// How often it is tried without a byte of progress.
const ATTEMPTS_MAX: u32 = 5;

/// What a server says of the version of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Version {
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

/// A file that has come.
#[derive(Debug)]
pub(super) struct Downloaded {
    pub(super) checksum: Checksum,
    pub(super) bytes: u64,
    pub(super) version: Version,
}

/// What is to be downloaded, and where to.
pub(super) struct Order<'a> {
    pub(super) url: &'a Uri,
    pub(super) to: &'a mut File,
    pub(super) bytes_max: u64,
    /// The version that is here already.
    pub(super) have: Option<&'a Version>,
    /// Whether another server may be asked without encryption in between.
    pub(super) plain_redirects: bool,
}

/// The part that has come.
struct Part<'a> {
    to: &'a mut File,
    hasher: Hasher,
    bytes: u64,
    version: Version,
}

/// Downloads; none when the version that is here is still the newest.
pub(super) async fn download(
    settings: &Settings,
    order: Order<'_>,
    progress: &mut Progress,
) -> Result<Option<Downloaded>, String> {
    let mut part = Part {
        to: order.to,
        hasher: Hasher::new(),
        bytes: 0,
        version: Version::default(),
    };
    let mut failures = 0;
    loop {
        let before = part.bytes;
        let headers = ask_for(&part, order.have);
        let outcome = match follow(settings, order.url, &headers, order.plain_redirects).await {
            Ok(answer) => receive(settings, answer, &mut part, order.bytes_max, progress).await,
            Err(error) => Err(error),
        };
        let error = match outcome {
            Ok(Some(())) => {
                return Ok(Some(Downloaded {
                    checksum: part.hasher.finish(),
                    bytes: part.bytes,
                    version: part.version,
                }));
            }
            Ok(None) => return Ok(None),
            Err(Error::Refused(problem)) => return Err(problem),
            Err(Error::Broken(problem)) => problem,
        };
        failures = if part.bytes > before { 1 } else { failures + 1 };
        if failures >= ATTEMPTS_MAX {
            return Err(format!("{error} (tried {failures} times)"));
        }
        progress.say(&format!("{error}; trying again after {} bytes", part.bytes));
        tokio::time::sleep(settings.pause * 4_u32.pow(failures - 1)).await;
    }
}

fn ask_for(part: &Part<'_>, have: Option<&Version>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name, value: Option<&str>| {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    };
    // Only a strong tag promises that two parts are of one file.
    let strong = part.version.etag.as_deref().filter(|tag| !tag.starts_with("W/"));
    match strong.or(part.version.last_modified.as_deref()) {
        Some(version) if part.bytes > 0 => {
            set(header::RANGE, Some(&format!("bytes={}-", part.bytes)));
            set(header::IF_RANGE, Some(version));
        }
        _ => {
            set(header::IF_NONE_MATCH, have.and_then(|have| have.etag.as_deref()));
            set(
                header::IF_MODIFIED_SINCE,
                have.and_then(|have| have.last_modified.as_deref()),
            );
        }
    }
    headers
}

/// Asks, and asks where it is sent to.
async fn follow(settings: &Settings, url: &Uri, headers: &HeaderMap, plain: bool) -> Result<Answer, Error> {
    let mut url = url.clone();
    for _ in 0..=REDIRECTS_MAX {
        let answer = connection::get(settings, &url, headers).await?;
        let status = answer.response.status();
        let moved = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
        if !moved {
            return Ok(answer);
        }
        let refused = |problem: String| Error::Refused(format!("{status} without a usable Location: {problem}"));
        let location = answer.response.headers().get(header::LOCATION);
        let location = location.and_then(|location| location.to_str().ok());
        let next = resolve(&url, location.ok_or_else(|| refused("there is none".into()))?).map_err(refused)?;
        if url.scheme_str() == Some("https") && next.scheme_str() == Some("http") && !plain {
            return Err(Error::Refused(format!(
                "is redirected from https to {next}; give a checksum to allow that"
            )));
        }
        url = next;
    }
    Err(Error::Refused(format!("is redirected more than {REDIRECTS_MAX} times")))
}

/// The address that a redirect names, which may leave out scheme and host.
fn resolve(base: &Uri, location: &str) -> Result<Uri, String> {
    let location = location.split('#').next().unwrap_or(location);
    let (scheme, authority) = (
        base.scheme_str().unwrap_or("http"),
        base.authority().map_or("", |authority| authority.as_str()),
    );
    let text = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    let url = artifact::remote(&text)?;
    match url.scheme_str() {
        Some("http" | "https") => Ok(url),
        _ => Err(format!("`{url}` is neither http nor https")),
    }
}

/// Takes the body in; none when nothing changed.
async fn receive(
    settings: &Settings,
    mut answer: Answer,
    part: &mut Part<'_>,
    bytes_max: u64,
    progress: &mut Progress,
) -> Result<Option<()>, Error> {
    let (status, headers) = (answer.response.status(), answer.response.headers());
    match status {
        StatusCode::NOT_MODIFIED => return Ok(None),
        StatusCode::PARTIAL_CONTENT if part.bytes > 0 && starts_at(headers, part.bytes) => {}
        StatusCode::OK => {
            part.restart()?;
            part.version = version(headers);
        }
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            part.restart()?;
            part.version = Version::default();
            return Err(Error::Broken(format!(
                "the server answers {status} to what was not asked"
            )));
        }
        status if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) => {
            return Err(Error::Broken(format!("the server answers {status}")));
        }
        status => return Err(Error::Refused(format!("the server answers {status}"))),
    }
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let total = length.map(|length| part.bytes.saturating_add(length));
    let too_large = || {
        Error::Refused(format!(
            "is larger than {bytes_max} bytes, which is what the task may fetch"
        ))
    };
    if total.is_some_and(|total| total > bytes_max) {
        return Err(too_large());
    }
    let body = answer.response.body_mut();
    loop {
        let frame = tokio::time::timeout(settings.stall, body.frame()).await;
        let frame = frame.map_err(|_| Error::Broken(format!("nothing came for {} s", settings.stall.as_secs_f64())))?;
        let Some(frame) = frame else { return Ok(Some(())) };
        let frame = frame.map_err(|error| Error::Broken(format!("the connection broke: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if part.bytes + data.len() as u64 > bytes_max {
            return Err(too_large());
        }
        part.append(&data)?;
        progress.at(part.bytes, total);
    }
}

impl Part<'_> {
    fn restart(&mut self) -> Result<(), Error> {
        let failed = |error: std::io::Error| Error::Refused(format!("cannot be written: {error}"));
        self.hasher = Hasher::new();
        self.bytes = 0;
        self.to.set_len(0).map_err(failed)?;
        self.to.rewind().map_err(failed)
    }

    fn append(&mut self, data: &[u8]) -> Result<(), Error> {
        self.hasher.update(data);
        self.bytes += data.len() as u64;
        let written = self.to.write_all(data);
        written.map_err(|error| Error::Refused(format!("cannot be written: {error}")))
    }
}

fn version(headers: &HeaderMap) -> Version {
    let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
    Version {
        etag: text(header::ETAG),
        last_modified: text(header::LAST_MODIFIED),
    }
}

/// Whether the part that comes is the one that was asked for.
fn starts_at(headers: &HeaderMap, offset: u64) -> bool {
    let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok());
    start == Some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_may_leave_out_what_stays() {
        let base: Uri = "https://h:1/a/b?c".parse().unwrap();
        for (location, next) in [
            ("http://o/x", "http://o/x"),
            ("//o/x", "https://o/x"),
            ("/x?y", "https://h:1/x?y"),
            ("x#z", "https://h:1/a/x"),
        ] {
            assert_eq!(resolve(&base, location).unwrap().to_string(), next, "{location}");
        }
        for location in ["ftp://o/x", "http://", "http://u:p@o/x", "http://o/\u{1}"] {
            assert!(resolve(&base, location).is_err(), "{location}");
        }
    }
}
