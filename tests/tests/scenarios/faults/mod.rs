//! Processes end, as `kill -9` would end them, at every place that a master and an agent name.

mod agent;
mod formation;
mod group;
mod masters;
mod writes;

use std::path::PathBuf;

use anyhow::ensure;
use proffer_faults::Place;
use proffer_proto::v1::{TaskId, TaskState};
use proffer_sdk::Task;

use crate::failover::Playing;
use crate::shell;

#[test]
fn every_place_has_its_scenario() {
    let names = |lists: &[&[Place]]| {
        let mut names: Vec<&str> = lists.concat().iter().map(|place| place.0).collect();
        names.sort_unstable();
        names
    };
    let of_masters = [
        masters::ANYWHERE,
        masters::LEADING,
        masters::VOTING,
        group::PLACES,
        formation::PLACES,
    ];
    assert_eq!(names(&of_masters), names(&[proffer_master::faults::ALL]));
    let of_agents = [agent::RUNNING, agent::STARTING, agent::CLEANING];
    assert_eq!(names(&of_agents), names(&[proffer_agent::faults::ALL]));
}

/// Tasks that say when they are started, and end as it is known from before.
struct Tasks {
    directory: PathBuf,
    begun: Vec<(TaskId, i32)>,
}

impl Tasks {
    fn below(directory: PathBuf) -> Self {
        let begun = Vec::new();
        Self { directory, begun }
    }

    /// A task that ends at once.
    fn short(&mut self) -> Task {
        self.task("")
    }

    /// A task that ends when its gate is opened.
    fn gated(&mut self) -> Task {
        let gate = self.directory.join(format!("gate-{}", self.begun.len()));
        self.task(&format!("while ! [ -e {} ]; do sleep 0.05; done;", gate.display()))
    }

    fn task(&mut self, work: &str) -> Task {
        let (number, code) = (self.begun.len(), self.begun.len() % 4);
        let runs = self.directory.join(format!("runs-{number}"));
        let task = shell(&format!("echo run >> {}; {work} exit {code}", runs.display()));
        let task = task.with_id(format!("task-{number}"));
        self.begun.push((task.id().clone(), code as i32));
        task
    }

    /// Opens the gate of the newest task.
    fn open(&self) -> anyhow::Result<()> {
        let newest = self.begun.len() - 1;
        Ok(std::fs::write(self.directory.join(format!("gate-{newest}")), "")?)
    }

    /// Waits until all have ended, and looks whether each did as it should: started once and with its true exit code, or, where
    /// that may be, not started and said to be so. Returns how many were not started.
    async fn ended(&self, framework: &mut Playing, may_drop: bool) -> anyhow::Result<usize> {
        let has_ended = |playing: &Playing, task: &TaskId| playing.last(task).is_some_and(proffer_sdk::is_terminal);
        framework
            .until(|playing| self.begun.iter().all(|(task, _)| has_ended(playing, task)))
            .await?;
        let mut dropped = 0;
        for (number, (task, code)) in self.begun.iter().enumerate() {
            let runs = std::fs::read_to_string(self.directory.join(format!("runs-{number}"))).unwrap_or_default();
            let told = framework
                .ends
                .get(task)
                .map(|status| (status.state(), status.message()));
            // A new leader may know the end from the agent's registration, and answer with it when the framework asks, before
            // the agent sends it again. Then it has no message, and the SDK passes on no second end.
            let reconciled = told.is_none().then(|| framework.last(task)).flatten();
            let is_true = match told {
                _ if reconciled == Some(TaskState::TaskFinished) => *code == 0 && runs == "run\n",
                _ if reconciled == Some(TaskState::TaskFailed) => *code != 0 && runs == "run\n",
                Some((TaskState::TaskFinished, _)) => *code == 0 && runs == "run\n",
                Some((TaskState::TaskFailed, message)) => {
                    runs == "run\n" && message == format!("exited with code {code}")
                }
                _ => {
                    dropped += 1;
                    may_drop && runs.is_empty()
                }
            };
            ensure!(is_true, "{task}: {told:?}, {:?}, {runs:?}", framework.states[task]);
        }
        Ok(dropped)
    }
}
