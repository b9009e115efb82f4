//! Files of sandboxes over plain HTTP: `/files/browse`, `/files/read`, `/files/download` and `/files/follow`, each with `path`.
//!
//! Mesos had the first three. A download and what is followed come as a stream, a piece at a time: their size costs no memory.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use proffer_proto::v1;
use serde_json::json;

use super::{Api, blocking, file_status, http_status};
use crate::checkpoint::layout::Layout;
use crate::containerizer::ContainerId;
use crate::sandbox::files;

/// How much is read at once.
const PIECE_BYTES: u64 = 256 << 10;
/// How often a file that is followed is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What is asked for.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Question {
    path: String,
    offset: Option<u64>,
    length: Option<u64>,
}

/// The routes.
pub(super) fn routes(router: axum::Router, api: &Api) -> axum::Router {
    use axum::routing::get;
    router
        .route("/files/browse", get(browse).with_state(api.clone()))
        .route("/files/read", get(read).with_state(api.clone()))
        .route("/files/download", get(download).with_state(api.clone()))
        .route("/files/follow", get(follow).with_state(api.clone()))
}

async fn browse(State(api): State<Api>, Query(question): Query<Question>) -> Response {
    match look(&api, question.path, files::list).await {
        Ok(files) => Json(files.iter().map(shown).collect::<Vec<_>>()).into_response(),
        Err(response) => response,
    }
}

async fn read(State(api): State<Api>, Query(question): Query<Question>) -> Response {
    let offset = question.offset.unwrap_or(0);
    let length = question.length;
    let read = move |layout: &Layout, path: &str| files::read(layout, path, offset, length);
    match look(&api, question.path, read).await {
        Ok(part) => Json(json!({ "offset": offset, "data": String::from_utf8_lossy(&part.data) })).into_response(),
        Err(response) => response,
    }
}

async fn download(State(api): State<Api>, Query(question): Query<Question>) -> Response {
    let name = question.path.rsplit('/').next().unwrap_or_default();
    let plain: String = name
        .chars()
        .filter(|letter| letter.is_ascii_graphic() && !"\"\\;".contains(*letter))
        .collect();
    let disposition = format!("attachment; filename=\"{plain}\"");
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    match Reading::begin(api, question, false).await {
        Ok(reading) => (headers, reading.body()).into_response(),
        Err(response) => response,
    }
}

async fn follow(State(api): State<Api>, Query(question): Query<Question>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/octet-stream")];
    match Reading::begin(api, question, true).await {
        Ok(reading) => (headers, reading.body()).into_response(),
        Err(response) => response,
    }
}

/// A file that is being read from one end to the other.
struct Reading {
    api: Api,
    path: String,
    offset: u64,
    /// Where a download ends: what is written meanwhile is not a part of it.
    end: Option<u64>,
    /// Whose end ends the reading.
    container: Option<ContainerId>,
}

impl Reading {
    async fn begin(api: Api, question: Question, follows: bool) -> Result<Self, Response> {
        let found = look(&api, question.path.clone(), |layout, path| {
            let size = files::read(layout, path, 0, Some(0))?.size;
            Ok((size, files::start(layout, path)?, files::container(layout, path)?))
        });
        let (size, start, container) = found.await?;
        let offset = question.offset.unwrap_or(0).max(start);
        let end = question
            .length
            .map_or(size, |length| size.min(offset.saturating_add(length)));
        Ok(Reading {
            api,
            path: question.path,
            offset,
            end: (!follows).then_some(end),
            container: follows.then_some(container),
        })
    }

    fn body(self) -> Body {
        let pieces = futures_util::stream::unfold(self, |mut reading| async {
            let piece = reading.next().await?;
            Some((piece, reading))
        });
        Body::from_stream(pieces)
    }

    async fn next(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        loop {
            // Looked at before the file is, so that what was written last is read.
            let lives = self
                .container
                .as_ref()
                .is_some_and(|id| self.api.launcher.containerizer.holds(id));
            let length = self
                .end
                .map_or(PIECE_BYTES, |end| end.saturating_sub(self.offset).min(PIECE_BYTES));
            if length == 0 {
                return None;
            }
            let offset = self.offset;
            let found = look(&self.api, self.path.clone(), move |layout, path| {
                files::read(layout, path, offset, Some(length))
            });
            let Ok(part) = found.await else {
                return Some(Err(std::io::Error::other("the file is gone")));
            };
            if let Some(kept_from) = part.kept_from {
                // What was removed before it was read is passed over.
                self.offset = kept_from;
                continue;
            }
            if !part.data.is_empty() {
                self.offset += part.data.len() as u64;
                return Some(Ok(part.data.into()));
            }
            if !lives {
                return None;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

async fn look<T: Send + 'static>(
    api: &Api,
    path: String,
    work: impl FnOnce(&Layout, &str) -> Result<T, files::Error> + Send + 'static,
) -> Result<T, Response> {
    let launcher = Arc::clone(&api.launcher);
    let result = blocking(move || launcher.look(&path, |layout| work(layout, &path)))
        .await
        .and_then(|result| result.map_err(file_status));
    result.map_err(|status| (http_status(status.code()), status.message().to_owned()).into_response())
}

/// As Mesos shows it.
fn shown(file: &v1::FileInfo) -> serde_json::Value {
    let seconds = file.mtime.as_ref().map_or(0, |time| time.nanoseconds / 1_000_000_000);
    json!({
        "path": file.path,
        "size": file.size,
        "nlink": file.nlink,
        "mtime": seconds,
        "mode": mode(file.mode.unwrap_or_default()),
        "uid": file.uid,
        "gid": file.gid,
    })
}

/// As `ls -l` shows it.
fn mode(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o010_000 => 'p',
        0o140_000 => 's',
        0o020_000 => 'c',
        0o060_000 => 'b',
        _ => '-',
    };
    let bits = (0..9).rev().zip("rwxrwxrwx".chars());
    let bits = bits.map(|(bit, letter)| if mode >> bit & 1 == 1 { letter } else { '-' });
    std::iter::once(kind).chain(bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_look_as_people_know_them() {
        assert_eq!(mode(0o100_640), "-rw-r-----");
        assert_eq!(mode(0o040_755), "drwxr-xr-x");
        assert_eq!(mode(0o120_777), "lrwxrwxrwx");
    }
}
