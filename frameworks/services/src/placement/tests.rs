//! The chooser against a brute-force twin, and what each rule means.

use proptest::prelude::*;

use super::*;
use crate::spec::{Affinity, AffinityTo, Constraint, Operator, ServiceSpec, Spread};

fn machine(number: usize, rack: Option<u8>, disk: Option<u8>) -> Machine {
    let attributes = [("rack", rack), ("disk", disk)].into_iter();
    let attributes = attributes.filter_map(|(name, value)| Some((name.to_owned(), format!("{name}{}", value?))));
    Machine {
        agent_id: format!("a{number}"),
        hostname: format!("host{}", number / 2),
        attributes: attributes.collect(),
    }
}

fn machines() -> impl Strategy<Value = Vec<Machine>> {
    let values = (proptest::option::weighted(0.8, 0..3_u8), proptest::option::of(0..2_u8));
    proptest::collection::vec(values, 1..8).prop_map(|values| {
        let numbered = values.into_iter().enumerate();
        numbered
            .map(|(number, (rack, disk))| machine(number, rack, disk))
            .collect()
    })
}

fn attribute() -> impl Strategy<Value = String> {
    prop_oneof![Just("rack"), Just("disk"), Just("hostname"), Just("@agent")].prop_map(str::to_owned)
}

fn constraint() -> impl Strategy<Value = Constraint> {
    let operator = prop_oneof![
        Just(Operator::Unique),
        proptest::option::of(Just("rack1".to_owned())).prop_map(Operator::Cluster),
        proptest::option::of(1..4_u32).prop_map(Operator::GroupBy),
        Just(Operator::Like("rack[01]|host.*".to_owned())),
        Just(Operator::Unlike("rack0|disk1".to_owned())),
        (1..3_u32).prop_map(Operator::MaxPer),
    ];
    (attribute(), operator).prop_map(|(attribute, operator)| Constraint { attribute, operator })
}

fn spec() -> impl Strategy<Value = ServiceSpec> {
    let spread = (attribute(), 1..100_u32).prop_map(|(attribute, weight)| Spread { attribute, weight });
    let to = prop_oneof![
        Just(AffinityTo::Attribute {
            attribute: "disk".to_owned(),
            like: "disk1".to_owned()
        }),
        Just(AffinityTo::Service {
            service: "cache".to_owned()
        }),
    ];
    let affinity = (to, prop_oneof![-100..0, 1..100]).prop_map(|(to, weight)| Affinity { to, weight });
    let constraints = proptest::collection::vec(constraint(), 0..3);
    let spread = proptest::collection::vec(spread, 0..2);
    let affinity = proptest::collection::vec(affinity, 0..2);
    (constraints, spread, affinity).prop_map(|(constraints, spread, affinity)| ServiceSpec {
        constraints,
        spread,
        affinity,
        ..ServiceSpec::command("web", "true")
    })
}

/// How many of these have the value that the machine has.
fn alike(attribute: &str, machine: &Machine, placed: &[&Machine]) -> usize {
    let same = |other: &&&Machine| other.value(attribute) == machine.value(attribute);
    placed.iter().filter(same).count()
}

/// What the words of the documentation say, by counting everything anew.
fn allowed(constraint: &Constraint, machine: &Machine, placed: &[&Machine]) -> bool {
    let name = constraint.attribute.as_str();
    let matches = |pattern: &str| {
        let pattern = regex::Regex::new(&format!("^(?:{pattern})$")).unwrap();
        machine.value(name).is_some_and(|value| pattern.is_match(value))
    };
    let has_value = machine.value(name).is_some();
    match &constraint.operator {
        Operator::Unique => has_value && alike(name, machine, placed) == 0,
        Operator::MaxPer(most) => has_value && alike(name, machine, placed) < *most as usize,
        Operator::Cluster(Some(value)) => machine.value(name) == Some(value),
        Operator::Cluster(None) => has_value && (placed.is_empty() || alike(name, machine, placed) > 0),
        Operator::Like(pattern) => matches(pattern),
        Operator::Unlike(pattern) => !matches(pattern),
        Operator::GroupBy(least) => {
            let mut values: Vec<_> = placed.iter().map(|other| other.value(name)).collect();
            values.sort();
            values.dedup();
            let fewest = placed.iter().map(|other| alike(name, other, placed)).min().unwrap_or(0);
            let bound = if values.len() < least.unwrap_or(1) as usize {
                0
            } else {
                fewest
            };
            has_value && alike(name, machine, placed) <= bound
        }
    }
}

/// What a machine costs beyond the rules: the documentation's sum.
fn cost(spec: &ServiceSpec, machine: &Machine, placed: &[&Machine]) -> (usize, i64, usize) {
    let groups = spec
        .constraints
        .iter()
        .filter(|rule| matches!(rule.operator, Operator::GroupBy(_)));
    let grouped = groups.map(|rule| alike(&rule.attribute, machine, placed)).sum();
    let spread = spec
        .spread
        .iter()
        .map(|wish| i64::from(wish.weight) * alike(&wish.attribute, machine, placed) as i64);
    let affinity = spec.affinity.iter().filter(|wish| match &wish.to {
        AffinityTo::Attribute { attribute, like } => machine.value(attribute) == Some(like),
        AffinityTo::Service { .. } => cached(machine),
    });
    let affinity: i64 = affinity.map(|wish| i64::from(wish.weight)).sum();
    (
        grouped,
        spread.sum::<i64>() - affinity,
        alike("@agent", machine, placed),
    )
}

