//! The answers to the calls of one stream, from the driver to the stream.
//!
//! Every call has a [`Ticket`], by which it is answered once; a ticket that is dropped without an answer says that the master is
//! stopping. Answers are gathered, and leave in one message when the driver rings. A call has one of a bounded number of places
//! from when it is read until its answer is taken by the connection, so a caller who does not read is not listened to, either.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use proffer_master_core::Answer;
use proffer_proto::state::answer::Body;
use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tonic::Status;

/// How many calls of one stream wait for their answers, or their answers for the connection.
pub const PLACES: u32 = 8 * CALLS_MAX;

/// So many calls are taken in a message.
pub const CALLS_MAX: u32 = 1024;
/// Answers of about so many bytes leave together.
const TOGETHER_BYTES: usize = 1 << 20;
/// What an answer takes beside its value, about.
const ANSWER_BYTES: usize = 64;

/// What became of a call; `None` where the master stops before it is answered.
pub type Answered = (u64, Option<Answer>);

/// The claim of one call to its answer.
#[derive(Debug)]
pub struct Ticket {
    stream: Arc<Shared>,
    number: u64,
    is_answered: bool,
}

/// To be rung when no more answers come for now.
#[derive(Debug)]
pub struct Bell(Arc<Shared>);

/// The side that takes calls in.
#[derive(Debug)]
pub struct Intake(Arc<Shared>);

/// The side that gives answers out: as many at a time as there are.
#[derive(Debug)]
pub struct Output(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    places: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answers: VecDeque<Answered>,
    /// Whether somebody has the bell that tells of the answers.
    is_rung_for: bool,
    /// How many tickets there are.
    waiting: usize,
    /// No call will come any more; the stream ends after the last answer, or so at once.
    end: Option<Result<(), Status>>,
    waker: Option<Waker>,
}

/// The two sides of a new stream.
pub fn answers() -> (Intake, Output) {
    let shared = Arc::new(Shared {
        places: Semaphore::new(PLACES as usize),
        state: Mutex::default(),
    });
    (Intake(shared.clone()), Output(shared))
}

impl Intake {
    /// Waits for places for so many calls. False: nobody reads the answers any more.
    pub async fn wait(&self, calls: u32) -> bool {
        let places = self.0.places.acquire_many(calls).await;
        places.map(tokio::sync::SemaphorePermit::forget).is_ok()
    }

    /// Tickets for calls that have their places.
    pub fn tickets(&self, numbers: impl ExactSizeIterator<Item = u64>) -> Vec<Ticket> {
        self.0.lock().waiting += numbers.len();
        let ticket = |number| Ticket {
            stream: self.0.clone(),
            number,
            is_answered: false,
        };
        numbers.map(ticket).collect()
    }

    #[cfg(test)]
    pub(crate) fn ticket(&self, number: u64) -> Ticket {
        self.tickets([number].into_iter()).remove(0)
    }

    /// Ends the stream at once.
    pub fn fail(self, status: Status) {
        self.end(Err(status));
    }

    fn end(&self, end: Result<(), Status>) {
        let mut state = self.0.lock();
        state.end.get_or_insert(end);
        state.wake();
    }
}

impl Drop for Intake {
    /// The stream ends after the last answer.
    fn drop(&mut self) {
        self.end(Ok(()));
    }
}

impl Ticket {
    /// Answers the call. The caller hears of it when the bell is rung, which comes with the first of several answers.
    pub fn answer(mut self, answer: Answer) -> Option<Bell> {
        self.is_answered = true;
        let is_first = self.stream.push((self.number, Some(answer)));
        is_first.then(|| Bell(self.stream.clone()))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_answered && self.stream.push((self.number, None)) {
            self.stream.ring();
        }
    }
}

impl Bell {
    /// Lets the answers go.
    pub fn ring(self) {
        self.0.ring();
    }
}

impl Shared {
    /// True for the first answer that nobody has a bell for.
    fn push(&self, answered: Answered) -> bool {
        let mut state = self.lock();
        state.waiting -= 1;
        state.answers.push_back(answered);
        !std::mem::replace(&mut state.is_rung_for, true)
    }

    fn ring(&self) {
        let mut state = self.lock();
        state.is_rung_for = false;
        state.wake();
    }

    /// Nothing panics while it holds this lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Stream for Output {
    type Item = Result<Vec<Answered>, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.lock();
        if let Some(Err(status)) = &state.end {
            let status = status.clone();
            state.end = Some(Ok(()));
            state.answers.clear();
            return Poll::Ready(Some(Err(status)));
        }
        if state.answers.is_empty() {
            if state.end.is_some() && state.waiting == 0 {
                return Poll::Ready(None);
            }
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let (mut count, mut bytes) = (0, 0);
        for answered in &state.answers {
            bytes += size(answered);
            if count > 0 && bytes > TOGETHER_BYTES {
                break;
            }
            count += 1;
        }
        let taken = state.answers.drain(..count).collect();
        drop(state);
        self.0.places.add_permits(count);
        Poll::Ready(Some(Ok(taken)))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.0.places.close();
        self.0.lock().answers = VecDeque::new();
    }
}

