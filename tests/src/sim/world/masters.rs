//! Masters start, work, stand still and stop.

use proffer_master_core::{Input, Timestamp};
use proffer_replication::Settings;

use super::*;
use crate::sim::brief::brief_input;
use crate::sim::checkers::{self, Configuration};
use crate::sim::masters::disk::{Change as DiskChange, DiskFull};
use crate::sim::masters::{Process, decode};
use crate::sim::options::Planted;

/// How a master's process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Killed,
    PowerLost,
}

impl World {
    pub(super) fn start_master(&mut self, machine: usize) -> Step {
        let host = &mut self.machines[machine];
        let Some(member) = host.member.filter(|_| host.in_service && host.process.is_none()) else {
            return Ok(());
        };
        let seed = self.rng.next();
        // A clock is set at the start of a process; from then on it runs.
        host.clock_ahead = self.rng.range(0, 1_000) as i64 - 500;
        if self.rng.one_in(8) {
            host.clock_ahead *= 4;
        }
        let found = host.disk.open();
        let mut settings = Settings::new(member, seed);
        settings.tail_entries_max = self.tail_entries_max;
        settings.behind_entries_max = 20;
        if let Some(Planted::Member(bug)) = self.options.planted {
            settings.planted = Some(bug);
        }
        self.committed
            .continues(member, found.start.snapshot.get_metadata().index);
        let entries = found.start.entries.len();
        let started = Process::start(found, self.config.clone(), settings, self.snapshot_entries);
        let process =
            started.map_err(|why| Violation::new("masters_run", format!("member {member} does not start: {why}")))?;
        self.note(format_args!(
            "machine {machine} starts member {member} with {entries} entries"
        ));
        self.machines[machine].process = Some(process);
        self.master_after(0, machine, ToMaster::RaftTick);
        self.drive(machine)
    }

    /// Ends a process. It is started again by itself where the machine is in service.
    pub(super) fn stop_master(&mut self, machine: usize, end: End) {
        let now = self.now;
        let host = &mut self.machines[machine];
        let Some(process) = host.process.take() else { return };
        host.incarnation += 1;
        host.paused = None;
        host.wake = None;
        // The applied registry is written without syncs: what it holds after a crash is of some earlier time.
        if self.rng.one_in(2) {
            let (index, registry) = process.applied();
            host.disk.keep_applied(index, registry);
        } else if self.rng.one_in(8) {
            host.disk.lose_applied();
        }
        match end {
            End::Killed => host.disk.killed(now, &mut self.rng),
            End::PowerLost => host.disk.power_lost(now, &mut self.rng),
        }
        self.offers.master_ended(machine);
        self.end_links(machine, end);
        if self.machines[machine].in_service {
            let delay = self.rng.range(50, 2_000);
            self.after(delay, Event::MasterStart { machine });
        }
    }

    pub(super) fn tell_master(&mut self, machine: usize, incarnation: u64, what: ToMaster) -> Step {
        let host = &mut self.machines[machine];
        if host.incarnation != incarnation || host.process.is_none() {
            return Ok(());
        }
        if let Some(waiting) = &mut host.paused {
            waiting.push(Event::Master {
                machine,
                incarnation,
                what,
            });
            return Ok(());
        }
        self.master_hears(machine, what)?;
        self.drive(machine)
    }

    fn master_hears(&mut self, machine: usize, what: ToMaster) -> Step {
        match what {
            ToMaster::RaftTick => {
                let delay = self.rng.range(48, 52);
                self.master_after(delay, machine, ToMaster::RaftTick);
                self.process(machine).member().tick();
            }
            ToMaster::Wake { at } => {
                if self.machines[machine].wake == Some(at) {
                    self.machines[machine].wake = None;
                    self.process(machine).input(Input::Tick);
                }
            }
            ToMaster::Message { from, bytes } => self.deliver_message(machine, from, &bytes)?,
            ToMaster::SnapshotSent { id, whole } => self.process(machine).member().snapshot_sent(id, whole),
            ToMaster::Unreachable { id } => self.process(machine).member().unreachable(id),
            ToMaster::Written { number } => {
                if let Some(number) = number {
                    self.process(machine).member().written(number);
                }
            }
            ToMaster::Input { link, input } => {
                if self.links.get(&link).is_some_and(Link::is_open) {
                    self.input(machine, *input);
                }
            }
            ToMaster::LinkEnded { input } => self.input(machine, *input),
            ToMaster::Call {
                framework,
                stream,
                call,
            } => self.call_arrives(machine, framework, stream, call),
            ToMaster::State { client, attempt, call } => self.state_arrives(machine, client, attempt, call),
        }
        Ok(())
    }

    /// The process that was just found to run.
    pub(super) fn process(&mut self, machine: usize) -> &mut Process {
        self.machines[machine].process.as_mut().expect("it runs")
    }

    pub(super) fn input(&mut self, machine: usize, input: Input) {
        self.note(format_args!("master {machine} <- {}", brief_input(&input)));
        if let Input::SchedulerDisconnected { stream } = &input {
            self.open_streams.remove(stream);
            self.offers.stream_ended(*stream);
        }
        self.process(machine).input(input);
    }

