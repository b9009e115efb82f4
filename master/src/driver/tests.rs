use proffer_master_core::{Answer, Config};
use proffer_proto::masters::master::Role;
use proffer_proto::raft::{Introduction, JoinAnswer, join_answer};
use proffer_proto::registry::RaiseLevel;
use proffer_proto::registry::change::Body;
use proffer_proto::v1::scheduler::{Call, call};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::applied::AppliedRegistry;
use crate::home::Home;
use crate::log::{self, Batch, LogStore, Position};
use crate::outbox::{Bounds, outbox};
use crate::snapshots::Snapshots;

fn subscribe() -> Call {
    Call {
        r#type: Some(call::Type::Subscribe as i32),
        subscribe: Some(call::Subscribe {
            framework_info: v1::FrameworkInfo {
                user: "nobody".to_owned(),
                name: "first".to_owned(),
                failover_timeout: Some(60.0),
                ..v1::FrameworkInfo::default()
            },
            ..call::Subscribe::default()
        }),
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
    let peers = Peers::start(me.clone(), events);
    let mut driver = Driver::new(home, Config::default(), settings(level), me, peers, leader)?;
    driver.begin().await?;
    settled(&mut driver).await?;
    Ok(driver)
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

/// A log whose disk is full.
struct Full;

impl LogStore for Full {
    fn append(&mut self, _: &[Batch<'_>]) -> Result<(), log::Error> {
        Err(log::Error::Io {
            action: "write",
            name: "a segment".to_owned(),
            source: std::io::ErrorKind::StorageFull.into(),
        })
    }

    fn compact(&mut self, _: Position) -> Result<(), log::Error> {
        Ok(())
    }
}

#[tokio::test]
async fn a_full_disk_ends_the_master_and_nothing_is_acknowledged_after() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = driver(directory.path(), 2).await.unwrap();
    let snapshots = Snapshots::create(directory.path().join("other")).unwrap();
    driver.writer = Writer::start(Box::new(Full), snapshots, Position::default(), driver.bell.clone()).unwrap();
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
    assert!(failure.to_string().contains("has room"), "{failure}");
    assert!(answer.try_recv().is_err());
    drop(driver);
    assert!(answer.try_recv().is_err());
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
