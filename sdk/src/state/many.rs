//! Calls at one master, on one stream: while a message of calls is under way, what comes waits for the next one and leaves in
//! it together. The more callers there are, the less each costs; one alone never waits. A list would hold other answers up, and
//! is made alone.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use proffer_proto::api::state_client::StateClient;
use proffer_proto::state::{
    Answers, Call, Calls, NumberedAnswer, NumberedCall, Refusal, answer, call, numbered_answer,
};
use tokio::sync::oneshot;
use tonic::{Code, Status};

use crate::connection::MESSAGE_BYTES_MAX;
use crate::line::Line;
use crate::masters::LEADER_METADATA;

/// The largest message of calls, but for one call alone. Masters take 1024 calls and 4 MiB.
const CALLS_MAX: usize = 1024;
const CALLS_BYTES_MAX: usize = 512 << 10;
/// A larger call would end the stream for all. Masters say what they accept when it is made alone.
const CALL_BYTES_MAX: usize = 2 << 20;
/// So many messages may be under way of which no call was answered.
const UNHEARD_MAX: usize = 1;

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// The master refuses it.
    Refused(Status),
    /// The stream broke after it was sent.
    Broken(Status),
    /// The stream broke before it was sent.
    Unsent(Status),
    /// It is to be made alone: the master takes no streams of calls, being of an older version, or the call is too large for one.
    Alone,
}

type Reply = oneshot::Sender<Result<Option<answer::Body>, Lost>>;

/// The stream to one master, opened by the first call. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct CallStream {
    line: Line,
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Calls that were not sent.
    waiting: VecDeque<(Call, Reply)>,
    /// Calls without answers, by their numbers.
    sent: HashMap<u64, Reply>,
    /// The first numbers of messages of which no call was answered.
    unheard: VecDeque<u64>,
    next_number: u64,
    is_open: bool,
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

impl CallStream {
    pub(crate) fn new(line: Line) -> Self {
        CallStream {
            line,
            queue: Arc::default(),
        }
    }

    /// Makes a call. None: the answer is of a kind that this version does not know.
    pub(super) async fn submit(&self, call: Call) -> Result<Option<answer::Body>, Lost> {
        if size(&call) > CALL_BYTES_MAX || matches!(call.body, Some(call::Body::List(_))) {
            return Err(Lost::Alone);
        }
        let (reply, answered) = oneshot::channel();
        if self.queue.push(call, reply)? {
            let client = StateClient::new(self.line.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX);
            tokio::spawn(run(client, self.queue.clone()));
        }
        let broken = |_| Err(Lost::Broken(broken()));
        answered.await.unwrap_or_else(broken)
    }
}

impl Drop for CallStream {
    fn drop(&mut self) {
        self.queue.end(End::Left);
    }
}

/// Carries the stream until it ends.
async fn run(mut client: StateClient<Line>, queue: Arc<Queue>) {
    // Where the runtime stops, nobody else would tell those who wait.
    let _end = EndOnDrop(queue.clone());
    let status = match client.submit_many(Outgoing(queue.clone())).await {
        Err(status) => status,
        Ok(response) => {
            let mut answers = response.into_inner();
            loop {
                match answers.message().await {
                    Ok(Some(answers)) => queue.answered(answers).await,
                    Ok(None) => break broken(),
                    Err(status) => break status,
                }
            }
        }
    };
    queue.end(match status.code() {
        // Nothing was carried out then.
        Code::Unimplemented => End::Unsupported,
        _ => End::Broken(status),
    });
}

struct EndOnDrop(Arc<Queue>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(End::Broken(broken()));
    }
}

impl Queue {
    /// True where the stream is to be opened.
    fn push(&self, call: Call, reply: Reply) -> Result<bool, Lost> {
        let mut state = self.lock();
        if let Some(end) = &state.end {
            return Err(end.before_sent());
        }
        state.waiting.push_back((call, reply));
        state.wake();
        Ok(!std::mem::replace(&mut state.is_open, true))
    }

