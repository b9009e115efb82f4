//! The end of the faults, and what must hold at the end.

use proffer_proto::v1::FrameworkId;

use super::*;
use crate::sim::checkers;
use crate::sim::masters::Process;

impl World {
    pub(super) fn heal(&mut self) {
        self.note(format_args!("the faults are over"));
        self.healed = true;
        self.network.calm = true;
        self.mend_network();
        for machine in 0..self.machines.len() {
            let host = &mut self.machines[machine];
            host.disk.slow = false;
            host.disk.full = false;
            host.cut_from_clients_until = 0;
            let incarnation = host.incarnation;
            if host.paused.is_some() {
                self.after(0, Event::Resume { machine, incarnation });
            }
        }
    }

    /// Whether everything that can run does, and all are done.
    pub(super) fn settled(&self) -> Step {
        let latest = self.configurations.latest();
        checkers::caught_up(&self.machines, latest, &self.committed)?;
        if let Some(lost) = self.lost.iter().find(|id| latest.contains(**id)) {
            let what = format!("member {lost} is lost and was not replaced");
            return Err(Violation::new("progress_after_heal", what));
        }
        checkers::progress_after_heal(&self.agents, &self.frameworks)?;
        if let Some(client) = self.clients.iter().find(|client| !client.is_done()) {
            let what = format!(
                "client {} has answers to {} of {} calls about the state",
                client.index, client.answered, client.wanted
            );
            return Err(Violation::new("progress_after_heal", what));
        }
        for dead in self.frameworks.iter().filter(|framework| framework.dead) {
            dead.id.as_ref().map_or(Ok(()), |id| self.kept.finish(id))?;
        }
        if self.watchers.iter().any(|watcher| watcher.stream.is_none()) {
            return Err(Violation::new("progress_after_heal", "a watcher has no stream"));
        }
        let alive: BTreeSet<&FrameworkId> = self
            .frameworks
            .iter()
            .filter(|framework| !framework.dead)
            .filter_map(|framework| framework.id.as_ref())
            .collect();
        self.updates.finish(|(framework, _)| alive.contains(framework))?;
        self.volumes.finish(&self.agents)?;
        self.check_watches()
    }

    /// What must hold at the end.
    pub(super) fn finish(&mut self) -> Step {
        self.settled()?;
        let replay = Process::hash(&self.replay);
        for machine in &self.machines {
            let Some(process) = &machine.process else { continue };
            if self.configurations.latest().contains(process.id) {
                let who = format!("member {}", process.id);
                // An index that no entry has: all are compared with the replay.
                self.states.seen("the replay of all entries", u64::MAX, replay)?;
                self.states.seen(&who, u64::MAX, Process::hash(&process.core))?;
            }
        }
        if let Some(bytes_max) = self.state_bytes_max {
            checkers::state_limited(&self.log, bytes_max)?;
        }
        checkers::state_linearizable(&self.log, &self.operations)
    }
}
