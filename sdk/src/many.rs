//! Calls at one master, on one stream: while a message of calls is under way, what comes waits for the next one and leaves in
//! it together. The more callers there are, the less each costs; one alone never waits.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use proffer_proto::state::Refusal;
use tokio::sync::oneshot;
use tonic::{Code, Status, Streaming};

use crate::masters::LEADER_METADATA;

/// The largest message of calls, but for one call alone. Masters take 1024 calls and 4 MiB.
const CALLS_MAX: usize = 1024;
const CALLS_BYTES_MAX: usize = 512 << 10;
/// A larger call would end the stream for all. Masters say what they accept when it is made alone.
pub(crate) const CALL_BYTES_MAX: usize = 2 << 20;
/// So many messages may be under way of which no call was answered, if those after the first are of at least so many calls:
/// a caller with much to say does not wait for the way there and back, and one with little says it in few messages.
const UNHEARD_MAX: usize = 8;
const FULL: usize = 256;

/// What the calls of a stream are about.
pub(crate) trait Kind: fmt::Debug + Send + Sync + 'static {
    /// One call.
    type Call: fmt::Debug + Send;
    /// Its answer.
    type Answer: fmt::Debug + Send;
    /// A message of numbered calls.
    type Calls: Send + 'static;
    /// A message of numbered answers.
    type Answers: Send + 'static;

    /// About how many bytes a call takes.
    fn size(call: &Self::Call) -> usize;
    /// Whether masters take the call alone only.
    fn is_alone(call: &Self::Call) -> bool;
    fn message(calls: Vec<(u64, Self::Call)>) -> Self::Calls;
    fn answers(message: Self::Answers) -> Vec<(u64, Result<Self::Answer, Refusal>)>;
    /// Opens the stream.
    fn open(&self, outgoing: Outgoing<Self>) -> impl Future<Output = Result<Streaming<Self::Answers>, Status>> + Send
    where
        Self: Sized;
}

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The master refuses it.
    Refused(Status),
    /// The stream broke after it was sent.
    Broken(Status),
    /// The stream broke before it was sent.
    Unsent(Status),
    /// It is to be made alone: the master takes no streams of calls, being of an older version, or the call is too large for one.
    Alone,
}

type Reply<A> = oneshot::Sender<Result<A, Lost>>;

/// The answer to a call that has its place among those that wait.
#[derive(Debug)]
pub(crate) struct Answered<A>(oneshot::Receiver<Result<A, Lost>>);

impl<A> Future for Answered<A> {
    type Output = Result<A, Lost>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = Pin::new(&mut self.0).poll(context);
        answered.map(|answered| answered.unwrap_or_else(|_| Err(Lost::Broken(broken()))))
    }
}

/// The stream to one master, opened by the first call. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct CallStream<K: Kind> {
    kind: Arc<K>,
    queue: Arc<Queue<K>>,
}

#[derive(Debug)]
struct Queue<K: Kind>(Mutex<State<K>>);

#[derive(Debug)]
struct State<K: Kind> {
    /// Calls that were not sent, with their sizes.
    waiting: VecDeque<(usize, K::Call, Reply<K::Answer>)>,
    /// Calls without answers, by their numbers.
    sent: HashMap<u64, Reply<K::Answer>>,
    /// The first numbers of messages of which no call was answered.
    unheard: VecDeque<u64>,
    next_number: u64,
    is_open: bool,
    /// Something was answered: the master takes streams of calls.
    is_answered: bool,
    end: Option<End>,
    waker: Option<Waker>,
}

#[derive(Debug, Clone)]
enum End {
    /// Nobody calls any more.
    Left,
    Unsupported,
    Broken(Status),
}

impl<K: Kind> CallStream<K> {
    pub(crate) fn new(kind: K) -> Self {
        CallStream {
            kind: Arc::new(kind),
            queue: Arc::new(Queue::new()),
        }
    }