fn size((_, answer): &Answered) -> usize {
    let Some(Answer::State(answer)) = answer else {
        return ANSWER_BYTES;
    };
    let entry = match &answer.body {
        Some(Body::Got(got)) => got.entry.as_ref(),
        Some(Body::Conflict(conflict)) => conflict.entry.as_ref(),
        _ => None,
    };
    let entry = entry.map_or(0, |entry| {
        entry.key.len() + entry.value.as_ref().map_or(0, bytes::Bytes::len)
    });
    ANSWER_BYTES + entry
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use futures_util::FutureExt as _;
    use tokio_stream::StreamExt as _;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The numbers of the answers that leave together now, `?` after those of calls without one.
    fn next(output: &mut Output) -> Option<String> {
        let taken = output.next().now_or_never()??.ok()?;
        let numbers = taken.iter().map(|(number, answer)| match answer {
            Some(_) => number.to_string(),
            None => format!("{number}?"),
        });
        Some(numbers.collect::<Vec<_>>().join(" "))
    }

    fn got(bytes: usize) -> Answer {
        let entry = proffer_proto::state::Entry {
            key: "k".to_owned(),
            value: Some(vec![0; bytes].into()),
            version: 1,
        };
        let body = Body::Got(proffer_proto::state::Got { entry: Some(entry) });
        Answer::State(Box::new(proffer_proto::state::Answer { body: Some(body) }))
    }

    #[test]
    fn answers_of_one_step_leave_together_when_the_bell_is_rung() {
        let (intake, mut output) = answers();
        let tickets = [7, 8, 9].map(|number| intake.ticket(number));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        assert!(Pin::new(&mut output).poll_next(&mut context).is_pending());
        let bells: Vec<_> = tickets.map(|ticket| ticket.answer(Answer::Accepted)).into();
        assert_eq!(bells.iter().flatten().count(), 1, "the first answer brings the bell");
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        bells.into_iter().flatten().for_each(Bell::ring);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(next(&mut output).unwrap(), "7 8 9");
        let bell = intake.ticket(10).answer(Answer::Accepted);
        assert!(bell.is_some(), "and the next after it was rung brings it again");
    }

    #[test]
    fn a_message_of_answers_is_not_much_larger_than_it_may_be() {
        let (intake, mut output) = answers();
        for (number, bytes) in [(1, 100), (2, 600 << 10), (3, 600 << 10), (4, 3 << 20), (5, 100)] {
            let _ = intake.ticket(number).answer(got(bytes));
        }
        let taken: Vec<_> = std::iter::from_fn(|| next(&mut output)).collect();
        assert_eq!(taken, ["1 2", "3", "4", "5"]);
    }

    #[test]
    fn a_dropped_ticket_is_told_and_the_stream_ends_after_the_last_answer() {
        let (intake, mut output) = answers();
        let (first, second) = (intake.ticket(1), intake.ticket(2));
        drop(intake);
        assert_eq!(next(&mut output), None);
        drop(first);
        assert_eq!(next(&mut output).unwrap(), "1?");
        assert!(output.next().now_or_never().is_none(), "one is still to come");
        let _ = second.answer(Answer::Accepted);
        assert_eq!(next(&mut output).unwrap(), "2");
        assert!(output.next().now_or_never().unwrap().is_none());
    }

    #[test]
    fn a_failed_stream_ends_at_once() {
        let (intake, mut output) = answers();
        let _waiting = intake.ticket(1);
        intake.fail(Status::invalid_argument("calls"));
        let failure = output.next().now_or_never().unwrap().unwrap().unwrap_err();
        assert_eq!(failure.message(), "calls");
    }

    #[test]
    fn who_does_not_read_is_not_listened_to_and_who_left_is_not_waited_for() {
        let (intake, mut output) = answers();
        assert_eq!(intake.wait(PLACES).now_or_never(), Some(true));
        assert_eq!(intake.wait(1).now_or_never(), None);
        let _ = intake.ticket(1).answer(Answer::Accepted);
        assert_eq!(next(&mut output).unwrap(), "1");
        assert_eq!(intake.wait(1).now_or_never(), Some(true));
        let mut more = Box::pin(intake.wait(1));
        assert_eq!((&mut more).now_or_never(), None);
        drop(output);
        assert_eq!(more.now_or_never(), Some(false));
        let _ = intake.ticket(2).answer(Answer::Accepted);
    }
}
