//! A framework of some short tasks, to see how fast they are launched.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proffer_proto::v1::{TaskId, TaskState, TaskStatus};
use proffer_sdk::offers::Matcher;
use proffer_sdk::{Context, Framework, Masters, Offers, Options, Scheduler, Task};

use super::{failed, is_good_end, with_deadline};
use crate::exit::Failure;

/// Tasks that are being launched at a time.
const IN_FLIGHT_MAX: usize = 2;

struct Burst {
    missing: usize,
    unfinished: usize,
    sent: BTreeMap<TaskId, Instant>,
    launch_us: std::sync::mpsc::Sender<Result<u64, String>>,
}

/// Runs the tasks, and returns for each the microseconds from ACCEPT to the news that it runs.
pub(crate) async fn run(masters: Masters, tasks: usize) -> Result<Vec<u64>, Failure> {
    let (launch_us, measured) = std::sync::mpsc::channel();
    let burst = Burst {
        missing: tasks,
        unfinished: tasks,
        sent: BTreeMap::new(),
        launch_us,
    };
    let framework = Framework::new("demo-burst")
        .user("nobody")
        .failover_timeout(Duration::ZERO);
    let options = Options::new(masters, framework);
    with_deadline("the short tasks", proffer_sdk::run(burst, options))
        .await?
        .map_err(|error| failed("run the short tasks", error))?;
    measured
        .into_iter()
        .collect::<Result<Vec<u64>, String>>()
        .map_err(|end| failed("run a short task", end))
}

impl Scheduler for Burst {
    type Message = ();

    async fn offers(&mut self, context: &mut Context<()>, mut offers: Offers) {
        // What is left comes back when a task has ended and the agent has more than was refused.
        offers.refuse_for(Duration::from_secs(60));
        let mut matcher = Matcher::new(&offers);
        // A few at a time, so that what is measured is the launch and not the queue of this small machine.
        while self.missing > 0 && self.sent.len() < IN_FLIGHT_MAX {
            let task = Task::command("burst", "exec true").cpus(0.1).mem(32.0);
            let Some(place) = matcher.place(task.shape()) else {
                return;
            };
            self.missing -= 1;
            let id = context.launch(place, task);
            self.sent.insert(id, Instant::now());
        }
    }

    async fn update(&mut self, context: &mut Context<()>, status: TaskStatus) {
        let state = status.state();
        if state == TaskState::TaskRunning
            && let Some(sent) = self.sent.remove(&status.task_id)
        {
            let _ = self.launch_us.send(Ok(sent.elapsed().as_micros() as u64));
        }
        if !proffer_sdk::is_terminal(state) {
            return;
        }
        if !is_good_end(state) {
            let _ = self
                .launch_us
                .send(Err(format!("{} {state:?}: {}", status.task_id, status.message())));
        }
        self.unfinished -= 1;
        if self.unfinished == 0 {
            context.teardown();
        }
    }
}
