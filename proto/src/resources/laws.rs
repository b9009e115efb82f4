//! The laws of resource arithmetic, and its agreement with naive twins.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::v1::resource::disk_info::{Persistence, Source, source};
use crate::v1::resource::{AllocationInfo, DiskInfo, ReservationInfo, RevocableInfo, SharedInfo};
use crate::v1::{self, value};

fn naive(ranges: &Ranges) -> BTreeSet<u64> {
    ranges.values().collect()
}

prop_compose! {
    fn ranges()(pairs in vec((0u64..60, 0u64..8), 0..8)) -> Ranges {
        Ranges::from_intervals(pairs.into_iter().map(|(begin, length)| (begin, begin + length))).unwrap()
    }
}

fn reservations() -> impl Strategy<Value = Vec<ReservationInfo>> {
    let layer = |role: &str, dynamic: bool| ReservationInfo {
        role: Some(role.into()),
        r#type: Some(if dynamic { 2 } else { 1 }),
        principal: dynamic.then(|| "operator".into()),
        labels: None,
        id: dynamic.then(|| "database".into()),
    };
    prop_oneof![
        3 => Just(Vec::new()),
        1 => any::<bool>().prop_map(move |dynamic| vec![layer("web", dynamic)]),
        1 => any::<bool>().prop_map(move |dynamic| vec![layer("web", dynamic), layer("web/shop", true)]),
    ]
}

fn plain(name: &str) -> v1::Resource {
    v1::Resource {
        name: name.into(),
        ..Default::default()
    }
}

fn scalar_message(name: &str, thousandths: u32) -> v1::Resource {
    v1::Resource {
        scalar: Some(Scalar::from_thousandths(thousandths.into()).into()),
        ..plain(name)
    }
}

fn quantity_message() -> impl Strategy<Value = v1::Resource> {
    prop_oneof![
        (0u32..5000).prop_map(|amount| scalar_message("cpus", amount)),
        (0u32..5000).prop_map(|amount| scalar_message("mem", amount)),
        ranges().prop_map(|ranges| v1::Resource {
            r#type: value::Type::Ranges as i32,
            ranges: Some((&ranges).into()),
            ..plain("ports")
        }),
        vec("[a-d]", 0..4).prop_map(|item| v1::Resource {
            r#type: value::Type::Set as i32,
            set: Some(value::Set { item }),
            ..plain("zones")
        }),
    ]
}

fn decorated() -> impl Strategy<Value = v1::Resource> {
    (quantity_message(), reservations(), any::<bool>(), option::of("[rs]")).prop_map(
        |(message, reservations, revocable, role)| v1::Resource {
            reservations,
            revocable: revocable.then(RevocableInfo::default),
            allocation_info: role.map(|role| AllocationInfo { role: Some(role) }),
            ..message
        },
    )
}

fn volume() -> impl Strategy<Value = v1::Resource> {
    ("[v-w]", 1u32..3, 0usize..2).prop_map(|(id, size, layers)| v1::Resource {
        disk: Some(Box::new(DiskInfo {
            persistence: Some(Persistence { id, principal: None }),
            ..Default::default()
        })),
        shared: Some(SharedInfo::default()),
        reservations: vec![ReservationInfo {
            role: Some(["web", "web/shop"][layers].into()),
            r#type: Some(2),
            ..Default::default()
        }],
        ..scalar_message("disk", size * 1000)
    })
}

fn resources() -> impl Strategy<Value = Resources> {
    vec(prop_oneof![4 => decorated(), 1 => volume()], 0..8).prop_map(|list| Resources::from_wire(&list).unwrap())
}

