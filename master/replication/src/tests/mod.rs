//! Members in one thread: scripted, and with histories drawn by chance.

pub(crate) mod cluster;
mod disk;
mod elections;
mod garbage;
mod histories;
mod membership;
mod persistence;
mod pitfalls;
#[cfg(feature = "planted-bugs")]
mod planted;
mod reads;
mod replication;
mod snapshots;
mod unchecked;
