//! The matcher: what it chooses, and that it never gives more than there is.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::v1::{Attribute, Offer, Resource, resource, value};
use proffer_sdk::offers::{Constraint, Matcher, Placement, Strategy, TaskShape, WantedPort};
use proffer_sdk::testing::offer;
use proptest::prelude::{Just, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;

fn agents(matcher: &mut Matcher, shape: &TaskShape) -> Vec<String> {
    let mut placed = Vec::new();
    while let Some(placement) = matcher.place(shape) {
        placed.push(placement.agent_id.value);
    }
    placed
}

fn two_agents() -> [Offer; 2] {
    [
        offer("o1", "a1", 1.0, 100.0, 100..=101),
        offer("o2", "a2", 2.0, 100.0, 100..=101),
    ]
}

#[test]
fn strategies_choose_agents() {
    let shape = TaskShape::default().cpus(0.5);
    let by = |strategy| agents(&mut Matcher::new(&two_agents()), &shape.clone().strategy("g", strategy));
    assert_eq!(by(Strategy::Pack), ["a1", "a1", "a2", "a2", "a2", "a2"]);
    assert_eq!(by(Strategy::Spread), ["a2", "a1", "a2", "a1", "a2", "a2"]);
    assert_eq!(by(Strategy::Unique), ["a2", "a1"]);
    let mut matcher = Matcher::new(&two_agents());
    matcher.running("g", &two_agents()[1].agent_id);
    assert_eq!(agents(&mut matcher, &shape.strategy("g", Strategy::Unique)), ["a1"]);
}

#[test]
fn constraints_hold() {
    let mut offers = two_agents();
    offers[1].attributes.push(Attribute {
        name: "rack".into(),
        r#type: value::Type::Text.into(),
        text: Some(value::Text { value: "r2".into() }),
        ..Default::default()
    });
    let place = |constraint: Constraint| {
        let shape = TaskShape::default().cpus(2.0).constraint(constraint.clone());
        let small = TaskShape::default().cpus(0.1).constraint(constraint);
        let mut matcher = Matcher::new(&offers);
        matcher
            .place(&shape)
            .or_else(|| matcher.place(&small))
            .map(|placement| placement.hostname)
    };
    assert_eq!(place(Constraint::equals("rack", "r2")).as_deref(), Some("a2"));
    assert_eq!(place(Constraint::not_equals("rack", "r2")).as_deref(), Some("a1"));
    assert_eq!(place(Constraint::equals("hostname", "a1")).as_deref(), Some("a1"));
    assert_eq!(place(Constraint::equals("rack", "r3")), None);
}

#[test]
fn ports_come_in_the_order_of_the_shape() {
    let offers = [offer("o1", "a1", 1.0, 100.0, 100..=103)];
    let mut matcher = Matcher::new(&offers);
    let shape = TaskShape::default().any_ports(1).fixed_port(100).any_ports(1);
    assert_eq!(matcher.place(&shape).unwrap().ports, [101, 100, 102]);
    assert!(matcher.place(&shape).is_none(), "100 is taken");
    assert_eq!(matcher.place(&TaskShape::default().any_ports(1)).unwrap().ports, [103]);
    let twice = TaskShape::default().fixed_port(100).fixed_port(100);
    assert!(Matcher::new(&offers).place(&twice).is_none());
}

#[test]
fn reserved_resources_are_used_first_and_volumes_not_at_all() {
    let mut offers = [offer("o1", "a1", 1.0, 100.0, 100..=100)];
    let reservation = resource::ReservationInfo {
        role: Some("r".into()),
        ..Default::default()
    };
    let reserved = Resource {
        reservations: vec![reservation],
        ..offers[0].resources[0].clone()
    };
    offers[0].resources.push(reserved);
    let persistence = resource::disk_info::Persistence {
        id: "v".into(),
        principal: None,
    };
    offers[0].resources[2].disk = Some(Box::new(resource::DiskInfo {
        persistence: Some(persistence),
        ..Default::default()
    }));
    let mut matcher = Matcher::new(&offers);
    let place = matcher.place(&TaskShape::default().cpus(1.25)).unwrap();
    let amounts: Vec<_> = place
        .resources
        .iter()
        .map(|resource| (resource.reservations.len(), resource.scalar.unwrap().value))
        .collect();
    assert_eq!(amounts, [(1, 1.0), (0, 0.25)]);
    assert!(matcher.place(&TaskShape::default().disk(1.0)).is_none());
}

#[test]
fn what_is_no_amount_is_not_placed() {
    for amount in [-0.1, f64::NAN, f64::INFINITY] {
        assert!(
            Matcher::new(&two_agents())
                .place(&TaskShape::default().cpus(amount))
                .is_none(),
            "{amount}"
        );
    }
    assert!(Matcher::new(&[]).place(&TaskShape::default()).is_none());
}

fn offers() -> impl Generator<Value = Vec<Offer>> {
    let one = (0..3u8, 0..4000i64, 0..300i64, 100..110u16, 0..6u16);
    proptest::collection::vec(one, 1..6).prop_map(|rows| {
        rows.into_iter()
            .enumerate()
            .map(|(index, (agent, cpus, mem, first, count))| {
                let first = first + 100 * index as u16;
                let (id, agent) = (format!("o{index}"), format!("a{agent}"));
                offer(&id, &agent, cpus as f64 / 1000.0, mem as f64, first..=first + count)
            })
            .collect()
    })
}

fn shapes() -> impl Generator<Value = Vec<TaskShape>> {
    let strategy = prop_oneof![Just(Strategy::Pack), Just(Strategy::Spread), Just(Strategy::Unique)];
    let one = (
        0..1500i64,
        0..100i64,
        0..4usize,
        proptest::option::of(100..120u16),
        strategy,
        0..2u8,
    );
    proptest::collection::vec(one, 1..20).prop_map(|rows| {
        rows.into_iter()
            .map(|(cpus, mem, any, fixed, strategy, group)| {
                let shape = TaskShape::default()
                    .cpus(cpus as f64 / 1000.0)
                    .mem(mem as f64)
                    .any_ports(any);
                let shape = shape.strategy(format!("g{group}"), strategy);
                fixed.map_or(shape.clone(), |port| shape.fixed_port(port))
            })
            .collect()
    })
}

/// Thousandths of a scalar among resources.
fn scalar(resources: &[Resource], name: &str) -> i64 {
    let named = resources.iter().filter(|resource| resource.name == name);
    named
        .map(|resource| (resource.scalar.unwrap().value * 1000.0).round() as i64)
        .sum()
}

fn ports(resources: &[Resource]) -> Vec<u64> {
    let ranges = resources.iter().filter_map(|resource| resource.ranges.as_ref());
    ranges
        .flat_map(|ranges| &ranges.range)
        .flat_map(|range| range.begin..=range.end)
        .collect()
}

/// Checks one placement against its shape.
fn gives_what_was_asked(placement: &Placement, shape: &TaskShape) {
    for (name, amount) in &shape.scalars {
        assert_eq!(scalar(&placement.resources, name), (amount * 1000.0).round() as i64);
    }
    assert_eq!(placement.ports.len(), shape.ports.len());
    for (wanted, port) in shape.ports.iter().zip(&placement.ports) {
        assert!(*wanted == WantedPort::Any || *wanted == WantedPort::Fixed(*port));
    }
    let listed: BTreeSet<u64> = ports(&placement.resources).into_iter().collect();
    assert_eq!(listed, placement.ports.iter().map(|port| u64::from(*port)).collect());
}

proptest! {
    #[test]
    fn nothing_is_given_that_was_not_offered_and_no_port_twice(offers in offers(), shapes in shapes()) {
        let mut matcher = Matcher::new(&offers);
        let mut given: BTreeMap<String, Vec<Resource>> = BTreeMap::new();
        for shape in &shapes {
            let Some(placement) = matcher.place(shape) else { continue };
            gives_what_was_asked(&placement, shape);
            for id in &placement.offer_ids {
                let used = offers.iter().find(|offer| offer.id == *id).unwrap();
                prop_assert_eq!(&used.agent_id, &placement.agent_id);
            }
            given.entry(placement.agent_id.value).or_default().extend(placement.resources);
        }
        for (agent, given) in given {
            let mine = offers.iter().filter(|offer| offer.agent_id.value == agent);
            let offered: Vec<Resource> = mine.flat_map(|offer| offer.resources.clone()).collect();
            for name in ["cpus", "mem"] {
                prop_assert!(scalar(&given, name) <= scalar(&offered, name));
            }
            let offered_ports: BTreeSet<u64> = ports(&offered).into_iter().collect();
            let given_ports = ports(&given);
            let distinct: BTreeSet<u64> = given_ports.iter().copied().collect();
            prop_assert_eq!(distinct.len(), given_ports.len());
            prop_assert!(distinct.is_subset(&offered_ports));
        }
    }
}
