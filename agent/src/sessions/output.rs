//! Passes on what a program in a container writes.

use std::time::Duration;

use proffer_proto::v1::agent::ProcessIo;
use proffer_proto::v1::agent::process_io::data;
use tokio::sync::mpsc;

use super::Session;
use super::channel::Channel;
use super::wire;

/// How much is passed on at a time.
const CHUNK_BYTES: usize = 16 << 10;
/// After such a silence a sign of life is sent: a caller that is gone is then noticed.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
const SIGKILL: i32 = 9;

/// Returns when the session has ended: by itself, or because nobody reads its output any more.
pub(super) async fn pump(
    session: &Session,
    output: Option<Channel>,
    errors: Option<Channel>,
    outbound: mpsc::Sender<ProcessIo>,
) {
    let gone = async {
        tokio::select! {
            () = outbound.closed() => {}
            () = heartbeats(&outbound) => {}
        }
    };
    let passed = async {
        let out = pass(output, data::Type::Stdout, &outbound);
        let err = pass(errors, data::Type::Stderr, &outbound);
        tokio::join!(out, err);
        session.wait().await;
    };
    // It goes, and with it the streams, only when the program has ended.
    tokio::pin!(passed);
    tokio::select! {
        () = &mut passed => {}
        () = gone => {
            let _ = session.signal(SIGKILL);
        }
    }
    session.wait().await;
}

async fn pass(channel: Option<Channel>, kind: data::Type, outbound: &mpsc::Sender<ProcessIo>) {
    let Some(channel) = channel else { return };
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(length @ 1..) = channel.read(&mut buffer).await {
        if outbound.send(wire::data(kind, &buffer[..length])).await.is_err() {
            // The stream stays open until the program was killed: it is not to end by a broken pipe.
            return std::future::pending().await;
        }
    }
}

/// Ends when the reader is gone. One that has messages waiting needs no sign of life.
pub(super) async fn heartbeats(outbound: &mpsc::Sender<ProcessIo>) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        if let Err(mpsc::error::TrySendError::Closed(_)) = outbound.try_send(wire::heartbeat(HEARTBEAT)) {
            return;
        }
    }
}
