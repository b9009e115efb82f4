//! `kill -9` of the leading master: how long until a call is accepted again, until offers come, and until every agent is
//! back; and whether a task or an update was lost.
//!
//! `cargo bench -p proffer-tests --bench failover [-- --quick | --kills=N | --registrations=AGENTS]`: the last two do only the one
//! thing.
//!
//! Three masters are processes; the agents are simulated by one more process (this one), over the real protocol and with
//! the back-off of real agents. Every span begins with the kill. The run fails if a task or an update was lost.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use proffer_proto::api::state_client::StateClient;
use proffer_proto::state::{Call, Put, call};
use proffer_proto::v1::TaskState;
use proffer_tests::bench;
use proffer_tests::load::{Fleet, FleetOptions, Flood, FloodOptions};
use proffer_tests::{Cluster, DEADLINE};
use tonic::transport::{Channel, Endpoint};

const BENCH: &str = "failover";
/// Between attempts of a call, all masters having refused.
const PAUSE: Duration = Duration::from_millis(5);
/// What one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How often it is told how many tasks run.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Launching 100,000 tasks takes its time.
const LAUNCH_DEADLINE: Duration = Duration::from_secs(600);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    bench::print_machine(BENCH);
    if bench::is_quick() {
        kills(200, 10, Duration::from_secs(5)).await?;
        return registrations(500, 10, 1).await;
    }
    let (only_kills, only_agents) = (bench::number("--kills=")?, bench::number("--registrations=")?);
    if let Some(agents) = only_agents {
        return registrations(agents, 10, 5).await;
    }
    kills(1_000, only_kills.unwrap_or(100), Duration::MAX).await?;
    if only_kills.is_none() {
        registrations(1_000, 10, 5).await?;
        registrations(10_000, 10, 5).await?;
    }
    Ok(())
}

/// Kills leaders under a framework whose tasks come and go.
async fn kills(agents: usize, kills: usize, within: Duration) -> anyhow::Result<()> {
    let mut cluster = Cluster::builder("bench-failover").masters(3).agents(0).start().await?;
    let fleet = Fleet::start(&FleetOptions::new(cluster.masters(), agents))?;
    fleet.all_attached(DEADLINE).await?;
    let flood = Flood::start(FloodOptions {
        masters: cluster.masters(),
        name: BENCH.to_owned(),
        wanted: agents / 2,
        per_offer: 1,
        line: "sleep 2".to_owned(),
    });
    flood.running(agents / 4, DEADLINE).await?;
    let caller = Caller::new(cluster.local().master_addresses())?;
    let (mut accepted_ms, mut offered_ms, mut back_ms) = (Vec::new(), Vec::new(), Vec::new());
    let began = Instant::now();
    while accepted_ms.len() < kills && began.elapsed() < within {
        let spans = kill_leader(&mut cluster, &caller, &fleet, Some(&flood)).await?;
        accepted_ms.push(spans.accepted_ms);
        offered_ms.push(spans.offered_ms.context("there is a framework")?);
        back_ms.push(spans.back_ms);
        eprintln!(
            "{BENCH}: kill {}: accepted after {:.0} ms, offered after {:.0} ms, {agents} agents back after {:.0} ms",
            accepted_ms.len(),
            spans.accepted_ms,
            spans.offered_ms.unwrap_or_default(),
            spans.back_ms
        );
    }
    let launched = flood.launched();
    flood.want(0);
    flood.all_ended(DEADLINE).await?;
    fleet.all_acknowledged(DEADLINE).await?;
    let (tasks, updates) = (fleet.tasks(), fleet.updates());
    let unheard = flood.unheard(&updates);
    let unknown = flood.unknown(tasks.keys().cloned());
    let unfinished = tasks.values().filter(|state| !state.is_terminal()).count();
    eprintln!(
        "{BENCH}: {launched} tasks were launched, {} ran, {} updates",
        tasks.len(),
        updates.len()
    );
    bench::print_percentiles(BENCH, "kill_to_call_accepted", "ms", &mut accepted_ms);
    bench::print_percentiles(
        BENCH,
        &format!("kill_to_first_offers_{agents}_agents"),
        "ms",
        &mut offered_ms,
    );
    bench::print_percentiles(BENCH, &format!("kill_to_{agents}_agents_back"), "ms", &mut back_ms);
    print("tasks_lost", (unknown.len() + unfinished) as f64, "1", tasks.len());
    print("updates_lost", unheard.len() as f64, "1", updates.len());
    ensure!(unknown.is_empty(), "tasks are lost: {unknown:?}");
    ensure!(unfinished == 0, "{unfinished} tasks have not ended");
    ensure!(unheard.is_empty(), "{} updates are lost", unheard.len());
    cluster.stop().await
}

