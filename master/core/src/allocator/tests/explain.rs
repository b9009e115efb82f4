//! Each reason for which a claim is not offered an agent.

use std::sync::Arc;

use proffer_proto::v1;
use v1::scheduler::attribute_constraint::{Predicate, Selector, predicate, selector};
use v1::scheduler::offer_constraints::{RoleConstraints, role_constraints::Group};

use super::super::{Allocator, Constraints, Description, Hierarchical, Reason, Shape, Wishes};
use super::{agent, claim, decide, put_agent, put_claim, put_wishes, quantities, quota, resources, wishes};
use crate::time::Timestamp;

#[test]
fn every_reason_is_told() {
    let mut allocator = Hierarchical::default();
    put_claim(&mut allocator, 0, "a");
    let why = |allocator: &Hierarchical, at: u32| allocator.verdict(claim(0), agent(at));
    assert_eq!(why(&allocator, 0), Err(Reason::AgentInactive));
    put_agent(&mut allocator, 0, "cpus:2;mem:64");
    assert_eq!(why(&allocator, 0), Ok(resources("cpus:2;mem:64")));
    allocator.set_agent_active(agent(0), false);
    assert_eq!(why(&allocator, 0), Err(Reason::AgentInactive));
    allocator.set_agent_active(agent(0), true);
    allocator.set_claim_active(claim(0), false);
    assert_eq!(why(&allocator, 0), Err(Reason::ClaimInactive));
    allocator.set_claim_active(claim(0), true);
    allocator.refuse(claim(0), agent(0), resources("cpus:2;mem:64"), Timestamp(5));
    allocator.refuse(claim(0), agent(0), resources("cpus:3;mem:64"), Timestamp(4));
    assert_eq!(why(&allocator, 0), Err(Reason::Refused(Timestamp(5))));
    allocator.revive(claim(0));
    assert_eq!(decide(&mut allocator), ["0@0 cpus:2;mem:64"]);
    assert_eq!(why(&allocator, 0), Err(Reason::NothingFree));

    put_agent(&mut allocator, 1, "cpus:2;gpus:1");
    assert_eq!(why(&allocator, 1), Err(Reason::Gpus));
    put_agent(&mut allocator, 2, "cpus(b):2");
    assert_eq!(why(&allocator, 2), Err(Reason::Reserved));
    put_agent(&mut allocator, 3, "cpus:0.009;disk:5");
    assert_eq!(why(&allocator, 3), Err(Reason::TooSmall));

    let far = v1::DomainInfo {
        fault_domain: Some(v1::domain_info::FaultDomain {
            region: v1::domain_info::fault_domain::RegionInfo { name: "far".to_owned() },
            zone: v1::domain_info::fault_domain::ZoneInfo { name: "z".to_owned() },
        }),
    };
    put_agent(&mut allocator, 4, "cpus:2");
    let description = Description {
        total: &resources("cpus:2"),
        hostname: "host",
        attributes: &[],
        domain: Some(&far),
    };
    allocator.put_agent(agent(4), &description);
    assert_eq!(why(&allocator, 4), Ok(resources("cpus:2")));
    allocator.set_region(Some("near"));
    assert_eq!(why(&allocator, 4), Err(Reason::Region));
}

#[test]
fn quota_is_told_with_role_and_resource() {
    let mut allocator = Hierarchical::default();
    put_claim(&mut allocator, 0, "a/x");
    put_agent(&mut allocator, 0, "cpus:2;mem:64");
    let why = |allocator: &Hierarchical| allocator.verdict(claim(0), agent(0));
    allocator.set_quota("a", Some(quota("| cpus:0;mem:20")));
    let limit = |resource: &str| {
        Err(Reason::Limit {
            role: "a".to_owned(),
            resource: resource.to_owned(),
        })
    };
    assert_eq!(why(&allocator), limit("cpus"));
    allocator.set_quota("a", Some(quota("| cpus:1")));
    assert_eq!(why(&allocator), Ok(resources("cpus:1;mem:64")));
    allocator.set_quota("a", None);
    allocator.set_quota("b", Some(quota("cpus:5;mem:200")));
    assert_eq!(why(&allocator), Err(Reason::Headroom));
    allocator.set_quota("a/x", Some(quota("mem:64")));
    assert_eq!(why(&allocator), Ok(resources("mem:64")));
}

#[test]
fn constraints_and_demand_are_told() {
    let mut allocator = Hierarchical::default();
    put_agent(&mut allocator, 0, "cpus:2;mem:64");
    let constraint = v1::scheduler::AttributeConstraint {
        selector: Selector {
            selector: Some(selector::Selector::AttributeName("rack".to_owned())),
        },
        predicate: Predicate {
            predicate: Some(predicate::Predicate::Exists(predicate::Exists {})),
        },
    };
    let constraints = RoleConstraints {
        groups: vec![Group {
            attribute_constraints: vec![constraint],
        }],
    };
    let constraints = Some(Arc::new(Constraints::compile(&constraints).expect("valid")));
    put_wishes(
        &mut allocator,
        0,
        Wishes {
            constraints,
            ..wishes("a")
        },
    );
    assert_eq!(allocator.verdict(claim(0), agent(0)), Err(Reason::Constraints));
    let demand = Some(vec![Shape {
        agent: None,
        resources: quantities("cpus:3"),
        count: 1,
    }]);
    allocator.put_claim(claim(0), Wishes { demand, ..wishes("a") });
    assert_eq!(allocator.verdict(claim(0), agent(0)), Err(Reason::NoShapeFits));
}
