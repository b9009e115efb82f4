//! The group of masters: changed while it works, and guarded against masters that may not take part.

use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context as _, ensure};
use proffer_master::log::{Batch, Directory, LogStore as _, Options, Wal};
use proffer_proto::masters::MastersList;
use proffer_proto::masters::master::Role;
use proffer_replication::eraftpb::Entry;
use proffer_sdk::state::State;
use proffer_tests::cluster::{built, group_at};
use proffer_tests::load::{Fleet, FleetOptions, Flood, FloodOptions};
use proffer_tests::{Cluster, DEADLINE};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::until;

/// Runs `proffer masters` with these arguments.
pub(crate) async fn output(masters: &str, args: &[&str]) -> anyhow::Result<Output> {
    let output = Command::new(built("proffer-under-test")?)
        .arg("masters")
        .args(args)
        .env("PROFFER_MASTER", masters)
        .output();
    Ok(tokio::time::timeout(DEADLINE, output).await??)
}

/// As [`output`], which must succeed; a learner that still lacks entries is waited for.
pub(crate) async fn command(masters: &str, args: &[&str]) -> anyhow::Result<String> {
    let mut said = String::new();
    until(
        &format!("`proffer masters {}` to succeed", args.join(" ")),
        async || {
            let output = output(masters, args).await?;
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            said = String::from_utf8(output.stdout)?;
            let again = errors.contains("still lacks") || errors.contains("another change");
            ensure!(output.status.success() || again, "{args:?}: {errors}");
            Ok(output.status.success())
        },
    )
    .await?;
    Ok(said)
}

fn voters(group: &MastersList) -> Vec<&str> {
    let voters = group.masters.iter().filter(|master| master.role() == Role::Voter);
    let mut addresses: Vec<_> = voters.map(|master| master.address.as_str()).collect();
    addresses.sort_unstable();
    addresses
}

