use proffer_master_core::Config;
use proffer_proto::v1::scheduler::{Call, call};

use super::*;
use crate::outbox::{Bounds, outbox};

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

#[test]
fn an_applied_registry_that_fails_is_made_anew_and_the_master_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path(), "test").unwrap();
    let path = home.registry.clone();
    let settings = Settings {
        snapshot_entries: 1000,
        advertise: "here:5050".to_owned(),
    };
    let (leader, _) = watch::channel(None);
    let mut driver = Driver::new(home, Config::default(), settings, leader).unwrap();
    driver.settle().unwrap();
    assert!(driver.master.is_leader());

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
    driver.settle().unwrap();
    assert_eq!(answer.try_recv(), Ok(proffer_master_core::Answer::Accepted));
    let registry = driver.master.registry();
    let id = registry.frameworks[0].info.id.as_ref().unwrap();
    driver.registry.as_ref().unwrap().damage(id);

    // The next change of the framework reads the record.
    driver.ended(Ended::Scheduler(stream));
    driver.settle().unwrap();
    assert_eq!(driver.rebuilds_left, REBUILDS - 1);
    assert!(driver.registry.is_some());
    let (applied, registry) = (driver.replica.applied(), driver.master.registry());
    assert!(registry.frameworks[0].failover_deadline_ms.is_some());
    driver.stop();
    drop(driver);
    let (_, on_disk, index) = AppliedRegistry::open(&path).unwrap();
    assert_eq!((on_disk, index), (registry, applied));
}
