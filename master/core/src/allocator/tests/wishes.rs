//! What claims wish for: minimum, GPUs, regions, constraints, declared demand.

use std::sync::Arc;

use proffer_proto::v1;
use v1::domain_info::FaultDomain;
use v1::domain_info::fault_domain::{RegionInfo, ZoneInfo};
use v1::scheduler::attribute_constraint::predicate as predicates;
use v1::scheduler::attribute_constraint::predicate::Predicate;
use v1::scheduler::attribute_constraint::selector::{PseudoattributeType, Selector};
use v1::scheduler::offer_constraints::RoleConstraints;
use v1::scheduler::offer_constraints::role_constraints::Group;
use v1::scheduler::{AttributeConstraint, attribute_constraint};

use super::super::{Allocator, Constraints, Description, Hierarchical, Shape, Wishes};
use super::{agent, claim, decide, give_back, put_agent, put_claim, put_wishes, quantities, resources, wishes};

fn domain(region: &str, zone: &str) -> v1::DomainInfo {
    v1::DomainInfo {
        fault_domain: Some(FaultDomain {
            region: RegionInfo {
                name: region.to_owned(),
            },
            zone: ZoneInfo { name: zone.to_owned() },
        }),
    }
}

fn text(name: &str, value: &str) -> v1::Attribute {
    v1::Attribute {
        name: name.to_owned(),
        r#type: v1::value::Type::Text as i32,
        text: Some(v1::value::Text {
            value: value.to_owned(),
        }),
        ..v1::Attribute::default()
    }
}

fn number(name: &str) -> v1::Attribute {
    v1::Attribute {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value: 1.0 }),
        ..v1::Attribute::default()
    }
}

fn constraint(selector: Selector, predicate: Predicate) -> AttributeConstraint {
    AttributeConstraint {
        selector: attribute_constraint::Selector {
            selector: Some(selector),
        },
        predicate: attribute_constraint::Predicate {
            predicate: Some(predicate),
        },
    }
}

fn groups(groups: Vec<Vec<AttributeConstraint>>) -> RoleConstraints {
    let group = |attribute_constraints| Group { attribute_constraints };
    RoleConstraints {
        groups: groups.into_iter().map(group).collect(),
    }
}

fn named(name: &str) -> Selector {
    Selector::AttributeName(name.to_owned())
}

fn equals(value: &str) -> Predicate {
    Predicate::TextEquals(predicates::TextEquals {
        value: value.to_owned(),
    })
}

fn differs(value: &str) -> Predicate {
    Predicate::TextNotEquals(predicates::TextNotEquals {
        value: value.to_owned(),
    })
}

fn matches(regex: &str) -> Predicate {
    Predicate::TextMatches(predicates::TextMatches {
        regex: regex.to_owned(),
    })
}

fn mismatches(regex: &str) -> Predicate {
    Predicate::TextNotMatches(predicates::TextNotMatches {
        regex: regex.to_owned(),
    })
}

#[test]
fn a_claim_may_ask_for_a_minimum() {
    let mut allocator = Hierarchical::default();
    let minimum = |text: &str| Some(vec![quantities(text)]);
    let minima = [
        minimum("cpus:2;mem:64"),
        minimum("gpus:1"),
        minimum("ports:[1-3]"),
        Some(Vec::new()),
    ];
    for (index, minimum) in minima.into_iter().enumerate() {
        let role = format!("r{index}");
        put_wishes(
            &mut allocator,
            index as u32,
            Wishes {
                minimum,
                ..wishes(&role)
            },
        );
    }
    put_agent(&mut allocator, 0, "cpus:2;mem:64");
    assert_eq!(decide(&mut allocator), ["0@0 cpus:2;mem:64"]);
    put_agent(&mut allocator, 1, "cpus:1;mem:64;ports:[7-9]");
    assert_eq!(decide(&mut allocator), ["2@1 cpus:1;mem:64;ports:[7-9]"]);
    put_agent(&mut allocator, 2, "disk:1;ports:[7-8]");
    assert_eq!(decide(&mut allocator), ["3@2 disk:1;ports:[7-8]"]);
}