fn sorted(mut addresses: Vec<&str>) -> Vec<&str> {
    addresses.sort_unstable();
    addresses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masters_come_and_go_while_tasks_are_launched() -> anyhow::Result<()> {
    let mut cluster = Cluster::builder("members").masters(3).agents(0).start().await?;
    let first = cluster.local().master_addresses().to_vec();
    let mut newcomers = Vec::new();
    for name in ["newcomer", "another"] {
        newcomers.push(cluster.newcomer(name, &[format!("--join={}", first.join(","))]).await?);
    }
    let all: Vec<_> = first
        .iter()
        .chain(newcomers.iter().map(|(_, address)| address))
        .cloned()
        .collect();
    let list = all.join(",");
    let fleet = Fleet::start(&FleetOptions::new(list.parse()?, 20))?;
    fleet.all_attached(DEADLINE).await?;
    let flood = Flood::start(FloodOptions {
        masters: list.parse()?,
        name: "members".to_owned(),
        wanted: 20,
        per_offer: 2,
        line: "sleep 0.2".to_owned(),
    });
    let busy = async |flood: &Flood| {
        let launched = flood.launched();
        until("more launches", async || Ok(flood.launched() > launched + 20)).await
    };
    busy(&flood).await?;

    // Learners until somebody says more.
    let [newcomer, another] = [0, 1].map(|index| newcomers[index].1.as_str());
    cluster
        .wait_for_group("two learners", |group| group.masters.len() == 5)
        .await?;
    let group = cluster.group().await?;
    ensure!(
        voters(&group) == sorted(first.iter().map(String::as_str).collect()),
        "{group:?}"
    );
    command(&list, &["add", newcomer]).await?;
    busy(&flood).await?;
    ensure!(
        cluster
            .group()
            .await?
            .masters
            .iter()
            .filter(|master| master.role() == Role::Voter)
            .count()
            == 4
    );

    // One leaves, another comes in its place, in one step.
    let leader = cluster.leader().await?;
    let [gone, replaced] = [(leader + 1) % 3, (leader + 2) % 3].map(|index| first[index].as_str());
    command(&list, &["rm", gone]).await?;
    busy(&flood).await?;
    command(&list, &["add", another, "--replaces", replaced]).await?;
    let expected = sorted(vec![&first[leader], newcomer, another]);
    let group = cluster.group().await?;
    ensure!(voters(&group) == expected && group.masters.len() == 3, "{group:?}");
    busy(&flood).await?;

    // Leadership moves when asked, and by itself where the leader is removed.
    command(&list, &["transfer", newcomer]).await?;
    ensure!(
        group_at(newcomer)
            .await?
            .masters
            .iter()
            .any(|master| master.leads && master.address == newcomer)
    );
    busy(&flood).await?;
    command(&list, &["rm", newcomer]).await?;
    busy(&flood).await?;
    let group = group_at(another).await?;
    ensure!(voters(&group) == sorted(vec![&first[leader], another]), "{group:?}");

    flood.want(0);
    flood.all_ended(DEADLINE).await?;
    fleet.all_acknowledged(DEADLINE).await?;
    ensure!(flood.unheard(&fleet.updates()).is_empty(), "updates were lost");
    ensure!(flood.unknown(fleet.tasks().into_keys()).is_empty(), "tasks were lost");
    ensure!(fleet.tasks().values().all(|state| state.is_terminal()));
    cluster.expect_error("removed from the group");
    drop((flood, fleet, newcomers));
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_lost_its_disk_does_not_vote_before_somebody_says_so() -> anyhow::Result<()> {
    let mut cluster = Cluster::builder("wiped").masters(3).agents(0).start().await?;
    let list = cluster.masters().to_string();
    let state = State::of(cluster.masters(), "wiped").timeout(DEADLINE);
    state.put("key", "value").await?;
    let leader = cluster.leader().await?;
    let wiped = (leader + 1) % 3;
    let address = cluster.local().master_addresses()[wiped].clone();
    let before = cluster.group().await?;
    let old = before
        .masters
        .iter()
        .find(|master| master.address == address)
        .context("it is a member")?
        .id;
    let work = work_directory(&mut cluster, wiped);
    cluster.local().kill_master(wiped);
    std::fs::remove_dir_all(&work)?;

    // As it was started before: it finds that the others have a cluster, and waits to be told to join.
    cluster.local().master_at(wiped).restart()?;
    until("it to say how to join", async || {
        Ok(cluster.local().master_at(wiped).log_tail().contains("--join"))
    })
    .await?;
    let group = cluster.group().await?;
    ensure!(
        group
            .masters
            .iter()
            .map(|master| master.id)
            .eq(before.masters.iter().map(|master| master.id))
    );

    cluster.local().kill_master(wiped);
    let others: Vec<_> = list.split(',').filter(|other| *other != address).collect();
    let join = format!("--join={}", others.join(","));
    let args = &mut cluster.local().master_at(wiped).spec_mut().args;
    args.retain(|arg| !arg.starts_with("--peers"));
    args.push(join);
    cluster.local().restart_master(wiped).await?;
    let is_newcomer = |master: &&proffer_proto::masters::Master| master.id != old && master.address == address;
    // It is in the list before the group has it.
    let is_learner = |master: &proffer_proto::masters::Master| master.role() == Role::Learner;
    let joined = |group: &MastersList| {
        let mut newcomers = group.masters.iter().filter(is_newcomer);
        newcomers.any(is_learner)
    };
    cluster.wait_for_group("it to join", joined).await?;
    let group = cluster.group().await?;
    let newcomer = group.masters.iter().find(is_newcomer).context("it joined")?;
    ensure!(is_learner(newcomer), "{group:?}");
    let (old, newcomer) = (old.to_string(), newcomer.id.to_string());
    command(&list, &["add", &newcomer, "--replaces", &old]).await?;
    let group = cluster.group().await?;
    ensure!(group.masters.len() == 3 && voters(&group).len() == 3, "{group:?}");

    // It counts: without another one, the two of them go on.
    cluster.caught_up().await?;
    let killed = cluster.kill_leader().await?;
    ensure!(state.get("key").await?.is_some_and(|entry| entry.value == "value"));
    state.put("key", "again").await?;
    cluster.local().restart_master(killed).await?;
    cluster.expect_error("--join");
    // Until it is replaced, the others look for the old one there.
    cluster.expect_error("which was here before");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_another_cluster_is_kept_out() -> anyhow::Result<()> {
    let mut cluster = Cluster::builder("mixed").masters(3).agents(0).start().await?;
    let leader = cluster.leader().await?;
    let follower = (leader + 1) % 3;
    let own = work_directory(&mut cluster, follower);
    let aside = own.with_file_name("aside");
    cluster.local().kill_master(follower);
    std::fs::rename(&own, &aside)?;

    // Made by a master of its own, and then started as if it were a member.
    let (mut alone, _) = cluster.newcomer("alone", &[]).await?;
    let foreign = alone.spec().directory.join("work");
    alone.signal(Signal::TERM);
    alone.wait(DEADLINE).await;
    std::fs::rename(&foreign, &own)?;
    let before = cluster.group().await?;
    cluster.local().master_at(follower).restart()?;
    until("the mistake to be told", async || {
        let tail = cluster.local().master_at(follower).log_tail();
        Ok(tail.contains("another cluster") || !cluster.local().master_at(follower).is_running())
    })
    .await?;
    // Whoever asks all addresses may hear of the other cluster: its master leads a group of one at one of them.
    let address = cluster.local().master_addresses()[leader].clone();
    let after = group_at(&address).await?;
    ensure!(
        after.cluster_id == before.cluster_id && after.leader == before.leader,
        "{before:?} {after:?}"
    );
    ensure!(
        after.term == before.term,
        "a master of another cluster caused an election"
    );
    let framework = cluster.framework("mixed").await?;
    drop(framework);

    cluster.local().kill_master(follower);
    std::fs::remove_dir_all(&own)?;
    std::fs::rename(&aside, &own)?;
    cluster.local().restart_master(follower).await?;
    cluster.caught_up().await?;
    cluster.expect_error("another cluster");
    cluster.expect_error("this master is of cluster");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_send_callers_on_and_nobody_answers_without_a_leader() -> anyhow::Result<()> {
    let mut cluster = Cluster::builder("redirect").masters(3).agents(0).start().await?;
    let leader = cluster.leader().await?;
    let addresses = cluster.local().master_addresses().to_vec();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for index in others {
        let answer = post(&addresses[index], "/api/v1/scheduler").await?;
        let location = format!("location: //{}/api/v1/scheduler\r\n", addresses[leader]);
        ensure!(
            answer.starts_with("HTTP/1.1 307 ") && answer.contains(&location),
            "{answer}"
        );
        let refused =
            proffer_proto::api::operator_client::OperatorClient::connect(format!("http://{}", addresses[index]))
                .await?
                .submit(proffer_proto::v1::master::Call::default())
                .await;
        let refused = refused.expect_err("it does not lead");
        let named = refused.metadata().get(proffer_sdk::LEADER_METADATA);
        ensure!(refused.code() == tonic::Code::Unavailable && named.is_some_and(|named| *named == addresses[leader]));
    }
    for index in [leader, others[0]] {
        cluster.local().kill_master(index);
    }
    until("the last one to give up its leader", async || {
        let answer = post(&addresses[others[1]], "/api/v1").await?;
        ensure!(
            answer.starts_with("HTTP/1.1 307 ") || answer.starts_with("HTTP/1.1 503 "),
            "{answer}"
        );
        Ok(answer.starts_with("HTTP/1.1 503 "))
    })
    .await?;
    for index in [leader, others[0]] {
        cluster.local().restart_master(index).await?;
    }
    cluster.caught_up().await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_log_is_cut_and_a_damaged_one_is_refused() -> anyhow::Result<()> {
    let mut cluster = Cluster::builder("log").masters(3).agents(0).start().await?;
    let state = State::of(cluster.masters(), "log").timeout(DEADLINE);
    for key in 0..20 {
        state.put(format!("key-{key}"), vec![7; 1000]).await?;
    }
    let leader = cluster.leader().await?;
    let follower = (leader + 1) % 3;
    cluster.caught_up().await?;
    let log = work_directory(&mut cluster, follower).join("log");

    cluster.local().kill_master(follower);
    tear(&log)?;
    cluster.local().restart_master(follower).await?;
    state.put("after", "the cut").await?;
    cluster.caught_up().await?;

    cluster.local().kill_master(follower);
    let whole = damage(&log)?;
    let master = cluster.local().master_at(follower);
    master.restart()?;
    let status = master.wait(DEADLINE).await.context("it was started")?;
    let said = master.log_tail();
    ensure!(!status.success(), "{said}");
    ensure!(
        said.contains("damaged") && said.contains("backup") && said.contains("join again"),
        "{said}"
    );
    // The others go on, and it is taken back when its log is whole.
    state.put("after", "the damage").await?;
    for (path, bytes) in whole {
        std::fs::write(path, bytes)?;
    }
    cluster.local().restart_master(follower).await?;
    cluster.caught_up().await?;
    cluster.expect_error("damaged");
    cluster.stop().await
}

fn work_directory(cluster: &mut Cluster, master: usize) -> PathBuf {
    cluster.local().master_at(master).spec().directory.join("work")
}

/// Leaves in the log what a power cut leaves of a write: some of its sectors.
fn tear(log: &Path) -> anyhow::Result<()> {
    const SECTOR: usize = 512;
    const FILL: u8 = 0x5c;
    let (mut wal, recovered) = Wal::open(Directory::create(log)?, Options::default())?;
    let last = recovered.entries.last();
    let entry = Entry {
        index: last.map_or(recovered.snapshot.index, |last| last.index) + 1,
        term: recovered.hard_state.term,
        data: vec![FILL; 8 * SECTOR].into(),
        ..Entry::default()
    };
    let batch = Batch {
        entries: &[entry],
        ..Batch::default()
    };
    wal.append(&[batch])?;
    drop(wal);
    for path in segments(log)? {
        let mut bytes = std::fs::read(&path)?;
        // What is written is masked, so that no sector of it is all zeros.
        let filled = |sector: &[u8]| sector.iter().all(|byte| *byte == sector[0]) && sector[0] == FILL ^ 0xa5;
        let Some(sector) = bytes.chunks_exact(SECTOR).position(filled) else {
            continue;
        };
        bytes[sector * SECTOR..][..2 * SECTOR].fill(0);
        std::fs::write(path, bytes)?;
        return Ok(());
    }
    anyhow::bail!("the entry is not in the log")
}

/// Changes a byte that was acknowledged, in every segment; returns what was there.
fn damage(log: &Path) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut whole = Vec::new();
    for path in segments(log)? {
        let bytes = std::fs::read(&path)?;
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or_default();
        let mut damaged = bytes.clone();
        damaged[used / 2] ^= 1;
        std::fs::write(&path, damaged)?;
        whole.push((path, bytes));
    }
    Ok(whole)
}

fn segments(log: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(log)? {
        let path = entry?.path();
        if path.extension().is_some_and(|suffix| suffix == "wal") {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Everything that a server answers to a POST.
async fn post(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await??;
    Ok(answer)
}