fn cached(machine: &Machine) -> bool {
    machine.agent_id.ends_with(['1', '4'])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_choice_is_the_best_of_those_that_are_allowed(
        (machines, spec, here, full, count) in (machines(), spec()).prop_flat_map(|(machines, spec)| {
            let any = 0..machines.len();
            let some = proptest::collection::vec(any.clone(), 0..4);
            (Just(machines), Just(spec), some, any, 1..8_usize)
        })
    ) {
        let mut placed: Vec<&Machine> = here.iter().map(|index| &machines[*index]).collect();
        let room = vec![7; machines.len()];
        let mut chooser = Chooser::new(&spec, &machines, room, placed.clone(), |_, machine| cached(machine));
        chooser.close(full);
        for _ in 0..count {
            let possible: Vec<_> = (0..machines.len()).filter(|index| {
                *index != full && spec.constraints.iter().all(|rule| allowed(rule, &machines[*index], &placed))
            }).collect();
            let least = possible.iter().map(|index| cost(&spec, &machines[*index], &placed)).min();
            let chosen = chooser.best();
            prop_assert_eq!(chosen.is_some(), !possible.is_empty());
            let Some(chosen) = chosen else { break };
            prop_assert!(possible.contains(&chosen), "{chosen} is not allowed");
            prop_assert_eq!(Some(cost(&spec, &machines[chosen], &placed)), least);
            chooser.place(chosen, 7);
            placed.push(&machines[chosen]);
        }
    }
}

/// The agents of six instances, one after the other, on five machines in racks 0, 0, 1, 2 and none.
fn six(constraints: &[(&str, Operator)]) -> Vec<String> {
    let racks = [Some(0), Some(0), Some(1), Some(2), None];
    let machines: Vec<_> = (0..5).map(|number| machine(number, racks[number], None)).collect();
    let rules = constraints.iter().cloned();
    let spec = ServiceSpec {
        constraints: rules
            .map(|(attribute, operator)| Constraint::new(attribute, operator))
            .collect(),
        ..ServiceSpec::command("web", "true")
    };
    let mut chooser = Chooser::new(&spec, &machines, vec![0; 5], [], |_, _| false);
    let mut agents = Vec::new();
    while agents.len() < 6
        && let Some(index) = chooser.best()
    {
        chooser.place(index, 0);
        agents.push(machines[index].agent_id.clone());
    }
    agents
}

#[test]
fn each_operator_means_what_it_says() {
    let like = |pattern: &str| Operator::Like(pattern.to_owned());
    for (constraints, expected) in [
        (vec![], "a0 a1 a2 a3 a4 a0"),
        (vec![("rack", Operator::Unique)], "a0 a2 a3"),
        (vec![("hostname", Operator::Unique)], "a0 a2 a4"),
        (vec![("@agent", Operator::MaxPer(1))], "a0 a1 a2 a3 a4"),
        (vec![("rack", Operator::MaxPer(2))], "a0 a1 a2 a3 a2 a3"),
        (vec![("rack", Operator::Cluster(None))], "a0 a1 a0 a1 a0 a1"),
        (
            vec![("rack", Operator::Cluster(Some("rack2".to_owned())))],
            "a3 a3 a3 a3 a3 a3",
        ),
        (vec![("rack", Operator::GroupBy(None))], "a0 a2 a3 a1 a2 a3"),
        // With four values wanted and three there are, a second instance on one of them would be uneven for good.
        (vec![("rack", Operator::GroupBy(Some(4)))], "a0 a2 a3"),
        (vec![("rack", like("rack[12]"))], "a2 a3 a2 a3 a2 a3"),
        (
            vec![("rack", Operator::Unlike("rack[12]".to_owned()))],
            "a0 a1 a4 a0 a1 a4",
        ),
        (vec![("rack", like("rack")), ("hostname", Operator::Unique)], ""),
        (vec![("zone", like(".*"))], ""),
    ] {
        assert_eq!(six(&constraints).join(" "), expected, "{constraints:?}");
    }
}

#[test]
fn a_master_is_told_of_rules_only_where_every_service_has_some() {
    let ruled = |operator| ServiceSpec {
        constraints: vec![Constraint::new("rack", operator)],
        ..ServiceSpec::command("web", "true")
    };
    let (like, unique) = (ruled(Operator::Like("r1".to_owned())), ruled(Operator::Unique));
    let free = ServiceSpec::command("free", "true");
    let told = constraints("web", [&like, &unique]).unwrap();
    assert_eq!(told.role_constraints["web"].groups.len(), 2);
    assert!(constraints("web", [&like, &free]).is_none());
    assert!(constraints("web", []).is_none());
}

#[test]
fn demand_names_the_larger_shapes_first() {
    let of = |cpus, ports: usize| {
        let mut spec = ServiceSpec::command("web", "true");
        spec.cpus = cpus;
        spec.ports = (0..ports)
            .map(|number| crate::spec::PortSpec::any(number.to_string()))
            .collect();
        spec
    };
    let (small, large) = (of(0.1, 0), of(2.0, 3));
    let requests = demand([(&small, 5), (&large, 1), (&small, 2)]);
    let counts: Vec<_> = requests.iter().map(|request| request.count()).collect();
    assert_eq!(counts, [1, 7]);
    let names: Vec<_> = requests[0]
        .resources
        .iter()
        .map(|resource| resource.name.as_str())
        .collect();
    assert_eq!(names, ["cpus", "mem", "ports"]);
}
