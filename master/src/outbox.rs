//! A bounded queue from the driver to one stream. The driver never waits: a reader that lets the bound be reached is cut off,
//! and what was queued for it is freed at once, even where its connection is never read again.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use prost::Message;
use tokio_stream::Stream;
use tonic::Status;

/// How much may wait for a reader.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Messages.
    pub messages: usize,
    /// Encoded bytes; one message may be larger.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            // A framework may ask for the state of all its tasks at once.
            messages: 1 << 18,
            bytes: 64 << 20,
        }
    }
}

/// Nothing more can be sent to this reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It had left.
    Left,
    /// It was too slow, and is cut off now.
    TooSlow,
}

/// The driver's end.
#[derive(Debug)]
pub struct Outbox<T>(Arc<Mutex<State<T>>>);

/// The stream's end.
pub struct Reader<T> {
    state: Arc<Mutex<State<T>>>,
    on_drop: Option<Box<dyn FnOnce() + Send>>,
}

struct State<T> {
    /// With the size of each; boxed, because events are large and a queue may be long.
    queue: VecDeque<(usize, Box<T>)>,
    bytes: usize,
    bounds: Bounds,
    end: Option<End>,
    reader_left: bool,
    waker: Option<Waker>,
    /// To be called when no more messages wait than so many.
    when_low: Option<(usize, OnLow)>,
}

type OnLow = Box<dyn FnOnce() + Send>;

impl<T> std::fmt::Debug for State<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("messages", &self.queue.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
#[derive(Debug)]
enum End {
    Closed,
    Failed(Status),
}

/// A new queue. `on_drop` runs when the reader is dropped.
pub fn outbox<T>(bounds: Bounds, on_drop: impl FnOnce() + Send + 'static) -> (Outbox<T>, Reader<T>) {
    let state = Arc::new(Mutex::new(State {
        queue: VecDeque::new(),
        bytes: 0,
        bounds,
        end: None,
        reader_left: false,
        waker: None,
        when_low: None,
    }));
    let reader = Reader {
        state: state.clone(),
        on_drop: Some(Box::new(on_drop)),
    };
    (Outbox(state), reader)
}

impl<T: Message + 'static> Outbox<T> {
    /// Queues a message. Whoever sleeps until there is one is given back, to be woken when no more messages come for now: so they leave
    /// together.
    ///
    /// # Errors
    /// The reader left or was too slow.
    pub fn send(&self, message: impl Into<Box<T>>) -> Result<Option<Waker>, Gone> {
        let message = message.into();
        let mut state = lock(&self.0);
        if state.reader_left || state.end.is_some() {
            return Err(Gone::Left);
        }
        let size = message.encoded_len();
        let full = state.queue.len() >= state.bounds.messages
            || (!state.queue.is_empty() && state.bytes + size > state.bounds.bytes);
        if full {
            drop_apart(std::mem::take(&mut state.queue));
            state.bytes = 0;
            let message = "the stream was read too slowly, and what waited for it is dropped; open it again";
            finish(&mut state, End::Failed(Status::resource_exhausted(message)));
            return Err(Gone::TooSlow);
        }
        state.bytes += size;
        state.queue.push_back((size, message));
        Ok(state.waker.take())
    }
}

impl<T> Outbox<T> {
    /// Ends the stream after what was sent.
    pub fn close(&self) {
        let mut state = lock(&self.0);
        if state.end.is_none() {
            finish(&mut state, End::Closed);
        }
    }

    /// Ends the stream with an error after what was sent.
    pub fn fail(&self, status: Status) {
        let mut state = lock(&self.0);
        if state.end.is_none() {
            finish(&mut state, End::Failed(status));
        }
    }

    /// Calls `then` once no more than `low` messages wait for the reader; never where the stream ends before.
    pub fn when_low(&self, low: usize, then: impl FnOnce() + Send + 'static) {
        {
            let mut state = lock(&self.0);
            if state.queue.len() > low {
                state.when_low = Some((low, Box::new(then)));
                return;
            }
        }
        then();
    }

    /// True once the reader has been dropped.
    pub fn reader_left(&self) -> bool {
        lock(&self.0).reader_left
    }
}

