//! What goes wrong: masters, agents and frameworks crash; masters stand still; disks are slow, full or lost; networks are cut.

use super::masters::End;
use super::*;
use crate::sim::masters::Ask;
use crate::sim::operator::Policy;

impl World {
    pub(super) fn fault(&mut self) -> Step {
        if self.healed {
            return Ok(());
        }
        let next = self.rng.range(50, 1_500);
        self.after(next, Event::Fault);
        self.report.faults += 1;
        match self.rng.range(0, 31) {
            0..3 => self.stop_someone(End::Killed),
            3 => self.stop_in_order()?,
            4..7 => self.stop_someone(End::PowerLost),
            7 => self.outage_begins(),
            8..11 => self.pause_someone(),
            11..16 => self.cut_network(),
            16 | 17 => self.slow_disk(),
            18 => self.fill_disk(),
            19 => self.lose_disk(),
            20 | 21 => self.cut_from_clients(),
            22..24 => self.crash_agent(),
            24..26 => self.crash_framework(),
            26..28 => self.stall_a_link(),
            _ => {
                if let Some(link) = self.random_link() {
                    self.note(format_args!("fault: link {link} breaks"));
                    self.break_link(link);
                }
            }
        }
        Ok(())
    }

    /// A running master, often the one that leads.
    fn someone(&mut self) -> Option<usize> {
        let leading = self.rng.one_in(2);
        let fits = |machine: &usize| {
            let host = &self.machines[*machine];
            host.process.is_some() && (!leading || host.leads())
        };
        let machines: Vec<usize> = (0..self.machines.len()).filter(fits).collect();
        self.rng.pick(&machines)
    }

    fn stop_someone(&mut self, end: End) {
        if let Some(machine) = self.someone() {
            self.crash_master(machine, end);
        }
    }

    /// A leader is told to stop, and hands over before.
    fn stop_in_order(&mut self) -> Step {
        let leads = |machine: &usize| self.machines[*machine].leads() && self.machines[*machine].paused.is_none();
        let Some(machine) = (0..self.machines.len()).find(leads) else {
            return Ok(());
        };
        self.note(format_args!("machine {machine} is to stop in order"));
        self.ask(machine, Ask::Transfer(None))?;
        let delay = self.rng.range(50, 1_000);
        self.after(delay, Event::Crash { machine });
        Ok(())
    }

    /// The disks of a room get slow, and then it loses its power, with much that is not yet on them.
    fn outage_begins(&mut self) {
        self.note(format_args!("fault: the disks of all machines are slow"));
        for machine in 0..self.machines.len() {
            self.machines[machine].disk.slow = true;
            let duration = self.rng.range(500, 2_000);
            self.after(duration, Event::DiskMended { machine });
        }
        let delay = self.rng.range(50, 1_500);
        self.after(delay, Event::Outage);
    }

    pub(super) fn outage(&mut self) {
        for machine in 0..self.machines.len() {
            if self.machines[machine].process.is_some() && !self.rng.one_in(4) {
                self.crash_master(machine, End::PowerLost);
            }
        }
    }

    pub(super) fn crash_master(&mut self, machine: usize, end: End) {
        let leads = self.machines[machine].leads();
        self.note(format_args!("fault: machine {machine} is {end:?}, leads {leads}"));
        if leads {
            self.report.leader_kills += 1;
        } else {
            self.report.other_kills += 1;
        }
        self.report.power_losses += u64::from(end == End::PowerLost);
        self.stop_master(machine, end);
    }

    fn pause_someone(&mut self) {
        let Some(machine) = self.someone() else { return };
        let host = &mut self.machines[machine];
        if host.paused.is_some() {
            return;
        }
        host.paused = Some(Vec::new());
        let incarnation = host.incarnation;
        let duration = self.rng.range(200, 4_000);
        self.note(format_args!("fault: machine {machine} stands still for {duration} ms"));
        self.after(duration, Event::Resume { machine, incarnation });
        self.silence(machine);
    }

