//! Names of the metadata of calls and answers that are Proffer's own.

/// Callers and masters name the cluster that they are of.
pub const CLUSTER: &str = "proffer-cluster";
/// In the refusal of a master that does not lead: where the leader is, `host:port`.
pub const LEADER: &str = "proffer-leader";
