//! The parts of the allocator by themselves.

use super::super::amounts::{Amounts, Kinds};
use super::super::bits::Bits;
use super::super::filters::Filters;
use super::super::roles::Roles;
use super::super::{Allocator, Hierarchical, Policy, Slot};
use super::{agent, claim, put_agent, resources, wishes};
use crate::time::Timestamp;

#[test]
fn an_idle_allocation_looks_at_nothing() {
    let mut allocator = Hierarchical::default();
    for index in 0..100 {
        put_agent(&mut allocator, index, "cpus:1;mem:64");
        allocator.put_claim(claim(index), wishes("*"));
    }
    let mut decisions = Vec::new();
    allocator.allocate(&mut decisions);
    assert!(decisions.is_empty());
    assert_eq!(allocator.looked_at(), 0);
    allocator.set_claim_active(claim(7), true);
    assert_eq!(allocator.looked_at(), 100);
    allocator.allocate(&mut decisions);
    assert_eq!(decisions.len(), 100);
    for decision in decisions.drain(..) {
        allocator.credit(decision.claim, &decision.resources);
        allocator.set_free(decision.agent, decision.resources.clone());
        allocator.refuse(decision.claim, decision.agent, decision.resources, Timestamp(1000));
    }
    assert_eq!(allocator.looked_at(), 100);
    allocator.allocate(&mut decisions);
    allocator.expire(Timestamp(999));
    assert_eq!((decisions.len(), allocator.looked_at()), (0, 0));
    allocator.set_free(agent(3), resources("cpus:0.5;mem:64"));
    assert_eq!(allocator.looked_at(), 0, "what shrank is no news");
    allocator.expire(Timestamp(1000));
    assert_eq!(allocator.looked_at(), 100);
}

#[test]
fn a_share_is_that_of_the_dominant_resource() {
    let mut kinds = Kinds::default();
    let mut amounts = |text: &str| kinds.sum(&resources(text), |_| true);
    let total = amounts("cpus:10;mem:1000");
    let mut share = |text: &str| amounts(text).dominant_share(&total);
    assert_eq!(share("cpus:5;mem:100"), 1 << 31);
    assert_eq!(share("cpus:1;mem:500"), 1 << 31);
    assert_eq!(share("disk:5;x:7;y:8"), 0);
    assert_eq!(share("cpus:20"), 2 << 32);
    assert_eq!(share("mem:2000000000"), 2_000_000_000 * (1 << 32) / 1000);
}

#[test]
fn what_is_added_to_amounts_can_be_taken_away() {
    let mut kinds = Kinds::default();
    let mut sum = kinds.sum(&resources("cpus:1.5;mem:32;ports:[1-2];a:1;b:2;c:{x,y,z}"), |_| true);
    sum.add(&kinds.sum(&resources("cpus(eng):0.5;c:{u}"), |_| true));
    let named: Vec<_> = sum
        .iter()
        .map(|(kind, amount)| (kinds.name(kind).to_owned(), amount))
        .collect();
    let expected = [
        ("cpus", 2000),
        ("mem", 32_000),
        ("ports", 2000),
        ("a", 1000),
        ("b", 2000),
        ("c", 4000),
    ];
    assert_eq!(named, expected.map(|(name, amount)| (name.to_owned(), amount)));
    let part = kinds.sum(&resources("cpus:2;c:{w}"), |_| true);
    assert!(sum.contains(&part) && !part.contains(&sum));
    assert_eq!(sum.lesser(&part), part);
    sum.subtract(&kinds.sum(&resources("cpus:2;a:1;b:2;c:{x,y,z,u};mem:64;ports:[5-9]"), |_| true));
    assert!(sum.is_zero());
    assert_eq!(sum, Amounts::default());
}

#[test]
fn bits_are_a_set() {
    let mut bits = Bits::default();
    for index in [3, 64, 3, 1000] {
        bits.insert(index);
    }
    bits.remove(5000);
    assert_eq!(bits.iter().collect::<Vec<_>>(), [3, 64, 1000]);
    assert_eq!((bits.len(), bits.contains(64), bits.contains(65)), (3, true, false));
    let mut other = Bits::default();
    other.extend(&bits);
    other.set(3, false);
    assert_eq!(other.iter().collect::<Vec<_>>(), [64, 1000]);
    other.clear();
    assert!(other.is_empty());
}

#[test]
fn empty_roles_are_forgotten() {
    let mut roles = Roles::new(Policy::Drf);
    let mut kinds = Kinds::default();
    let cpu = kinds.sum(&resources("cpus:1"), |_| true);
    let any: Bits = {
        let mut any = Bits::default();
        any.insert(1);
        any.insert(2);
        any
    };
    roles.insert(claim(1), "a/b");
    roles.insert(claim(2), "a");
    roles.charge(claim(1), &cpu, &cpu);
    assert!(roles.set_active(claim(1), true));
    assert!(!roles.set_active(claim(1), true));
    assert_eq!(roles.first(&any, 2, |_| true), Some(claim(1)));
    assert_eq!(roles.first(&any, 2, |_| false), None);
    roles.credit(claim(1), &cpu, &cpu);
    roles.remove(claim(1));
    assert_eq!(roles.first(&any, 2, |_| true), None);
    roles.check().expect("consistent");
    roles.remove(claim(2));
    roles.check().expect("consistent");
    assert_eq!(roles.len(), 1, "only the root is left");
    roles.set_weight("a/b", Some(2000));
    roles.set_quota("c", Some((cpu.clone(), vec![(0, 1)])));
    roles.reserve("d/e", &cpu);
    assert_eq!(roles.len(), 6);
    roles.set_weight("a/b", None);
    roles.set_weight("z", None);
    roles.set_quota("c", None);
    roles.set_quota("z", None);
    roles.unreserve("d/e", &cpu);
    roles.check().expect("consistent");
    assert_eq!(roles.len(), 1, "only the root is left");
}

#[test]
fn few_candidates_come_in_the_order_of_a_walk() {
    let mut roles = Roles::new(Policy::Drf);
    let mut kinds = Kinds::default();
    let mut all = Bits::default();
    roles.set_total(kinds.sum(&resources("cpus:1000"), |_| true));
    for index in 0..400u32 {
        let role = ["a", "a/b", "c/d/e", "f"][index as usize % 4];
        roles.insert(claim(index), role);
        roles.set_active(claim(index), true);
        let held = kinds.sum(&resources(&format!("cpus:{}", index * 7919 % 50 + 1)), |_| true);
        roles.charge(claim(index), &held, &held);
        all.insert(index as usize);
    }
    let order = |candidates: &Bits, count| {
        let mut met = Vec::new();
        roles.first(candidates, count, |claim| {
            met.push(claim);
            false
        });
        met
    };
    let walked = order(&all, all.len());
    assert_eq!(walked.len(), 400);
    for begin in 0..40 {
        let mut few = Bits::default();
        (0..10).for_each(|step| few.insert((begin * 13 + step * 37) % 400));
        let expected: Vec<_> = walked
            .iter()
            .copied()
            .filter(|claim| few.contains(claim.index()))
            .collect();
        assert_eq!(order(&few, few.len()), expected);
    }
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
    filters.check().expect("consistent");
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
