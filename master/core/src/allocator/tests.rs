//! The allocator against a brute-force twin, and its parts by themselves.

use std::collections::BTreeMap;

use proffer_proto::resources::Resources;
use proptest::prelude::*;

use super::filters::Filters;
use super::roles::Roles;
use super::{Allocator, Decision, Drf, Quantities, Wishes};
use crate::slots::{AgentSlot, ClaimSlot, Slot};
use crate::time::Timestamp;

fn agent(index: u32) -> AgentSlot {
    AgentSlot::from_index(index)
}

fn claim(index: u32) -> ClaimSlot {
    ClaimSlot::from_index(index)
}

fn resources(text: &str) -> Resources {
    Resources::parse(text).expect("resources")
}

/// Decides by trying everything: for each agent in turn, the active claim with the lowest shares on its path from the
/// root that has not refused what is free.
#[derive(Default)]
struct Twin {
    free: BTreeMap<u32, Resources>,
    total: Resources,
    claims: BTreeMap<u32, (String, bool, Resources)>,
    refused: Vec<(u32, u32, Resources, Timestamp)>,
}

impl Twin {
    /// What is held by all claims in or below each part of the role's path, and by the claim itself, as shares.
    fn key(&self, index: u32) -> Vec<u64> {
        let (role, _, own) = &self.claims[&index];
        let total = quantities(&self.total);
        let mut prefixes: Vec<String> = Vec::new();
        for part in role.split('/') {
            let outer = prefixes.last().map(|outer| format!("{outer}/")).unwrap_or_default();
            prefixes.push(format!("{outer}{part}"));
        }
        let below = |prefix: &String| {
            let inside = |role: &String| role == prefix || role.starts_with(&format!("{prefix}/"));
            let held: Resources = self
                .claims
                .values()
                .filter(|claim| inside(&claim.0))
                .map(|claim| &claim.2)
                .sum();
            quantities(&held).dominant_share(&total)
        };
        let mut key: Vec<u64> = prefixes.iter().map(below).collect();
        let siblings: Resources = self
            .claims
            .values()
            .filter(|claim| claim.0 == *role)
            .map(|claim| &claim.2)
            .sum();
        key.push(quantities(&siblings).dominant_share(&total));
        key.push(quantities(own).dominant_share(&total));
        key
    }

    fn refuses(&self, index: u32, on: u32, free: &Resources) -> bool {
        self.refused
            .iter()
            .any(|(by, of, what, _)| *by == index && *of == on && what.contains(free))
    }

    /// The claims that could be chosen for an agent: those of which no other is lower where their paths part.
    fn best(&self, on: u32) -> Vec<u32> {
        let free = &self.free[&on];
        let enough = free.cpus().thousandths() >= 10 || free.mem().thousandths() >= 32_000;
        let eligible: Vec<u32> = self
            .claims
            .iter()
            .filter(|(index, claim)| enough && claim.1 && !self.refuses(**index, on, free))
            .map(|(index, _)| *index)
            .collect();
        let keys: BTreeMap<u32, Vec<u64>> = eligible.iter().map(|index| (*index, self.key(*index))).collect();
        // All roles in the test have one part or share their first: compare level by level while the paths agree.
        let beaten = |index: u32| {
            eligible.iter().any(|other| {
                let (own, theirs) = (&self.claims[&index].0, &self.claims[other].0);
                let level = own
                    .split('/')
                    .zip(theirs.split('/'))
                    .take_while(|(a, b)| a == b)
                    .count();
                let position = if own == theirs { keys[&index].len() - 1 } else { level };
                let at = |key: &Vec<u64>, role: &str| {
                    // A role that ends where the other goes on competes by its own frameworks' node.
                    let depth = role.split('/').count();
                    key[position.min(if position >= depth && own != theirs {
                        depth
                    } else {
                        position
                    })]
                };
                at(&keys[other], theirs) < at(&keys[&index], own)
            })
        };
        eligible.iter().copied().filter(|index| !beaten(*index)).collect()
    }
}

fn quantities(resources: &Resources) -> Quantities {
    let mut quantities = Quantities::default();
    quantities.add(resources);
    quantities
}

const ROLES: &[&str] = &["a", "a/x", "b", "a/y", "*"];

