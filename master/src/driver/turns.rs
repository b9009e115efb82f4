//! Whether what others say can come through.
//!
//! Ten thousand agents that register at once keep the threads of the runtime busy that reads what they say, and the answers of other
//! masters wait among them. A leader must not take that for silence: its clock stands still while a turn of the runtime is waited
//! for. Not for ever: a master whose runtime hangs serves nobody, and another is to lead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

/// How many ticks in a row are left out at most.
const LEFT_OUT_MAX: u32 = 10;

#[derive(Debug)]
pub(super) struct Turns {
    /// None where nothing comes from outside.
    runtime: Option<Handle>,
    came: Arc<AtomicBool>,
    left_out: u32,
}

impl Turns {
    /// Of the runtime that the caller is in, if it is in one.
    pub(super) fn of_current() -> Self {
        Self {
            runtime: Handle::try_current().ok(),
            came: Arc::new(AtomicBool::new(true)),
            left_out: 0,
        }
    }

    /// To be called once a tick: whether the runtime has had a turn since the last, or has not had one for too long. Asks for the next.
    pub(super) fn take(&mut self) -> bool {
        let Some(runtime) = &self.runtime else { return true };
        if !self.came.load(Ordering::Relaxed) && self.left_out < LEFT_OUT_MAX {
            self.left_out += 1;
            return false;
        }
        self.left_out = 0;
        let came = Arc::new(AtomicBool::new(false));
        self.came = came.clone();
        runtime.spawn(async move { came.store(true, Ordering::Relaxed) });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_stands_still_while_a_turn_is_waited_for_but_not_for_ever() {
        let mut turns = Turns::of_current();
        assert!(turns.take());
        for _ in 0..2 {
            for _ in 0..LEFT_OUT_MAX {
                assert!(!turns.take());
            }
            assert!(turns.take());
        }
        tokio::task::yield_now().await;
        assert!(turns.take() && !turns.take());
    }

    #[test]
    fn time_goes_on_where_there_is_no_runtime() {
        let mut turns = Turns::of_current();
        assert!(turns.take() && turns.take());
    }
}
