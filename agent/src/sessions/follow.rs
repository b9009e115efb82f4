//! Passes on what a task writes from now on, from the files of its outputs: a slow reader, or many, are nothing to the task.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proffer_proto::v1::agent::ProcessIo;
use proffer_proto::v1::agent::process_io::data;
use tokio::sync::mpsc;

use super::{OUTBOUND_MAX, Outbound, output, wire};
use crate::containerizer::{ContainerId, Containerizer};
use crate::sandbox::files;

/// How much is passed on at a time.
const CHUNK_BYTES: u64 = 16 << 10;
/// How often the files are looked at: soon after something was written, and otherwise.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// Follows a container's outputs until it ends or nobody reads any more.
pub(crate) fn follow(containerizer: Containerizer, container: ContainerId, sandbox: PathBuf) -> Outbound {
    let (outbound, stream) = mpsc::channel(OUTBOUND_MAX);
    // Opened before the caller hears that it is attached: nothing of what comes then is missed.
    let mut files = [(data::Type::Stdout, "stdout"), (data::Type::Stderr, "stderr")]
        .map(|(kind, name)| Followed::new(kind, name, &sandbox));
    tokio::spawn(async move {
        let ended = containerizer.wait(&container);
        let gone = async {
            tokio::select! {
                () = outbound.closed() => {}
                () = output::heartbeats(&outbound) => {}
            }
        };
        tokio::pin!(ended, gone);
        let mut pause = INTERVALS.0;
        loop {
            let over = tokio::select! {
                _ = &mut ended => true,
                () = &mut gone => return,
                () = tokio::time::sleep(pause) => false,
            };
            let mut wrote = false;
            for file in &mut files {
                match file.pass(&sandbox, &outbound).await {
                    Ok(some) => wrote |= some,
                    Err(Gone) => return,
                }
            }
            if over {
                return;
            }
            pause = if wrote {
                INTERVALS.0
            } else {
                (pause * 2).min(INTERVALS.1)
            };
        }
    });
    stream
}

/// Nobody reads any more.
struct Gone;

struct Followed {
    kind: data::Type,
    name: &'static str,
    offset: u64,
}

impl Followed {
    fn new(kind: data::Type, name: &'static str, sandbox: &Path) -> Self {
        let offset = files::written(sandbox, name, 0, 0).map_or(0, |part| part.size);
        Followed { kind, name, offset }
    }

    /// Passes on what is new; whether anything was.
    async fn pass(&mut self, sandbox: &Path, outbound: &mpsc::Sender<ProcessIo>) -> Result<bool, Gone> {
        let mut wrote = false;
        // What cannot be read, such as a link in the place of the file, is not there.
        while let Ok(part) = files::written(sandbox, self.name, self.offset, CHUNK_BYTES) {
            if part.size < self.offset {
                // It was cut, or replaced: begins again.
                self.offset = 0;
                continue;
            }
            if let Some(kept_from) = part.kept_from {
                self.offset = kept_from;
                continue;
            }
            if part.data.is_empty() {
                break;
            }
            self.offset += part.data.len() as u64;
            wrote = true;
            let sent = outbound.send(wire::data(self.kind, &part.data)).await;
            sent.map_err(|_| Gone)?;
        }
        Ok(wrote)
    }
}
