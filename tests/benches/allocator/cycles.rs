//! The allocator in the situations that are measured.

use std::hint::black_box;
use std::time::{Duration, Instant};

use proffer_master_core::Timestamp;
use proffer_master_core::allocator::{
    AgentSlot, Allocator, ClaimSlot, Decision, Description, Hierarchical, Quota, Slot, Wishes,
};
use proffer_proto::resources::{Ranges, Resources, Scalar};

const TOTAL: &str = "cpus:24;mem:4096;disk:4096;ports:[31000-32000]";
const USED: &str = "cpus:12;mem:2048;disk:2048";
/// So many fragments of ports are in use on each agent.
const FRAGMENTS: u64 = 16;

/// A cluster as the allocator sees it.
pub(crate) struct Cluster {
    pub(crate) allocator: Hierarchical,
    pub(crate) agents: u32,
    pub(crate) claims: u32,
    decisions: Vec<Decision>,
}

fn agent(index: u32) -> AgentSlot {
    AgentSlot::from_index(index)
}

fn claim(index: u32) -> ClaimSlot {
    ClaimSlot::from_index(index)
}

/// What is in use of an agent.
fn used() -> Resources {
    let intervals = (0..FRAGMENTS).map(|fragment| (31_000 + fragment * 60, 31_029 + fragment * 60));
    let ports = Ranges::from_intervals(intervals).expect("ascending");
    Resources::parse(USED).expect("resources") + &Resources::of_ranges("ports", ports)
}

impl Cluster {
    /// Agents that are half used, of which all else is free; claims are active.
    pub(crate) fn new(agents: u32, claims: u32, role: impl Fn(u32) -> String) -> Self {
        let mut cluster = Cluster {
            allocator: Hierarchical::default(),
            agents,
            claims,
            decisions: Vec::new(),
        };
        for index in 0..claims {
            cluster.put_claim(index, role(index));
        }
        cluster.put_agents(true);
        cluster
    }

    pub(crate) fn put_claim(&mut self, index: u32, role: String) {
        let wishes = Wishes {
            role,
            ..Wishes::default()
        };
        self.allocator.put_claim(claim(index), wishes);
        self.allocator.set_claim_active(claim(index), true);
    }

    pub(crate) fn put_agents(&mut self, half_used: bool) {
        let total = Resources::parse(TOTAL).expect("resources");
        let used = if half_used { used() } else { Resources::new() };
        let free = total.checked_sub(&used).expect("a part");
        for index in 0..self.agents {
            let description = Description {
                total: &total,
                hostname: "host",
                attributes: &[],
                domain: None,
            };
            self.allocator.put_agent(agent(index), &description);
            if half_used {
                self.allocator.charge(claim(index * 7919 % self.claims), &used);
            }
            self.allocator.set_free(agent(index), free.clone());
            self.allocator.set_agent_active(agent(index), true);
        }
    }

    /// Decides about all agents anew; how long that takes, and how many decisions are made.
    pub(crate) fn cycle(&mut self) -> (Duration, usize) {
        self.allocator.touch();
        self.decide()
    }

    /// Decides about what changed.
    pub(crate) fn decide(&mut self) -> (Duration, usize) {
        self.decisions.clear();
        let began = Instant::now();
        self.allocator.allocate(&mut self.decisions);
        let spent = began.elapsed();
        black_box(&self.decisions);
        (spent, self.decisions.len())
    }

    /// All that was decided is given back.
    pub(crate) fn give_back(&mut self) {
        for decision in self.decisions.drain(..) {
            self.allocator.credit(decision.claim, &decision.resources);
            self.allocator.set_free(decision.agent, decision.resources);
        }
    }

    /// So many of each thousand pairs of a claim and an agent are refused for good.
    pub(crate) fn refuse(&mut self, of_thousand: u32) {
        for on in 0..self.agents {
            let free = self.allocator.free(agent(on)).expect("it is known").clone();
            for by in 0..self.claims {
                // Spread evenly, and differently on each agent.
                if (by * 7 + on * 13) % 1000 < of_thousand {
                    self.allocator
                        .refuse(claim(by), agent(on), free.clone(), Timestamp(u64::MAX));
                }
            }
        }
    }

    /// A guarantee and an equal limit for each role.
    pub(crate) fn put_quota(&mut self, role: impl Fn(u32) -> String) {
        let amounts = [("cpus", 12), ("mem", 2048)].map(|(name, value)| (name.to_owned(), Scalar::from_whole(value)));
        let limits = [("ports".to_owned(), Scalar::from_whole(1001))];
        for index in 0..self.claims {
            let quota = Quota {
                guarantees: amounts.iter().cloned().collect(),
                limits: amounts.iter().cloned().chain(limits.iter().cloned()).collect(),
            };
            self.allocator.set_quota(&role(index), Some(quota));
        }
    }

    /// A task ends on an agent: how long until it is decided to whom what is free now is offered. Then it is as before.
    pub(crate) fn event(&mut self, number: u32) -> Duration {
        let on = agent(number.wrapping_mul(7919) % self.agents);
        let by = claim(on.index() as u32 * 7919 % self.claims);
        let task = Resources::parse("cpus:1;mem:128;ports:[31000-31001]").expect("resources");
        let free = self.allocator.free(on).expect("it is known").clone();
        let grown = free.clone() + &task;
        self.decisions.clear();
        let began = Instant::now();
        self.allocator.credit(by, &task);
        self.allocator.set_free(on, grown);
        self.allocator.allocate(&mut self.decisions);
        let spent = began.elapsed();
        assert_eq!(self.decisions.len(), 1, "one agent is offered");
        for decision in self.decisions.drain(..) {
            self.allocator.credit(decision.claim, &decision.resources);
        }
        self.allocator.charge(by, &task);
        self.allocator.set_free(on, free);
        spent
    }
}
