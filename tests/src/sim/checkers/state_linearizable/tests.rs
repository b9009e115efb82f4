//! Histories that can and cannot be explained.

use proffer_proto::registry::WriteState;
use proffer_proto::state::{Conflict, Delete, Done, Entry, Get, Got, List, Listed, Put};

use super::*;

fn write(index: u64, key: &str, value: Option<&str>, expected_version: Option<u64>) -> (u64, Change) {
    let write = WriteState {
        namespace: "n".to_owned(),
        key: key.to_owned(),
        value: value.map(|value| value.to_owned().into_bytes().into()),
        expected_version,
    };
    let body = Some(change::Body::WriteState(write));
    (index, Change { body })
}

fn entry(key: &str, value: &str, version: u64) -> Entry {
    Entry {
        key: key.to_owned(),
        value: Some(value.to_owned().into_bytes().into()),
        version,
    }
}

fn operation(begun: u64, ended: u64, body: call::Body, answer: Option<answer::Body>) -> Operation {
    Operation {
        client: 0,
        begun,
        ended: answer.is_some().then_some(ended),
        call: Call {
            namespace: "n".to_owned(),
            body: Some(body),
        },
        answer: answer.map(|body| Answer { body: Some(body) }),
    }
}

fn put(begun: u64, ended: u64, value: &str, expected_version: Option<u64>, version: Option<u64>) -> Operation {
    let body = call::Body::Put(Put {
        key: "k".to_owned(),
        value: value.to_owned().into_bytes().into(),
        expected_version,
    });
    operation(
        begun,
        ended,
        body,
        version.map(|version| answer::Body::Done(Done { version })),
    )
}

fn get(begun: u64, ended: u64, seen: Option<Entry>) -> Operation {
    let body = call::Body::Get(Get { key: "k".to_owned() });
    operation(begun, ended, body, Some(answer::Body::Got(Got { entry: seen })))
}

fn list(begun: u64, ended: u64, entries: Vec<Entry>) -> Operation {
    let body = call::Body::List(List::default());
    let listed = Listed { entries, more: false };
    operation(begun, ended, body, Some(answer::Body::Listed(listed)))
}

#[test]
fn calls_that_overlap_may_be_seen_in_any_order() {
    let log = [write(5, "k", Some("a"), None), write(7, "k", Some("b"), None)];
    let operations = [
        put(1, 10, "a", None, Some(5)),
        put(2, 11, "b", None, Some(7)),
        get(3, 4, None),
        get(5, 6, Some(entry("k", "a", 5))),
        get(7, 12, Some(entry("k", "b", 7))),
        list(13, 14, vec![entry("k", "b", 7)]),
    ];
    check(&log, &operations).unwrap();
}

#[test]
fn a_stale_read_is_seen() {
    let log = [write(5, "k", Some("a"), None)];
    let operations = [put(1, 2, "a", None, Some(5)), get(3, 4, None)];
    assert!(check(&log, &operations).is_err());
}

#[test]
fn reads_that_go_back_are_seen() {
    let log = [write(5, "k", Some("a"), None), write(7, "j", Some("b"), None)];
    let mut second = put(1, 20, "b", None, Some(7));
    let Some(call::Body::Put(body)) = &mut second.call.body else {
        unreachable!()
    };
    body.key = "j".to_owned();
    let both = vec![entry("j", "b", 7), entry("k", "a", 5)];
    let sound = [
        put(0, 19, "a", None, Some(5)),
        second.clone(),
        list(3, 4, vec![entry("k", "a", 5)]),
        list(5, 6, both.clone()),
    ];
    check(&log, &sound).unwrap();
    let back = [
        put(0, 19, "a", None, Some(5)),
        second,
        list(3, 4, both),
        list(5, 6, vec![entry("k", "a", 5)]),
    ];
    assert!(check(&log, &back).is_err());
}

#[test]
fn a_lost_write_is_seen() {
    assert!(check(&[], &[put(1, 2, "a", None, Some(5))]).is_err());
}

#[test]
fn a_write_without_an_answer_may_take_effect_late_and_once() {
    let log = [write(5, "k", Some("a"), None)];
    let sound = [
        put(1, 0, "a", None, None),
        get(2, 3, None),
        get(4, 5, Some(entry("k", "a", 5))),
    ];
    check(&log, &sound).unwrap();
    check(&[], &sound[..2]).unwrap();
    let twice = [write(5, "k", Some("a"), None), write(6, "k", Some("a"), None)];
    assert!(check(&twice, &sound[..1]).is_err());
    let early = [get(1, 2, Some(entry("k", "a", 5))), put(3, 0, "a", None, None)];
    assert!(check(&log, &early).is_err());
}

#[test]
fn conflicts_must_have_a_reason_and_no_effect() {
    let conflict = |entry| answer::Body::Conflict(Conflict { entry });
    let expecting = |version, answer| {
        let body = call::Body::Delete(Delete {
            key: "k".to_owned(),
            expected_version: Some(version),
        });
        operation(3, 4, body, Some(answer))
    };
    let log = [write(5, "k", Some("a"), None), write(6, "k", None, Some(2))];
    let first = put(1, 2, "a", None, Some(5));
    let told = expecting(2, conflict(Some(entry("k", "a", 5))));
    check(&log, &[first.clone(), told]).unwrap();
    let without_reason = expecting(5, conflict(Some(entry("k", "a", 5))));
    assert!(check(&log, &[first.clone(), without_reason]).is_err());
    let stale = expecting(2, conflict(None));
    assert!(check(&log, &[first.clone(), stale]).is_err());
    let took_effect = [write(5, "k", Some("a"), None), write(6, "k", None, Some(5))];
    let told = expecting(4, conflict(Some(entry("k", "a", 5))));
    assert!(check(&took_effect, &[first, told]).is_err());
}

#[test]
fn the_state_of_a_removed_framework_is_gone() {
    let mut log = vec![write(5, "k", Some("a"), None)];
    if let Some(change::Body::WriteState(write)) = &mut log[0].1.body {
        write.namespace = "framework/f".to_owned();
    }
    let remove = proffer_proto::registry::RemoveFramework {
        framework_id: "f".to_owned().into(),
        at_ms: 0,
    };
    let body = Some(change::Body::RemoveFramework(remove));
    log.push((6, Change { body }));
    let mut operations = [put(1, 2, "a", None, Some(5)), get(3, 4, None), get(5, 6, None)];
    for operation in &mut operations {
        operation.call.namespace = "framework/f".to_owned();
    }
    check(&log, &operations).unwrap();
    operations[2].answer = Some(Answer {
        body: Some(answer::Body::Got(Got {
            entry: Some(entry("k", "a", 5)),
        })),
    });
    assert!(check(&log, &operations).is_err());
}
