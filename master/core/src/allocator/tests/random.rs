//! Random histories: every decision is one that trying everything would take, and nothing is left that could be offered.

use std::collections::BTreeMap;
use std::sync::Arc;

use proffer_proto::resources::{Resources, Scalar};
use proffer_proto::v1;
use proptest::prelude::*;

use super::super::decide::Stage;
use super::super::{AgentOrder, Allocator, Constraints, Decision, Hierarchical, Policy, Shape, Slot, Turn, Wishes};
use super::twin::{Sum, Twin, TwinAgent, TwinClaim};
use super::{agent, claim, quantities, quota, resources};
use crate::time::Timestamp;

const ROLES: [&str; 6] = ["a", "a/x", "b", "a/y", "*", "a/x"];
const TOTALS: [&str; 6] = [
    "cpus:4;mem:192;ports:[1-8]",
    "cpus:2;mem:64;gpus:1",
    "cpus(a):1;mem(a):64;cpus:2;mem:128;ports:[1-4]",
    "cpus(a/x):2;cpus:1;mem:256;disk:10",
    "cpus:8;mem:512;disk:100;x:{p,q,r}",
    "mem:96;disk:7;cpus(b):3",
];
const QUOTAS: [&str; 8] = [
    "|cpus:2",
    "cpus:2|cpus:2",
    "cpus:3;mem:96",
    "|cpus:1;mem:64;ports:3",
    "cpus:1;ports:2|mem:128;ports:5",
    "cpus:6;mem:300;x:1|x:2",
    "|cpus:0;mem:0",
    "mem:100|cpus:3.5;disk:8",
];

fn attribute(zone: &str) -> v1::Attribute {
    v1::Attribute {
        name: "zone".to_owned(),
        r#type: v1::value::Type::Text as i32,
        text: Some(v1::value::Text { value: zone.to_owned() }),
        ..v1::Attribute::default()
    }
}

/// What a claim may wish for.
fn wishes(index: u32, kind: u8, only_there: &Arc<Constraints>) -> Wishes {
    let shape = |text: &str, count| Shape {
        resources: quantities(text),
        count,
        agent: None,
    };
    let bare = Wishes {
        role: ROLES[index as usize].to_owned(),
        ..Wishes::default()
    };
    match kind % 8 {
        0 => Wishes { gpus: true, ..bare },
        1 => Wishes {
            minimum: Some(vec![quantities("cpus:2"), quantities("disk:5")]),
            ..bare
        },
        2 => Wishes {
            minimum: Some(Vec::new()),
            gpus: true,
            ..bare
        },
        3 => Wishes {
            constraints: Some(Arc::clone(only_there)),
            ..bare
        },
        4 => Wishes {
            demand: Some(vec![
                shape("cpus:3;mem:64", 1),
                shape("ports:[1-2]", 2),
                shape("mem:1", 0),
            ]),
            ..bare
        },
        5 => Wishes {
            demand: Some(vec![Shape {
                agent: Some(agent(1)),
                ..shape("mem:64", 1)
            }]),
            ..bare
        },
        _ => bare,
    }
}

struct Pair {
    ours: Hierarchical,
    twin: Twin,
    order: AgentOrder,
    held: Vec<Decision>,
    now: Timestamp,
    only_there: Arc<Constraints>,
}

impl Pair {
    fn new(policy: Policy, order: AgentOrder) -> Self {
        use v1::scheduler::attribute_constraint::{Predicate, Selector, predicate, selector};
        let text = predicate::Predicate::TextEquals(v1::scheduler::attribute_constraint::predicate::TextEquals {
            value: "z1".to_owned(),
        });
        let constraint = v1::scheduler::AttributeConstraint {
            selector: Selector {
                selector: Some(selector::Selector::AttributeName("zone".to_owned())),
            },
            predicate: Predicate { predicate: Some(text) },
        };
        let group = v1::scheduler::offer_constraints::role_constraints::Group {
            attribute_constraints: vec![constraint],
        };
        let of_role = v1::scheduler::offer_constraints::RoleConstraints { groups: vec![group] };
        Pair {
            ours: Hierarchical::new(policy, order),
            twin: Twin {
                policy,
                ..Twin::default()
            },
            order,
            held: Vec::new(),
            now: Timestamp(0),
            only_there: Arc::new(Constraints::compile(&of_role).expect("valid")),
        }
    }

