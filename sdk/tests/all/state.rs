//! The replicated state against scripted masters.

use std::time::Duration;

use proffer_sdk::state::{Change, Outcome, State, StateError, Watch};
use proffer_sdk::testing::FakeMaster;
use tonic::Status;

/// Two masters of one cluster, of which the first leads.
async fn two_masters() -> [FakeMaster; 2] {
    let first = FakeMaster::start().await;
    let second = first.start_beside().await;
    second.follow(Some(first.address()));
    [first, second]
}

fn state_of(masters: &[FakeMaster]) -> State {
    let list: Vec<String> = masters.iter().map(|master| master.address().to_string()).collect();
    State::of(list.join(",").parse().unwrap(), "test")
}

/// The second master leads from now on.
fn fail_over([first, second]: &[FakeMaster; 2]) {
    first.follow(Some(second.address()));
    second.lead();
}

async fn told(watch: &mut Watch, changes: usize) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..changes {
        let change = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
        told.push(match change.expect("a change comes").unwrap() {
            Change::Put(entry) => format!("{}@{}", entry.key, entry.version),
            Change::Deleted { key, version } => format!("-{key}@{version:?}"),
            Change::Current => ".".to_owned(),
        });
    }
    told
}

#[tokio::test]
async fn what_is_written_at_one_leader_is_read_at_the_next() {
    let masters = two_masters().await;
    let state = state_of(&masters);
    let version = state.put("k", "v").await.unwrap();
    fail_over(&masters);
    let entry = state.get("k").await.unwrap().unwrap();
    assert_eq!((&entry.value[..], entry.version), (&b"v"[..], version));
    state.delete("k").await.unwrap();
    state.delete("k").await.unwrap();
    assert_eq!(state.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_write_whose_condition_fails_tells_what_is_there() {
    let masters = two_masters().await;
    let state = state_of(&masters);
    let version = state.put("k", "theirs").await.unwrap();
    let Outcome::Conflict { present: Some(present) } = state.create("k", "mine").await.unwrap() else {
        panic!("the key is there");
    };
    assert_eq!((present.version, &present.value[..]), (version, &b"theirs"[..]));
    let gone = state.compare_and_delete("missing", 7).await.unwrap();
    assert_eq!(gone, Outcome::Conflict { present: None });
    assert!(state.compare_and_delete("k", version).await.unwrap().is_done());
}

#[tokio::test]
async fn a_follower_that_is_asked_first_puts_no_write_in_doubt() {
    let masters = two_masters().await;
    state_of(&masters).put("k", "theirs").await.unwrap();
    let from_the_follower = State::of(masters[1].masters(), "test");
    let outcome = from_the_follower.create("k", "mine").await.unwrap();
    assert!(matches!(outcome, Outcome::Conflict { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_conflict_after_a_lost_answer_is_of_unknown_origin() {
    let masters = two_masters().await;
    let state = state_of(&masters);
    let version = state.put("k", "1").await.unwrap();
    masters[0].lose_state_answer();
    let outcome = state.compare_and_set("k", version, "2").await.unwrap();
    let Outcome::Unknown { present: Some(present) } = &outcome else {
        panic!("nobody can know: {outcome:?}");
    };
    assert_eq!(present.value, "2");
    let version = present.version;
    assert_eq!(outcome.settle(b"2"), Outcome::Done { version });
}

#[tokio::test]
async fn a_write_that_was_refused_is_done_by_its_repetition() {
    let masters = two_masters().await;
    let state = state_of(&masters);
    let version = state.put("k", "1").await.unwrap();
    masters[0].refuse_state(Status::unavailable("resigned"));
    assert!(state.compare_and_set("k", version, "2").await.unwrap().is_done());
    masters[0].lose_state_answer();
    let again = state.put("k", "3").await.unwrap();
    assert_eq!(state.get("k").await.unwrap().unwrap().version, again);
}

#[tokio::test]
async fn what_cannot_be_done_says_why() {
    let master = FakeMaster::start().await;
    let state = State::of(master.masters(), "test");
    let error = state.put("k", vec![0; (1 << 20) + 1]).await.unwrap_err();
    assert!(
        matches!(&error, StateError::Rejected(text) if text.contains("`put.value`")),
        "{error}"
    );
    let error = state.get("tab\tbed").await.unwrap_err();
    assert!(
        matches!(&error, StateError::Rejected(text) if text.contains("`key`")),
        "{error}"
    );
    let error = State::of(master.masters(), "no spaces").keys("").await.unwrap_err();
    assert!(
        matches!(&error, StateError::Rejected(text) if text.contains("`namespace`")),
        "{error}"
    );
    for (status, expected) in [
        (
            Status::failed_precondition("level 1"),
            StateError::Refused("level 1".into()),
        ),
        (Status::resource_exhausted("full"), StateError::Full("full".into())),
        (Status::unimplemented("old"), StateError::Unsupported("old".into())),
    ] {
        master.refuse_state(status);
        assert_eq!(state.put("k", "v").await, Err(expected));
    }
}

#[tokio::test]
async fn without_a_leader_a_call_is_given_up_and_says_whether_it_may_have_been_done() {
    let master = FakeMaster::start().await;
    let state = State::of(master.masters(), "test").timeout(Duration::from_millis(300));
    let version = state.put("k", "1").await.unwrap();
    master.follow(None);
    let error = state.get("k").await.unwrap_err();
    assert!(matches!(error, StateError::Unavailable(_)), "{error}");
    let error = state.put("k", "2").await.unwrap_err();
    assert!(
        matches!(error, StateError::Unavailable(_)),
        "no leader was found to send it to: {error}"
    );
    master.lead();
    state.get("k").await.unwrap();
    master.follow(None);
    let error = state.compare_and_set("k", version, "2").await.unwrap_err();
    assert!(
        matches!(error, StateError::Unknown(_)),
        "the former leader was sent it: {error}"
    );
}

#[tokio::test]
async fn a_list_is_read_in_pages() {
    let master = FakeMaster::start().await;
    let state = State::of(master.masters(), "test");
    let large = vec![7_u8; 900 * 1024];
    for index in 0..6 {
        state.put(format!("large/{index}"), large.clone()).await.unwrap();
    }
    state.put("other", "").await.unwrap();
    let entries = state.list("large/").await.unwrap();
    assert_eq!(entries.len(), 6);
    assert!(entries.is_sorted_by(|left, right| left.key < right.key));
    assert!(entries.iter().all(|entry| entry.value == large));
    let keys: Vec<String> = state.keys("").await.unwrap().into_iter().map(|key| key.name).collect();
    assert_eq!(keys.last().map(String::as_str), Some("other"));
    assert_eq!(keys.len(), 7);
}

#[tokio::test]
async fn a_watch_goes_on_at_the_next_leader_with_what_it_missed() {
    let masters = two_masters().await;
    let state = state_of(&masters);
    for key in ["a", "b", "other"] {
        state.put(key, "").await.unwrap();
    }
    let mut watch = state.watch("");
    assert_eq!(told(&mut watch, 4).await, ["a@1", "b@2", "other@3", "."]);
    state.put("a", "x").await.unwrap();
    assert_eq!(told(&mut watch, 1).await, ["a@4"]);
    fail_over(&masters);
    let elsewhere = State::of(masters[1].masters(), "test");
    elsewhere.delete("b").await.unwrap();
    elsewhere.put("c", "x").await.unwrap();
    elsewhere.put("c", "y").await.unwrap();
    assert_eq!(told(&mut watch, 3).await, ["c@7", "-b@None", "."]);
    elsewhere.delete("c").await.unwrap();
    assert_eq!(told(&mut watch, 1).await, ["-c@Some(8)"]);
}

#[tokio::test]
async fn a_watch_that_is_not_accepted_says_so() {
    let master = FakeMaster::start().await;
    let mut watch = State::of(master.masters(), "no spaces").watch("");
    assert!(matches!(watch.next().await, Err(StateError::Rejected(_))));
}

#[tokio::test]
async fn many_calls_at_a_time_are_each_answered_over_a_change_of_the_leader() {
    let masters = two_masters().await;
    let state = state_of(&masters);
    let put = |number: usize| {
        let state = state.clone();
        async move { state.create(format!("k{number}"), number.to_string()).await }
    };
    let first = futures_util::future::join_all((0..300).map(put)).await;
    assert!(first.into_iter().all(|outcome| outcome.unwrap().is_done()));
    fail_over(&masters);
    // Most of them are refused by the former leader.
    let second = futures_util::future::join_all((250..600).map(put)).await;
    for (number, outcome) in (250..).zip(second) {
        let is_new = number >= 300;
        match outcome.unwrap() {
            Outcome::Done { .. } => assert!(is_new, "k{number} was there"),
            Outcome::Conflict { present } | Outcome::Unknown { present } => {
                assert!(!is_new, "k{number} was not there");
                assert_eq!(present.unwrap().value, number.to_string());
            }
        }
    }
    assert_eq!(state.keys("").await.unwrap().len(), 600);
}

#[tokio::test]
async fn a_master_that_takes_no_streams_is_called_alone() {
    let masters = two_masters().await;
    masters[0].take_no_streams();
    let state = state_of(&masters);
    let version = state.put("k", "1").await.unwrap();
    assert!(state.compare_and_set("k", version, "2").await.unwrap().is_done());
    fail_over(&masters);
    assert_eq!(state.get("k").await.unwrap().unwrap().value, "2");
}

#[tokio::test]
async fn a_call_that_is_too_large_harms_no_other() {
    let masters = two_masters().await;
    let state = state_of(&masters);
    let large = |bytes: usize| state.put("large", vec![0; bytes]);
    let (small, too_large, far_too_large) = tokio::join!(state.put("k", "v"), large((1 << 20) + 1), large(5 << 20));
    small.unwrap();
    assert!(matches!(too_large, Err(StateError::Rejected(_))), "{too_large:?}");
    assert!(
        matches!(far_too_large, Err(StateError::Rejected(_))),
        "{far_too_large:?}"
    );
    let entry = large(1 << 20).await.unwrap();
    assert_eq!(state.get("large").await.unwrap().unwrap().version, entry);
}