    /// Puts a call behind those that wait; the answer may be awaited later. [`Lost::Alone`] where it cannot be made here.
    pub(crate) fn submit(&self, call: K::Call) -> Result<Answered<K::Answer>, Lost> {
        let size = K::size(&call);
        if size > CALL_BYTES_MAX || K::is_alone(&call) {
            return Err(Lost::Alone);
        }
        let (reply, answered) = oneshot::channel();
        if self.queue.push(size, call, reply)? {
            tokio::spawn(run(self.kind.clone(), self.queue.clone()));
        }
        Ok(Answered(answered))
    }

    /// Whether calls have been answered here: what is sent now is not sent back as [`Lost::Alone`].
    pub(crate) fn is_answered(&self) -> bool {
        self.queue.lock().is_answered
    }

    /// Whether a call has to be made alone, being too large or of such a kind.
    pub(crate) fn is_alone(call: &K::Call) -> bool {
        K::is_alone(call) || K::size(call) > CALL_BYTES_MAX
    }
}

impl<K: Kind> Drop for CallStream<K> {
    fn drop(&mut self) {
        self.queue.end(End::Left);
    }
}

/// Carries the stream until it ends.
async fn run<K: Kind>(kind: Arc<K>, queue: Arc<Queue<K>>) {
    // Where the runtime stops, nobody else would tell those who wait.
    let _end = EndOnDrop(queue.clone());
    let status = match kind.open(Outgoing(queue.clone())).await {
        Err(status) => status,
        Ok(mut answers) => loop {
            match answers.message().await {
                Ok(Some(answers)) => queue.answered(K::answers(answers)).await,
                Ok(None) => break broken(),
                Err(status) => break status,
            }
        },
    };
    queue.end(match status.code() {
        // Nothing was carried out then.
        Code::Unimplemented => End::Unsupported,
        _ => End::Broken(status),
    });
}

struct EndOnDrop<K: Kind>(Arc<Queue<K>>);

impl<K: Kind> Drop for EndOnDrop<K> {
    fn drop(&mut self) {
        self.0.end(End::Broken(broken()));
    }
}

impl<K: Kind> Queue<K> {
    fn new() -> Self {
        Queue(Mutex::new(State {
            waiting: VecDeque::new(),
            sent: HashMap::new(),
            unheard: VecDeque::new(),
            next_number: 0,
            is_open: false,
            is_answered: false,
            end: None,
            waker: None,
        }))
    }

    /// True where the stream is to be opened.
    fn push(&self, size: usize, call: K::Call, reply: Reply<K::Answer>) -> Result<bool, Lost> {
        let mut state = self.lock();
        if let Some(end) = &state.end {
            return Err(end.before_sent());
        }
        state.waiting.push_back((size, call, reply));
        if state.may_send() {
            state.wake();
        }
        Ok(!std::mem::replace(&mut state.is_open, true))
    }

    /// Hands answers to those who wait for them, and lets them call again before the next message leaves.
    async fn answered(&self, answers: Vec<(u64, Result<K::Answer, Refusal>)>) {
        let Some(last) = answers.iter().map(|(number, _)| *number).max() else {
            return;
        };
        {
            let mut state = self.lock();
            state.is_answered = true;
            for (number, answer) in answers {
                if let Some(reply) = state.sent.remove(&number) {
                    // Whoever called may have given up.
                    let _ = reply.send(answer.map_err(|refusal| Lost::Refused(status(refusal))));
                }
            }
        }
        tokio::task::yield_now().await;
        let mut state = self.lock();
        while state.unheard.front().is_some_and(|first| *first <= last) {
            state.unheard.pop_front();
        }
        state.wake();
    }