impl<T> Drop for Outbox<T> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<T> Stream for Reader<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = lock(&self.state);
        if let Some((size, message)) = state.queue.pop_front() {
            state.bytes -= size;
            if state.queue.is_empty() {
                // A burst should not hold its memory for ever.
                state.queue.shrink_to(64);
            }
            let waiting = state.queue.len();
            let then = state.when_low.take_if(|(low, _)| waiting <= *low);
            drop(state);
            if let Some((_, then)) = then {
                then();
            }
            return Poll::Ready(Some(Ok(*message)));
        }
        match state.end.take() {
            Some(end) => {
                state.end = Some(End::Closed);
                match end {
                    End::Closed => Poll::Ready(None),
                    End::Failed(status) => Poll::Ready(Some(Err(status))),
                }
            }
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.state);
            state.reader_left = true;
            state.queue = VecDeque::new();
            state.when_low = None;
        }
        if let Some(on_drop) = self.on_drop.take() {
            on_drop();
        }
    }
}

impl<T> std::fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// Frees a long queue where it holds nobody up: that of a cut-off scheduler takes a quarter of a second.
fn drop_apart<T: Send + 'static>(queue: VecDeque<(usize, Box<T>)>) {
    if queue.len() > 1000 {
        // Where there is no thread to be had it is freed here.
        let _ = std::thread::Builder::new().spawn(move || drop(queue));
    }
}

fn finish<T>(state: &mut State<T>, end: End) {
    state.end = Some(end);
    wake(state);
}

fn wake<T>(state: &mut State<T>) {
    if let Some(waker) = state.waker.take() {
        waker.wake();
    }
}

/// Nothing panics while it holds this lock, so a poisoned one is as good as any.
fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio_stream::StreamExt as _;

    use super::*;

    fn small(messages: usize, bytes: usize) -> (Outbox<String>, Reader<String>, mpsc::Receiver<()>) {
        let (left, has_left) = mpsc::channel();
        let (outbox, reader) = outbox(Bounds { messages, bytes }, move || {
            let _ = left.send(());
        });
        (outbox, reader, has_left)
    }

    #[tokio::test]
    async fn what_was_sent_before_the_end_is_read() {
        let (outbox, reader, _) = small(10, 1000);
        outbox.send("a".to_owned()).unwrap();
        outbox.send("b".to_owned()).unwrap();
        outbox.close();
        assert_eq!(outbox.send("c".to_owned()).unwrap_err(), Gone::Left);
        let read: Vec<String> = reader.map(Result::unwrap).collect().await;
        assert_eq!(read, ["a", "b"]);
    }

    #[tokio::test]
    async fn a_slow_reader_is_cut_off_and_its_queue_freed() {
        for (messages, bytes) in [(2, 1000), (100, 250)] {
            let (outbox, mut reader, _) = small(messages, bytes);
            let message = "x".repeat(100);
            outbox.send(message.clone()).unwrap();
            outbox.send(message.clone()).unwrap();
            assert_eq!(outbox.send(message).unwrap_err(), Gone::TooSlow);
            assert_eq!(lock(&outbox.0).queue.capacity(), 0);
            let first = reader.next().await.unwrap();
            assert_eq!(first.unwrap_err().code(), tonic::Code::ResourceExhausted);
            assert!(reader.next().await.is_none());
        }
    }

    #[tokio::test]
    async fn who_waits_for_room_hears_of_it_once_the_reader_has_taken_most() {
        let (outbox, mut reader, _) = small(10, 1000);
        let (low, is_low) = mpsc::channel();
        let tell = |what: &'static str| {
            let low = low.clone();
            move || low.send(what).unwrap()
        };
        outbox.when_low(2, tell("empty"));
        assert_eq!(is_low.try_recv(), Ok("empty"));
        for message in ["a", "b", "c", "d"] {
            outbox.send(message.to_owned()).unwrap();
        }
        outbox.when_low(2, tell("read"));
        reader.next().await.unwrap().unwrap();
        assert!(is_low.try_recv().is_err());
        reader.next().await.unwrap().unwrap();
        assert_eq!(is_low.try_recv(), Ok("read"));
        outbox.when_low(0, tell("never"));
        drop(reader);
        assert!(is_low.try_recv().is_err());
    }

    #[tokio::test]
    async fn the_driver_hears_of_a_reader_that_left() {
        let (outbox, reader, has_left) = small(10, 1000);
        drop(reader);
        assert!(outbox.reader_left());
        has_left.recv().unwrap();
        assert_eq!(outbox.send("a".to_owned()).unwrap_err(), Gone::Left);
    }
}