/// Applies random events to both, and checks every decision of the allocator against the twin's choices at that moment.
fn run(steps: &[(u8, u8, u8)]) {
    let (mut drf, mut twin) = (Drf::default(), Twin::default());
    let mut now = Timestamp(0);
    let mut held: Vec<Decision> = Vec::new();
    for (verb, who, what) in steps {
        now = Timestamp(now.0 + 1);
        let (of, index) = (u32::from(who % 4), u32::from(what % 5));
        match verb % 8 {
            0 if !twin.free.contains_key(&of) => {
                let total = resources(&format!(
                    "cpus:{};mem:{}",
                    what % 4 + 1,
                    64 * (u32::from(*what) % 3 + 1)
                ));
                drf.put_agent(agent(of), &total);
                drf.set_free(agent(of), total.clone());
                drf.set_agent_active(agent(of), true);
                twin.total += &total;
                twin.free.insert(of, total);
            }
            1 | 2 => {
                let role = ROLES[index as usize].to_owned();
                let wishes = Wishes {
                    role: role.clone(),
                    ..Wishes::default()
                };
                drf.put_claim(claim(index), wishes);
                drf.set_claim_active(claim(index), *verb % 8 == 1);
                twin.claims.entry(index).or_insert((role, false, Resources::new())).1 = *verb % 8 == 1;
            }
            3..=5 if !held.is_empty() => {
                let ended = held.swap_remove(usize::from(*what) % held.len());
                drf.credit(ended.claim, &ended.resources);
                let (on, by) = (ended.agent.index() as u32, ended.claim.index() as u32);
                let free = twin.free[&on].clone() + &ended.resources;
                drf.set_free(ended.agent, free.clone());
                twin.free.insert(on, free);
                let claim = twin.claims.get_mut(&by).expect("it holds something");
                claim.2 = claim.2.checked_sub(&ended.resources).expect("it holds that");
                if *verb % 8 != 3 {
                    let until = Timestamp(now.0 + u64::from(*what % 16) + 1);
                    drf.refuse(ended.claim, ended.agent, ended.resources.clone(), until);
                    twin.refused.push((by, on, ended.resources, until));
                }
            }
            6 if twin.claims.contains_key(&index) => {
                drf.revive(claim(index));
                twin.refused.retain(|refusal| refusal.0 != index);
            }
            _ => {}
        }
        drf.expire(now);
        twin.refused.retain(|refusal| refusal.3 > now);
        settle(&mut drf, &mut twin, &mut held);
    }
}