    /// Nothing is sent or answered any more.
    fn end(&self, end: End) {
        let mut state = self.lock();
        let end = state.end.get_or_insert(end).clone();
        let (waiting, sent) = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.sent));
        state.wake();
        drop(state);
        for (_, _, reply) in waiting {
            let _ = reply.send(Err(end.before_sent()));
        }
        for reply in sent.into_values() {
            let _ = reply.send(Err(end.after_sent()));
        }
    }

    /// Nothing panics while it holds this lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Kind> State<K> {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn may_send(&self) -> bool {
        let is_full = self.waiting.len() >= FULL;
        self.unheard.is_empty() || (is_full && self.unheard.len() < UNHEARD_MAX)
    }

    /// The next message, if there is one to be sent now.
    fn next(&mut self) -> Option<K::Calls> {
        if !self.may_send() {
            return None;
        }
        let first = self.next_number;
        let (mut calls, mut bytes) = (Vec::new(), 0);
        while let Some((size, _, _)) = self.waiting.front()
            && calls.len() < CALLS_MAX
        {
            bytes += size;
            if bytes > CALLS_BYTES_MAX && !calls.is_empty() {
                break;
            }
            let Some((_, call, reply)) = self.waiting.pop_front() else {
                break;
            };
            // Who gave up wants nothing done any more.
            if reply.is_closed() {
                continue;
            }
            let number = self.next_number;
            self.next_number += 1;
            self.sent.insert(number, reply);
            calls.push((number, call));
        }
        if calls.is_empty() {
            return None;
        }
        self.unheard.push_back(first);
        Some(K::message(calls))
    }
}

impl End {
    fn before_sent(&self) -> Lost {
        match self {
            End::Unsupported => Lost::Alone,
            End::Left => Lost::Unsent(broken()),
            End::Broken(status) => Lost::Unsent(status.clone()),
        }
    }

    fn after_sent(&self) -> Lost {
        match self.before_sent() {
            Lost::Unsent(status) => Lost::Broken(status),
            lost => lost,
        }
    }
}

/// The messages of calls, for the connection.
#[derive(Debug)]
pub(crate) struct Outgoing<K: Kind>(Arc<Queue<K>>);

