//! When what tasks held became free, until it is offered again: how long an offer takes.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Of every agent, in order: when each task that has ended set its share free. All tasks are of one size.
#[derive(Debug, Default)]
pub struct Freed {
    agents: Vec<Mutex<VecDeque<Instant>>>,
}

impl Freed {
    /// Of so many agents.
    pub fn of(agents: usize) -> Self {
        Freed {
            agents: (0..agents).map(|_| Mutex::default()).collect(),
        }
    }

    /// The agent is about to say that a task has ended.
    pub(super) fn put(&self, agent: usize, at: Instant) {
        if let Some(shares) = self.agents.get(agent) {
            shares.lock().unwrap_or_else(PoisonError::into_inner).push_back(at);
        }
    }

    /// So many shares of an agent came in an offer: since when they were free, oldest first. What was free from the
    /// beginning is not listed.
    pub(super) fn take(&self, agent: usize, count: usize) -> Vec<Instant> {
        let Some(shares) = self.agents.get(agent) else {
            return Vec::new();
        };
        let mut shares = shares.lock().unwrap_or_else(PoisonError::into_inner);
        let count = count.min(shares.len());
        shares.drain(..count).collect()
    }
}

/// What the agent with a number calls itself.
pub(super) fn hostname(agent: usize) -> String {
    format!("simulated-{agent}")
}

/// The number of the agent that calls itself so.
pub(super) fn number(hostname: &str) -> Option<usize> {
    hostname.strip_prefix("simulated-")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shares_are_offered_in_the_order_in_which_they_became_free() {
        let freed = Freed::of(2);
        let (early, late) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(1));
        freed.put(1, early);
        freed.put(1, late);
        assert_eq!(freed.take(0, 5), []);
        assert_eq!(freed.take(1, 1), [early]);
        assert_eq!(freed.take(1, 5), [late]);
        assert_eq!(number(&hostname(7)), Some(7));
    }
}
