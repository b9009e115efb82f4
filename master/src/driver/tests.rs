use proffer_master_core::{Answer, Config};
use proffer_proto::masters::master::Role;
use proffer_proto::raft::{Introduction, JoinAnswer, join_answer};
use proffer_proto::registry::RaiseLevel;
use proffer_proto::registry::change::Body;
use proffer_proto::v1::scheduler::{Call, call};
use proffer_replication::eraftpb::{ConfChange, ConfChangeType, ConfChangeV2, Entry, EntryType};
use protobuf::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt as _;

use super::*;
use crate::answers::answers;
use crate::applied::AppliedRegistry;
use crate::home::Home;
use crate::log::{self, Batch, Failure, LogStore, Position};
use crate::outbox::{Bounds, outbox};
use crate::snapshots::Snapshots;

fn subscribe() -> Call {
    Call {
        r#type: Some(call::Type::Subscribe as i32),
        subscribe: Some(Box::new(call::Subscribe {
            framework_info: v1::FrameworkInfo {
                user: "nobody".to_owned(),
                name: "first".to_owned(),
                failover_timeout: Some(60.0),
                ..v1::FrameworkInfo::default()
            },
            ..call::Subscribe::default()
        })),
        ..Call::default()
    }
}

fn settings(level: u32) -> Settings {
    Settings {
        snapshot_entries: 1000,
        advertise: "here:5050".to_owned(),
        level,
    }
}

/// A driver of a group of one, driven by the test.
async fn driver(directory: &std::path::Path, level: u32) -> Result<Driver, Error> {
    let mut driver = unsettled(directory, level)?;
    driver.begin().await?;
    settled(&mut driver).await?;
    Ok(driver)
}

/// A driver that may have others in its group, and waits for none of them.
async fn driver_of_several(directory: &std::path::Path) -> Result<Driver, Error> {
    let mut driver = unsettled(directory, 2)?;
    driver.settle()?;
    Ok(driver)
}

fn unsettled(directory: &std::path::Path, level: u32) -> Result<Driver, Error> {
    let home = Home::open(directory, "test").unwrap();
    let (events, _) = mpsc::channel(1);
    let (leader, _) = watch::channel(None);
    let me = Me {
        cluster_id: home.identity.cluster_id.clone(),
        cluster: home.identity.cluster.clone(),
        member: home.identity.member,
        address: "here:5050".to_owned(),
        level,
        version: "1.2.3".to_owned(),
    };
    let peers = Peers::start(me.clone(), events).map_err(Error::Thread)?;
    Driver::new(home, Config::default(), settings(level), me, peers, leader)
}

/// Settles until nothing is on its way to the disk.
async fn settled(driver: &mut Driver) -> Result<(), Error> {
    driver.settle()?;
    while driver.member.status().committed < driver.member.status().last {
        driver.bell.notified().await;
        driver.hear_writer()?;
        driver.settle()?;
    }
    Ok(())
}

#[tokio::test]
async fn an_applied_registry_that_fails_is_made_anew_and_the_master_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = driver(directory.path(), 2).await.unwrap();
    let path = directory.path().join("registry");

    let stream = StreamId(1);
    let (outbox, _reader) = outbox(Bounds::default(), || {});
    let (reply, mut answer) = oneshot::channel();
    driver.accept(Request::Subscribe {
        stream,
        text: "text".to_owned(),
        call: Box::new(subscribe()),
        outbox,
        reply,
    });
    settled(&mut driver).await.unwrap();
    assert_eq!(answer.try_recv(), Ok(Answer::Accepted));
    let registry = driver.master.registry();
    let id = registry.frameworks[0].info.id.clone().unwrap();
    driver.keeper.look(move |registry| registry.unwrap().damage(&id));

    // The next change of the framework reads the record.
    driver.ended(Ended::Scheduler(stream));
    settled(&mut driver).await.unwrap();
    assert!(driver.keeper.look(|registry| registry.is_none()));
    driver.settle().unwrap();
    assert!(driver.keeper.look(|registry| registry.is_some()));
    let (applied, registry) = (driver.member.applied(), driver.master.registry());
    assert!(registry.frameworks[0].failover_deadline_ms.is_some());
    driver.stop().unwrap();
    drop(driver);
    let (_, on_disk, index) = AppliedRegistry::open(&path).unwrap();
    assert_eq!((on_disk, index), (registry, applied));
}

