//! What goes wrong: crashes, broken and stalled links.

use super::{Event, LinkEnd, START, Step, World};

impl World {
    pub(super) fn fault(&mut self) -> Step {
        if self.healed {
            return Ok(());
        }
        let next = self.rng.range(100, 3_000);
        self.after(next, Event::Fault);
        self.faults += 1;
        match self.rng.range(0, 9) {
            0 => self.crash_master(),
            1 | 2 => self.crash_agent(),
            3 | 4 => self.crash_framework(),
            5 | 6 => self.stall_a_link(),
            _ => {
                if let Some(link) = self.random_link() {
                    self.note(format_args!("fault: link {link} breaks"));
                    self.break_link(link);
                }
            }
        }
        Ok(())
    }

    pub(super) fn random_link(&mut self) -> Option<u64> {
        let usable: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| !link.broken && link.epoch == self.epoch)
            .map(|(id, _)| *id)
            .collect();
        if usable.is_empty() {
            return None;
        }
        Some(usable[self.rng.range(0, usable.len() as u64 - 1) as usize])
    }

    /// One direction of a link stands still for a while.
    pub(super) fn stall_a_link(&mut self) {
        let Some(id) = self.random_link() else { return };
        let until = self.now + self.rng.range(500, 12_000);
        let outward = self.rng.one_in(2);
        self.note(format_args!(
            "fault: link {id} stalls until {} outward {outward}",
            until - START
        ));
        let link = self.links.get_mut(&id).expect("just chosen");
        if outward {
            link.from_master_free_at = until
        } else {
            link.to_master_free_at = until
        }
    }

    pub(super) fn crash_master(&mut self) {
        if self.master.core.is_none() {
            return;
        }
        let survivors = self.rng.range(0, self.master.pending.len() as u64) as usize;
        self.note(format_args!(
            "fault: master crashes, {survivors} pending changes reached the disk"
        ));
        let now = self.now;
        self.master.crash(now, survivors);
        self.epoch += 1;
        self.wake = None;
        self.open_streams.clear();
        self.subscribing.clear();
        self.offers.master_ended();
        let ends: Vec<(u64, LinkEnd)> = self
            .links
            .iter()
            .filter(|(_, link)| !link.broken)
            .map(|(id, link)| (*id, link.end))
            .collect();
        self.links.clear();
        for (link, end) in ends {
            let delay = self.rng.range(0, 1_500);
            self.notice(self.now + delay, link, end);
        }
        let delay = self.rng.range(100, 6_000);
        self.after(delay, Event::MasterStart);
    }

    pub(super) fn crash_agent(&mut self) {
        let agent = self.rng.range(0, self.agents.len() as u64 - 1) as usize;
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
            self.rng.range(9_000, 25_000)
        } else {
            self.rng.range(50, 3_000)
        };
        self.after(delay, Event::AgentStart { agent });
    }

    pub(super) fn crash_framework(&mut self) {
        let framework = self.rng.range(0, self.frameworks.len() as u64 - 1) as usize;
        if !self.frameworks[framework].up {
            return;
        }
        self.note(format_args!("fault: framework {framework} crashes"));
        if let Some(stream) = self.frameworks[framework].stream {
            self.break_link(stream.0);
        }
        self.drop_stream(framework);
        self.frameworks[framework].up = false;
        let delay = if self.rng.one_in(4) {
            self.rng.range(5_000, 20_000)
        } else {
            self.rng.range(50, 2_000)
        };
        self.after(delay, Event::FrameworkStart { framework });
    }
}