/// Every agent comes back with its tasks.
async fn registrations(agents: usize, tasks_each: usize, kills: usize) -> anyhow::Result<()> {
    let mut cluster = Cluster::builder("bench-registrations")
        .masters(3)
        .agents(0)
        .start()
        .await?;
    let options = FleetOptions {
        // Of exactly so many tasks.
        cpus: tasks_each as f64 * 0.1,
        ..FleetOptions::new(cluster.masters(), agents)
    };
    let began = Instant::now();
    let fleet = Fleet::start(&options)?;
    fleet.all_attached(LAUNCH_DEADLINE).await?;
    eprintln!(
        "{BENCH}: {agents} agents registered in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let tasks = agents * tasks_each;
    let flood = Flood::start(FloodOptions {
        masters: cluster.masters(),
        name: BENCH.to_owned(),
        wanted: tasks,
        per_offer: tasks_each,
        line: "wait".to_owned(),
    });
    let began = Instant::now();
    let launched = async {
        flood.running(tasks, LAUNCH_DEADLINE).await?;
        fleet.all_acknowledged(LAUNCH_DEADLINE).await
    };
    tokio::select! {
        launched = launched => launched?,
        () = tell(&flood) => {}
    }
    eprintln!(
        "{BENCH}: {tasks} tasks launched in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let caller = Caller::new(cluster.local().master_addresses())?;
    let (mut back_ms, mut after_ms) = (Vec::new(), Vec::new());
    let mut lost = 0;
    for _ in 0..kills {
        let spans = kill_leader(&mut cluster, &caller, &fleet, None).await?;
        back_ms.push(spans.back_ms);
        after_ms.push(spans.back_ms - spans.accepted_ms);
        eprintln!(
            "{BENCH}: accepted after {:.0} ms, {agents} agents with {tasks} tasks back after {:.0} ms",
            spans.accepted_ms, spans.back_ms
        );
        let known = cluster.operator().timeout(DEADLINE).get_tasks().await?.tasks;
        let running = known
            .iter()
            .filter(|task| task.state() == TaskState::TaskRunning)
            .count();
        lost += tasks.saturating_sub(running);
        fleet.all_acknowledged(DEADLINE).await?;
    }
    let unheard = flood.unheard(&fleet.updates()).len();
    let best = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    print(
        &format!("kill_to_{agents}_agents_{tasks}_tasks_back_best_ms"),
        best(&back_ms),
        "ms",
        kills,
    );
    print(
        &format!("leader_to_{agents}_agents_{tasks}_tasks_back_best_ms"),
        best(&after_ms),
        "ms",
        kills,
    );
    bench::print_percentiles(
        BENCH,
        &format!("kill_to_{agents}_agents_{tasks}_tasks_back"),
        "ms",
        &mut back_ms,
    );
    bench::print_percentiles(
        BENCH,
        &format!("leader_to_{agents}_agents_{tasks}_tasks_back"),
        "ms",
        &mut after_ms,
    );
    print(&format!("tasks_lost_{agents}_agents"), lost as f64, "1", kills);
    print(&format!("updates_lost_{agents}_agents"), unheard as f64, "1", kills);
    ensure!(lost == 0, "{lost} tasks are not running after a failover");
    ensure!(unheard == 0, "{unheard} updates are lost");
    cluster.stop().await
}

/// Says again and again how many tasks run.
async fn tell(flood: &Flood) {
    let mut clock = tokio::time::interval(TELL_EVERY);
    clock.tick().await;
    loop {
        clock.tick().await;
        eprintln!("{BENCH}: {} launched, {} run", flood.launched(), flood.count_running());
    }
}

struct Spans {
    accepted_ms: f64,
    offered_ms: Option<f64>,
    back_ms: f64,
}

/// Kills the leader, measures, and makes the group whole again.
async fn kill_leader(
    cluster: &mut Cluster,
    caller: &Caller,
    fleet: &Fleet,
    flood: Option<&Flood>,
) -> anyhow::Result<Spans> {
    let leader = cluster.leader().await?;
    fleet.begin_round();
    if let Some(flood) = flood {
        flood.forget_offers();
    }
    let killed = Instant::now();
    cluster.local().kill_master(leader);
    let since = |at: Instant| at.duration_since(killed).as_secs_f64() * 1e3;
    let accepted = async { anyhow::Ok(since(caller.accepted().await?)) };
    let offered = async {
        match flood {
            Some(flood) => Ok(Some(since(flood.first_offer(DEADLINE).await?.into_std()))),
            None => anyhow::Ok(None),
        }
    };
    let back = async {
        fleet.all_back(DEADLINE).await?;
        anyhow::Ok(since(Instant::now()))
    };
    let (accepted_ms, offered_ms, back_ms) = tokio::try_join!(accepted, offered, back)?;
    cluster.local().restart_master(leader).await?;
    cluster.caught_up().await?;
    fleet.all_attached(DEADLINE).await?;
    Ok(Spans {
        accepted_ms,
        offered_ms,
        back_ms,
    })
}

/// Asks every master in turn for a write until one accepts it.
struct Caller {
    masters: Vec<StateClient<Channel>>,
}

impl Caller {
    fn new(addresses: &[String]) -> anyhow::Result<Self> {
        let masters = addresses.iter().map(|address| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
            anyhow::Ok(StateClient::new(endpoint.connect_lazy()))
        });
        Ok(Caller {
            masters: masters.collect::<Result<_, _>>()?,
        })
    }

    /// When a write was accepted: committed by a majority.
    async fn accepted(&self) -> anyhow::Result<Instant> {
        let began = Instant::now();
        while began.elapsed() < DEADLINE {
            for master in &self.masters {
                let call = Call {
                    namespace: BENCH.to_owned(),
                    body: Some(call::Body::Put(Put {
                        key: "probe".to_owned(),
                        value: vec![1].into(),
                        expected_version: None,
                    })),
                };
                let answer = tokio::time::timeout(ATTEMPT, master.clone().submit(call)).await;
                if let Ok(Ok(_)) = answer {
                    return Ok(Instant::now());
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        anyhow::bail!("no master accepts a write after {DEADLINE:?}")
    }
}

fn print(figure: &str, value: f64, unit: &str, samples: usize) {
    bench::print(BENCH, figure, value, unit, samples);
}