impl<K: Kind> Stream for Outgoing<K> {
    type Item = K::Calls;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<K::Calls>> {
        let mut state = self.0.lock();
        if state.end.is_some() {
            return Poll::Ready(None);
        }
        if let Some(calls) = state.next() {
            return Poll::Ready(Some(calls));
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

fn status(refusal: Refusal) -> Status {
    let mut status = Status::new(Code::from(refusal.code), refusal.message);
    if let Some(leader) = refusal.leader.and_then(|leader| leader.parse().ok()) {
        status.metadata_mut().insert(LEADER_METADATA, leader);
    }
    status
}

fn broken() -> Status {
    Status::unavailable("the stream of calls broke")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = oneshot::Receiver<Result<u64, Lost>>;

    /// Calls that are a name and a size, and answers that are numbers.
    #[derive(Debug)]
    struct Toy;

    impl Kind for Toy {
        type Call = (&'static str, usize);
        type Answer = u64;
        type Calls = Vec<String>;
        type Answers = ();

        fn size(call: &Self::Call) -> usize {
            call.1
        }

        fn is_alone(_: &Self::Call) -> bool {
            false
        }

        fn message(calls: Vec<(u64, Self::Call)>) -> Vec<String> {
            let text = |(number, (name, _))| format!("{number}:{name}");
            calls.into_iter().map(text).collect()
        }

        fn answers((): ()) -> Vec<(u64, Result<u64, Refusal>)> {
            Vec::new()
        }

        async fn open(&self, _: Outgoing<Self>) -> Result<Streaming<()>, Status> {
            Err(Status::unimplemented("a toy"))
        }
    }

    fn push(queue: &Queue<Toy>, name: &'static str, bytes: usize) -> Answer {
        let (reply, answered) = oneshot::channel();
        queue.push(bytes, (name, bytes), reply).unwrap();
        answered
    }

    /// The numbers and names of the next message.
    fn next(queue: &Queue<Toy>) -> Vec<String> {
        queue.lock().next().unwrap_or_default()
    }

    async fn answer(queue: &Queue<Toy>, numbers: &[u64]) {
        let answers = numbers.iter().map(|number| (*number, Ok(100 + number)));
        queue.answered(answers.collect()).await;
    }

    fn version(answered: &mut Answer) -> u64 {
        match answered.try_recv() {
            Ok(Ok(version)) => version,
            other => panic!("not done: {other:?}"),
        }
    }

    #[tokio::test]
    async fn what_comes_while_a_message_is_under_way_leaves_together() {
        let queue = Queue::<Toy>::new();
        let mut first = push(&queue, "a", 1);
        assert_eq!(next(&queue), ["0:a"], "one alone does not wait");
        let mut others = ["b", "c", "d"].map(|key| push(&queue, key, 1));
        assert_eq!(next(&queue), [""; 0]);
        answer(&queue, &[0]).await;
        assert_eq!(version(&mut first), 100);
        assert_eq!(next(&queue), ["1:b", "2:c", "3:d"]);
        let _more = push(&queue, "e", 1);
        // One answer says that the message has arrived.
        answer(&queue, &[2]).await;
        assert_eq!(version(&mut others[1]), 102);
        assert_eq!(next(&queue), ["4:e"]);
        answer(&queue, &[3, 1]).await;
        assert_eq!((version(&mut others[0]), version(&mut others[2])), (101, 103));
    }

    #[tokio::test]
    async fn who_has_much_to_say_does_not_wait_for_answers() {
        let queue = Queue::<Toy>::new();
        let _first = push(&queue, "first", 1);
        assert_eq!(next(&queue).len(), 1);
        let mut calls: Vec<_> = (1..FULL).map(|_| push(&queue, "k", 1)).collect();
        assert_eq!(next(&queue), [""; 0]);
        calls.push(push(&queue, "last", 1));
        assert_eq!(next(&queue).len(), FULL);
        for _ in 2..UNHEARD_MAX {
            calls.extend((0..FULL).map(|_| push(&queue, "k", 1)));
            assert_eq!(next(&queue).len(), FULL);
        }
        calls.extend((0..FULL).map(|_| push(&queue, "k", 1)));
        assert_eq!(next(&queue), [""; 0], "so many messages are under way");
        answer(&queue, &[0]).await;
        assert_eq!(next(&queue).len(), FULL);
    }

    #[tokio::test]
    async fn a_message_has_bounds_and_who_gave_up_is_not_in_it() {
        let queue = Queue::<Toy>::new();
        let _small = push(&queue, "small", 1);
        drop(push(&queue, "given up", 1));
        let _large = push(&queue, "large", 400 << 10);
        let _next = push(&queue, "next", 400 << 10);
        let _huge = push(&queue, "huge", 1 << 20);
        assert_eq!(next(&queue), ["0:small", "1:large"]);
        answer(&queue, &[0]).await;
        assert_eq!(next(&queue), ["2:next"]);
        answer(&queue, &[2]).await;
        assert_eq!(next(&queue), ["3:huge"]);
        answer(&queue, &[3]).await;
        let _many: Vec<_> = (0..CALLS_MAX + 1).map(|_| push(&queue, "k", 1)).collect();
        assert_eq!(next(&queue).len(), CALLS_MAX);
    }

    #[test]
    fn the_end_tells_what_was_sent_from_what_was_not() {
        let queue = Queue::<Toy>::new();
        let mut sent = push(&queue, "a", 1);
        assert_eq!(next(&queue).len(), 1);
        let mut waiting = push(&queue, "b", 1);
        queue.end(End::Broken(Status::unavailable("gone")));
        assert!(matches!(sent.try_recv(), Ok(Err(Lost::Broken(status))) if status.message() == "gone"));
        assert!(matches!(waiting.try_recv(), Ok(Err(Lost::Unsent(status))) if status.message() == "gone"));
        let (reply, _answered) = oneshot::channel();
        assert!(matches!(queue.push(1, ("late", 1), reply), Err(Lost::Unsent(_))));
    }
}