/// A log whose disk fails in one way.
struct Failing(std::io::ErrorKind);

impl LogStore for Failing {
    fn append(&mut self, _: &[Batch<'_>]) -> Result<(), log::Error> {
        Err(log::Error::Io {
            action: "write",
            name: "a segment".to_owned(),
            source: self.0.into(),
        })
    }

    fn compact(&mut self, _: Position, _: u64) -> Result<(), log::Error> {
        Ok(())
    }
}

/// Raft panics at an error of its storage that it does not know (P13). So it has none: an error of the disk ends the driver, and
/// nothing is acknowledged after it.
#[tokio::test]
async fn p13_an_error_of_the_disk_ends_the_master_and_nothing_is_acknowledged_after() {
    use std::io::ErrorKind;
    for kind in [
        ErrorKind::StorageFull,
        ErrorKind::PermissionDenied,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::Other,
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut driver = driver(directory.path(), 2).await.unwrap();
        let snapshots = Snapshots::create(directory.path().join("other")).unwrap();
        let log = Box::new(Failing(kind));
        driver.writer = Writer::start(log, snapshots, Position::default(), driver.bell.clone()).unwrap();
        let (outbox, _reader) = outbox(Bounds::default(), || {});
        let (reply, mut answer) = oneshot::channel();
        driver.accept(Request::Subscribe {
            stream: StreamId(1),
            text: "text".to_owned(),
            call: Box::new(subscribe()),
            outbox,
            reply,
        });
        let failure = settled(&mut driver).await.unwrap_err();
        assert!(matches!(failure, Error::Write(Failure::Log(_))), "{failure:?}");
        assert!(failure.to_string().contains("has room"), "{failure}");
        assert!(answer.try_recv().is_err());
        drop(driver);
        assert!(answer.try_recv().is_err());
    }
}

/// Where raft's storage has no snapshot that fits a newcomer (P13), the driver takes one that does, and goes on.
#[tokio::test]
async fn p13_a_snapshot_that_is_wanted_is_taken_and_has_the_newcomer() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = driver(directory.path(), 2).await.unwrap();
    join(&mut driver, newcomer(2)).await;
    let (entries, _) = driver.member.since_snapshot();
    assert!(entries > 0);
    driver.replicated(Outcome::SnapshotWanted).unwrap();
    settled(&mut driver).await.unwrap();
    while driver.snapshots.is_under_way() {
        driver.bell.notified().await;
        settled(&mut driver).await.unwrap();
    }
    let (entries, _) = driver.member.since_snapshot();
    assert_eq!(entries, 0, "it is taken though none was due");
    driver.stop().unwrap();
    drop(driver);
    let home = Home::open(directory.path(), "test").unwrap();
    assert_eq!(home.snapshot.get_metadata().get_conf_state().learners, [77]);
}

/// A log of another leader's empty entry, of every kind of change of the configuration, also such as no member can apply, and of
/// a change of the registry behind them (P14).
#[tokio::test]
async fn p14_empty_entries_and_every_kind_of_change_are_applied_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = driver(directory.path(), 2).await.unwrap();
    let (last, term) = (first.member.status().last, first.member.status().term);
    first.stop().unwrap();
    drop(first);

    let mut home = Home::open(directory.path(), "test").unwrap();
    let entry = |after: u64, kind: EntryType, data: Vec<u8>| Entry {
        index: last + after,
        term,
        entry_type: kind,
        data: data.into(),
        ..Entry::default()
    };
    let mut old = ConfChange::default();
    old.set_change_type(ConfChangeType::AddLearnerNode);
    old.node_id = 5;
    // There is no joint configuration to leave.
    let leave = ConfChangeV2::default();
    let change = proffer_proto::registry::Change {
        body: Some(Body::RaiseLevel(RaiseLevel { level: 2 })),
    };
    let entries = [
        entry(1, EntryType::EntryNormal, Vec::new()),
        entry(2, EntryType::EntryConfChange, old.write_to_bytes().unwrap()),
        entry(3, EntryType::EntryConfChangeV2, leave.write_to_bytes().unwrap()),
        entry(4, EntryType::EntryConfChangeV2, b"\x7fnot a change".to_vec()),
        entry(5, EntryType::EntryNormal, entry::encode(&change)),
    ];
    let mut state = home.recovered.hard_state.clone();
    state.commit = last + 5;
    let batch = Batch {
        entries: &entries,
        hard_state: Some(&state),
        ..Batch::default()
    };
    home.wal.append(&[batch]).unwrap();
    drop(home);

    let mut again = driver_of_several(directory.path()).await.unwrap();
    assert_eq!(again.member.applied(), last + 5);
    assert_eq!(again.member.status().learners, [5]);
    assert_eq!(again.master.level(), 2);
    assert!(again.keeper.look(|registry| registry.is_some()));
    again.stop().unwrap();
    drop(again);
    let (_, _, index) = AppliedRegistry::open(&directory.path().join("registry")).unwrap();
    assert_eq!(index, last + 5);
}

