//! How long the allocator takes, single-threaded: whole cycles, cycles in which nothing can be offered, roles with quota,
//! one event, and a gang among tasks that come and go.
//!
//! `cargo bench -p proffer-tests --bench allocator [-- --quick | --only=cycles|filters|quota|event|gangs]`
//!
//! Agents have `cpus:24;mem:4096;disk:4096;ports:[31000-32000]`, half of it in use, 16 fragments of the ports among it. A
//! figure is the least-disturbed of several rounds.

mod cycles;
mod gangs;

use std::time::{Duration, Instant};

use cycles::Cluster;
use proffer_tests::bench;

const BENCH: &str = "allocator";

/// The role of the framework with a number.
type Role = fn(u32) -> String;

fn main() {
    bench::print_machine(BENCH);
    let quick = bench::is_quick();
    if bench::wants("cycles") {
        full_cycles(quick);
    }
    if bench::wants("filters") {
        declined();
        filtered(if quick { 1000 } else { 10_000 }, 1000);
    }
    if bench::wants("quota") {
        quota(3000);
    }
    if bench::wants("event") {
        events(10_000, 1000, if quick { 10_000 } else { 100_000 });
    }
    if bench::wants("gangs") {
        gang(64, 16, if quick { 3 } else { 20 });
    }
}

fn any(_: u32) -> String {
    "*".to_owned()
}

fn own(index: u32) -> String {
    format!("role-{index}")
}

fn nested(index: u32) -> String {
    format!("org-{}/team-{}/role-{index}", index % 10, index % 100)
}

fn print(figure: &str, value: Duration, unit: &str, samples: usize) {
    let value = match unit {
        "ms" => value.as_secs_f64() * 1e3,
        "us" => value.as_secs_f64() * 1e6,
        _ => value.as_nanos() as f64,
    };
    bench::print(BENCH, &format!("{figure}_{unit}"), value, unit, samples);
}

/// The least of several rounds of a full cycle in which so many decisions are made.
fn least(cluster: &mut Cluster, rounds: usize, decisions: usize) -> Duration {
    let round = |_| {
        let (spent, made) = cluster.cycle();
        assert_eq!(made, decisions, "as many decisions as expected");
        cluster.give_back();
        cluster.allocator.touch();
        spent
    };
    (0..rounds).map(round).min().unwrap_or_default()
}

fn full_cycles(quick: bool) {
    let (rounds, large) = if quick { (5, 10_000) } else { (20, 50_000) };
    for (agents, claims) in [(10_000, 1000), (large, 1000)] {
        let roles: [(&str, Role); 3] = [("one_role", any), ("own_roles", own), ("nested_roles", nested)];
        for (name, role) in roles {
            let mut cluster = Cluster::new(agents, claims, role);
            eprintln!("{BENCH}: {agents} agents, {claims} frameworks, {name}");
            let spent = least(&mut cluster, rounds, agents as usize);
            print(&format!("full_cycle_{agents}x{claims}_{name}"), spent, "ms", rounds);
        }
    }
}

/// Every framework declined every agent.
fn declined() {
    let (agents, claims) = (1000, 100);
    eprintln!("{BENCH}: {agents} agents, {claims} frameworks, all declined");
    let mut cluster = Cluster::new(agents, claims, any);
    cluster.refuse(1000);
    let spent = least(&mut cluster, 100, 0);
    print(&format!("all_declined_cycle_{agents}x{claims}"), spent, "ms", 100);
    let unchanged = (0..1000).map(|_| {
        cluster.decide();
        cluster.decide().0
    });
    let unchanged = unchanged.min().unwrap_or_default();
    print(&format!("nothing_changed_{agents}x{claims}"), unchanged, "ns", 1000);
}

fn filtered(agents: u32, claims: u32) {
    for of_thousand in [500, 950, 999, 1000] {
        eprintln!("{BENCH}: {agents} agents, {claims} frameworks, {of_thousand} of 1000 pairs filtered");
        let mut cluster = Cluster::new(agents, claims, any);
        cluster.refuse(of_thousand);
        let decisions = if of_thousand < 1000 { agents } else { 0 };
        let spent = least(&mut cluster, 5, decisions as usize);
        let figure = format!("filtered_{of_thousand}_per_mille_cycle_{agents}x{claims}");
        print(&figure, spent, "ms", 5);
    }
}

fn quota(count: u32) {
    eprintln!("{BENCH}: {count} agents, roles with quota and frameworks");
    let (mut first, mut adding, mut empty) = (Duration::MAX, Duration::MAX, Duration::MAX);
    let rounds = 3;
    for _ in 0..rounds {
        let mut cluster = Cluster::new(0, count, own);
        cluster.put_quota(own);
        cluster.agents = count;
        cluster.put_agents(false);
        let (spent, made) = cluster.decide();
        assert!(made as u32 >= count, "every role is served");
        first = first.min(spent);
        // Every role is at its limit, and half of the agents are free.
        for _ in 0..10 {
            let (spent, made) = cluster.cycle();
            assert_eq!(made, 0, "all are at their limits");
            empty = empty.min(spent);
        }

        let mut cluster = Cluster::new(count, 1, own);
        cluster.decide();
        let began = Instant::now();
        for index in 1..=count {
            cluster.put_claim(index, own(index));
            cluster.decide();
        }
        adding = adding.min(began.elapsed());
    }
    print(&format!("quota_first_cycle_{count}"), first, "ms", rounds);
    print(&format!("quota_empty_cycle_{count}"), empty, "ms", rounds * 10);
    print(
        &format!("adding_{count}_frameworks_to_{count}_agents"),
        adding,
        "ms",
        rounds,
    );
}

/// A task ends where everything was offered, and where everybody declined what was free before.
fn events(agents: u32, claims: u32, count: u32) {
    for (name, refused) in [("taken", 0), ("declined", 1000)] {
        eprintln!("{BENCH}: {agents} agents, {claims} frameworks, one task ends, the rest is {name}");
        let mut cluster = Cluster::new(agents, claims, any);
        match refused {
            0 => {
                cluster.decide();
            }
            refused => {
                cluster.refuse(refused);
                cluster.decide();
            }
        }
        let events = (0..count).map(|number| cluster.event(number).as_secs_f64() * 1e6);
        let mut spent: Vec<f64> = events.collect();
        let figure = format!("freed_task_to_decision_{agents}x{claims}_{name}");
        bench::print_percentiles(BENCH, &figure, "us", &mut spent);
    }
}

/// A gang that needs a third of a cluster of which half ends every second.
fn gang(members: u64, agents: u64, rounds: u64) {
    eprintln!("{BENCH}: a gang of {members} over {agents} full agents, half of which ends every second");
    let (mut waited, mut worked) = (Vec::new(), Vec::new());
    for seed in 0..rounds {
        let decided = gangs::decide(members, agents, seed);
        eprintln!(
            "{BENCH}: waited {} ms of virtual time; the core worked {:.1} ms in {} steps; launched on {} agents",
            decided.waited.as_millis(),
            decided.worked.as_secs_f64() * 1e3,
            decided.steps,
            decided.agents
        );
        waited.push(decided.waited.as_secs_f64() * 1e3);
        worked.push(decided.worked.as_secs_f64() * 1e3);
    }
    bench::print_percentiles(
        BENCH,
        &format!("gang_of_{members}_on_{agents}_waited"),
        "ms",
        &mut waited,
    );
    bench::print_percentiles(
        BENCH,
        &format!("gang_of_{members}_on_{agents}_core_worked"),
        "ms",
        &mut worked,
    );
}
