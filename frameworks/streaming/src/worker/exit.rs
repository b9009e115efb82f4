//! The exit codes of a worker, by which the scheduler tells what happened.
//!
//! The communication threads of timely answer the loss of a peer with a panic, and there is no way back for the process: a
//! peer that is gone leaves progress tracking without an answer for ever. The hook turns that into an exit at once.

use std::process::ExitCode;

/// How a worker ends, other than by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All sources were read to their end and all windows written.
    Drained = 0,
    /// The arguments are wrong; the message says what would be accepted.
    Usage = 2,
    /// Not all peers were there in time.
    PeersMissing = 69,
    /// A defect in the worker.
    Defect = 70,
    /// The output files could not be written.
    Output = 74,
    /// A peer ended or became unreachable while the job ran.
    PeerLost = 75,
    /// The peers belong to another job, to a newer attempt, or know another token.
    Refused = 76,
}

impl Exit {
    /// The code that the process ends with.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What a code of a worker means. None for codes that a worker does not use.
    pub fn from_code(code: i32) -> Option<Exit> {
        use Exit::{Defect, Drained, Output, PeerLost, PeersMissing, Refused, Usage};
        [Drained, Usage, PeersMissing, Defect, Output, PeerLost, Refused]
            .into_iter()
            .find(|exit| i32::from(exit.code()) == code)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Ends the process at the first panic of any thread.
pub(super) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let message = payload.downcast_ref::<&str>().copied();
        let message = message
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("panic");
        // timely keeps this prefix stable for embedders.
        let exit = if message.starts_with("timely communication error:") {
            tracing::warn!(cause = message, "lost a peer: ends, so that the job can start anew");
            Exit::PeerLost
        } else {
            let at = info.location().map(ToString::to_string);
            tracing::error!(cause = message, at, "defect: ends");
            Exit::Defect
        };
        std::process::exit(i32::from(exit.code()));
    }));
}

/// Ends the process at once.
pub(super) fn end(exit: Exit, cause: &dyn std::error::Error) -> ! {
    tracing::error!(cause = %cause, exit = ?exit, "worker ends");
    std::process::exit(i32::from(exit.code()));
}