    fn cut_network(&mut self) {
        self.report.partitions += 1;
        let all: Vec<usize> = (0..self.machines.len()).collect();
        let side: Vec<usize> = match self.someone() {
            Some(machine) if !self.rng.one_in(4) => vec![machine],
            _ => all.iter().copied().filter(|_| self.rng.one_in(2)).collect(),
        };
        let (there, back) = match self.rng.range(0, 5) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        self.note(format_args!(
            "fault: machines {side:?} are cut off, there {there} back {back}"
        ));
        let others: Vec<usize> = all.into_iter().filter(|machine| !side.contains(machine)).collect();
        if there {
            self.network.cut(&side, &others);
        }
        if back {
            self.network.cut(&others, &side);
        }
        let duration = self.rng.range(200, 5_000);
        self.after(duration, Event::NetworkMended);
    }

    fn slow_disk(&mut self) {
        let Some(machine) = self.someone() else { return };
        self.note(format_args!("fault: the disk of machine {machine} is slow"));
        self.machines[machine].disk.slow = true;
        let duration = self.rng.range(500, 4_000);
        self.after(duration, Event::DiskMended { machine });
    }

    fn fill_disk(&mut self) {
        let Some(machine) = self.someone() else { return };
        self.note(format_args!("fault: the disk of machine {machine} is full"));
        self.machines[machine].disk.full = true;
        let duration = self.rng.range(200, 3_000);
        self.after(duration, Event::DiskMended { machine });
    }

    /// A voter's disk is lost for good. Only one at a time, so that a majority is left, and only where the operator repairs
    /// and does nothing else.
    fn lose_disk(&mut self) {
        let latest = self.configurations.latest();
        let whole = !latest.is_joint() && !latest.voters.iter().any(|id| self.lost.contains(id));
        if self.operator.policy != Policy::Repairs || !whole {
            return;
        }
        let Some(member) = self.rng.pick(&latest.voters.clone()) else {
            return;
        };
        let Some(machine) = self.seats.get(&member).copied() else {
            return;
        };
        self.note(format_args!(
            "fault: machine {machine} loses its disk, and with it member {member}"
        ));
        self.report.wiped += 1;
        self.lost.push(member);
        self.empty(machine, End::PowerLost);
    }

    fn cut_from_clients(&mut self) {
        let Some(machine) = self.someone() else { return };
        let duration = self.rng.range(500, 5_000);
        self.note(format_args!(
            "fault: nobody but masters reaches machine {machine} for {duration} ms"
        ));
        self.machines[machine].cut_from_clients_until = self.now + duration;
        self.silence(machine);
    }

    /// One direction of a link stands still for a while.
    fn stall_a_link(&mut self) {
        let Some(id) = self.random_link() else { return };
        let until = self.now + self.rng.range(300, 5_000);
        let outward = self.rng.one_in(2);
        self.note(format_args!(
            "fault: link {id} stalls until {} outward {outward}",
            until - START
        ));
        let link = self.links.get_mut(&id).expect("just chosen");
        if outward {
            // What was held up before does not come after what is sent now.
            link.from_master_free_at = link.from_master_free_at.max(until);
        } else {
            link.to_master_free_at = until;
        }
    }

    fn crash_agent(&mut self) {
        let agent = self.rng.index(self.agents.len());
        if !self.agents[agent].up {
            return;
        }
        self.note(format_args!("fault: agent {agent} crashes"));
        if let Some(connection) = self.agents[agent].connection {
            self.break_link(connection.0);
        }
        self.agents[agent].up = false;
        self.agents[agent].connection = None;
        self.agents[agent].registered = false;
        // Sometimes it is away for so long that it is marked unreachable.
        let delay = if self.rng.one_in(4) {
            self.rng.range(5_000, 10_000)
        } else {
            self.rng.range(50, 2_000)
        };
        self.after(delay, Event::AgentStart { agent });
    }

    fn crash_framework(&mut self) {
        let framework = self.rng.index(self.frameworks.len());
        if !self.frameworks[framework].up {
            return;
        }
        self.note(format_args!("fault: framework {framework} crashes"));
        if let Some(stream) = self.frameworks[framework].stream {
            self.break_link(stream.0);
        }
        self.drop_stream(framework);
        self.frameworks[framework].up = false;
        if self.frameworks[framework].failover_seconds < 10.0 && self.rng.one_in(3) {
            self.note(format_args!("framework {framework} never comes back"));
            self.frameworks[framework].dead = true;
            return;
        }
        let delay = if self.rng.one_in(4) {
            self.rng.range(3_000, 9_000)
        } else {
            self.rng.range(50, 2_000)
        };
        self.after(delay, Event::FrameworkStart { framework });
    }
}