proptest! {
    #[test]
    fn addition_is_commutative_and_associative(a in resources(), b in resources(), c in resources()) {
        prop_assert_eq!(a.clone() + &b, b.clone() + &a);
        prop_assert_eq!((a.clone() + &b) + &c, a.clone() + &(b.clone() + &c));
        prop_assert_eq!(a.clone() + &Resources::new(), a);
    }

    #[test]
    fn what_was_added_can_be_taken_away(a in resources(), b in resources()) {
        let sum = a.clone() + &b;
        prop_assert!(sum.contains(&a) && sum.contains(&b));
        let left = sum.checked_sub(&b);
        prop_assert!(left.is_some());
        if !a.overlaps(&b) {
            prop_assert_eq!(left, Some(a));
        }
    }

    #[test]
    fn containment_is_the_order_of_subtraction(a in resources(), b in resources()) {
        prop_assert!(a.contains(&a));
        prop_assert!(a.contains(&Resources::new()));
        prop_assert_eq!(a.checked_sub(&a), Some(Resources::new()));
        prop_assert_eq!(a.contains(&b), a.checked_sub(&b).is_some());
        if a.contains(&b) && b.contains(&a) {
            prop_assert_eq!(&a, &b);
        }
        if let Some(left) = a.checked_sub(&b) {
            prop_assert_eq!(left + &b, a);
        }
    }

    #[test]
    fn a_part_can_be_taken_from_its_whole(a in resources(), keep in any::<u8>()) {
        let mut index = 0;
        let part = a.filter(|_| { index += 1; keep >> (index % 8) & 1 == 1 });
        let mut left = a.clone();
        prop_assert!(left.try_subtract(&part));
        prop_assert_eq!(left + &part, a);
    }

    #[test]
    fn the_wire_carries_everything(a in resources()) {
        let wire = a.to_wire();
        let back = Resources::from_wire(&wire).unwrap();
        prop_assert_eq!(back.to_wire(), wire);
        prop_assert_eq!(back, a);
    }

    #[test]
    fn allocation_and_reservation_can_be_undone(a in resources()) {
        let bare = a.unallocate();
        let allocated = bare.clone().allocate("web");
        prop_assert_eq!(allocated.allocated_to("web"), allocated.clone());
        prop_assert_eq!(allocated.unallocate(), bare.clone());
        prop_assert_eq!(bare.reserved() + &bare.unreserved(), bare.clone());
        prop_assert_eq!(bare.revocable() + &bare.non_revocable(), bare.clone());
        let layer = Reservation { role: "web/shop/cart".into(), dynamic: true, ..Reservation::default() };
        prop_assert_eq!(bare.clone().reserve(&layer).unreserve(), bare);
    }

    #[test]
    fn plain_text_can_be_read_back(cpus in 1u64..1 << 51, ports in ranges()) {
        let resources = Resources::of_scalar("cpus", Scalar::from_thousandths(cpus)) + Resources::of_ranges("ports", ports);
        prop_assert_eq!(Resources::parse(&resources.to_string()), Ok(resources));
    }

    #[test]
    fn ranges_agree_with_a_set_of_numbers(a in ranges(), b in ranges(), probe in 0u64..70, count in 0u64..70) {
        let (x, y) = (naive(&a), naive(&b));
        prop_assert_eq!(naive(&a.union(&b)), &x | &y);
        prop_assert_eq!(naive(&a.difference(&b)), &x - &y);
        prop_assert_eq!(naive(&a.intersection(&b)), &x & &y);
        prop_assert_eq!(a.contains(&b), x.is_superset(&y));
        prop_assert_eq!(a.contains_value(probe), x.contains(&probe));
        prop_assert_eq!(a.len(), x.len() as u64);
        let lowest = a.lowest(count).map(|lowest| naive(&lowest));
        let expected: BTreeSet<u64> = x.iter().copied().take(count as usize).collect();
        prop_assert_eq!(lowest, (expected.len() as u64 == count).then_some(expected));
        for result in [a.union(&b), a.difference(&b), a.intersection(&b)] {
            let normal = Ranges::from_intervals(result.intervals()).unwrap();
            prop_assert_eq!(normal, result, "every result is normalised");
        }
    }

    #[test]
    fn scalars_agree_with_wide_integers(a in 0u64..1 << 51, b in 0u64..1 << 51) {
        let (x, y) = (Scalar::from_thousandths(a), Scalar::from_thousandths(b));
        prop_assert_eq!(i128::from((x + y).thousandths()), i128::from(a) + i128::from(b));
        let difference = i128::from(a) - i128::from(b);
        let checked = x.checked_sub(y).map(|left| i128::from(left.thousandths()));
        prop_assert_eq!(checked, (difference >= 0).then_some(difference));
        prop_assert_eq!(i128::from(x.saturating_sub(y).thousandths()), difference.max(0));
        prop_assert_eq!(Scalar::from_f64(x.as_f64()), Ok(x), "the wire carries every thousandth");
        prop_assert_eq!(Scalar::from_f64(x.to_string().parse().unwrap()), Ok(x));
    }
}