    /// Hands answers to those who wait for them, and lets them call again before the next message leaves.
    async fn answered(&self, answers: Answers) {
        let Some(last) = answers.answers.iter().map(|answer| answer.number).max() else {
            return;
        };
        {
            let mut state = self.lock();
            for NumberedAnswer { number, body } in answers.answers {
                if let Some(reply) = state.sent.remove(&number) {
                    // Whoever called may have given up.
                    let _ = reply.send(match body {
                        Some(numbered_answer::Body::Answer(answer)) => Ok(answer.body),
                        Some(numbered_answer::Body::Refusal(refusal)) => Err(Lost::Refused(status(refusal))),
                        None => Ok(None),
                    });
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
        for (_, reply) in waiting {
            let _ = reply.send(Err(end.before_sent()));
        }
        for reply in sent.into_values() {
            let _ = reply.send(Err(end.after_sent()));
        }
    }

    /// Nothing panics while it holds this lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next message, if there is one to be sent now.
    fn next(&mut self) -> Option<Calls> {
        if self.unheard.len() >= UNHEARD_MAX {
            return None;
        }
        let first = self.next_number;
        let (mut calls, mut bytes) = (Vec::new(), 0);
        while let Some((call, _)) = self.waiting.front()
            && calls.len() < CALLS_MAX
        {
            bytes += size(call);
            if bytes > CALLS_BYTES_MAX && !calls.is_empty() {
                break;
            }
            let Some((call, reply)) = self.waiting.pop_front() else {
                break;
            };
            // Who gave up wants nothing done any more.
            if reply.is_closed() {
                continue;
            }
            let number = self.next_number;
            self.next_number += 1;
            self.sent.insert(number, reply);
            calls.push(NumberedCall { number, call });
        }
        if calls.is_empty() {
            return None;
        }
        self.unheard.push_back(first);
        Some(Calls { calls })
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

struct Outgoing(Arc<Queue>);

impl Stream for Outgoing {
    type Item = Calls;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Calls>> {
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

/// About how many bytes a call takes.
fn size(call: &Call) -> usize {
    let body = match &call.body {
        Some(call::Body::Put(put)) => put.key.len() + put.value.len(),
        Some(call::Body::Get(get)) => get.key.len(),
        Some(call::Body::Delete(delete)) => delete.key.len(),
        Some(call::Body::List(_)) | None => 0,
    };
    call.namespace.len() + body + 64
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

    type Answered = oneshot::Receiver<Result<Option<answer::Body>, Lost>>;

    fn push(queue: &Queue, key: &str, bytes: usize) -> Answered {
        let put = proffer_proto::state::Put {
            key: key.to_owned(),
            value: vec![0; bytes].into(),
            expected_version: None,
        };
        let call = Call {
            namespace: "n".to_owned(),
            body: Some(call::Body::Put(put)),
        };
        let (reply, answered) = oneshot::channel();
        queue.push(call, reply).unwrap();
        answered
    }

    /// The numbers and keys of the next message.
    fn next(queue: &Queue) -> Vec<String> {
        let calls = queue.lock().next().unwrap_or_default().calls;
        let text = |call: NumberedCall| match call.call.body {
            Some(call::Body::Put(put)) => format!("{}:{}", call.number, put.key),
            other => panic!("not a put: {other:?}"),
        };
        calls.into_iter().map(text).collect()
    }

    async fn answer(queue: &Queue, numbers: &[u64]) {
        let done = |number| NumberedAnswer {
            number,
            body: Some(numbered_answer::Body::Answer(proffer_proto::state::Answer {
                body: Some(answer::Body::Done(proffer_proto::state::Done { version: 100 + number })),
            })),
        };
        let answers = numbers.iter().copied().map(done).collect();
        queue.answered(Answers { answers }).await;
    }

    fn version(answered: &mut Answered) -> u64 {
        match answered.try_recv() {
            Ok(Ok(Some(answer::Body::Done(done)))) => done.version,
            other => panic!("not done: {other:?}"),
        }
    }

    #[tokio::test]
    async fn what_comes_while_a_message_is_under_way_leaves_together() {
        let queue = Queue::default();
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
    async fn a_message_has_bounds_and_who_gave_up_is_not_in_it() {
        let queue = Queue::default();
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
        let queue = Queue::default();
        let mut sent = push(&queue, "a", 1);
        assert_eq!(next(&queue).len(), 1);
        let mut waiting = push(&queue, "b", 1);
        queue.end(End::Broken(Status::unavailable("gone")));
        assert!(matches!(sent.try_recv(), Ok(Err(Lost::Broken(status))) if status.message() == "gone"));
        assert!(matches!(waiting.try_recv(), Ok(Err(Lost::Unsent(status))) if status.message() == "gone"));
        let (reply, _answered) = oneshot::channel();
        assert!(matches!(queue.push(Call::default(), reply), Err(Lost::Unsent(_))));
    }
}
