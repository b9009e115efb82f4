//! A campaign against services: processes of all kinds are killed as `kill -9` does while updates roll, and in the end there
//! have to be exactly the wanted instances at the wanted version, each once.
//!
//! What there is, is asked of the agents: a container is there or not, whatever masters and schedulers think. What is killed,
//! and when, comes from a seed; what the machine makes of it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use proffer::local::{LocalProcess, ProcessSpec};
use serde_json::{Value, json};

use crate::http::request;
use crate::{Cluster, DEADLINE, cluster};

/// How long all may take to be as wanted, once nothing is killed any more.
const SETTLE_DEADLINE: Duration = Duration::from_secs(180);

/// What is done.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// Where chance begins.
    pub seed: u64,
    /// How many processes are killed.
    pub kills: usize,
    /// How many instances are wanted.
    pub instances: usize,
    /// How many agents there are.
    pub agents: usize,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How many schedulers, masters and agents were killed.
    pub killed: BTreeMap<&'static str, usize>,
    /// How many updates were begun.
    pub updates: usize,
    /// How often everything was looked at.
    pub looks: usize,
    /// Instances that were there twice at any of these times.
    pub duplicates: usize,
    /// Instances that were missing or too many, or had another version, at any of these times.
    pub wrong: usize,
    /// The longest time after which all was as wanted, in seconds.
    pub settled_max_seconds: f64,
}

/// The processes that may be killed.
struct World {
    cluster: Cluster,
    schedulers: Vec<LocalProcess>,
    controls: Vec<String>,
    masters: usize,
    campaign: Campaign,
    chance: Chance,
    /// The number of the version that is wanted.
    version: usize,
    outcome: Outcome,
}

/// Carries a campaign out.
///
/// # Errors
/// Something is not as wanted within a long time, or a process does not start again.
pub async fn run(cluster: Cluster, masters: usize, campaign: Campaign) -> anyhow::Result<(Cluster, Outcome)> {
    let mut world = World {
        cluster,
        schedulers: Vec::new(),
        controls: Vec::new(),
        masters,
        campaign,
        chance: Chance(campaign.seed),
        version: 0,
        outcome: Outcome::default(),
    };
    for number in 0..2 {
        world.start_scheduler(number).await?;
    }
    world.update().await?;
    world.look().await?;
    let mut killed = 0;
    while killed < campaign.kills {
        world.update().await?;
        for _ in 0..world.chance.below(4) + 1 {
            tokio::time::sleep(Duration::from_millis(world.chance.below(700))).await;
            world.kill().await?;
            killed += 1;
            if killed == campaign.kills {
                break;
            }
        }
        // Most updates are overtaken by the next; now and then all is looked at.
        if world.chance.below(4) == 0 {
            world.look().await?;
        }
    }
    world.look().await?;
    world.end().await
}

impl World {
    async fn start_scheduler(&mut self, number: usize) -> anyhow::Result<()> {
        let masters = self.cluster.masters().to_string();
        let args = ["services", "--control", "127.0.0.1:0", "--master", &masters];
        let name = format!("services-{number}");
        let mut process = LocalProcess::start(ProcessSpec {
            name: name.clone(),
            program: cluster::built("proffer-under-test")?,
            args: args.map(str::to_owned).into(),
            environment: Vec::new(),
            directory: self.cluster.local().directory().join(name),
        })?;
        self.controls.push(process.address(DEADLINE).await?);
        self.schedulers.push(process);
        Ok(())
    }

