//! The scheduler: hands parts to executors, and adds up what they say.

use std::collections::HashMap;
use std::ops::Range;

use anyhow::{Context as _, bail};
use proffer_proto::v1::{CommandInfo, ExecutorInfo, TaskId, TaskState, TaskStatus, executor_info};
use proffer_sdk::offers::Matcher;
use proffer_sdk::{Context, Framework, Masters, Offers, Options, Scheduler, Task, is_terminal};

struct Primes {
    executor: ExecutorInfo,
    waiting: Vec<Range<u64>>,
    running: HashMap<TaskId, Range<u64>>,
    sum: u64,
    failure: Option<String>,
}

impl Scheduler for Primes {
    type Message = ();

    async fn offers(&mut self, context: &mut Context<()>, offers: Offers) {
        let mut matcher = Matcher::new(&offers);
        while let Some(part) = self.waiting.pop() {
            let task = Task::on_executor("part", self.executor.clone(), super::write(&part))
                .cpus(0.1)
                .mem(16.0);
            let Some(place) = matcher.place(task.shape()) else {
                return self.waiting.push(part);
            };
            self.running.insert(context.launch(place, task), part);
        }
        context.suppress();
    }

    async fn update(&mut self, context: &mut Context<()>, status: TaskStatus) {
        if !is_terminal(status.state()) {
            return;
        }
        let Some(part) = self.running.remove(&status.task_id) else {
            return;
        };
        let counted = std::str::from_utf8(status.data())
            .ok()
            .and_then(|text| text.parse::<u64>().ok());
        match (status.state(), counted) {
            (TaskState::TaskFinished, Some(primes)) => self.sum += primes,
            (TaskState::TaskLost | TaskState::TaskDropped | TaskState::TaskGone, _) => {
                self.waiting.push(part);
                context.revive();
            }
            (state, _) => self.failure = Some(format!("{}: {}", state.as_str_name(), status.message())),
        }
        if self.failure.is_some() || (self.waiting.is_empty() && self.running.is_empty()) {
            context.teardown();
        }
    }
}

/// Runs until every part is counted.
pub(super) async fn run(masters: Masters, parts: Vec<Range<u64>>, command: String) -> anyhow::Result<u64> {
    if parts.is_empty() {
        return Ok(0);
    }
    let executor = ExecutorInfo {
        r#type: Some(executor_info::Type::Custom.into()),
        executor_id: "primes".into(),
        name: Some("primes".into()),
        command: Some(CommandInfo {
            value: Some(command),
            ..Default::default()
        }),
        ..Default::default()
    };
    let primes = Primes {
        executor,
        waiting: parts,
        running: HashMap::new(),
        sum: 0,
        failure: None,
    };
    let options = Options::new(masters, Framework::new("primes"));
    let primes = proffer_sdk::run(primes, options)
        .await
        .context("running the framework")?;
    match primes.failure {
        Some(failure) => bail!("a part ended with {failure}"),
        None => Ok(primes.sum),
    }
}