#[test]
fn ranges_reach_the_largest_number() {
    let all = Ranges::from_intervals([(0, u64::MAX)]).unwrap();
    let end = Ranges::from_intervals([(u64::MAX, u64::MAX), (5, 5)]).unwrap();
    assert!(all.contains(&end));
    assert_eq!(all.union(&end), all);
    assert_eq!(all.difference(&all), Ranges::new());
    assert_eq!(
        all.difference(&end).intervals().collect::<Vec<_>>(),
        [(0, 4), (6, u64::MAX - 1)]
    );
    assert_eq!(all.len(), u64::MAX);
    assert_eq!(
        all.lowest(u64::MAX).unwrap().intervals().last(),
        Some((0, u64::MAX - 1))
    );
}

#[test]
fn operators_write_resources_as_text() {
    let text = "cpus:4;disk(role):100;mem:2048.5;ports:[31000-32000,33000-33000];zones:{a,b}";
    let resources =
        Resources::parse("zones:{b, a}; cpus : 4;mem:2048.5;ports:[33000, 31000-32000];disk(role):100;").unwrap();
    assert_eq!(resources.to_string(), text);
    assert_eq!(resources.cpus(), Scalar::from_whole(4));
    assert_eq!(resources.ports().len(), 1002);
    assert_eq!(resources.reserved_for("role").disk(), Scalar::from_whole(100));
    let json = serde_json::to_string(&resources.to_wire()).unwrap();
    assert_eq!(Resources::parse(&json), Ok(resources));
}

#[test]
fn text_that_is_no_resource_is_rejected_by_name() {
    for (text, expected) in [
        ("cpus", "`cpus` has no `:`"),
        ("cpus:four", "`cpus` is \"four\""),
        ("cpus:-1", "`cpus` is negative (-1)"),
        ("cpus:NaN", "`cpus` is NaN"),
        ("cpus:1e300", "`cpus` is too large"),
        ("cpus:[1-2]", "`cpus.type` is Ranges for cpus; accepted: Scalar"),
        ("gpus:0.5", "`gpus.scalar.value` is 0.5"),
        ("ports:[9-3]", "`ports[0]` begins after its end (9-3)"),
        ("ports:[a-b]", "`ports` has the range \"a-b\""),
        ("ports:[1-70000]", "`ports.ranges.range` holds 70000"),
        ("disk(a//b):1", "`disk.role` has an empty part"),
        ("disk(a:1", "`disk(a` has no `)`"),
        (":1", "`:1` has no name"),
        ("[{]", "the message is no list of resources in JSON"),
    ] {
        let rejection = Resources::parse(text).expect_err(text).to_string();
        assert!(rejection.starts_with(expected), "{text}: {rejection}");
    }
}

