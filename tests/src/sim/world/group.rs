//! The operator's deeds, newcomers, and those who leave.

use proffer_proto::registry;
use proffer_replication::GroupChange;

use super::masters::End;
use super::*;
use crate::sim::masters::Ask;
use crate::sim::masters::disk::Disk;
use crate::sim::operator::Deed;
use crate::sim::options::Planted;

impl World {
    pub(super) fn operate(&mut self) -> Step {
        let delay = if self.healed { 300 } else { self.rng.range(200, 1_200) };
        self.after(delay, Event::Operator);
        let leaders: Vec<usize> = (0..self.machines.len())
            .filter(|machine| self.machines[*machine].leads() && self.machines[*machine].paused.is_none())
            .collect();
        let Some(leader) = self.rng.pick(&leaders) else {
            return Ok(());
        };
        self.newcomers_ask(leader)?;
        let status = self.process(leader).status();
        let joining = self.newcomers().next().is_some();
        let deed = self
            .operator
            .decide(&status, &self.lost, joining, self.healed, &mut self.rng);
        match deed {
            Deed::Nothing => {}
            Deed::StartNewcomer => self.start_newcomer(),
            Deed::Change(change) => self.ask(leader, Ask::Change(change))?,
            Deed::Transfer(to) => self.ask(leader, Ask::Transfer(to))?,
            Deed::RemoveAtABadTime(id) => {
                self.ask(leader, Ask::Change(GroupChange::Remove(id)))?;
                if self.rng.one_in(2) {
                    self.ask(leader, Ask::Transfer(Some(id)))?;
                } else {
                    let delay = self.rng.range(1, 8);
                    self.after(delay, Event::Crash { machine: leader });
                }
            }
        }
        Ok(())
    }

    pub(super) fn ask(&mut self, leader: usize, ask: Ask) -> Step {
        if self.machines[leader].process.is_none() {
            return Ok(());
        }
        let answer = self.process(leader).ask(ask.clone());
        self.note(format_args!(
            "the operator asks machine {leader} for {ask:?}: {answer:?}"
        ));
        self.drive(leader)
    }

    /// Machines whose masters run and are in no configuration yet.
    fn newcomers(&self) -> impl Iterator<Item = usize> {
        (0..self.machines.len()).filter(|machine| {
            let host = &self.machines[*machine];
            host.in_service && host.member.is_some_and(|member| !self.configurations.ever_had(member))
        })
    }

    fn start_newcomer(&mut self) {
        let idle = |machine: &usize| !self.machines[*machine].in_service;
        let spares: Vec<usize> = (0..self.machines.len()).filter(idle).collect();
        let Some(machine) = self.rng.pick(&spares) else { return };
        let lies = self.options.planted == Some(Planted::LyingDisk);
        let host = &mut self.machines[machine];
        host.disk = if lies { Disk::liar() } else { Disk::default() };
        host.in_service = true;
        let member = self.new_member(machine);
        self.note(format_args!("machine {machine} is to join as member {}", member.id));
        self.after(0, Event::MasterStart { machine });
    }

    /// A newcomer asks the leader to be let in, until it is.
    fn newcomers_ask(&mut self, leader: usize) -> Step {
        let newcomers: Vec<usize> = self.newcomers().collect();
        for machine in newcomers {
            let Some(id) = self.machines[machine].member else {
                continue;
            };
            let newcomer = registry::Member {
                id,
                address: format!("machine-{machine}:5050"),
                level: proffer_master_core::LEVEL,
                version: "0.1.0".to_owned(),
            };
            self.ask(leader, Ask::Join(newcomer))?;
        }
        Ok(())
    }

    /// Members that were in the group and are not any more are switched off, sooner or later.
    pub(super) fn retire_those_who_left(&mut self) {
        for machine in 0..self.machines.len() {
            let Some(member) = self.machines[machine].member else {
                continue;
            };
            let left = self.configurations.ever_had(member) && !self.configurations.latest().contains(member);
            if left {
                let delay = self.rng.range(0, 4_000);
                self.after(delay, Event::Retire { machine, member });
            }
        }
    }

    pub(super) fn retire(&mut self, machine: usize, member: u64) {
        let left = !self.configurations.latest().contains(member);
        if self.machines[machine].member == Some(member) && left {
            self.note(format_args!("machine {machine} is switched off"));
            self.empty(machine, End::Killed);
        }
    }

    /// The machine's process ends, and its work directory is removed.
    pub(super) fn empty(&mut self, machine: usize, end: End) {
        self.machines[machine].in_service = false;
        self.stop_master(machine, end);
        self.machines[machine].member = None;
    }
}