    fn free(&mut self, on: u32, free: Resources) {
        self.ours.set_free(agent(on), free.clone());
        self.twin.agents.get_mut(&on).expect("known").free = free;
    }

    /// The claim holds this no more, and it is free again.
    fn release(&mut self, ended: &Decision) {
        let (on, by) = (ended.agent.index() as u32, ended.claim.index() as u32);
        self.ours.credit(ended.claim, &ended.resources);
        let held = &mut self.twin.claims.get_mut(&by).expect("known").held;
        let position = held.iter().position(|held| *held == ended.resources);
        held.swap_remove(position.expect("held"));
        let free = self.twin.agents[&on].free.clone() + &ended.resources;
        self.free(on, free);
    }

    fn put_agent(&mut self, on: u32, what: u8) {
        if self.twin.agents.contains_key(&on) {
            return;
        }
        let total = resources(TOTALS[usize::from(what) % TOTALS.len()]);
        let state = TwinAgent {
            total: total.clone(),
            free: Resources::new(),
            active: true,
            attributes: vec![attribute(&format!("z{}", what % 2))],
        };
        self.ours.put_agent(agent(on), &state.describe());
        self.twin.agents.insert(on, state);
        self.ours.set_agent_active(agent(on), true);
        self.free(on, total);
    }

    fn put_claim(&mut self, by: u32, what: u8, active: bool) {
        let wishes = wishes(by, what, &self.only_there);
        self.ours.put_claim(claim(by), wishes.clone());
        self.ours.set_claim_active(claim(by), active);
        let state = self.twin.claims.entry(by).or_insert(TwinClaim {
            wishes: wishes.clone(),
            active,
            held: Vec::new(),
        });
        (state.wishes, state.active) = (wishes, active);
    }

    /// An offer is declined, or a task ends.
    fn end(&mut self, what: u8, refuse: bool) {
        if self.held.is_empty() {
            return;
        }
        let ended = self.held.swap_remove(usize::from(what) % self.held.len());
        self.release(&ended);
        if refuse {
            let until = Timestamp(self.now.0 + u64::from(what % 16) + 1);
            let (on, by) = (ended.agent.index() as u32, ended.claim.index() as u32);
            self.ours
                .refuse(ended.claim, ended.agent, ended.resources.clone(), until);
            self.twin.refused.push((by, on, ended.resources, until));
        }
    }

    /// Of an offer a processor is used, and the rest is free again.
    fn launch(&mut self, what: u8) {
        if self.held.is_empty() {
            return;
        }
        let index = usize::from(what) % self.held.len();
        let task = self.held[index]
            .resources
            .bounded(|entry| Some(1000 * u64::from(entry.name() == "cpus")));
        if task.is_empty() {
            return;
        }
        let offer = self.held.swap_remove(index);
        self.release(&offer);
        let (on, by) = (offer.agent.index() as u32, offer.claim.index() as u32);
        self.ours.charge(offer.claim, &task);
        let claim = self.twin.claims.get_mut(&by).expect("known");
        claim.held.push(task.clone());
        let free = self.twin.agents[&on].free.checked_sub(&task).expect("a part");
        self.free(on, free);
        self.held.push(Decision {
            resources: task,
            ..offer
        });
    }

    fn end_all(&mut self, wanted: impl Fn(&Decision) -> bool) {
        let (ended, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|held| wanted(held));
        self.held = held;
        let ended: Vec<Decision> = ended;
        for ended in ended {
            self.release(&ended);
        }
    }

