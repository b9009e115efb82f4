//! Members in one thread: scripted, and with histories drawn by chance.

mod cluster;
mod elections;
mod replication;
