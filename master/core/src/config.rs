//! What an operator may set of the core.

use std::time::Duration;

use proffer_proto::v1;

use crate::allocator::{AgentOrder, Policy};

/// The settings of a master's core. `Config::default()` has the documented defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// Answers GET_VERSION.
    pub version: String,
    /// Answers GET_MASTER and is told to schedulers when they subscribe.
    pub master_info: Option<v1::MasterInfo>,
    /// How often agents are pinged.
    pub ping_interval: Duration,
    /// An agent that leaves so many pings unanswered in a row is disconnected and marked unreachable.
    pub ping_misses: u32,
    /// An agent whose stream broke is marked unreachable when it has not come back for so long.
    pub agent_timeout: Duration,
    /// After an election, agents that have not come back for so long are marked unreachable.
    pub agent_reregister_timeout: Duration,
    /// After an election, no framework is removed for not coming back before so long.
    pub framework_resubscribe_timeout: Duration,
    /// How often schedulers get a HEARTBEAT.
    pub heartbeat_interval: Duration,
    /// What a framework declines is not offered to it again before so long, even when it refuses for a shorter time:
    /// else it could be offered and decline the same without end.
    pub decline_pause: Duration,
    /// Offers that are neither accepted nor declined for so long are rescinded; never if unset.
    pub offer_timeout: Option<Duration>,
    /// Offers that are held for so long are rescinded as soon as another framework waits for them; never early if unset.
    pub offer_patience: Option<Duration>,
    /// What is kept for somebody is lent to others when nobody who refused it may want it within so long.
    pub idle_after: Duration,
    /// What was lent is taken back by force so long after the borrower was asked for it.
    pub revocable_grace: Duration,
    /// No gang waits longer for its last members.
    pub gang_wait_max: Duration,
    /// In which order roles and frameworks are served.
    pub allocator: Policy,
    /// In which order agents are given away.
    pub agent_order: AgentOrder,
    /// How many removed frameworks are remembered.
    pub completed_frameworks_max: usize,
    /// How many agents marked gone are remembered.
    pub gone_agents_max: usize,
    /// How many ended tasks are remembered of each framework.
    pub completed_tasks_max: usize,
    /// Of how many of its tasks a framework is told in one step, where it asks after many.
    pub told_at_once: usize,
    /// How much state frameworks may keep, in bytes of namespaces, keys and values of all entries, and 64 for each entry.
    pub state_bytes_max: u64,
    /// Nothing that a later level of the registry introduced is proposed.
    pub level: u32,
}

/// The newest level of the registry that this version understands. Level 2 introduced members, levels, the
/// frameworks' state, and the operator's orders for agents: standing and maintenance; level 3 the quotas and weights of roles,
/// and layouts: reservations and persistent volumes.
pub const LEVEL: u32 = 3;

impl Default for Config {
    fn default() -> Self {
        Config {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            master_info: None,
            ping_interval: Duration::from_secs(15),
            ping_misses: 5,
            agent_timeout: Duration::from_secs(75),
            agent_reregister_timeout: Duration::from_secs(600),
            framework_resubscribe_timeout: Duration::from_secs(60),
            heartbeat_interval: Duration::from_secs(15),
            decline_pause: Duration::from_secs(1),
            offer_timeout: Some(Duration::from_secs(300)),
            offer_patience: Some(Duration::from_secs(1)),
            idle_after: Duration::from_secs(60),
            revocable_grace: Duration::from_secs(10),
            gang_wait_max: Duration::from_secs(3600),
            allocator: Policy::default(),
            agent_order: AgentOrder::default(),
            completed_frameworks_max: 1000,
            gone_agents_max: 10_000,
            completed_tasks_max: 1000,
            told_at_once: 1000,
            state_bytes_max: 128 << 20,
            level: LEVEL,
        }
    }
}
