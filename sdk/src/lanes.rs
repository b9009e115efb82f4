//! The calls of a running scheduler, on their way to the master: in order, acknowledgements beside the others.
//!
//! A call does not wait for the answer to the one before, where the master takes streams of calls: they arrive in their order all the
//! same. Those that are made alone wait until all before them are answered, and those after wait for them.

use std::collections::VecDeque;
use std::time::Duration;

use proffer_proto::v1::scheduler::{Call, call};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::calls::{Begun, CallError, Calls};

/// So many calls of a lane wait for their answers at a time.
const UNANSWERED_MAX: usize = 4096;

/// A call that failed.
pub(crate) type Outcome = (Call, CallError);

/// Ends with its subscription.
pub(crate) struct Lanes {
    ordered: mpsc::UnboundedSender<Call>,
    acknowledgements: mpsc::UnboundedSender<Call>,
    senders: JoinSet<()>,
}

impl Lanes {
    pub(crate) fn start(calls: Calls) -> (Self, mpsc::UnboundedReceiver<Outcome>) {
        let (outcomes, failed) = mpsc::unbounded_channel();
        let mut senders = JoinSet::new();
        let mut lane = || {
            let (sender, queue) = mpsc::unbounded_channel::<Call>();
            let lane = Lane {
                calls: calls.clone(),
                outcomes: outcomes.clone(),
                unanswered: VecDeque::new(),
            };
            senders.spawn(async move {
                // Nothing can follow an end; it was told.
                let _ = lane.run(queue).await;
            });
            sender
        };
        let (ordered, acknowledgements) = (lane(), lane());
        let lanes = Lanes {
            ordered,
            acknowledgements,
            senders,
        };
        (lanes, failed)
    }

    pub(crate) fn send(&self, call: Call) {
        let lane = match call.r#type() {
            call::Type::Acknowledge | call::Type::AcknowledgeOperationStatus => &self.acknowledgements,
            _ => &self.ordered,
        };
        // A lane that is gone has reported why, and the subscription is about to end.
        let _ = lane.send(call);
    }

    /// Sends what is queued, for no longer than this.
    pub(crate) async fn finish(self, timeout: Duration) {
        let Lanes {
            ordered,
            acknowledgements,
            mut senders,
        } = self;
        drop((ordered, acknowledgements));
        let all_sent = async { while senders.join_next().await.is_some() {} };
        if tokio::time::timeout(timeout, all_sent).await.is_err() {
            tracing::warn!("some queued calls were not sent in time");
        }
    }
}

struct Lane {
    calls: Calls,
    outcomes: mpsc::UnboundedSender<Outcome>,
    /// In the order in which they were begun.
    unanswered: VecDeque<(Call, Begun)>,
}

/// The subscription is over.
struct Over;

impl Lane {
    async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Call>) -> Result<(), Over> {
        while let Some(first) = queue.recv().await {
            let mut next = Some(first);
            while let Some(call) = next {
                if self.calls.overtakes(&call) {
                    self.settle(0).await?;
                    self.begin(call);
                    self.settle(0).await?;
                } else {
                    self.begin(call);
                    self.settle(UNANSWERED_MAX).await?;
                }
                next = queue.try_recv().ok();
            }
            self.settle(0).await?;
        }
        Ok(())
    }

    fn begin(&mut self, call: Call) {
        let begun = self.calls.begin(call.clone());
        self.unanswered.push_back((call, begun));
    }

    /// Waits until no more than so many calls have no answer.
    async fn settle(&mut self, left: usize) -> Result<(), Over> {
        while self.unanswered.len() > left
            && let Some((call, begun)) = self.unanswered.pop_front()
        {
            if let Err(error) = self.calls.finish(begun).await {
                let over = !error.is_rejection();
                if self.outcomes.send((call, error)).is_err() || over {
                    return Err(Over);
                }
            }
        }
        Ok(())
    }
}