    fn remove_agent(&mut self, on: u32) {
        self.end_all(|held| held.agent == agent(on));
        self.ours.remove_agent(agent(on));
        self.twin.agents.remove(&on);
        self.twin.refused.retain(|refusal| refusal.1 != on);
    }

    fn remove_claim(&mut self, by: u32) {
        self.end_all(|held| held.claim == claim(by));
        self.ours.remove_claim(claim(by));
        self.twin.claims.remove(&by);
        self.twin.refused.retain(|refusal| refusal.0 != by);
        self.twin.last.remove(&by);
        self.twin.once.remove(&by);
    }

    fn set_turn(&mut self, by: u32, turn: Turn) {
        if self.twin.claims.contains_key(&by) {
            self.ours.set_turn(claim(by), turn);
            let rows = [(&mut self.twin.last, Turn::Last), (&mut self.twin.once, Turn::Once)];
            for (row, own) in rows {
                match turn == own {
                    true => row.insert(by),
                    false => row.remove(&by),
                };
            }
        }
    }

    /// Whether somebody waits for what is held is what giving it back would show.
    fn check_wanted(&mut self) {
        for on in self.twin.agents.keys().copied().collect::<Vec<u32>>() {
            let held: Vec<&Decision> = self
                .held
                .iter()
                .filter(|held| held.agent == agent(on))
                .take(2)
                .collect();
            let Some(first) = held.first().map(|held| held.claim.index() as u32) else {
                continue;
            };
            let offers: Vec<_> = held.iter().map(|held| (held.claim, &held.resources)).collect();
            let ours = self.ours.is_wanted(agent(on), &offers, &[claim(first)]);
            let before = self.twin.agents[&on].free.clone();
            for (by, resources) in &offers {
                let held = &mut self.twin.claims.get_mut(&(by.index() as u32)).expect("known").held;
                let position = held.iter().position(|held| held == *resources).expect("held");
                held.swap_remove(position);
                self.twin.agents.get_mut(&on).expect("known").free += *resources;
            }
            let twin = &self.twin;
            let asked = |by| by != first && !twin.last.contains(&by);
            let theirs = |stage| !twin.best(on, stage, asked).is_empty();
            assert_eq!(
                ours,
                theirs(Stage::Guaranteed) || theirs(Stage::Fair),
                "agent {on} without {first}"
            );
            self.twin.agents.get_mut(&on).expect("known").free = before;
            self.rebuild_held();
        }
        self.ours.check().expect("consistent");
    }

    /// A free processor is reserved for a role.
    fn reserve(&mut self, on: u32, role: &str) {
        let Some(state) = self.twin.agents.get_mut(&on) else {
            return;
        };
        let Some(rest) = state.free.checked_sub(&resources("cpus:1")) else {
            return;
        };
        let reserved = resources(&format!("cpus({role}):1"));
        let total = state.total.checked_sub(&resources("cpus:1")).expect("it is free");
        state.total = total + &reserved;
        self.ours.put_agent(agent(on), &state.describe());
        self.free(on, rest + &reserved);
    }

    fn set_active(&mut self, on: u32, active: bool) {
        if let Some(state) = self.twin.agents.get_mut(&on) {
            state.active = active;
            self.ours.set_agent_active(agent(on), active);
        }
    }

