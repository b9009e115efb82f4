//! The frameworks' replicated state, through real masters that are killed.

use std::time::Duration;

use anyhow::ensure;
use proffer_sdk::state::{Change, Outcome, State, StateError};
use proffer_tests::Cluster;

use crate::until;

/// Longer than any election.
const PATIENT: Duration = Duration::from_secs(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_outlives_the_leader_and_the_scheduler() -> anyhow::Result<()> {
    let mut cluster = Cluster::builder("state").masters(3).agents(0).start().await?;
    let framework = cluster.framework("state").await?;
    let state = State::for_framework(cluster.masters(), framework.id()).timeout(PATIENT);
    let version = state.put("target", "3").await?;
    ensure!(
        state.create("target", "4").await?
            == Outcome::Conflict {
                present: state.get("target").await?
            }
    );

    let killed = cluster.kill_leader().await?;
    let kept = state.get("target").await?.expect("it was acknowledged");
    ensure!(kept.value == "3" && kept.version == version, "{kept:?}");
    let Outcome::Done { version: second } = state.compare_and_set("target", version, "5").await? else {
        anyhow::bail!("nobody else wrote");
    };
    ensure!(second > version);
    cluster.local().restart_master(killed).await?;

    // Another process of the framework, which knows nothing but the id.
    let framework = framework.fail_over().await?;
    let state = State::for_framework(cluster.masters(), framework.id()).timeout(PATIENT);
    ensure!(state.get("target").await?.is_some_and(|entry| entry.value == "5"));
    ensure!(state.keys("").await?.len() == 1);

    // It goes with its framework.
    framework.calls().teardown().await?;
    until("the state to go with its framework", async || {
        Ok(matches!(
            state.get("target").await,
            Err(StateError::Rejected(_)) | Ok(None)
        ))
    })
    .await?;
    let refused = state.put("target", "6").await;
    ensure!(matches!(refused, Err(StateError::Rejected(_))), "{refused:?}");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_writers_that_race_each_counts_once_while_leaders_are_killed() -> anyhow::Result<()> {
    const WRITERS: usize = 2;
    const TURNS: usize = 40;
    let mut cluster = Cluster::builder("race").masters(3).agents(0).start().await?;
    let state = State::of(cluster.masters(), "race").timeout(PATIENT);
    ensure!(
        state
            .create("turns", serde_json::to_vec(&[0; WRITERS])?)
            .await?
            .is_done()
    );
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let state = State::of(cluster.masters(), "race").timeout(PATIENT);
        writers.spawn(async move {
            for turn in 0..TURNS {
                take_turn(&state, writer, turn).await?;
            }
            anyhow::Ok(())
        });
    }
    for _ in 0..2 {
        let killed = cluster.kill_leader().await?;
        cluster.leader().await?;
        cluster.local().restart_master(killed).await?;
        cluster.caught_up().await?;
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let last = state.get("turns").await?.expect("never deleted");
    let turns: Vec<usize> = serde_json::from_slice(&last.value)?;
    ensure!(turns == [TURNS; WRITERS], "{turns:?}");
    cluster.stop().await
}

/// Counts one turn of a writer among those of all, whatever the others do.
async fn take_turn(state: &State, writer: usize, turn: usize) -> anyhow::Result<()> {
    loop {
        let entry = state.get("turns").await?.expect("never deleted");
        let mut turns: Vec<usize> = serde_json::from_slice(&entry.value)?;
        if turns[writer] == turn + 1 {
            // A write whose answer was lost was done.
            return Ok(());
        }
        ensure!(
            turns[writer] == turn,
            "writer {writer} took {turn} turns, and counted are {turns:?}"
        );
        turns[writer] += 1;
        let outcome = state
            .compare_and_set("turns", entry.version, serde_json::to_vec(&turns)?)
            .await?;
        if outcome.is_done() {
            return Ok(());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_is_refused_and_what_was_there_stays() -> anyhow::Result<()> {
    let mut cluster = Cluster::builder("limits")
        .masters(3)
        .agents(0)
        .master_arg("--state-bytes-max=4MiB")
        .start()
        .await?;
    let state = State::of(cluster.masters(), "limits").timeout(PATIENT);
    let mib = vec![7; 1 << 20];
    state.put("a", mib.clone()).await?;
    let too_large = state.put("a", vec![7; (1 << 20) + 1]).await;
    ensure!(matches!(too_large, Err(StateError::Rejected(_))), "{too_large:?}");
    state.put("b", mib.clone()).await?;
    state.put("c", mib.clone()).await?;
    let full = state.put("d", mib.clone()).await;
    ensure!(matches!(full, Err(StateError::Full(_))), "{full:?}");
    // What replaces is no more than what was there, and what is deleted makes room.
    state.put("a", mib.clone()).await?;
    state.delete("b").await?;
    state.put("d", mib).await?;
    for (namespace, key) in [("", "a"), ("white space", "a"), ("limits", ""), ("limits", "tab\t")] {
        let refused = State::of(cluster.masters(), namespace).put(key, "").await;
        ensure!(
            matches!(refused, Err(StateError::Rejected(_))),
            "{namespace:?} {key:?}: {refused:?}"
        );
    }
    let nobody = State::of(cluster.masters(), "framework/nobody").put("a", "").await;
    ensure!(matches!(nobody, Err(StateError::Rejected(_))), "{nobody:?}");

    // The limits and the contents are the new leader's too.
    let killed = cluster.kill_leader().await?;
    let keys: Vec<_> = state.keys("").await?.into_iter().map(|key| key.name).collect();
    ensure!(keys == ["a", "c", "d"], "{keys:?}");
    let full = state.put("e", vec![7; 1 << 20]).await;
    ensure!(matches!(full, Err(StateError::Full(_))), "{full:?}");
    cluster.local().restart_master(killed).await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_sees_what_is_there_after_the_leader_is_killed() -> anyhow::Result<()> {
    let mut cluster = Cluster::builder("watch").masters(3).agents(0).start().await?;
    let state = State::of(cluster.masters(), "watch").timeout(PATIENT);
    state.put("seen/a", "1").await?;
    state.put("unseen/a", "1").await?;
    let mut watch = state.watch("seen/");
    let mut present = std::collections::BTreeMap::new();
    let killed = cluster.kill_leader().await?;
    state.put("seen/b", "2").await?;
    state.delete("seen/a").await?;
    state.put("seen/end", "").await?;
    let watching = async {
        while !present.contains_key("seen/end") {
            match watch.next().await? {
                Change::Put(entry) => drop(present.insert(entry.key, entry.value)),
                Change::Deleted { key, .. } => drop(present.remove(&key)),
                _ => {}
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(proffer_tests::DEADLINE, watching).await??;
    ensure!(present.keys().eq(["seen/b", "seen/end"]), "{present:?}");
    cluster.local().restart_master(killed).await?;
    cluster.stop().await
}