fn settle(drf: &mut Drf, twin: &mut Twin, held: &mut Vec<Decision>) {
    let mut decisions = Vec::new();
    drf.allocate(&mut decisions);
    drf.check().expect("consistent");
    for decision in decisions {
        let (on, by) = (decision.agent.index() as u32, decision.claim.index() as u32);
        let best = twin.best(on);
        assert!(
            best.contains(&by),
            "agent {on} went to claim {by}, not to one of {best:?}"
        );
        assert_eq!(decision.resources, twin.free[&on], "all that is free goes");
        twin.free.insert(on, Resources::new());
        twin.claims.get_mut(&by).expect("it is active").2 += &decision.resources;
        held.push(decision);
    }
    for on in twin.free.keys() {
        assert_eq!(drf.free(agent(*on)), Some(&twin.free[on]));
        assert!(
            twin.best(*on).is_empty(),
            "agent {on} is wanted by {:?}, but was not offered",
            twin.best(*on)
        );
    }
    for (index, claim_of) in &twin.claims {
        assert_eq!(drf.held(claim(*index)), quantities(&claim_of.2));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_decision_is_one_that_trying_everything_would_take(
        steps in proptest::collection::vec(any::<(u8, u8, u8)>(), 1..120),
    ) {
        run(&steps);
    }
}

#[test]
fn an_idle_allocation_looks_at_nothing() {
    let mut drf = Drf::default();
    for index in 0..100 {
        drf.put_agent(agent(index), &resources("cpus:1;mem:64"));
        drf.set_free(agent(index), resources("cpus:1;mem:64"));
        drf.set_agent_active(agent(index), true);
        drf.put_claim(
            claim(index),
            Wishes {
                role: "*".to_owned(),
                ..Wishes::default()
            },
        );
    }
    let mut decisions = Vec::new();
    drf.allocate(&mut decisions);
    assert!(decisions.is_empty());
    assert_eq!(drf.looked_at(), 0);
    drf.set_claim_active(claim(7), true);
    assert_eq!(drf.looked_at(), 100);
    drf.allocate(&mut decisions);
    assert_eq!(decisions.len(), 100);
    for decision in decisions.drain(..) {
        drf.credit(decision.claim, &decision.resources);
        drf.set_free(decision.agent, decision.resources.clone());
        drf.refuse(decision.claim, decision.agent, decision.resources, Timestamp(1000));
    }
    assert_eq!(drf.looked_at(), 100);
    drf.allocate(&mut decisions);
    drf.expire(Timestamp(999));
    assert_eq!((decisions.len(), drf.looked_at()), (0, 0));
    drf.set_free(agent(3), resources("cpus:0.5;mem:64"));
    assert_eq!(drf.looked_at(), 0, "what shrank is no news");
    drf.expire(Timestamp(1000));
    assert_eq!(drf.looked_at(), 100);
}

#[test]
fn a_claim_may_ask_for_a_minimum() {
    let mut drf = Drf::default();
    let minimum = |text: &str| Some(vec![quantities(&resources(text))]);
    for (index, minimum) in [minimum("cpus:2;mem:64"), minimum("gpus:1"), Some(Vec::new())]
        .into_iter()
        .enumerate()
    {
        let wishes = Wishes {
            role: format!("r{index}"),
            minimum,
            ..Wishes::default()
        };
        drf.put_claim(claim(index as u32), wishes);
        drf.set_claim_active(claim(index as u32), true);
    }
    let mut decide = |index: u32, text: &str| {
        drf.put_agent(agent(index), &resources(text));
        drf.set_free(agent(index), resources(text));
        drf.set_agent_active(agent(index), true);
        let mut decisions = Vec::new();
        drf.allocate(&mut decisions);
        decisions.first().map(|decision| decision.claim)
    };
    assert_eq!(decide(0, "cpus:2;mem:64"), Some(claim(0)));
    assert_eq!(decide(1, "cpus:1;mem:64"), Some(claim(2)));
    assert_eq!(decide(2, "disk:1"), Some(claim(2)));
}

#[test]
fn a_share_is_that_of_the_dominant_resource() {
    let total = quantities(&resources("cpus:10;mem:1000"));
    let share = |text: &str| quantities(&resources(text)).dominant_share(&total);
    assert_eq!(share("cpus:5;mem:100"), 1 << 31);
    assert_eq!(share("cpus:1;mem:500"), 1 << 31);
    assert_eq!(share("disk:5"), 0);
    assert_eq!(share("cpus:20"), 2 << 32);
}

#[test]
fn what_is_added_to_quantities_can_be_taken_away() {
    let mut sum = quantities(&resources("cpus:1.5;mem:32;ports:[1-2]"));
    sum.add(&resources("cpus(eng):0.5"));
    assert_eq!(sum.iter().collect::<Vec<_>>(), [("cpus", 2000), ("mem", 32_000)]);
    assert!(sum.within(&resources("cpus:2;mem:32")));
    assert!(!sum.within(&resources("cpus:1.999;mem:32")));
    sum.subtract(&resources("cpus:2"));
    sum.subtract(&resources("mem:64"));
    assert_eq!(sum, Quantities::default());
}

#[test]
fn empty_roles_are_forgotten() {
    let mut roles = Roles::default();
    roles.insert(claim(1), "a/b");
    roles.insert(claim(2), "a");
    roles.charge(claim(1), &resources("cpus:1"));
    assert!(roles.set_active(claim(1), true));
    assert!(!roles.set_active(claim(1), true));
    assert_eq!(roles.first(|_| true), Some(claim(1)));
    assert_eq!(roles.first(|_| false), None);
    roles.credit(claim(1), &resources("cpus:1"));
    roles.remove(claim(1));
    assert_eq!(roles.first(|_| true), None);
    roles.check().expect("consistent");
    roles.remove(claim(2));
    roles.check().expect("consistent");
    assert_eq!(roles.len(), 1, "only the root is left");
}

#[test]
fn refusals_end_in_order_and_are_bounded() {
    let mut filters = Filters::default();
    let refused = |filters: &Filters, text: &str| filters.refuses(claim(1), agent(1), &resources(text));
    filters.refuse(claim(1), agent(1), resources("cpus:2;mem:64"), Timestamp(10));
    filters.refuse(claim(1), agent(1), resources("cpus:1"), Timestamp(20));
    // Covered by the one before it, and over before it.
    filters.refuse(claim(1), agent(1), resources("cpus:1"), Timestamp(15));
    assert!(refused(&filters, "cpus:2"));
    assert!(!refused(&filters, "cpus:3"));
    assert!(!filters.refuses(claim(2), agent(1), &resources("cpus:1")));
    assert!(!filters.refuses(claim(1), agent(2), &resources("cpus:1")));
    assert_eq!(filters.next_end(), Some(Timestamp(10)));
    assert_eq!(filters.expire(Timestamp(9)), []);
    assert_eq!(filters.expire(Timestamp(10)), [agent(1)]);
    assert!(!refused(&filters, "cpus:2"));
    assert!(refused(&filters, "cpus:1"));
    for count in 1..=100u64 {
        filters.refuse(
            claim(1),
            agent(1),
            resources(&format!("x{count}:1")),
            Timestamp(100 + count),
        );
    }
    assert_eq!(filters.len(), 8);
    assert!(!refused(&filters, "x1:1"), "the one that ends first made room");
    assert!(refused(&filters, "x100:1"));
    assert_eq!(filters.forget_claim(claim(1)), [agent(1)]);
    assert_eq!((filters.next_end(), filters.len()), (None, 0));
    for count in 1..=100u64 {
        let larger = format!("cpus:{count}");
        filters.refuse(claim(1), agent(1), resources(&larger), Timestamp(1000 + count));
    }
    assert_eq!(filters.len(), 1, "what covers the others replaces them");
}
