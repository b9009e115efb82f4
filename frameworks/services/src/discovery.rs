//! What others ask in order to find instances: which services there are, and where those that take requests are reached.
//!
//! ```text
//!  catalogue --> follow (looks host names up) --> directory (pure, numbered) --> http: long poll, server-sent events
//!                                                                           \-> dns: A, AAAA, SRV
//! ```
//!
//! The directory leaves out what a finder has no use for, so it changes less often than the catalogue, and every change
//! has a number. Nothing is told before every instance that an earlier scheduler left was heard of, or before they had
//! their time: a scheduler that is started again would otherwise say for a moment that there is nothing.

pub mod directory;
mod echo;
mod follow;
pub(crate) mod http;

pub use directory::{Directory, Entry, Found, View};
pub(crate) use echo::echo;
pub(crate) use follow::{Known, follow};

#[cfg(test)]
mod tests;
