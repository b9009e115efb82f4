//! Runs a command in the container. It ends with the check, with all that it started.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use proffer_proto::v1;
use tokio::io::unix::AsyncFd;

use super::{MESSAGE_BYTES_MAX, Result};
use crate::containerizer::Streams;
use crate::core::checks::{CheckOrder, Seen};
use crate::launcher::Launcher;
use crate::spec;

pub(super) async fn ask(launcher: &Launcher, order: &CheckOrder, command: &v1::CommandInfo) -> Result {
    let described = launcher.describe(&order.container, &order.framework, &order.task, None);
    let mut container = described.map_err(|failure| failure.message)?;
    container.argv = spec::argv(command);
    spec::override_variables(&mut container.environment, command);
    let entered = launcher.containerizer.enter(&container, Streams::Pipes).await;
    let mut program = entered.map_err(|error| format!("{} failed: {}", error.stage, error.reason))?;
    drop(program.input.take());
    // Read to the end: a program that cannot write would not end.
    let said = Arc::new(Mutex::new(Vec::new()));
    let streams = [program.output.take(), program.errors.take()].map(|stream| read(stream, Arc::clone(&said)));
    let ended = async {
        let [output, errors] = streams;
        tokio::join!(output, errors, program.wait()).2
    };
    let exit = ended.await;
    let said = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    match (exit.code, exit.signal) {
        (Some(0), _) => Ok((Seen::ExitCode(0), said)),
        (Some(code), _) if said.is_empty() => Ok((Seen::ExitCode(code), format!("exited with code {code}"))),
        (Some(code), _) => Ok((Seen::ExitCode(code), format!("exited with code {code}: {said}"))),
        (None, Some(signal)) => Err(format!("ended by signal {signal}")),
        (None, None) => Err("ended with its container".into()),
    }
}

/// Keeps the beginning.
async fn read(stream: Option<OwnedFd>, said: Arc<Mutex<Vec<u8>>>) {
    let Some(stream) = stream else { return };
    if rustix::io::ioctl_fionbio(&stream, true).is_err() {
        return;
    }
    #[allow(
        deprecated,
        reason = "its successor is unsafe for descriptors that are not owned; this one is"
    )]
    let Ok(stream) = AsyncFd::new(File::from(stream)) else {
        return;
    };
    let mut buffer = [0; 4096];
    while let Ok(mut ready) = stream.readable().await {
        match ready.try_io(|stream| Ok(rustix::io::read(stream.get_ref(), &mut buffer)?)) {
            Ok(Ok(length @ 1..)) => {
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                let room = MESSAGE_BYTES_MAX.saturating_sub(said.len());
                said.extend_from_slice(&buffer[..length.min(room)]);
            }
            Ok(_ended) => return,
            Err(_not_yet) => {}
        }
    }
}