#[test]
fn both_forms_of_a_reservation_mean_the_same() {
    let layer = |role: &str, kind| ReservationInfo {
        role: Some(role.into()),
        r#type: Some(kind),
        ..Default::default()
    };
    #[allow(deprecated)]
    let older = |role: &str, reservation| v1::Resource {
        role: Some(role.into()),
        reservation,
        ..scalar_message("cpus", 1000)
    };
    let newer = |reservations| v1::Resource {
        reservations,
        ..scalar_message("cpus", 1000)
    };
    let read = |message: v1::Resource| Resources::from_wire(&[message]);
    assert_eq!(read(older("web", None)), read(newer(vec![layer("web", 1)])));
    assert_eq!(
        read(older("web", Some(Box::new(ReservationInfo::default())))),
        read(newer(vec![layer("web", 2)]))
    );
    assert_eq!(read(older("*", None)), read(newer(vec![])));
    #[allow(deprecated)]
    let mixed = v1::Resource {
        role: Some("other".into()),
        ..newer(vec![layer("web", 1)])
    };
    for (message, field) in [
        (mixed, "[0].role"),
        (
            older("*", Some(Box::new(ReservationInfo::default()))),
            "[0].reservation",
        ),
        (older("web", Some(Box::new(layer("other", 2)))), "[0].reservation.role"),
        (
            newer(vec![layer("web", 1), layer("other", 2)]),
            "[0].reservations[1].role",
        ),
        (
            newer(vec![layer("web", 1), layer("web/shop", 1)]),
            "[0].reservations[1].type",
        ),
        (newer(vec![layer("*", 1)]), "[0].reservations[0].role"),
        (newer(vec![ReservationInfo::default()]), "[0].reservations[0].role"),
    ] {
        assert_eq!(read(message).unwrap_err().field, field);
    }
}