    /// Asks whichever scheduler is the active one, until one answers.
    async fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Value> {
        let began = Instant::now();
        loop {
            for control in &self.controls {
                let answer = tokio::time::timeout(Duration::from_secs(20), request(control, method, path, body)).await;
                if let Ok(Ok((200..300, answer))) = answer {
                    return Ok(answer);
                }
            }
            ensure!(
                began.elapsed() < SETTLE_DEADLINE,
                "no scheduler answers {method} {path}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Wants another version, in one of the ways in which there are updates.
    async fn update(&mut self) -> anyhow::Result<()> {
        self.version += 1;
        let policy = match self.chance.below(4) {
            0 => json!({"strategy": "blue-green"}),
            1 => json!({"canary": {"count": 1, "watch_seconds": 0.2, "max_failures": 1000}}),
            2 => json!({"minimum_healthy": 0.5, "over_capacity": 0}),
            _ => json!({}),
        };
        let spec = json!({
            "id": "web", "command": format!("exec sleep {}", self.command()), "instances": self.campaign.instances,
            "mem": 32, "cpus": 0.05, "kill_grace_seconds": 1, "update": policy,
            "backoff": {"initial_ms": 20, "max_ms": 200},
        });
        self.ask("PUT", "/v1/services/web", &spec.to_string()).await?;
        self.outcome.updates += 1;
        Ok(())
    }

    /// What tells the instances of the wanted version from others.
    fn command(&self) -> usize {
        1_000_000 + self.version
    }

    /// Kills one process and starts it again.
    async fn kill(&mut self) -> anyhow::Result<()> {
        let kinds = ["scheduler", "master", "agent"];
        let kind = kinds[self.chance.below(3) as usize];
        *self.outcome.killed.entry(kind).or_default() += 1;
        match kind {
            "scheduler" => {
                let number = self.chance.below(2) as usize;
                let process = &mut self.schedulers[number];
                process.kill();
                process.restart()?;
                self.controls[number] = process.address(DEADLINE).await?;
            }
            "master" => {
                let number = self.chance.below(self.masters as u64) as usize;
                self.cluster.local().kill_master(number);
                self.cluster.local().restart_master(number).await?;
            }
            _ => {
                let number = self.chance.below(self.campaign.agents as u64) as usize;
                self.cluster.restart_agent(number).await?;
            }
        }
        Ok(())
    }

    /// Waits until the update is done, and looks at every container.
    async fn look(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut service;
        loop {
            service = self.ask("GET", "/v1/services/web", "").await?;
            let instances = service["instances"].as_array().map_or(0, Vec::len);
            let whole = instances == self.campaign.instances && service["ready"] == self.campaign.instances;
            if whole && service["update"]["state"] == "done" {
                break;
            }
            ensure!(began.elapsed() < SETTLE_DEADLINE, "not as wanted: {service:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let known: BTreeSet<String> = service["instances"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| Some(one["task_id"].as_str()?.to_owned()))
            .collect();
        // What was told to end takes its time; what nobody knows of never goes.
        let mut containers = self.containers().await?;
        while containers.keys().cloned().collect::<BTreeSet<_>>() != known && began.elapsed() < SETTLE_DEADLINE {
            tokio::time::sleep(Duration::from_millis(50)).await;
            containers = self.containers().await?;
        }
        // The shell may not have made way for the command yet.
        let wanted = self.command().to_string();
        let right = containers.values().filter(|line| line.contains(&wanted)).count();
        let places: BTreeSet<&str> = containers
            .keys()
            .filter_map(|task| task.rsplit_once('.'))
            .map(|task| task.0)
            .collect();
        self.outcome.looks += 1;
        self.outcome.duplicates += containers.len() - places.len();
        self.outcome.wrong += containers.len().abs_diff(self.campaign.instances) + (containers.len() - right);
        let seconds = began.elapsed().as_secs_f64();
        self.outcome.settled_max_seconds = self.outcome.settled_max_seconds.max(seconds);
        Ok(())
    }

    /// The tasks that have a container, with their command lines.
    async fn containers(&mut self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        for agent in 0..self.campaign.agents {
            let answer = self.cluster.agent_client(agent).await?.get_containers().await?;
            for container in answer.containers {
                let task = container.executor_id.context("a container has an executor")?.value;
                let pid = container.container_status.and_then(|status| status.executor_pid);
                let line = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok());
                found.insert(task, line.unwrap_or_default());
            }
        }
        Ok(found)
    }

    async fn end(mut self) -> anyhow::Result<(Cluster, Outcome)> {
        self.ask("DELETE", "/v1/services/web", "").await?;
        let began = Instant::now();
        while !self.containers().await?.is_empty() {
            ensure!(began.elapsed() < SETTLE_DEADLINE, "containers are left");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for mut process in self.schedulers {
            process.kill();
        }
        Ok((self.cluster, self.outcome))
    }
}

/// Repeatable chance: the generator splitmix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}
