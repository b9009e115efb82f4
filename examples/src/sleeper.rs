//! A complete small framework: launches tasks that sleep, again where one is lost, and ends when all are done.
//!
//! It keeps no id, so each run is a new framework.

use std::collections::HashSet;

use anyhow::{Context as _, ensure};
use proffer_proto::v1::{FrameworkId, TaskId, TaskState, TaskStatus};
use proffer_sdk::offers::Matcher;
use proffer_sdk::{Context, Framework, Masters, Offers, Options, Scheduler, Task, is_terminal};

/// Launches tasks that sleep.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "sleeper", version)]
pub struct Args {
    /// The masters, as `host:port,host:port`.
    #[arg(long, default_value = "127.0.0.1:5050", env = "PROFFER_MASTER")]
    pub master: Masters,
    /// How many tasks to launch.
    #[arg(long, default_value_t = 5)]
    pub tasks: usize,
    /// How long each sleeps, in seconds.
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// The role whose resources it uses.
    #[arg(long, default_value = "*")]
    pub role: String,
}

struct Sleeper {
    template: Task,
    waiting: usize,
    running: HashSet<TaskId>,
    finished: usize,
    failure: Option<String>,
}

impl Scheduler for Sleeper {
    type Message = ();

    async fn registered(&mut self, _: &mut Context<()>, framework_id: &FrameworkId) {
        tracing::info!(framework_id = framework_id.value, "registered");
    }

    async fn offers(&mut self, context: &mut Context<()>, offers: Offers) {
        let mut matcher = Matcher::new(&offers);
        while self.waiting > 0 {
            let Some(place) = matcher.place(self.template.shape()) else {
                return;
            };
            let task = self.template.clone().with_fresh_id();
            self.running.insert(context.launch(place, task));
            self.waiting -= 1;
        }
        context.suppress();
    }

    async fn update(&mut self, context: &mut Context<()>, status: TaskStatus) {
        tracing::info!(
            task_id = status.task_id.value,
            state = status.state().as_str_name(),
            "update"
        );
        if !is_terminal(status.state()) || !self.running.remove(&status.task_id) {
            return;
        }
        match status.state() {
            TaskState::TaskFinished => self.finished += 1,
            TaskState::TaskLost | TaskState::TaskDropped | TaskState::TaskGone => {
                self.waiting += 1;
                context.revive();
            }
            state => self.failure = Some(format!("{}: {}", state.as_str_name(), status.message())),
        }
        if self.failure.is_some() || (self.waiting == 0 && self.running.is_empty()) {
            context.teardown();
        }
    }
}

/// Runs the framework until all its tasks are done.
///
/// # Errors
/// The master refuses the framework, or a task ended in a way that trying again does not help.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let command = format!("sleep {}", args.seconds);
    let sleeper = Sleeper {
        template: Task::command("sleep", command).cpus(0.1).mem(32.0),
        waiting: args.tasks,
        running: HashSet::new(),
        finished: 0,
        failure: None,
    };
    let options = Options::new(args.master, Framework::new("sleeper").role(args.role));
    let sleeper = proffer_sdk::run(sleeper, options)
        .await
        .context("running the framework")?;
    tracing::info!(finished = sleeper.finished, "done");
    ensure!(
        sleeper.failure.is_none(),
        "a task ended with {}",
        sleeper.failure.unwrap_or_default()
    );
    Ok(())
}