    fn apply(&mut self, verb: u8, who: u8, what: u8) {
        self.now = Timestamp(self.now.0 + 1);
        let (on, by) = (u32::from(who % 4), u32::from(who % 6));
        let role = ROLES[by as usize];
        match verb % 26 {
            0..=3 => self.put_agent(on, what),
            4..=7 => self.put_claim(by, what, true),
            8 => self.put_claim(by, what, false),
            9 | 10 => self.end(what, false),
            11..=13 => self.end(what, true),
            14 | 15 => self.launch(what),
            16 => {
                self.ours.revive(claim(by));
                self.twin.refused.retain(|refusal| refusal.0 != by);
            }
            17 => {
                let weight = [None, Some(500), Some(1000), Some(3000)][usize::from(what % 4)];
                self.ours.set_weight(role, weight);
                match weight {
                    Some(weight) => self.twin.weights.insert(role.to_owned(), weight),
                    None => self.twin.weights.remove(role),
                };
            }
            18 | 19 => {
                let quota = quota(QUOTAS[usize::from(what) % QUOTAS.len()]);
                self.ours.set_quota(role, Some(quota.clone()));
                self.twin.quotas.insert(role.to_owned(), quota);
            }
            20 if what.is_multiple_of(2) => {
                self.ours.set_quota(role, None);
                self.twin.quotas.remove(role);
            }
            21 => self.set_active(on, what.is_multiple_of(2)),
            22 => self.reserve(on, ["a", "b", "a/x"][usize::from(what) % 3]),
            23 if what.is_multiple_of(3) => self.remove_agent(on),
            23 => self.remove_claim(by),
            24 | 25 => self.set_turn(by, [Turn::Regular, Turn::Once, Turn::Last][usize::from(what) % 3]),
            _ => {}
        }
        self.ours.expire(self.now);
        self.twin.refused.retain(|refusal| refusal.3 > self.now);
    }

    /// The verdict on every claim and agent is what the definitions say.
    fn check_verdicts(&self) {
        for by in self.twin.claims.keys().copied() {
            for on in self.twin.agents.keys().copied() {
                let ours = self.ours.verdict(claim(by), agent(on));
                let theirs = self.twin.part(by, on, Stage::Fair);
                assert_eq!(ours.clone().ok(), theirs, "claim {by} on agent {on}: {ours:?}");
            }
        }
    }

    fn settle(&mut self) {
        self.check_verdicts();
        let before = self.measure();
        let used: BTreeMap<u32, u64> = self.twin.agents.iter().map(|(on, agent)| (*on, agent.used())).collect();
        let mut decisions = Vec::new();
        self.ours.allocate(&mut decisions);
        self.ours.check().expect("consistent");
        let mut merged: Vec<Decision> = Vec::new();
        let mut last = None;
        for (stage, grant) in std::mem::take(&mut self.ours.grants) {
            let (on, by) = (grant.agent.index() as u32, grant.claim.index() as u32);
            let place = match self.order {
                AgentOrder::Slot => (0, on),
                AgentOrder::Pack => (u64::MAX - used[&on], on),
                AgentOrder::Spread => (used[&on], on),
            };
            assert!(last <= Some(place), "agent {on} is out of order");
            last = Some(place);
            let twin = &self.twin;
            let is_last = |by: u32| twin.last.contains(&by);
            let alike = |other: u32| is_last(other) == is_last(by);
            if stage == Stage::Fair {
                let first = twin.best(on, Stage::Guaranteed, alike);
                assert!(first.is_empty(), "agent {on} is for the guarantees of {first:?}");
            }
            let others = |stage| twin.best(on, stage, |other| !is_last(other) && other != by);
            let others = [others(Stage::Guaranteed), others(Stage::Fair)].concat();
            assert!(
                !is_last(by) || others.is_empty(),
                "agent {on} went to {by}, not to {others:?}"
            );
            let used_up = twin.once.contains(&by) && !others.is_empty();
            assert_eq!(grant.used_up, used_up, "of claim {by} on agent {on}, beside {others:?}");
            let best = twin.best(on, stage, alike);
            assert!(
                best.contains(&by),
                "agent {on} went to claim {by}, not to one of {best:?}"
            );
            assert_eq!(Some(&grant.resources), self.twin.part(by, on, stage).as_ref());
            if used_up {
                self.twin.once.remove(&by);
                self.twin.last.insert(by);
            }
            let agent = self.twin.agents.get_mut(&on).expect("known");
            agent.free = agent.free.checked_sub(&grant.resources).expect("free");
            self.twin
                .claims
                .get_mut(&by)
                .expect("known")
                .held
                .push(grant.resources.clone());
            let same = merged
                .iter_mut()
                .find(|made| (made.agent, made.claim) == (grant.agent, grant.claim));
            match same {
                Some(made) => {
                    made.resources += grant.resources;
                    made.used_up |= grant.used_up;
                }
                None => merged.push(grant),
            }
        }
        assert_eq!(decisions, merged);
        self.held.extend(merged);
        self.rebuild_held();
        self.check_settled(&before);
    }

