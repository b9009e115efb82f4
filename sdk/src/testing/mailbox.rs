//! The calls that a fake has received, of which a test waits for one kind at a time.

use std::fmt::Debug;
use std::time::Duration;

use tokio::sync::mpsc;

/// How long an expected call may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Mailbox<C> {
    calls: mpsc::UnboundedReceiver<C>,
    /// Calls that came while others were waited for.
    passed_over: Vec<C>,
}

impl<C: Debug> Mailbox<C> {
    pub(super) fn new(calls: mpsc::UnboundedReceiver<C>) -> Self {
        Mailbox {
            calls,
            passed_over: Vec::new(),
        }
    }

    /// Waits for a call that is wanted, passing over others, which may be waited for later. `kind` is for people.
    pub(super) async fn next(&mut self, kind: &str, wanted: impl Fn(&C) -> bool) -> C {
        if let Some(index) = self.passed_over.iter().position(&wanted) {
            return self.passed_over.remove(index);
        }
        let wait = async {
            loop {
                let call = self.calls.recv().await.expect("the server lives as long as this");
                if wanted(&call) {
                    return call;
                }
                self.passed_over.push(call);
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(call) => call,
            Err(_) => panic!("no {kind} call came; waiting: {:#?}", self.passed_over),
        }
    }

    /// The calls that are wanted, have come, and were not waited for.
    pub(super) fn so_far(&mut self, wanted: impl Fn(&C) -> bool) -> Vec<C> {
        while let Ok(call) = self.calls.try_recv() {
            self.passed_over.push(call);
        }
        let (found, others) = self.passed_over.drain(..).partition(wanted);
        self.passed_over = others;
        found
    }
}
