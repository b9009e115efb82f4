//! Schedulers' streams whose readers have taken most of what was sent: there is room for more.

use std::sync::{Arc, Mutex, PoisonError};

use proffer_master_core::{Input, StreamId};
use tokio::sync::Notify;

use super::{Driver, Stream};

/// There is room when no more messages wait than these.
const LOW: usize = 1000;

/// What readers tell the driver.
#[derive(Debug, Clone)]
pub(super) struct Room {
    streams: Arc<Mutex<Vec<StreamId>>>,
    bell: Arc<Notify>,
}

impl Room {
    pub(super) fn new(bell: Arc<Notify>) -> Self {
        Room {
            streams: Arc::default(),
            bell,
        }
    }

    fn put(&self, stream: StreamId) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        self.bell.notify_one();
    }

    fn take(&self) -> Vec<StreamId> {
        std::mem::take(&mut *self.streams.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Driver {
    /// The core has more to say on a stream when there is room: not before what waits now is taken, either.
    pub(super) fn go_on_when_read(&self, stream: StreamId) {
        if let Some(Stream::Scheduler(outbox, _)) = self.streams.get(&stream) {
            let room = self.room.clone();
            outbox.when_low(LOW, move || room.put(stream));
        }
    }

    pub(super) fn hear_readers(&mut self) {
        let streams = self.room.take().into_iter();
        self.inputs.extend(streams.map(|stream| Input::Continue { stream }));
    }
}