#[test]
fn an_agent_elsewhere_is_for_who_knows_of_regions() {
    let mut allocator = Hierarchical::default();
    allocator.set_region(Some("here"));
    put_claim(&mut allocator, 0, "a");
    let total = resources("cpus:1;mem:64");
    let domains = [Some(domain("there", "z1")), Some(domain("here", "z2")), None];
    for (index, domain) in domains.iter().enumerate() {
        put_agent(&mut allocator, index as u32, "cpus:1;mem:64");
        let description = Description {
            total: &total,
            hostname: "host",
            attributes: &[],
            domain: domain.as_ref(),
        };
        allocator.put_agent(agent(index as u32), &description);
    }
    assert_eq!(decide(&mut allocator), ["0@1 cpus:1;mem:64", "0@2 cpus:1;mem:64"]);
    put_wishes(
        &mut allocator,
        1,
        Wishes {
            regions: true,
            ..wishes("b")
        },
    );
    assert_eq!(decide(&mut allocator), ["1@0 cpus:1;mem:64"]);
    give_back(&mut allocator, 1, 0, "cpus:1;mem:64");
    allocator.set_claim_active(claim(1), false);
    assert_eq!(decide(&mut allocator), [""; 0]);
    allocator.set_region(None);
    assert_eq!(decide(&mut allocator), ["0@0 cpus:1;mem:64"]);
}

#[test]
fn constraints_hold_for_agents_as_the_api_says() {
    let attributes = [text("rack", "r17"), text("rack", "second"), number("cores")];
    let domain = domain("eu", "eu-1");
    let agent = Description {
        total: &resources("cpus:1"),
        hostname: "node7.example",
        attributes: &attributes,
        domain: Some(&domain),
    };
    let pseudo = |kind: PseudoattributeType| Selector::PseudoattributeType(kind as i32);
    let exists = || Predicate::Exists(predicates::Exists {});
    let absent = || Predicate::NotExists(predicates::NotExists {});
    let holds = |selector, predicate| {
        let compiled = Constraints::compile(&groups(vec![vec![constraint(selector, predicate)]]));
        compiled.expect("valid").accept(&agent)
    };
    for (selector, predicate, expected) in [
        (named("rack"), exists(), true),
        (named("rack"), absent(), false),
        (named("none"), exists(), false),
        (named("none"), absent(), true),
        (named("rack"), equals("r17"), true),
        (named("rack"), equals("second"), false),
        (named("rack"), differs("r17"), false),
        (named("none"), equals("x"), false),
        (named("none"), differs("x"), true),
        (named("cores"), equals("x"), true),
        (named("cores"), differs("x"), true),
        (named("cores"), matches("x"), true),
        (named("rack"), matches("r[0-9]+"), true),
        (named("rack"), matches("r1"), false),
        (named("rack"), matches("x|r17"), true),
        (named("rack"), mismatches("r.*"), false),
        (named("none"), mismatches("r.*"), true),
        (pseudo(PseudoattributeType::Hostname), matches(r"node\d\.example"), true),
        (pseudo(PseudoattributeType::Region), equals("eu"), true),
        (pseudo(PseudoattributeType::Zone), differs("eu-1"), false),
    ] {
        let told = format!("{selector:?} {predicate:?}");
        assert_eq!(holds(selector, predicate), expected, "{told}");
    }
    let either = groups(vec![
        vec![
            constraint(named("rack"), equals("r17")),
            constraint(named("none"), exists()),
        ],
        vec![constraint(named("cores"), exists())],
    ]);
    assert!(Constraints::compile(&either).expect("valid").accept(&agent));
}

#[test]
fn bad_constraints_are_told_by_their_field() {
    let field = |constraints: &RoleConstraints| Constraints::compile(constraints).expect_err("bad").field;
    assert_eq!(field(&groups(vec![])), "groups");
    assert_eq!(field(&groups(vec![vec![]])), "groups[0].attribute_constraints");
    let good = constraint(named("a"), equals("b"));
    assert_eq!(field(&groups(vec![vec![good.clone(); 300]])), "groups");
    let mut bad = good.clone();
    bad.selector.selector = None;
    assert_eq!(
        field(&groups(vec![vec![good.clone(), bad]])),
        "groups[0].attribute_constraints[1].selector"
    );
    let bad = constraint(Selector::PseudoattributeType(77), equals("b"));
    let expected = "groups[0].attribute_constraints[0].selector.pseudoattribute_type";
    assert_eq!(field(&groups(vec![vec![bad]])), expected);
    let mut bad = good.clone();
    bad.predicate.predicate = None;
    assert_eq!(
        field(&groups(vec![vec![bad]])),
        "groups[0].attribute_constraints[0].predicate"
    );
    for regex in ["(", "a)|(b", "(?:a{1000}){1000}"] {
        let bad = constraint(named("a"), matches(regex));
        let expected = "groups[0].attribute_constraints[0].predicate.text_matches.regex";
        assert_eq!(field(&groups(vec![vec![bad]])), expected, "{regex}");
    }
}

