//! Guarantees, limits, weights and priorities.

use super::super::{AgentOrder, Allocator, Hierarchical, Policy, Wishes};
use super::{
    agent, claim, decide, description, give_back, put_agent, put_claim, put_wishes, quantities, quota, resources,
    wishes,
};
use crate::time::Timestamp;

fn cluster(roles: &[&str]) -> Hierarchical {
    let mut allocator = Hierarchical::default();
    for (index, role) in roles.iter().enumerate() {
        put_claim(&mut allocator, index as u32, role);
    }
    allocator
}

#[test]
fn an_agent_is_cut_to_fit_a_limit_and_ports_are_counted() {
    let mut allocator = cluster(&["a"]);
    allocator.set_quota("a", Some(quota("| cpus:6;mem:100;ports:3;x:1")));
    put_agent(&mut allocator, 0, "cpus:4;mem:64;disk:9;ports:[1-2]");
    put_agent(&mut allocator, 1, "cpus:4;mem:64;disk:9;ports:[10-10,20-29];x:{k,l}");
    put_agent(&mut allocator, 2, "cpus:4;mem:64");
    let expected = [
        "0@0 cpus:4;disk:9;mem:64;ports:[1-2]",
        "0@1 cpus:2;disk:9;mem:36;ports:[10-10];x:{k}",
    ];
    assert_eq!(decide(&mut allocator), expected);
    assert_eq!(decide(&mut allocator), [""; 0]);
    give_back(&mut allocator, 0, 0, "cpus:1");
    assert_eq!(decide(&mut allocator), ["0@0 cpus:1"]);
    // More room is of use on agents that did not change.
    give_back(&mut allocator, 0, 0, "cpus:4;disk:9;mem:64;ports:[1-2]");
    allocator.refuse(
        claim(0),
        agent(0),
        resources("cpus:4;disk:9;mem:64;ports:[1-2]"),
        Timestamp(9),
    );
    assert_eq!(
        decide(&mut allocator),
        ["0@1 cpus:2;mem:28;ports:[20-21]", "0@2 cpus:2;mem:36"]
    );
}

#[test]
fn a_limit_counts_for_all_roles_below() {
    let mut allocator = cluster(&["a/x", "a/y", "b"]);
    allocator.set_quota("a", Some(quota("| cpus:3;mem:0")));
    allocator.set_quota("a/y", Some(quota("| cpus:1;mem:0")));
    for index in 0..3 {
        put_agent(&mut allocator, index, "cpus:2;mem:64");
    }
    let expected = [
        "0@0 cpus:2",
        "2@0 mem:64",
        "1@1 cpus:1",
        "2@1 cpus:1;mem:64",
        "2@2 cpus:2;mem:64",
    ];
    assert_eq!(decide(&mut allocator), expected);
    assert_eq!(allocator.consumed("a"), quantities("cpus:3"));
    assert_eq!(allocator.consumed("a/y"), quantities("cpus:1"));
    allocator.set_quota("a", None);
    give_back(&mut allocator, 2, 2, "cpus:2;mem:64");
    assert_eq!(decide(&mut allocator), ["0@2 cpus:2;mem:64"]);
}

#[test]
fn a_guarantee_is_kept_free_and_served_first() {
    let mut allocator = cluster(&["b"]);
    allocator.set_quota("a", Some(quota("cpus:6;ports:1")));
    put_agent(&mut allocator, 0, "cpus:4;mem:64;ports:[1-2]");
    put_agent(&mut allocator, 1, "cpus:4;mem:64");
    // Nobody of the role is there yet.
    assert_eq!(decide(&mut allocator), ["0@0 cpus:2;mem:64;ports:[1-1]", "0@1 mem:64"]);
    give_back(&mut allocator, 0, 1, "mem:64");
    put_claim(&mut allocator, 1, "a/x");
    assert_eq!(decide(&mut allocator), ["1@0 cpus:2;ports:[2-2]", "1@1 cpus:4;mem:64"]);
    assert_eq!(allocator.consumed("a"), quantities("cpus:6;mem:64;ports:[2-2]"));
    give_back(&mut allocator, 1, 1, "cpus:4;mem:64");
    assert_eq!(decide(&mut allocator), ["1@1 cpus:4;mem:64"]);
    give_back(&mut allocator, 1, 1, "cpus:4;mem:64");
    allocator.set_claim_active(claim(1), false);
    assert_eq!(decide(&mut allocator), ["0@1 mem:64"]);
    // What is no longer guaranteed is for all.
    allocator.set_quota("a", Some(quota("cpus:2;ports:1")));
    assert_eq!(decide(&mut allocator), ["0@1 cpus:4"]);
}

#[test]
fn more_than_guaranteed_is_shared_fairly() {
    let mut allocator = cluster(&["a", "b"]);
    allocator.set_quota("a", Some(quota("cpus:1;mem:32 | cpus:3")));
    put_agent(&mut allocator, 0, "cpus:8;mem:1024");
    assert_eq!(decide(&mut allocator), ["0@0 cpus:1;mem:32", "1@0 cpus:7;mem:992"]);
    put_agent(&mut allocator, 1, "cpus:8;mem:1024");
    assert_eq!(decide(&mut allocator), ["0@1 cpus:2;mem:1024", "1@1 cpus:6"]);
}

