//! `proffer demo`: a whole cluster at work on real input, with failures, checked to the last request.
//!
//! The acts: a cluster of three masters starts; the service framework deploys a web service; the streaming engine follows
//! the service's access logs; requests flow; the leading master is killed; an instance is killed; a forbidden port is tried;
//! everything is counted and compared.

mod burst;
mod failover;
mod http;
mod stage;
mod summary;
mod witness;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use proffer_examples::load::{self, Load};
use proffer_proto::v1::TaskState;
use proffer_sdk::operator::AgentClient;
use proffer_services::catalogue::State;

use crate::exit::{Failure, FailureKind};
use crate::preflight;
use stage::Stage;
use summary::Summary;

/// How long any one thing may take before the demo gives up.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often progress is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// How many HTTP requests are driven at the service.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    pub(crate) requests: u64,
    /// Print the summary as one JSON object on the last line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Keep the cluster's files here; a directory of its own that is removed afterwards, if unset.
    #[arg(long, value_name = "PATH")]
    pub(crate) dir: Option<PathBuf>,
}

/// Runs the demo.
///
/// # Errors
/// This machine lacks something (which is named), a step failed, or what was counted does not agree.
pub(crate) async fn run(args: &DemoArgs) -> Result<(), Failure> {
    let missing = preflight::check();
    if !missing.is_empty() {
        let text = format!("the demo cannot run on this machine:{}", preflight::describe(&missing));
        return Err(Failure::new(FailureKind::Unsupported, text));
    }
    let mut stage = Stage::set(args.dir.clone()).await?;
    let result = play(&mut stage, args).await;
    say("stopping everything");
    let left_behind = stage.strike(args.dir.is_none()).await?;
    let mut summary = result?;
    summary.left_behind = left_behind;
    summary.print(args.json)?;
    match summary.failed_checks() {
        failed if failed.is_empty() => Ok(()),
        failed => Err(Failure::new(
            FailureKind::Failed,
            format!("the demo did not hold: {}", failed.join("; ")),
        )),
    }
}

async fn play(stage: &mut Stage, args: &DemoArgs) -> Result<Summary, Failure> {
    let mut launch_us = burst::run(stage.masters(), BURST_TASKS).await?;
    say(format!(
        "{BURST_TASKS} short tasks: each ran, launched within {} µs (p50)",
        summary::percentile(&mut launch_us, 0.5)
    ));
    let web = stage.deploy_web().await?;
    let job = stage.start_job().await?;
    let began = Instant::now();
    let prefix = format!("demo-{}", std::process::id());
    let mut config = load::Config::requests(args.requests, &prefix);
    // At least some ten seconds of traffic, so that there are windows to see and a failure in the middle.
    config.rate = Some((args.requests as f64 / 10.0).min(5_000.0));
    let load = Load::start(config, web.addresses.clone());

    progress_until(&load, &job, args.requests / 4).await?;
    let gap = failover::kill_the_leader(stage, &load).await?;
    progress_until(&load, &job, args.requests / 2).await?;
    let victim = kill_an_instance(stage).await?;
    progress_until(&load, &job, args.requests * 3 / 4).await?;
    let replacement_ms = replaced(stage, &victim).await?;
    let denied = try_forbidden_ports(stage).await?;
    progress_until(&load, &job, args.requests).await?;
    let report = load.finish().await;
    let elapsed = began.elapsed();

    say("the load is over; the job reads its logs to their end");
    job.handle.drain();
    let ended = with_deadline("the job to end", job.handle.wait_ended()).await?;
    let totals = job.handle.totals();
    let rows = job.handle.rows();
    let ids = stage.logged_ids()?;
    let comparison = report.compare(ids.iter().map(String::as_str));
    let catalogue = stage.catalogue();
    launch_us.extend(&catalogue.counts.launch_us);
    Ok(Summary {
        requests_answered: report.answered,
        requests_sent: report.answered + comparison.ambiguous_logged,
        requests_ambiguous: report.ambiguous.len() as u64,
        requests_logged: ids.len() as u64,
        requests_counted: totals.records,
        logs_agree: comparison.equal(),
        malformed: totals.malformed,
        windows: proffer_streaming::scheduler::distinct_windows(&rows) as u64,
        job_outcome: format!("{:?}", ended.outcome),
        job_drained: totals.drained,
        masters: stage::MASTERS as u64,
        leader_gap_ms: gap.calls_ms,
        gap_requests_answered: gap.requests_answered,
        gap_requests_failed: gap.requests_failed,
        gap_tasks_lost: gap.tasks_lost,
        gap_updates_lost: gap.updates_lost,
        master_back_ms: gap.back_ms,
        tasks_launched: (BURST_TASKS + failover::WITNESSES) as u64
            + catalogue.counts.launched
            + ended.workers.len() as u64,
        launch_p50_ms: summary::percentile(&mut launch_us, 0.50) as f64 / 1e3,
        launch_p99_ms: summary::percentile(&mut launch_us, 0.99) as f64 / 1e3,
        restarts: catalogue.counts.restarts,
        replacement_ms,
        denied_binds: denied.denied,
        tried_binds: denied.tried,
        request_p50_ms: report.latency_us(0.50) as f64 / 1e3,
        request_p99_ms: report.latency_us(0.99) as f64 / 1e3,
        requests_per_second: report.answered as f64 / elapsed.as_secs_f64(),
        left_behind: Vec::new(),
    })
}

/// How many short tasks show how fast launches are.
const BURST_TASKS: usize = 50;

