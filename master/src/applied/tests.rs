//! What sled holds is what the core holds, and what is not whole is noticed.

use proffer_master_core::{Config, Effects, Input, Master, Timestamp};
use proffer_proto::registry::change::Body;
use proffer_proto::registry::{
    AdmitAgent, ForgetCompleted, FrameworkConnected, FrameworkDisconnected, Layout, Maintenance, MarkGone,
    MarkReachable, MarkUnreachable, Operation, PutFramework, PutMember, RaiseLevel, RemoveAgent, RemoveFramework,
    RemoveMember, SetLayout, SetMaintenance, SetQuotas, SetStanding, SetWeights, Standing, UpdateAgent, WriteState,
};
use proffer_proto::v1;
use proptest::prelude::*;

use super::*;

fn agent(number: u8, hostname: &str) -> v1::AgentInfo {
    v1::AgentInfo {
        hostname: hostname.to_owned(),
        id: Some(v1::AgentId::from(format!("a{number}"))),
        ..v1::AgentInfo::default()
    }
}

fn framework(number: u8, name: &str) -> v1::FrameworkInfo {
    v1::FrameworkInfo {
        name: name.to_owned(),
        id: Some(v1::FrameworkId::from(format!("f{number}"))),
        ..v1::FrameworkInfo::default()
    }
}

fn member(id: u64) -> Member {
    Member {
        id,
        address: format!("host-{id}:5050"),
        level: 2,
        version: "1".to_owned(),
    }
}

/// A write of the frameworks' state, in a namespace of everybody or of a framework; some values are large.
fn write(kind: u8, number: u8, index: u64) -> Body {
    let length = if kind < 3 { usize::from(kind) } else { 3000 };
    Body::WriteState(WriteState {
        namespace: match kind % 2 {
            0 => "app".to_owned(),
            _ => format!("framework/f{number}"),
        },
        key: format!("k{}", number % 3),
        value: (kind != 4).then(|| vec![index as u8; length].into()),
        expected_version: (kind == 5).then_some(0),
    })
}

/// Some quotas are none.
fn quota(number: u8, at_ms: i64) -> Quota {
    let mut quota = Quota {
        role: format!("r{number}"),
        ..Quota::default()
    };
    if at_ms % 3 > 0 {
        quota.limits.insert("cpus".to_owned(), at_ms as u64);
    }
    quota
}