#[test]
fn a_guarantee_within_a_guarantee_is_not_for_siblings() {
    let mut allocator = cluster(&["a/y", "b"]);
    allocator.set_quota("a", Some(quota("cpus:5")));
    allocator.set_quota("a/x", Some(quota("cpus:3")));
    put_agent(&mut allocator, 0, "cpus:6");
    assert_eq!(decide(&mut allocator), ["0@0 cpus:2", "1@0 cpus:1"]);
    put_claim(&mut allocator, 2, "a/x");
    assert_eq!(decide(&mut allocator), ["2@0 cpus:3"]);
}

#[test]
fn reservations_are_consumed_used_or_not() {
    let mut allocator = cluster(&["a/x", "b"]);
    allocator.set_quota("a", Some(quota("cpus:4 | cpus:4")));
    put_agent(&mut allocator, 0, "cpus(a/x):3;cpus:5;mem:64");
    assert_eq!(allocator.consumed("a"), quantities("cpus:3"));
    assert_eq!(decide(&mut allocator), ["0@0 cpus:1;cpus(a/x):3;mem:64", "1@0 cpus:4"]);
    assert_eq!(allocator.consumed("a"), quantities("cpus:4;mem:64"));
    let less = resources("cpus(a/x):1;cpus:7;mem:64");
    allocator.put_agent(agent(0), &description(&less));
    assert_eq!(allocator.consumed("a"), quantities("cpus:2;mem:64"));
    allocator.remove_agent(agent(0));
    assert_eq!(allocator.consumed("a"), quantities("cpus:1;mem:64"));
}

#[test]
fn a_role_without_room_still_has_its_reservations() {
    let mut allocator = cluster(&["a"]);
    allocator.set_quota("a", Some(quota("| cpus:2;mem:0")));
    put_agent(&mut allocator, 0, "cpus(a):2;cpus:2;mem:64");
    assert_eq!(decide(&mut allocator), ["0@0 cpus(a):2"]);
}

#[test]
fn who_asks_for_any_scrap_gets_what_a_limit_leaves() {
    let mut allocator = Hierarchical::default();
    let any = Wishes {
        minimum: Some(Vec::new()),
        ..wishes("a")
    };
    put_wishes(&mut allocator, 0, any);
    put_claim(&mut allocator, 1, "a");
    allocator.set_quota("a", Some(quota("| cpus:0;mem:0")));
    put_agent(&mut allocator, 0, "cpus:2;mem:64;disk:5");
    assert_eq!(decide(&mut allocator), ["0@0 disk:5"]);
}

#[test]
fn weights_divide_shares() {
    let mut allocator = cluster(&["a", "b"]);
    allocator.set_weight("b", Some(3000));
    for index in 0..8 {
        put_agent(&mut allocator, index, "cpus:1;mem:64");
    }
    let of_b = |decided: &[String]| decided.iter().filter(|decision| decision.starts_with("1@")).count();
    assert_eq!(of_b(&decide(&mut allocator)), 6);
    allocator.set_weight("b", None);
    put_agent(&mut allocator, 8, "cpus:1;mem:64");
    assert_eq!(decide(&mut allocator), ["0@8 cpus:1;mem:64"]);
}

#[test]
fn the_largest_weight_goes_first_under_strict_priority() {
    let mut allocator = Hierarchical::new(Policy::Priority, AgentOrder::Slot);
    for (index, role) in ["low", "high", "low", "high"].into_iter().enumerate() {
        put_claim(&mut allocator, index as u32, role);
    }
    allocator.set_weight("high", Some(2000));
    for index in 0..4 {
        put_agent(&mut allocator, index, "cpus:1;mem:64");
    }
    let mut decided = decide(&mut allocator);
    decided.sort();
    let expected = [
        "1@0 cpus:1;mem:64",
        "1@2 cpus:1;mem:64",
        "3@1 cpus:1;mem:64",
        "3@3 cpus:1;mem:64",
    ];
    assert_eq!(decided, expected);
    allocator.set_claim_active(claim(1), false);
    allocator.set_claim_active(claim(3), false);
    put_agent(&mut allocator, 4, "cpus:1;mem:64");
    assert_eq!(decide(&mut allocator), ["0@4 cpus:1;mem:64"]);
}

#[test]
fn a_guarantee_goes_before_a_priority() {
    let mut allocator = Hierarchical::new(Policy::Priority, AgentOrder::Slot);
    put_claim(&mut allocator, 0, "low");
    put_claim(&mut allocator, 1, "high");
    allocator.set_weight("high", Some(2000));
    allocator.set_quota("low", Some(quota("cpus:1;mem:32")));
    put_agent(&mut allocator, 0, "cpus:4;mem:128");
    assert_eq!(decide(&mut allocator), ["0@0 cpus:1;mem:32", "1@0 cpus:3;mem:96"]);
}

#[test]
fn the_fullest_agent_is_given_first_when_packing() {
    let given = |order| {
        let mut allocator = Hierarchical::new(Policy::Drf, order);
        for (index, free) in ["cpus:3;mem:64", "cpus:1;mem:64", "cpus:4;mem:64"]
            .into_iter()
            .enumerate()
        {
            put_agent(&mut allocator, index as u32, "cpus:4;mem:64");
            allocator.set_free(agent(index as u32), resources(free));
        }
        put_claim(&mut allocator, 0, "a");
        let decided = decide(&mut allocator);
        decided
            .iter()
            .map(|decision| decision[2..3].to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(given(AgentOrder::Slot), ["0", "1", "2"]);
    assert_eq!(given(AgentOrder::Pack), ["1", "0", "2"]);
    assert_eq!(given(AgentOrder::Spread), ["2", "0", "1"]);
}
