//! What a scheduler that stands by knows of instances: what the active one tells, and for a while what it told last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Directory, Entry, Known};

/// How long the active scheduler is to wait for a change, in seconds.
const WAIT: u64 = 50;

/// How long its answer may take.
const DEADLINE: Duration = Duration::from_secs(WAIT + 10);

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Between requests that were not answered.
const PAUSE: Duration = Duration::from_millis(500);

/// How long what was told last is good where nothing more is heard.
const STALE: Duration = Duration::from_secs(60);

/// The answer to `GET /v1/discovery`.
#[derive(Deserialize)]
struct Told {
    index: u64,
    services: BTreeMap<String, Entry>,
}

/// Repeats what the active scheduler at an address tells, for as long as it is polled.
pub(crate) async fn echo(active: String, known: watch::Sender<Known>) {
    let (mut index, mut heard) = (0, Instant::now());
    loop {
        match tokio::time::timeout(DEADLINE, ask(&active, index)).await {
            Ok(Ok(told)) => {
                (index, heard) = (told.index, Instant::now());
                known.send_replace(Some(Arc::new(Directory::of(told.index, told.services))));
            }
            failed => {
                if let Ok(Err(error)) = failed {
                    tracing::debug!(active, %error, "the active scheduler tells nothing of instances");
                }
                if heard.elapsed() >= STALE {
                    known.send_if_modified(|known| known.take().is_some());
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn ask(active: &str, index: u64) -> std::io::Result<Told> {
    let mut stream = TcpStream::connect(active).await?;
    let path = format!("/v1/discovery?all=true&index={index}&wait={WAIT}");
    let head = format!("GET {path} HTTP/1.1\r\nhost: {active}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    let other = || std::io::Error::other("it answers something else");
    let end = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .ok_or_else(other)?;
    let (head, body) = (&answer[..end], &answer[end + 4..]);
    if !head.starts_with(b"HTTP/1.1 200 ") {
        return Err(other());
    }
    Ok(serde_json::from_slice(body)?)
}