/// An entry that is none of ours is refused with its place, not skipped and no panic (P14).
#[tokio::test]
async fn p14_an_entry_that_is_not_understood_ends_the_master() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = driver(directory.path(), 2).await.unwrap();
    let (last, term) = (first.member.status().last, first.member.status().term);
    first.stop().unwrap();
    drop(first);
    let mut home = Home::open(directory.path(), "test").unwrap();
    let strange = Entry {
        index: last + 1,
        term,
        data: b"\x09something".to_vec().into(),
        ..Entry::default()
    };
    let mut state = home.recovered.hard_state.clone();
    state.commit = last + 1;
    let batch = Batch {
        entries: &[strange],
        hard_state: Some(&state),
        ..Batch::default()
    };
    home.wal.append(&[batch]).unwrap();
    drop(home);
    let refusal = driver(directory.path(), 2).await.map(drop).unwrap_err();
    assert!(
        matches!(refusal, Error::UnknownEntry { index, kind: 9 } if index == last + 1),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_group_of_one_records_itself_and_raises_the_level() {
    let directory = tempfile::tempdir().unwrap();
    let mut held_back = driver(directory.path(), 1).await.unwrap();
    assert_eq!((held_back.master.level(), held_back.master.members().len()), (1, 0));
    held_back.stop().unwrap();
    drop(held_back);

    let driver = driver(directory.path(), 2).await.unwrap();
    assert_eq!(driver.master.level(), 2);
    let list = driver.masters_list();
    let [master] = list.masters.as_slice() else {
        panic!("not one master: {list:?}");
    };
    assert_eq!(
        (master.address.as_str(), master.version.as_str()),
        ("here:5050", "1.2.3")
    );
    assert!(master.leads && master.role() == Role::Voter && list.leader == Some(master.id));
}

#[tokio::test]
async fn a_registry_beyond_the_masters_level_is_refused_at_once_and_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver_of_two = driver(directory.path(), 2).await.unwrap();
    driver_of_two
        .propose_own(Body::RaiseLevel(RaiseLevel { level: 3 }))
        .unwrap();
    let refusal = settled(&mut driver_of_two).await.unwrap_err();
    assert!(
        matches!(
            refusal,
            Error::Level {
                level: 3,
                understood: 2
            }
        ),
        "{refusal}"
    );
    driver_of_two.stop().unwrap();
    drop(driver_of_two);
    let refusal = driver(directory.path(), 2).await.map(drop).unwrap_err();
    assert!(refusal.to_string().contains("start a newer version"), "{refusal}");
}

fn newcomer(level: u32) -> Introduction {
    Introduction {
        protocol: 1,
        member: 77,
        address: "there:5050".to_owned(),
        level,
        version: "1.2.3".to_owned(),
        ..Introduction::default()
    }
}

async fn join(driver: &mut Driver, newcomer: Introduction) -> JoinAnswer {
    let (reply, mut answer) = oneshot::channel();
    driver.accept(Request::Join { newcomer, reply });
    settled(driver).await.unwrap();
    answer.try_recv().unwrap()
}