fn change(kind: u8, number: u8, at_ms: i64) -> Change {
    let agent_id = v1::AgentId::from(format!("a{number}"));
    let framework_id = v1::FrameworkId::from(format!("f{number}"));
    let body = match kind {
        0 | 11 => Body::AdmitAgent(AdmitAgent {
            agent: agent(number, "first"),
            at_ms,
        }),
        1 => Body::UpdateAgent(UpdateAgent {
            agent: agent(number, "second"),
        }),
        2 => Body::MarkUnreachable(MarkUnreachable { agent_id, at_ms }),
        3 => Body::MarkReachable(MarkReachable { agent_id }),
        4 => Body::MarkGone(MarkGone { agent_id, at_ms }),
        5 => Body::RemoveAgent(RemoveAgent { agent_id }),
        6 | 12 => Body::PutFramework(PutFramework {
            framework: framework(number, if kind == 6 { "one" } else { "two" }),
            at_ms,
        }),
        7 => Body::FrameworkDisconnected(FrameworkDisconnected {
            framework_id,
            deadline_ms: at_ms,
        }),
        8 => Body::FrameworkConnected(FrameworkConnected { framework_id }),
        9 => Body::RemoveFramework(RemoveFramework { framework_id, at_ms }),
        13 | 14 => Body::PutMember(PutMember {
            member: member(u64::from(number)),
        }),
        15 => Body::RemoveMember(RemoveMember { id: u64::from(number) }),
        16 => Body::RaiseLevel(RaiseLevel {
            level: u32::from(number),
        }),
        17..25 => write(kind - 17, number, at_ms as u64),
        25 => Body::SetStanding(SetStanding {
            agent_id,
            standing: Standing {
                deactivated: Some(number.is_multiple_of(2)),
                drain: None,
            },
        }),
        27 => Body::SetQuotas(SetQuotas {
            quotas: [number, number / 2].map(|number| quota(number, at_ms)).into(),
        }),
        28 => Body::SetWeights(SetWeights {
            weights: vec![Weight {
                role: format!("r{number}"),
                thousandths: 1000 + at_ms as u64 % 2,
            }],
        }),
        29 => Body::SetLayout(SetLayout {
            agent_id,
            layout: Layout {
                version: at_ms as u64,
                resources: vec![v1::Resource::default(); usize::from(number)],
                operations: vec![Operation {
                    framework_id,
                    uuid: vec![number; 16].into(),
                    ..Operation::default()
                }],
                ..Layout::default()
            },
        }),
        26.. => Body::SetMaintenance(SetMaintenance {
            maintenance: Maintenance {
                schedule: None,
                down: vec![v1::MachineId::default(); usize::from(number % 2)],
            },
        }),
        10 => Body::ForgetCompleted(ForgetCompleted {
            framework_ids: vec![framework_id],
            gone_agent_ids: vec![agent_id],
        }),
    };
    Change { body: Some(body) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn sled_holds_what_the_core_holds(
        changes in prop::collection::vec((0u8..30, 0u8..5), 1..120),
        lengths in prop::collection::vec(1usize..20, 1..8),
        cut in 0usize..80,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registry");
        let mut core = Master::new(Config::default());
        let mut effects = Effects::new();
        let mut applied = AppliedRegistry::rebuild(&path, &Registry::default(), 100).unwrap();
        let mut index = 100;
        let mut lengths = lengths.iter().cycle();
        let mut rest = &changes[..];
        let mut rebuilt = false;
        while !rest.is_empty() {
            let (part, later) = rest.split_at(rest.len().min(*lengths.next().unwrap()));
            rest = later;
            let mut batch = Vec::new();
            for (kind, number) in part {
                index += 1;
                let change = change(*kind, *number, index as i64);
                batch.push((index, change.clone()));
                let committed = Input::Committed { index, proposal: None, change };
                core.step(Timestamp(index), committed, &mut effects);
            }
            match &batch[..] {
                [(index, change)] => applied.apply(*index, change).unwrap(),
                batch => applied.apply_all(batch).unwrap(),
            }
            if index as usize > 100 + cut && !rebuilt {
                // As after a snapshot.
                rebuilt = true;
                drop(applied);
                applied = AppliedRegistry::rebuild(&path, &core.registry(), index).unwrap();
            }
        }
        applied.flush().unwrap();
        drop(applied);
        let (_, registry, read) = AppliedRegistry::open(&path).unwrap();
        prop_assert_eq!(read, index);
        prop_assert_eq!(&registry, &core.registry());
        let large = registry.state.iter().filter(|entry| entry.value.len() > 2048).count();
        prop_assert_eq!(files(&path), large);
    }
}

/// How many values have files.
fn files(path: &Path) -> usize {
    std::fs::read_dir(values::directory(path)).map_or(0, Iterator::count)
}

/// What the files take, and how many there are of large values.
fn space(path: &Path) -> u64 {
    let of = |path: &Path| -> u64 {
        let Ok(files) = std::fs::read_dir(path) else { return 0 };
        // sled may remove files meanwhile.
        files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
    };
    of(path) + of(&path.join("blobs")) + of(&values::directory(path))
}

fn put(key: u64, value: Vec<u8>) -> Change {
    Change {
        body: Some(Body::WriteState(WriteState {
            namespace: "app".to_owned(),
            key: format!("key-{key}"),
            value: Some(value.into()),
            expected_version: None,
        })),
    }
}

#[test]
fn space_stays_bounded_over_many_writes_of_the_same_keys() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry");
    let mut applied = AppliedRegistry::rebuild(&path, &Registry::default(), 0).unwrap();
    let mut index = 0;
    for round in 0u64..1000 {
        let batch: Vec<_> = (0..200)
            .map(|_| {
                index += 1;
                (index, put(index * 7 % 60, vec![index as u8; 500]))
            })
            .collect();
        applied.apply_all(&batch).unwrap();
        if round % 50 == 0 {
            applied.flush().unwrap();
        }
    }
    applied.flush().unwrap();
    let taken = space(&path);
    drop(applied);
    let (_, registry, read) = AppliedRegistry::open(&path).unwrap();
    assert_eq!((read, registry.state.len()), (200_000, 60));
    assert!(taken < 16 << 20, "200,000 writes of 30 kB left {taken} bytes");
}

