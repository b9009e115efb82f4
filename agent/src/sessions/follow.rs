//! Passes on what a task writes from now on, from the files of its outputs: a slow reader, or many, are nothing to the task.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proffer_proto::v1::agent::ProcessIo;
use proffer_proto::v1::agent::process_io::data;
use rustix::fs::OFlags;
use tokio::sync::mpsc;

use super::{OUTBOUND_MAX, Outbound, output, wire};
use crate::containerizer::{ContainerId, Containerizer};
use crate::sandbox::files;

/// How much is passed on at a time.
const CHUNK_BYTES: usize = 16 << 10;
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
    file: Option<File>,
    offset: u64,
}

impl Followed {
    fn new(kind: data::Type, name: &'static str, sandbox: &Path) -> Self {
        let file = open(sandbox, name);
        let size = file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .map_or(0, |status| status.len());
        Followed {
            kind,
            name,
            file,
            offset: size,
        }
    }

    /// Passes on what is new; whether anything was.
    async fn pass(&mut self, sandbox: &Path, outbound: &mpsc::Sender<ProcessIo>) -> Result<bool, Gone> {
        let mut wrote = self.rest(outbound).await?;
        // Another file may have its name by now, which begins where this one ends.
        let present = open(sandbox, self.name);
        let number = |file: &Option<File>| {
            let status = file.as_ref().and_then(|file| file.metadata().ok());
            status.map(|status| (status.dev(), status.ino()))
        };
        if present.is_some() && number(&present) != number(&self.file) {
            (self.file, self.offset) = (present, 0);
            wrote |= self.rest(outbound).await?;
        }
        Ok(wrote)
    }

    async fn rest(&mut self, outbound: &mpsc::Sender<ProcessIo>) -> Result<bool, Gone> {
        let Some(file) = &self.file else { return Ok(false) };
        if file.metadata().is_ok_and(|status| status.len() < self.offset) {
            // It was cut: begins again.
            self.offset = 0;
        }
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut wrote = false;
        while let Ok(length @ 1..) = file.read_at(&mut buffer, self.offset) {
            self.offset += length as u64;
            wrote = true;
            let sent = outbound.send(wire::data(self.kind, &buffer[..length])).await;
            sent.map_err(|_| Gone)?;
        }
        Ok(wrote)
    }
}

/// Only a plain file of the sandbox: what a task puts in its place is not read.
fn open(sandbox: &Path, name: &str) -> Option<File> {
    let file = files::beneath(sandbox, name, OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
    file.metadata().is_ok_and(|status| status.is_file()).then_some(file)
}