    /// What each claim holds, from the list of all that is held.
    fn rebuild_held(&mut self) {
        for (by, state) in &mut self.twin.claims {
            let own = self.held.iter().filter(|held| held.claim == claim(*by));
            state.held = own.map(|held| held.resources.clone()).collect();
        }
    }

    /// What of each quota is consumed, and how much too little is free for guarantees.
    fn measure(&self) -> (BTreeMap<String, Sum>, Sum) {
        let quotas = &self.twin.quotas;
        let consumed = quotas.keys().map(|role| (role.clone(), self.twin.consumed(role)));
        let kinds = quotas.values().flat_map(|quota| quota.guarantees.keys());
        let short = kinds.map(|kind| {
            let short = self.twin.required(kind).saturating_sub(self.twin.available(kind));
            (kind.clone(), short)
        });
        (consumed.collect(), short.collect())
    }

    fn check_settled(&self, before: &(BTreeMap<String, Sum>, Sum)) {
        for (on, state) in &self.twin.agents {
            assert_eq!(self.ours.free(agent(*on)), Some(&state.free));
            for stage in [Stage::Guaranteed, Stage::Fair] {
                let best = self.twin.best(*on, stage, |_| true);
                assert!(best.is_empty(), "agent {on} is wanted by {best:?}, but was not offered");
            }
        }
        for (by, state) in &self.twin.claims {
            let held = super::twin::sum(&state.held, |_| true);
            let ours: Sum = (self.ours.held(claim(*by)).iter())
                .map(|(name, amount)| (name.to_owned(), amount))
                .collect();
            assert_eq!(ours, held);
        }
        let after = self.measure();
        for (role, quota) in &self.twin.quotas {
            let ours = self.ours.consumed(role);
            for (kind, amount) in &after.0[role] {
                assert_eq!(ours.get(kind).thousandths(), *amount, "what {role} consumes");
            }
            for (kind, limit) in &quota.limits {
                let (consumed, already) = (after.0[role].get(kind), before.0[role].get(kind));
                let most = limit.thousandths().max(already.copied().unwrap_or(0));
                assert!(
                    consumed.copied().unwrap_or(0) <= most,
                    "{role} has more {kind} than {limit}"
                );
            }
        }
        for (kind, short) in &after.1 {
            let (short, before) = (
                Scalar::from_thousandths(*short),
                Scalar::from_thousandths(before.1[kind]),
            );
            assert!(
                short <= before,
                "{short} {kind} are lacking for guarantees, not {before}"
            );
        }
        self.check_verdicts();
    }
}

fn run(policy: Policy, order: AgentOrder, steps: &[(u8, u8, u8)]) {
    let mut pair = Pair::new(policy, order);
    for (verb, who, what) in steps {
        pair.apply(*verb, *who, *what);
        // Not after every event: what several of them change together has to be noticed too.
        if what % 4 != 3 {
            pair.settle();
            pair.check_wanted();
        }
    }
    pair.settle();
    pair.check_wanted();
}

fn steps() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    proptest::collection::vec(any::<(u8, u8, u8)>(), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn fair_shares_are_those_that_trying_everything_would_give(steps in steps()) {
        run(Policy::Drf, AgentOrder::Slot, &steps);
    }

    #[test]
    fn strict_priority_is_what_trying_everything_would_give(steps in steps()) {
        run(Policy::Priority, AgentOrder::Slot, &steps);
    }

    #[test]
    fn agents_are_packed(steps in steps()) {
        run(Policy::Drf, AgentOrder::Pack, &steps);
    }

    #[test]
    fn work_is_spread(steps in steps()) {
        run(Policy::Priority, AgentOrder::Spread, &steps);
    }
}
