//! Steps that take so long that heartbeats of the group are late: each is named in the log.

use std::time::{Duration, Instant};

use proffer_master_core::Input;

/// A leader whose steps take longer than this is soon taken for silent.
const SLOW: Duration = Duration::from_millis(100);

/// One step, from before the core has the input until all is carried out.
#[derive(Debug)]
pub(super) struct Watched {
    kind: &'static str,
    began: Instant,
}

impl Watched {
    pub(super) fn begin(input: &Input) -> Self {
        Watched {
            kind: kind(input),
            began: Instant::now(),
        }
    }

    pub(super) fn end(self, effects: usize) {
        let spent = self.began.elapsed();
        if spent >= SLOW {
            let (input, spent_ms) = (self.kind, spent.as_millis() as u64);
            tracing::warn!(input, spent_ms, effects, "a step took long");
        }
    }
}

fn kind(input: &Input) -> &'static str {
    match input {
        Input::Committed { .. } => "committed",
        Input::ProposalDropped { .. } => "proposal dropped",
        Input::BecameLeader { .. } => "became leader",
        Input::LostLeadership => "lost leadership",
        Input::AgentRegister { .. } => "agent register",
        Input::AgentMessage { .. } => "agent message",
        Input::AgentDisconnected { .. } => "agent disconnected",
        Input::Subscribe { .. } => "SUBSCRIBE",
        Input::SchedulerCall { call, .. } => call.r#type().as_str_name(),
        Input::SchedulerDisconnected { .. } => "scheduler disconnected",
        Input::Continue { .. } => "continue",
        Input::Operator { call, .. } => call.r#type().as_str_name(),
        Input::State { .. } => "state",
        Input::Watch { .. } => "watch",
        Input::WatchEnded { .. } => "watch ended",
        Input::Readable { .. } => "readable",
        Input::Unreadable { .. } => "unreadable",
        Input::Tick => "tick",
    }
}
