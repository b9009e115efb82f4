//! How a group of masters begins, and how a master joins one.
//!
//! [`Exchange`] decides, without I/O: which masters are there, whether they mean the same group, who founds it. [`form`] and
//! [`join`] carry that out before the driver runs. What they decide is durable ([`crate::home`]) before another master
//! hears of it, and every step may be repeated, so that a master may stop anywhere and go on after its restart:
//!
//! ```text
//! every master    makes its id, syncs it, then introduces itself to the others again and again
//! the first       hears that all are there, and mean the same: makes the cluster, syncs it, tells the others
//! another         is told, syncs it, answers
//! whoever formed  tells it again to every initial member that still introduces itself as one without a cluster
//! ```

mod exchange;
mod form;
mod founding;
mod join;
mod obstacle;
#[cfg(test)]
mod tests;

pub use exchange::{Effect, Exchange, Input};
pub use form::{Asked, Forming, form, tell};
pub use founding::{check, registry};
pub(crate) use join::introduction;
pub use join::join;
pub use obstacle::Obstacle;

/// The version of the protocol among masters.
pub const PROTOCOL: u32 = 1;
