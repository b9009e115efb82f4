//! A panic that the master must not outlive.
//!
//! Where the core or raft panics, what is in memory cannot be trusted any more; what is on disk can. So the process ends
//! before anything else is said or written, and the next one starts from the log.

/// Runs its closure when a panic unwinds through it, before whatever was made earlier in the same scope is dropped.
pub(crate) struct OnPanic<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

/// Ends the process. The panic's own message is on stderr already.
pub(crate) fn end_process() {
    tracing::error!(
        "the master panicked and ends; start it again: nothing acknowledged is lost. If it panics again, keep its work \
         directory and the panic's message above for a report"
    );
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Says when it is dropped.
    struct Says<'a>(&'a RefCell<Vec<&'static str>>);

    impl Drop for Says<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().push("dropped");
        }
    }

    fn scope(said: &RefCell<Vec<&'static str>>, work: fn()) {
        let _state = Says(said);
        let _on_panic = OnPanic(|| said.borrow_mut().push("panicked"));
        work();
    }

    #[test]
    fn a_panic_is_noticed_before_the_state_is_dropped() {
        let said = RefCell::default();
        let result = catch_unwind(AssertUnwindSafe(|| scope(&said, || panic!("as the test wants"))));
        assert!(result.is_err());
        assert_eq!(*said.borrow(), ["panicked", "dropped"]);
    }

    #[test]
    fn without_a_panic_nothing_happens() {
        let said = RefCell::default();
        scope(&said, || {
            // A panic that is caught inside, as sled's are, is none.
            assert!(catch_unwind(|| panic!("as the test wants")).is_err());
        });
        assert_eq!(*said.borrow(), ["dropped"]);
    }
}
