//! Links of agents and frameworks to masters: delays in order, closed, broken and silent ones.

use proffer_master_core::{ConnectionId, Input, StreamId};

use super::masters::End;
use super::*;
use crate::sim::masters::{Door, Process};

/// One TCP connection: an agent's link or a scheduler's event stream.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) machine: usize,
    incarnation: u64,
    pub(super) phase: Phase,
    pub(super) to_master_free_at: u64,
    pub(super) from_master_free_at: u64,
    pub(super) end: LinkEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// The master has closed it; what it sent before arrives.
    Closed,
    /// The network broke it; nothing arrives any more.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkEnd {
    Agent(usize),
    Framework(usize),
    Watcher(usize),
}

/// What someone finds who knocks at a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Knock {
    Leads,
    /// That machine leads, it is said.
    Elsewhere(usize),
    Nobody,
    /// No answer at all.
    Silence,
}

impl Link {
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }
}

impl World {
    pub(super) fn knock(&self, machine: usize) -> Knock {
        let host = &self.machines[machine];
        if host.paused.is_some() || host.cut_from_clients_until > self.now {
            return Knock::Silence;
        }
        match host.process.as_ref().map(Process::door) {
            Some(Door::Leads) => Knock::Leads,
            Some(Door::Elsewhere(member)) => {
                let seat = self.seats.get(&member).copied();
                seat.filter(|seat| *seat != machine)
                    .map_or(Knock::Nobody, Knock::Elsewhere)
            }
            Some(Door::Nobody) | None => Knock::Nobody,
        }
    }

    /// Where to look next after knocking at `target`, and when; none where the leader is found.
    pub(super) fn look_on(&mut self, target: usize) -> Option<(usize, u64)> {
        let next = (target + 1) % self.machines.len();
        match self.knock(target) {
            Knock::Leads => None,
            Knock::Elsewhere(machine) => Some((machine, self.rng.range(1, 20))),
            Knock::Nobody => Some((next, self.rng.range(20, 200))),
            Knock::Silence => Some((next, 1_000)),
        }
    }

    pub(super) fn open_link(&mut self, end: LinkEnd, machine: usize) -> u64 {
        self.next_link += 1;
        let link = Link {
            machine,
            incarnation: self.machines[machine].incarnation,
            phase: Phase::Open,
            to_master_free_at: 0,
            from_master_free_at: 0,
            end,
        };
        self.links.insert(self.next_link, link);
        self.next_link
    }

    /// When a message of the master arrives at the other end, if the link holds.
    pub(super) fn arrival(&mut self, link: u64) -> Option<(u64, LinkEnd)> {
        let delay = self.delay();
        let link = self.links.get_mut(&link).filter(|link| link.is_open())?;
        let cut = self.machines[link.machine].cut_from_clients_until;
        link.from_master_free_at = link.from_master_free_at.max(self.now + delay).max(cut);
        Some((link.from_master_free_at, link.end))
    }

    pub(super) fn send_to_master(&mut self, link_id: u64, input: Input) {
        let delay = self.delay();
        let Some(link) = self.links.get_mut(&link_id).filter(|link| link.is_open()) else {
            return;
        };
        let cut = self.machines[link.machine].cut_from_clients_until;
        link.to_master_free_at = link.to_master_free_at.max(self.now + delay).max(cut);
        let event = Event::Master {
            machine: link.machine,
            incarnation: link.incarnation,
            what: ToMaster::Input {
                link: link_id,
                input: Box::new(input),
            },
        };
        let at = link.to_master_free_at;
        self.at(at, event);
    }

    pub(super) fn delay(&mut self) -> u64 {
        if self.rng.one_in(50) {
            self.rng.range(20, 400)
        } else {
            self.rng.range(0, 5)
        }
    }

    /// The master closes a link after what it sent before.
    pub(super) fn close(&mut self, link_id: u64) {
        let Some((at, end)) = self.arrival(link_id) else {
            return;
        };
        self.links.get_mut(&link_id).expect("just found").phase = Phase::Closed;
        self.notice(at, link_id, end);
    }

    fn notice(&mut self, at: u64, link: u64, end: LinkEnd) {
        let event = match end {
            LinkEnd::Agent(agent) => Event::AgentNotices {
                agent,
                connection: ConnectionId(link),
            },
            LinkEnd::Framework(framework) => Event::FrameworkNotices {
                framework,
                stream: StreamId(link),
            },
            LinkEnd::Watcher(watcher) => Event::WatchNotices {
                watcher,
                stream: StreamId(link),
            },
        };
        self.at(at, event);
    }

    /// The network breaks a link: what is in flight is lost, and each end notices in its own time.
    pub(super) fn break_link(&mut self, link_id: u64) {
        let (first, second) = (self.rng.range(0, 1_500), self.rng.range(0, 1_500));
        let Some(link) = self.links.get_mut(&link_id).filter(|link| link.is_open()) else {
            return;
        };
        link.phase = Phase::Broken;
        let (end, machine) = (link.end, link.machine);
        self.notice(self.now + first, link_id, end);
        let input = match end {
            LinkEnd::Agent(_) => Input::AgentDisconnected {
                connection: ConnectionId(link_id),
            },
            LinkEnd::Framework(_) => Input::SchedulerDisconnected {
                stream: StreamId(link_id),
            },
            LinkEnd::Watcher(_) => Input::WatchEnded {
                stream: StreamId(link_id),
            },
        };
        let input = Box::new(input);
        self.master_after(second, machine, ToMaster::LinkEnded { input });
    }

    /// The process is gone: its kernel resets its links, or nothing does where the machine has no power.
    pub(super) fn end_links(&mut self, machine: usize, end: End) {
        let of_it = self.links.iter().filter(|(_, link)| link.machine == machine);
        let of_it: Vec<(u64, LinkEnd, Phase)> = of_it.map(|(id, link)| (*id, link.end, link.phase)).collect();
        for (link, other, phase) in of_it {
            self.links.remove(&link);
            self.open_streams.remove(&StreamId(link));
            if phase == Phase::Open {
                let delay = match end {
                    End::Killed => self.rng.range(0, 300),
                    End::PowerLost => self.rng.range(500, 2_500),
                };
                self.notice(self.now + delay, link, other);
            }
        }
        let links = &self.links;
        self.watching.retain(|_, stream| links.contains_key(&stream.0));
        self.subscribing.retain(|_, (_, stream)| links.contains_key(&stream.0));
    }

    /// Whoever is linked to a machine that says nothing gives it up after a while.
    pub(super) fn silence(&mut self, machine: usize) {
        let of_it = self
            .links
            .iter()
            .filter(|(_, link)| link.machine == machine && link.is_open());
        let of_it: Vec<u64> = of_it.map(|(id, _)| *id).collect();
        for link in of_it {
            let delay = self.rng.range(1_000, 2_500);
            self.after(delay, Event::LinkTimesOut { link });
        }
    }

    pub(super) fn link_times_out(&mut self, link: u64) {
        let Some(machine) = self.links.get(&link).map(|link| link.machine) else {
            return;
        };
        if self.knock(machine) == Knock::Silence {
            self.break_link(link);
        }
    }

    pub(super) fn random_link(&mut self) -> Option<u64> {
        let open: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| link.is_open())
            .map(|(id, _)| *id)
            .collect();
        self.rng.pick(&open)
    }
}