fn refusal_of(answer: JoinAnswer) -> String {
    match answer.body {
        Some(join_answer::Body::Refusal(reason)) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn who_must_not_join_is_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = driver(directory.path(), 2).await.unwrap();
    let old = join(&mut driver, newcomer(1)).await;
    assert!(refusal_of(old).contains("start a newer version"));
    let foreign = Introduction {
        cluster_id: Some("another".to_owned()),
        ..newcomer(2)
    };
    let foreign = join(&mut driver, foreign).await;
    assert!(refusal_of(foreign).contains("another cluster"));
}

#[tokio::test]
async fn a_newcomer_becomes_a_learner_and_leaves_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = driver(directory.path(), 2).await.unwrap();
    for _ in 0..2 {
        // The second time it is there already.
        match join(&mut driver, newcomer(2)).await.body {
            Some(join_answer::Body::Joined(joined)) => assert_eq!(joined.members.len(), 2),
            other => panic!("did not join: {other:?}"),
        }
    }
    let list = driver.masters_list();
    let learner = list.masters.iter().find(|master| master.id == 77).unwrap();
    assert_eq!(
        (learner.role(), learner.address.as_str()),
        (Role::Learner, "there:5050")
    );

    let (reply, mut answer) = oneshot::channel();
    let remove = proffer_proto::masters::RemoveMaster {
        master: "there:5050".to_owned(),
    };
    let call = MastersCall::Remove(remove);
    driver.accept(Request::Masters { call, reply });
    settled(&mut driver).await.unwrap();
    let list = answer.try_recv().unwrap().unwrap();
    assert_eq!(list.masters.len(), 1);
    let refusal = refusal_of(join(&mut driver, newcomer(2)).await);
    assert!(refusal.contains("was removed"), "{refusal}");
}

#[tokio::test]
async fn a_member_that_comes_back_elsewhere_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = driver(directory.path(), 2).await.unwrap();
    join(&mut driver, newcomer(2)).await;
    let moved = Introduction {
        address: "elsewhere:5050".to_owned(),
        cluster_id: Some(driver.me.cluster_id.clone()),
        ..newcomer(2)
    };
    let (reply, mut answer) = oneshot::channel();
    driver.accept(Request::Introduce { who: moved, reply });
    settled(&mut driver).await.unwrap();
    assert_eq!(answer.try_recv().unwrap().leader.as_deref(), Some("here:5050"));
    assert_eq!(driver.master.members()[&77].address, "elsewhere:5050");
}

#[tokio::test]
async fn names_of_masters_that_are_not_there_are_answered_with_those_that_are() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = driver(directory.path(), 2).await.unwrap();
    let (reply, mut answer) = oneshot::channel();
    let remove = proffer_proto::masters::RemoveMaster {
        master: "nowhere:1".to_owned(),
    };
    let call = MastersCall::Remove(remove);
    driver.accept(Request::Masters { call, reply });
    let refusal = answer.try_recv().unwrap().unwrap_err();
    assert!(
        matches!(&refusal, MastersError::Wrong(text) if text.contains("here:5050")),
        "{refusal}"
    );
    // The last master does not leave.
    let (reply, mut answer) = oneshot::channel();
    let remove = proffer_proto::masters::RemoveMaster {
        master: "here:5050".to_owned(),
    };
    let call = MastersCall::Remove(remove);
    driver.accept(Request::Masters { call, reply });
    let refusal = answer.try_recv().unwrap().unwrap_err();
    assert!(matches!(refusal, MastersError::Refused(_)), "{refusal}");
}

#[tokio::test]
async fn calls_that_came_together_share_a_sync_and_are_answered_together() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = driver(directory.path(), 2).await.unwrap();
    let before = driver.writer.written().totals();
    let (intake, mut output) = answers();
    let calls = [("a", 1), ("", 2), ("b", 3), ("c", 4)].map(|(key, number)| {
        let put = state::Put {
            key: key.to_owned(),
            value: vec![7; 256].into(),
            expected_version: None,
        };
        let call = state::Call {
            namespace: "test".to_owned(),
            body: Some(state::call::Body::Put(put)),
        };
        (intake.ticket(number), call)
    });
    driver.accept(Request::StateCalls(calls.into()));
    settled(&mut driver).await.unwrap();
    let refused = output.next().await.unwrap().unwrap();
    assert!(
        matches!(&refused[..], [(2, Some(Answer::Rejected(_))), ..]),
        "{refused:?}"
    );
    let written = match refused.len() {
        1 => output.next().await.unwrap().unwrap(),
        _ => refused[1..].to_vec(),
    };
    let numbers: Vec<u64> = written.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 3, 4]);
    let after = driver.writer.written().totals();
    assert_eq!((after.syncs, after.entries), (before.syncs + 1, before.entries + 3));
    // Nothing is answered after a stop, and the caller hears that.
    drop(intake.ticket(5));
    assert!(matches!(&output.next().await.unwrap().unwrap()[..], [(5, None)]));
}
