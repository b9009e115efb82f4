//! The allocator against a brute-force twin, what each of its rules means, and its parts by themselves.

mod explain;
mod parts;
mod quota;
mod random;
mod twin;
mod wishes;

use proffer_proto::resources::{Resources, Scalar};

use super::{AgentSlot, Allocator, ClaimSlot, Decision, Description, Hierarchical, Quantities, Quota, Slot, Wishes};

fn agent(index: u32) -> AgentSlot {
    AgentSlot::from_index(index)
}

fn claim(index: u32) -> ClaimSlot {
    ClaimSlot::from_index(index)
}

fn resources(text: &str) -> Resources {
    Resources::parse(text).expect("resources")
}

fn description(total: &Resources) -> Description<'_> {
    Description {
        total,
        hostname: "host",
        attributes: &[],
        domain: None,
    }
}

/// An active agent of which all is free.
fn put_agent(allocator: &mut Hierarchical, index: u32, total: &str) {
    let total = resources(total);
    allocator.put_agent(agent(index), &description(&total));
    allocator.set_free(agent(index), total);
    allocator.set_agent_active(agent(index), true);
}

fn put_wishes(allocator: &mut Hierarchical, index: u32, wishes: Wishes) {
    allocator.put_claim(claim(index), wishes);
    allocator.set_claim_active(claim(index), true);
}

fn put_claim(allocator: &mut Hierarchical, index: u32, role: &str) {
    put_wishes(allocator, index, wishes(role));
}

fn wishes(role: &str) -> Wishes {
    Wishes {
        role: role.to_owned(),
        ..Wishes::default()
    }
}

/// Written as `cpus:1;ports:2 | cpus:4`: guarantees, then limits.
fn quota(text: &str) -> Quota {
    let amounts = |text: &str| {
        let pairs = text.split(';').filter_map(|pair| pair.trim().split_once(':'));
        let amount = |amount: &str| Scalar::from_f64(amount.parse().expect("a number")).expect("an amount");
        pairs.map(|(name, value)| (name.to_owned(), amount(value))).collect()
    };
    let (guarantees, limits) = text.split_once('|').unwrap_or((text, ""));
    Quota {
        guarantees: amounts(guarantees),
        limits: amounts(limits),
    }
}

/// What is decided, as `claim@agent resources`.
fn decide(allocator: &mut Hierarchical) -> Vec<String> {
    let mut decisions = Vec::new();
    allocator.allocate(&mut decisions);
    allocator.check().expect("consistent");
    decisions.iter().map(written).collect()
}

fn written(decision: &Decision) -> String {
    let (claim, agent) = (decision.claim.index(), decision.agent.index());
    format!("{claim}@{agent} {}", decision.resources)
}

/// An offer is declined, or a task of that size ends.
fn give_back(allocator: &mut Hierarchical, by: u32, on: u32, what: &str) {
    let what = resources(what);
    allocator.credit(claim(by), &what);
    let free = allocator.free(agent(on)).expect("it is known").clone() + &what;
    allocator.set_free(agent(on), free);
}

fn quantities(text: &str) -> Quantities {
    Quantities::of(&resources(text))
}