#[test]
fn values_of_a_mebibyte_take_their_own_space_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry");
    let mut applied = AppliedRegistry::rebuild(&path, &Registry::default(), 0).unwrap();
    for index in 1..=200 {
        applied
            .apply(index, &put(index % 4, vec![index as u8; 1 << 20]))
            .unwrap();
    }
    let before_flush = space(&path);
    assert!(before_flush < 100 << 20, "it takes {before_flush} bytes");
    applied.flush().unwrap();
    assert_eq!(files(&path), 4);
    let taken = space(&path);
    assert!(taken < 6 << 20, "it takes {taken} bytes");
    drop(applied);
    let (_, registry, _) = AppliedRegistry::open(&path).unwrap();
    let values: Vec<_> = registry
        .state
        .iter()
        .map(|entry| (entry.version, &entry.value))
        .collect();
    for (version, value) in values {
        assert_eq!(value[..], vec![version as u8; 1 << 20]);
    }
}

#[test]
fn a_file_of_a_value_that_is_missing_or_changed_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry");
    for change in [true, false] {
        let mut applied = AppliedRegistry::rebuild(&path, &Registry::default(), 0).unwrap();
        applied.apply(1, &put(1, vec![1; 5000])).unwrap();
        applied.flush().unwrap();
        drop(applied);
        let file = values::directory(&path).join("1");
        if change {
            std::fs::write(file, vec![2; 5000]).unwrap();
        } else {
            std::fs::remove_file(file).unwrap();
        }
        let opened = AppliedRegistry::open(&path);
        assert!(matches!(opened, Err(Error::NotWhole(_) | Error::Io(_))), "{opened:?}");
    }
}

#[test]
fn a_file_that_no_record_names_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry");
    let mut applied = AppliedRegistry::rebuild(&path, &Registry::default(), 0).unwrap();
    applied.apply(1, &put(1, vec![1; 5000])).unwrap();
    applied.flush().unwrap();
    drop(applied);
    std::fs::write(values::directory(&path).join("99"), "left by a crash").unwrap();
    AppliedRegistry::open(&path).unwrap();
    assert_eq!(files(&path), 1);
}

#[test]
fn masters_that_left_are_forgotten_as_the_core_forgets_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry");
    let mut core = Master::new(Config::default());
    let removals = 1..=proffer_master_core::REMOVED_MEMBERS_MAX as u64 + 3;
    let batch: Vec<_> = removals
        .map(|id| {
            let body = Some(Body::RemoveMember(RemoveMember { id }));
            (id, Change { body })
        })
        .collect();
    for (index, change) in &batch {
        let committed = Input::Committed {
            index: *index,
            proposal: None,
            change: change.clone(),
        };
        core.step(Timestamp(0), committed, &mut Effects::new());
    }
    let mut applied = AppliedRegistry::rebuild(&path, &Registry::default(), 0).unwrap();
    let (first, rest) = batch.split_at(batch.len() - 2);
    applied.apply_all(first).unwrap();
    applied.apply_all(rest).unwrap();
    drop(applied);
    let (_, registry, _) = AppliedRegistry::open(&path).unwrap();
    assert_eq!(registry.removed_members.first(), Some(&4));
    assert_eq!(registry, core.registry());
}

#[test]
fn a_panic_of_sled_is_an_error() {
    let result = guarded::<()>(|| panic!("as the test wants"));
    assert!(matches!(result, Err(Error::Panicked)), "{result:?}");
}

#[test]
fn a_missing_or_changed_record_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry");
    let registry = Registry {
        agents: (0..9)
            .map(|number| Agent {
                info: agent(number, "first"),
                ..Agent::default()
            })
            .collect(),
        ..Registry::default()
    };
    for remove in [true, false] {
        let applied = AppliedRegistry::rebuild(&path, &registry, 7).unwrap();
        let record = Agent {
            info: agent(3, "other"),
            ..Agent::default()
        }
        .encode_to_vec();
        let old = if remove {
            applied.db.remove("aa3")
        } else {
            applied.db.insert("aa3", record)
        };
        assert!(old.unwrap().is_some());
        drop(applied);
        let opened = AppliedRegistry::open(&path);
        assert!(
            matches!(opened, Err(Error::NotWhole("its records do not add up"))),
            "{opened:?}"
        );
    }
}