#[test]
fn messages_that_contradict_themselves_are_rejected() {
    let cpus = scalar_message("cpus", 1000);
    let volume = v1::Resource {
        disk: Some(Box::new(DiskInfo {
            persistence: Some(Persistence::default()),
            ..Default::default()
        })),
        ..scalar_message("disk", 1000)
    };
    let with_id = |reservations| v1::Resource {
        disk: Some(Box::new(DiskInfo {
            persistence: Some(Persistence {
                id: "v".into(),
                principal: None,
            }),
            ..Default::default()
        })),
        reservations,
        ..scalar_message("disk", 1000)
    };
    let reserved = with_id(vec![ReservationInfo {
        role: Some("web".into()),
        r#type: Some(2),
        ..Default::default()
    }]);
    let ports = v1::Resource {
        r#type: 1,
        ranges: Some(value::Ranges {
            range: vec![value::Range { begin: 1, end: 2 }, value::Range { begin: 5, end: 3 }],
        }),
        ..plain("ports")
    };
    #[rustfmt::skip]
    let cases = [
        (vec![plain("cpus")], "[0].scalar"),
        (vec![cpus.clone(), plain("")], "[1].name"),
        (vec![v1::Resource { r#type: 3, ..plain("x") }], "[0].type"),
        (vec![v1::Resource { r#type: 77, ..plain("x") }], "[0].type"),
        (vec![v1::Resource { set: Some(value::Set::default()), ..cpus.clone() }], "[0].set"),
        (vec![v1::Resource { scalar: Some(value::Scalar { value: f64::NAN }), ..cpus.clone() }], "[0].scalar.value"),
        (vec![v1::Resource { scalar: Some(value::Scalar { value: f64::INFINITY }), ..cpus.clone() }], "[0].scalar.value"),
        (vec![v1::Resource { scalar: Some(value::Scalar { value: -0.001 }), ..cpus.clone() }], "[0].scalar.value"),
        (vec![v1::Resource { shared: Some(SharedInfo::default()), ..cpus.clone() }], "[0].shared"),
        (vec![v1::Resource { disk: Some(Box::new(DiskInfo::default())), ..cpus.clone() }], "[0].disk"),
        (vec![v1::Resource { allocation_info: Some(AllocationInfo::default()), ..cpus.clone() }], "[0].allocation_info.role"),
        (vec![ports], "[0].ranges.range[1]"),
        (vec![volume], "[0].disk.persistence.id"),
        (vec![with_id(vec![])], "[0].disk.persistence"),
        (vec![v1::Resource { revocable: Some(RevocableInfo::default()), ..reserved.clone() }], "[0].revocable"),
        (vec![reserved.clone(), reserved], "[1].disk.persistence.id"),
        (vec![scalar_message("x", 1), v1::Resource { r#type: 2, set: Some(value::Set::default()), ..plain("x") }], "[1].type"),
    ];
    for (list, field) in cases {
        assert_eq!(Resources::from_wire(&list).unwrap_err().field, field);
    }
}

#[test]
fn a_mount_is_there_whole_or_not_at_all() {
    let mount = |size| v1::Resource {
        disk: Some(Box::new(DiskInfo {
            source: Some(Source {
                r#type: source::Type::Mount as i32,
                ..Default::default()
            }),
            ..Default::default()
        })),
        ..scalar_message("disk", size)
    };
    let whole = Resources::from_wire(&[mount(5000)]).unwrap();
    let part = Resources::from_wire(&[mount(3000)]).unwrap();
    assert!(!whole.contains(&part));
    assert!(whole.contains(&whole));
    let two = whole.clone() + &whole;
    assert_eq!(two.disk(), Scalar::from_whole(10));
    assert_eq!(two.checked_sub(&whole), Some(whole));
}

#[test]
fn what_is_bounded_is_cut_where_it_can_be() {
    let resources = Resources::parse("cpus:2.5;disk:7;ports:[1-3,8-9];x:{a,b,c}").unwrap();
    let bounded = |bound: u64| {
        resources
            .bounded(|entry| (entry.name() != "disk").then_some(bound))
            .to_string()
    };
    assert_eq!(bounded(u64::MAX), resources.to_string());
    assert_eq!(bounded(4000), "cpus:2.5;disk:7;ports:[1-3,8-8];x:{a,b,c}");
    assert_eq!(bounded(2100), "cpus:2.1;disk:7;ports:[1-2];x:{a,b}");
    assert_eq!(bounded(999), "cpus:0.999;disk:7");
    let mount = v1::Resource {
        disk: Some(Box::new(DiskInfo {
            source: Some(Source {
                r#type: source::Type::Mount as i32,
                ..Default::default()
            }),
            ..Default::default()
        })),
        ..scalar_message("disk", 5000)
    };
    let whole = Resources::from_wire(&[mount]).unwrap();
    assert_eq!(whole.bounded(|_| Some(4_999)), Resources::new());
    assert_eq!(whole.bounded(|_| Some(5_000)), whole);
}

#[test]
fn what_operations_made_is_taken_off_again() {
    let declared = Resources::parse("cpus(web):2;disk:10;ports:[1-9]").unwrap();
    let layer = |role: &str, id: Option<&str>| Reservation {
        role: role.into(),
        dynamic: true,
        id: id.map(Into::into),
        ..Reservation::default()
    };
    let disk = declared
        .filter(|entry| entry.name() == "disk")
        .reserve(&layer("db", Some("main")));
    let cpus = declared
        .filter(|entry| entry.name() == "cpus")
        .reserve(&layer("web/shop", None));
    assert_eq!(disk.to_string(), "disk(db){reserved as main}:10");
    let mut volume = disk.to_wire();
    volume[0].disk = Some(Box::new(DiskInfo {
        persistence: Some(Persistence {
            id: "v1".into(),
            principal: None,
        }),
        ..DiskInfo::default()
    }));
    let volume = Resources::from_wire(&volume).unwrap();
    assert_eq!(volume.clone().to_plain_disk(), disk);
    let ports = declared.filter(|entry| entry.name() == "ports");
    let all = volume + &cpus + &ports;
    assert_eq!(all.converted() + &ports, all);
    assert_eq!(all.to_declared(), declared);
    assert_eq!(Resources::from_wire(&disk.to_wire()).unwrap(), disk, "ids are kept");
}

proptest! {
    #[test]
    fn what_is_common_is_in_both_and_nothing_more_is(a in resources(), b in resources()) {
        let common = a.common(&b);
        prop_assert!(a.contains(&common) && b.contains(&common));
        prop_assert_eq!(&common, &b.common(&a));
        let (rest_a, rest_b) = (a.checked_sub(&common).unwrap(), b.checked_sub(&common).unwrap());
        prop_assert!(rest_a.common(&rest_b).is_empty());
    }
}