#[test]
fn only_agents_that_constraints_accept_are_offered() {
    let mut allocator = Hierarchical::default();
    let only = |zone: &str| {
        let constraints = groups(vec![vec![constraint(named("zone"), equals(zone))]]);
        Some(Arc::new(Constraints::compile(&constraints).expect("valid")))
    };
    let put = |allocator: &mut Hierarchical, index, zone| {
        let (total, attributes) = (resources("cpus:1;mem:64"), [text("zone", zone)]);
        let description = Description {
            total: &total,
            hostname: "host",
            attributes: &attributes,
            domain: None,
        };
        allocator.put_agent(agent(index), &description);
        allocator.set_free(agent(index), total.clone());
        allocator.set_agent_active(agent(index), true);
    };
    put(&mut allocator, 0, "z1");
    put_wishes(
        &mut allocator,
        0,
        Wishes {
            constraints: only("z2"),
            ..wishes("a")
        },
    );
    put(&mut allocator, 1, "z2");
    assert_eq!(decide(&mut allocator), ["0@1 cpus:1;mem:64"]);
    give_back(&mut allocator, 0, 1, "cpus:1;mem:64");
    put(&mut allocator, 1, "z1");
    assert_eq!(decide(&mut allocator), [""; 0]);
    put(&mut allocator, 0, "z2");
    assert_eq!(decide(&mut allocator), ["0@0 cpus:1;mem:64"]);
    allocator.put_claim(claim(0), wishes("a"));
    assert_eq!(decide(&mut allocator), ["0@1 cpus:1;mem:64"]);
}

#[test]
fn declared_demand_is_offered_where_a_shape_fits() {
    let mut allocator = Hierarchical::default();
    let shape = |text: &str, count| Shape {
        agent: None,
        resources: quantities(text),
        count,
    };
    put_agent(&mut allocator, 0, "cpus:1;mem:64");
    put_agent(&mut allocator, 1, "cpus:4;mem:64");
    put_agent(&mut allocator, 2, "cpus:1;mem:64;ports:[1-2]");
    let demand = vec![shape("cpus:3", 1), shape("ports:[8-9]", 1), shape("cpus:1", 0)];
    put_wishes(
        &mut allocator,
        0,
        Wishes {
            demand: Some(demand),
            ..wishes("a")
        },
    );
    assert_eq!(
        decide(&mut allocator),
        ["0@1 cpus:4;mem:64", "0@2 cpus:1;mem:64;ports:[1-2]"]
    );
    let there = Shape {
        agent: Some(agent(0)),
        ..shape("cpus:1", 1)
    };
    allocator.put_claim(
        claim(0),
        Wishes {
            demand: Some(vec![there]),
            ..wishes("a")
        },
    );
    give_back(&mut allocator, 0, 1, "cpus:4;mem:64");
    assert_eq!(decide(&mut allocator), ["0@0 cpus:1;mem:64"]);
    allocator.put_claim(
        claim(0),
        Wishes {
            demand: Some(Vec::new()),
            ..wishes("a")
        },
    );
    assert_eq!(decide(&mut allocator), [""; 0]);
    allocator.put_claim(claim(0), wishes("a"));
    assert_eq!(decide(&mut allocator), ["0@1 cpus:4;mem:64"]);
}

#[test]
fn what_may_be_taken_back_is_for_who_knows_of_it() {
    let mut allocator = Hierarchical::default();
    put_agent(&mut allocator, 0, "cpus:1;mem:64");
    let lent = resources("cpus:2").to_revocable();
    allocator.set_free(agent(0), resources("cpus:1;mem:64") + &lent);
    put_claim(&mut allocator, 0, "a");
    assert_eq!(decide(&mut allocator), ["0@0 cpus:1;mem:64"]);
    put_wishes(
        &mut allocator,
        1,
        Wishes {
            revocable: true,
            ..wishes("b")
        },
    );
    assert_eq!(decide(&mut allocator), [format!("1@0 {lent}")]);
    assert_eq!(allocator.consumed("b"), quantities(""));
}