    /// Lets a process work, and carries out what it asks for.
    pub(super) fn drive(&mut self, machine: usize) -> Step {
        let host = &mut self.machines[machine];
        let clock = host.clock(self.now);
        let Some(process) = &mut host.process else {
            return Ok(());
        };
        let mut outputs = std::mem::take(&mut self.outputs);
        let result = process.settle(clock, &mut outputs);
        for output in outputs.drain(..) {
            self.output(machine, output)?;
        }
        self.outputs = outputs;
        result.map_err(|why| Violation::new("masters_run", format!("the master on machine {machine} stops: {why}")))?;
        self.begin_writing(machine);
        let Some(process) = &mut self.machines[machine].process else {
            return Ok(());
        };
        if process.has_stepped() && process.core.is_leader() {
            return checkers::resources_conserved(&process.core);
        }
        Ok(())
    }

    fn output(&mut self, machine: usize, output: Output) -> Step {
        let member = self.process(machine).id;
        match output {
            Output::Effect(effect) => self.effect(machine, effect)?,
            Output::Send(message) => self.send_message(machine, &message)?,
            Output::Write(write) => self.machines[machine].disk.hand_over(DiskChange::Write(write)),
            Output::Compact(snapshot) => self.machines[machine].disk.hand_over(DiskChange::Compact(snapshot)),
            Output::Committed { index, data } => {
                self.trace.mix(&data);
                if self.committed.told(member, index, &data)? {
                    self.first_told(member, index, &data)?;
                }
            }
            Output::State { index, hash } => self.states.seen(&format!("member {member}"), index, hash)?,
            Output::Led { term } => {
                self.note(format_args!("member {member} leads term {term}"));
                self.leaders.leads(term, member)?;
                self.committed.led(member, term)?;
            }
            Output::Restored { index } => {
                self.note(format_args!("member {member} continues from a snapshot at {index}"));
                self.report.snapshots += 1;
                self.committed.continues(member, index);
            }
            Output::GroupChanged { index, configuration } => {
                if let Some(status) = configuration {
                    self.group_changed(member, index, Configuration::from(*status))?;
                }
            }
            Output::Removed => {
                self.note(format_args!("member {member} knows that it was removed"));
                self.after(0, Event::Retire { machine, member });
            }
        }
        Ok(())
    }

    /// A change is told for the first time: from now on it must never be lost.
    fn first_told(&mut self, member: u64, index: u64, data: &[u8]) -> Step {
        let change = decode(index, data).map_err(|why| Violation::new("committed_never_lost", why))?;
        self.note(format_args!(
            "member {member} tells entry {index} {}",
            crate::sim::brief::brief_change(&change)
        ));
        self.durable.committed(&change);
        self.kept.committed(&change)?;
        let input = Input::Committed {
            index,
            proposal: None,
            change: change.clone(),
        };
        self.log.push((index, change));
        let mut nothing = proffer_master_core::Effects::new();
        self.replay.step(Timestamp(self.now), input, &mut nothing);
        if !nothing.is_empty() {
            let what = format!("a follower that applies entry {index} asks for something: {nothing:?}");
            return Err(Violation::new("states_equal", what));
        }
        if Process::compares(index) {
            let hash = Process::hash(&self.replay);
            self.states.seen("the replay of all entries", index, hash)?;
        }
        Ok(())
    }

    fn group_changed(&mut self, member: u64, index: u64, configuration: Configuration) -> Step {
        self.detail(|| format!("member {member} after {index}: {configuration:?}"));
        self.no_removed_leader.applied(member, &configuration);
        let is_new = index > self.configurations.latest_index();
        if is_new {
            self.note(format_args!("the group is at {index}: {configuration:?}"));
        }
        self.configurations.changed(member, index, configuration)?;
        if is_new {
            self.retire_those_who_left();
        }
        Ok(())
    }

    /// The log writer takes up what waits.
    fn begin_writing(&mut self, machine: usize) {
        let Some(duration) = self.machines[machine].disk.begin(&mut self.rng) else {
            return;
        };
        let incarnation = self.machines[machine].incarnation;
        self.after(duration, Event::DiskDone { machine, incarnation });
    }

    pub(super) fn disk_done(&mut self, machine: usize, incarnation: u64) -> Step {
        let now = self.now;
        let host = &mut self.machines[machine];
        if host.incarnation != incarnation {
            return Ok(());
        }
        match host.disk.finish(now, &mut self.rng) {
            Ok(number) => self.tell_master(machine, incarnation, ToMaster::Written { number }),
            Err(DiskFull) => {
                self.note(format_args!(
                    "the disk of machine {machine} is full and its master stops"
                ));
                self.stop_master(machine, End::Killed);
                Ok(())
            }
        }
    }

    /// What waited while the process stood still is taken up in the order in which it came, each kind by itself.
    pub(super) fn resume(&mut self, machine: usize, incarnation: u64) {
        let host = &mut self.machines[machine];
        if host.incarnation != incarnation {
            return;
        }
        let waiting = host.paused.take().unwrap_or_default();
        self.note(format_args!("machine {machine} goes on with {} events", waiting.len()));
        let (ticks, peers, others) = (self.rng.range(0, 50), self.rng.range(0, 20), self.rng.range(0, 20));
        for event in waiting {
            let delay = match &event {
                Event::Master { what, .. } => match what {
                    ToMaster::RaftTick | ToMaster::Wake { .. } => ticks,
                    ToMaster::Message { .. } => peers,
                    _ => others,
                },
                _ => 0,
            };
            self.after(delay, event);
        }
    }
}
