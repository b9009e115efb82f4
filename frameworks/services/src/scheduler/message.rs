//! What is asked of the scheduler from elsewhere in the process, and what it answers.

use proffer_proto::Rejection;
use tokio::sync::oneshot;

use crate::store::StoreError;
use crate::versions::{Change, Versions};

/// What is asked of the scheduler from elsewhere in the process.
#[derive(Debug)]
pub(crate) enum Message {
    /// A service is wanted, or is to change.
    Change(Request, oneshot::Sender<Result<Accepted, ChangeError>>),
    /// What is remembered of a service.
    Versions(String, oneshot::Sender<Option<Versions>>),
    /// A service is wanted no more. Answers whether it was there.
    Remove(String, oneshot::Sender<Result<bool, StoreError>>),
    /// An instance has been left by those who found it.
    Drained {
        /// Its task.
        task_id: String,
        /// How long that may take to end, in milliseconds.
        grace_ms: u64,
    },
    /// It was not kept that another side of a service serves: this one still does.
    Unswitched {
        /// The id of the service.
        service: String,
        /// The first index of the side that serves.
        base: u32,
    },
    /// Time has come to look at the plan.
    Wake,
    /// The scheduler is to end, and its tasks with it or not.
    Stop { teardown: bool },
}

/// A change of a service that somebody wants.
#[derive(Debug)]
pub(crate) struct Request {
    /// The id of the service.
    pub(crate) id: String,
    /// What is to change.
    pub(crate) change: Change,
    /// Only where this is its version; 0 is that of a service that is not there.
    pub(crate) expected: Option<u64>,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such service.
    #[error("no service `{0}`")]
    Unknown(String),
    /// Somebody else changed it.
    #[error("`{id}` has the version {found}, not {expected}: somebody else changed it")]
    Conflict {
        /// The id of the service.
        id: String,
        /// The version that was expected.
        expected: u64,
        /// The version that it has; 0 where it is not there.
        found: u64,
    },
    /// It asks for something invalid.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It could not be kept.
    #[error("keep the change")]
    Store(#[from] StoreError),
}

/// What became of a change of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Accepted {
    /// The version of the specification.
    pub version: u64,
    /// The version that instances will have: that in which what an instance is changed last.
    pub instance_version: u64,
    /// Whether there was no such service before.
    pub created: bool,
}
