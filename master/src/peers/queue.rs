//! What waits to be sent to one master: bounded in messages and bytes, filled by the driver, emptied as the connection takes it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use proffer_replication::eraftpb::Message;
use tokio::sync::Notify;

/// How much may wait for one master.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            messages: 8192,
            bytes: 64 << 20,
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<(usize, Message)>,
    bytes: usize,
    /// While there is neither a connection nor an attempt at one, nothing is kept: it would be stale.
    open: bool,
    waker: Option<Waker>,
}

/// The queue of one master.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bounds: Bounds,
    waiting: Mutex<Waiting>,
    overflowed: Notify,
}

impl Queue {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            ..Self::default()
        }
    }

    /// Queues a message, or drops it. Where it does not fit, everything is dropped: raft sends anew what is still needed.
    pub(super) fn push(&self, message: Message) {
        let size = size(&message);
        let mut waiting = self.lock();
        if !waiting.open {
            return;
        }
        let full = waiting.messages.len() >= self.bounds.messages
            || (!waiting.messages.is_empty() && waiting.bytes + size > self.bounds.bytes);
        if full {
            waiting.messages = VecDeque::new();
            waiting.bytes = 0;
            self.overflowed.notify_one();
            return;
        }
        waiting.bytes += size;
        waiting.messages.push_back((size, message));
        if let Some(waker) = waiting.waker.take() {
            waker.wake();
        }
    }

    /// From now on messages are kept.
    pub(super) fn open(&self) {
        self.lock().open = true;
    }

    /// Drops what waits, and what comes.
    pub(super) fn close(&self) {
        *self.lock() = Waiting::default();
    }

    /// Resolves after messages were dropped because the queue was full.
    pub(super) async fn overflowed(&self) {
        self.overflowed.notified().await;
    }

    /// Takes the first messages, not many more than `bytes` of them; at least one.
    pub(super) fn poll_take(&self, context: &Context<'_>, bytes: usize) -> Poll<Vec<Message>> {
        let mut waiting = self.lock();
        let mut taken = Vec::new();
        let mut room = bytes;
        while let Some(&(size, _)) = waiting.messages.front()
            && (taken.is_empty() || size <= room)
            && let Some((_, message)) = waiting.messages.pop_front()
        {
            room = room.saturating_sub(size);
            waiting.bytes -= size;
            taken.push(message);
        }
        if taken.is_empty() {
            waiting.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        if waiting.messages.is_empty() {
            // A burst should not hold its memory for ever.
            waiting.messages.shrink_to(64);
        }
        Poll::Ready(taken)
    }

    /// Nothing panics while it holds this lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About how many bytes a message takes.
fn size(message: &Message) -> usize {
    const FIELDS: usize = 64;
    let entries = message.get_entries().iter();
    let entries: usize = entries
        .map(|entry| FIELDS + entry.data.len() + entry.context.len())
        .sum();
    FIELDS + message.context.len() + entries
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_util::FutureExt as _;
    use proffer_replication::eraftpb::Entry;

    use super::*;

    fn message(index: u64, bytes: usize) -> Message {
        let entry = Entry {
            data: vec![0; bytes].into(),
            ..Entry::default()
        };
        let mut message = Message {
            index,
            ..Message::default()
        };
        message.set_entries(vec![entry].into());
        message
    }

    fn take(queue: &Queue, bytes: usize) -> Vec<u64> {
        match queue.poll_take(&Context::from_waker(Waker::noop()), bytes) {
            Poll::Ready(messages) => messages.iter().map(|message| message.index).collect(),
            Poll::Pending => Vec::new(),
        }
    }

    #[test]
    fn messages_come_out_in_order_and_in_batches() {
        let queue = Queue::new(Bounds::default());
        queue.push(message(1, 10));
        assert_eq!(take(&queue, 1000), [0; 0], "nothing is kept before it is open");
        queue.open();
        for index in 1..=5 {
            queue.push(message(index, 1000));
        }
        assert_eq!(take(&queue, 1), [1], "one is taken however large it is");
        assert_eq!(take(&queue, 2500), [2, 3]);
        assert_eq!(take(&queue, 1 << 20), [4, 5]);
        assert!(queue.overflowed().now_or_never().is_none());
    }

    #[test]
    fn a_full_queue_drops_everything_and_tells_once() {
        for bounds in [
            Bounds {
                messages: 3,
                bytes: 1 << 20,
            },
            Bounds {
                messages: 100,
                bytes: 3500,
            },
        ] {
            let queue = Queue::new(bounds);
            queue.open();
            for index in 1..=4 {
                queue.push(message(index, 1000));
            }
            assert!(queue.overflowed().now_or_never().is_some());
            assert!(queue.overflowed().now_or_never().is_none());
            queue.push(message(5, 1000));
            assert_eq!(take(&queue, 1 << 20), [5]);
        }
    }

    #[test]
    fn a_closed_queue_keeps_nothing() {
        let queue = Queue::new(Bounds::default());
        queue.open();
        queue.push(message(1, 10));
        queue.close();
        queue.push(message(2, 10));
        queue.open();
        queue.push(message(3, 10));
        assert_eq!(take(&queue, 1 << 20), [3]);
    }
}