/// Shows progress until so many requests are answered.
async fn progress_until(load: &Load, job: &stage::Job, answered: u64) -> Result<(), Failure> {
    let mut shown = Instant::now();
    let (mut last, mut last_change) = (0, Instant::now());
    loop {
        let progress = load.progress();
        if progress.answered >= answered {
            return Ok(());
        }
        if progress.answered != last {
            (last, last_change) = (progress.answered, Instant::now());
        } else if last_change.elapsed() > DEADLINE {
            return Err(Failure::new(
                FailureKind::Failed,
                format!("no request was answered for {DEADLINE:?}"),
            ));
        }
        if shown.elapsed() >= PROGRESS_INTERVAL {
            let totals = job.handle.totals();
            say(format!(
                "{} requests answered, {} counted by the stream, {} rows of windows",
                progress.answered, totals.records, totals.rows
            ));
            shown = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An instance that was killed, and when.
struct Victim {
    task_id: String,
    index: u32,
    at: Instant,
}

/// Kills the process of an instance, as a crash would.
async fn kill_an_instance(stage: &mut Stage) -> Result<Victim, Failure> {
    let catalogue = stage.catalogue();
    let endpoint = catalogue
        .endpoints()
        .into_iter()
        .next()
        .ok_or_else(|| Failure::new(FailureKind::Failed, "no instance of the service is running"))?;
    let (task_id, index) = (endpoint.task_id, endpoint.index);
    for address in stage.agent_addresses() {
        let mut agent = AgentClient::connect(&address)
            .await
            .map_err(|error| failed("ask an agent", error))?;
        let containers = agent
            .get_containers()
            .await
            .map_err(|error| failed("list containers", error))?
            .containers;
        let container = containers
            .iter()
            .find(|one| one.executor_id.as_ref().is_some_and(|id| id.value == task_id));
        let pid = container
            .and_then(|one| one.container_status.as_ref())
            .and_then(|status| status.executor_pid);
        if let Some(pid) = pid.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
            say(format!(
                "kill -9 of instance {index} (task {task_id}, process {})",
                pid.as_raw_nonzero()
            ));
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)
                .map_err(|error| failed("kill the instance", error))?;
            return Ok(Victim {
                task_id,
                index,
                at: Instant::now(),
            });
        }
    }
    Err(Failure::new(
        FailureKind::Failed,
        format!("no agent has a container of task {task_id}"),
    ))
}

/// Waits until another task runs in the place of the victim; returns how long that took, back-off included.
async fn replaced(stage: &Stage, victim: &Victim) -> Result<f64, Failure> {
    let wanted = stage.remote().wait_for(|catalogue| {
        let instances = catalogue.services.values().flat_map(|service| &service.instances);
        instances
            .filter(|instance| instance.index == victim.index && instance.state == State::Running)
            .any(|instance| instance.task_id.as_deref() != Some(&victim.task_id))
    });
    let catalogue = with_deadline("the instance to be replaced", wanted)
        .await?
        .map_err(|error| failed("wait", error))?;
    let instance = catalogue
        .services
        .values()
        .flat_map(|service| &service.instances)
        .find(|instance| instance.index == victim.index)
        .cloned();
    let since = instance.as_ref().and_then(|instance| instance.running_since_ms);
    let elapsed = match since {
        Some(since) => (since as f64 - unix_ms(victim.at)).max(0.0),
        None => victim.at.elapsed().as_secs_f64() * 1e3,
    };
    let task = instance.and_then(|instance| instance.task_id).unwrap_or_default();
    say(format!(
        "instance {} was replaced by task {task} after {elapsed:.0} ms",
        victim.index
    ));
    Ok(elapsed)
}

/// An instant of this process as milliseconds since the Unix epoch.
fn unix_ms(instant: Instant) -> f64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    (now.as_secs_f64() - instant.elapsed().as_secs_f64()) * 1e3
}

/// Binds that were tried and denied.
struct Binds {
    tried: u64,
    denied: u64,
}

/// Has every instance try to bind ports that were not allocated to it.
async fn try_forbidden_ports(stage: &Stage) -> Result<Binds, Failure> {
    let endpoints = stage.catalogue().endpoints();
    let mut binds = Binds { tried: 0, denied: 0 };
    for endpoint in &endpoints {
        for port in [80, 5050, endpoint.port ^ 1] {
            let address = format!("{}:{}", endpoint.host, endpoint.port);
            let answer = http::get_json(&address, &format!("/bind?port={port}")).await?;
            binds.tried += 1;
            let errno = answer["errno"].as_str().unwrap_or("none");
            binds.denied += u64::from(errno == "EPERM");
            if binds.tried == 1 {
                say(format!(
                    "instance {} may bind {} only; its bind of {port} ends with {errno}",
                    endpoint.index, endpoint.port
                ));
            }
        }
    }
    say(format!(
        "{} of {} binds outside the allocated ports were denied by the kernel",
        binds.denied, binds.tried
    ));
    Ok(binds)
}

async fn with_deadline<T>(what: &str, future: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(DEADLINE, future)
        .await
        .map_err(|_| Failure::new(FailureKind::Failed, format!("waited {DEADLINE:?} for {what}")))
}

fn failed(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Failed, format!("cannot {what}: {error}"))
}

/// Tells the audience; the summary goes to standard output, everything else here.
fn say(text: impl std::fmt::Display) {
    eprintln!("demo: {text}");
}

/// `TASK_FINISHED` is the only good end of a short task.
fn is_good_end(state: TaskState) -> bool {
    state == TaskState::TaskFinished
}
