//! A framework whose tasks end while no master leads: what becomes of the news shows whether any is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use proffer_proto::v1::{TaskId, TaskState, TaskStatus};
use proffer_sdk::offers::Matcher;
use proffer_sdk::{Context, Framework, Masters, Offers, Options, RunError, Scheduler, Task};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long its tasks run: about as long as an election takes.
const TASK: &str = "exec sleep 0.8";

/// What it has heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Tasks that run or ran.
    pub(crate) began: usize,
    /// Tasks of which the end was told.
    pub(crate) ended: usize,
    /// Those of them that did not end as they should.
    pub(crate) badly: usize,
}

/// The framework at work. It ends with the last of its tasks.
#[derive(Debug)]
pub(crate) struct Witness {
    pub(crate) heard: watch::Receiver<Heard>,
    pub(crate) running: JoinHandle<Result<Observer, RunError>>,
}

impl Witness {
    /// Starts the framework; it launches as many tasks as soon as it can.
    pub(crate) fn start(masters: Masters, tasks: usize) -> Self {
        let (told, heard) = watch::channel(Heard::default());
        let observer = Observer {
            missing: tasks,
            tasks,
            began: BTreeSet::new(),
            ended: BTreeSet::new(),
            told,
        };
        let framework = Framework::new("demo-witness")
            .user("nobody")
            .failover_timeout(Duration::from_secs(60));
        let running = tokio::spawn(proffer_sdk::run(observer, Options::new(masters, framework)));
        Witness { heard, running }
    }

    /// Waits until what it has heard is enough.
    pub(crate) async fn wait_for(&mut self, enough: impl FnMut(&Heard) -> bool) {
        // Where it ended before, what it heard is told by its end.
        let _ = self.heard.wait_for(enough).await;
    }
}

#[derive(Debug)]
pub(crate) struct Observer {
    missing: usize,
    tasks: usize,
    began: BTreeSet<TaskId>,
    ended: BTreeSet<TaskId>,
    told: watch::Sender<Heard>,
}

impl Scheduler for Observer {
    type Message = ();

    async fn offers(&mut self, context: &mut Context<()>, offers: Offers) {
        let mut matcher = Matcher::new(&offers);
        while self.missing > 0 {
            let task = Task::command("witness", TASK).cpus(0.05).mem(16.0);
            let Some(place) = matcher.place(task.shape()) else {
                return;
            };
            context.launch(place, task);
            self.missing -= 1;
        }
        context.suppress();
    }

    async fn update(&mut self, context: &mut Context<()>, status: TaskStatus) {
        let state = status.state();
        let bad = proffer_sdk::is_terminal(state) && !super::is_good_end(state);
        if state == TaskState::TaskRunning || proffer_sdk::is_terminal(state) {
            self.began.insert(status.task_id.clone());
        }
        if proffer_sdk::is_terminal(state) {
            self.ended.insert(status.task_id);
        }
        self.told.send_modify(|heard| {
            heard.began = self.began.len();
            heard.ended = self.ended.len();
            heard.badly += usize::from(bad);
        });
        if self.ended.len() == self.tasks {
            context.teardown();
        }
    }
}
