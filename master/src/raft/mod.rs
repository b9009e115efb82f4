//! Replication: one raft node, its storage, and what it tells the driver.
//!
//! [`Replica`] owns raft-rs's `RawNode` and does what every `Ready` asks for in the order that raft needs: entries and hard
//! state are durable before anything that depends on them is said. Master and raft live on one thread. A group of one
//! elects itself at once; the same code serves larger groups.

mod logger;
mod memory;
mod replica;
mod snapshots;

pub use replica::{Outcome, Replica, Start};
pub use snapshots::{Snapshots, bootstrap};

/// Replication failed in a way after which this master must stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log failed.
    #[error("the raft log failed")]
    Log(#[from] crate::log::Error),
    /// raft-rs refused what was asked of it.
    #[error("raft cannot {action}")]
    Raft {
        /// What was attempted.
        action: &'static str,
        /// Why not.
        source: ::raft::Error,
    },
    /// A snapshot could not be written or read.
    #[error("cannot {action} snapshot {}", path.display())]
    Snapshot {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A snapshot is there but wrong.
    #[error("snapshot {} is damaged: {problem}. {}", path.display(), crate::log::ADVICE)]
    Damaged {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
}
