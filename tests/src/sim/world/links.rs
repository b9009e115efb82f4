//! The network: delays in order, closed and broken links.

use proffer_master_core::{ConnectionId, Input, StreamId};

use super::{Event, Link, LinkEnd, World};

impl World {
    /// When a message of the master arrives at the other end, if the link holds.
    pub(super) fn arrival(&mut self, link: u64) -> Option<(u64, LinkEnd)> {
        let delay = self.delay();
        let link = self
            .links
            .get_mut(&link)
            .filter(|link| !link.broken && link.epoch == self.epoch)?;
        link.from_master_free_at = link.from_master_free_at.max(self.now + delay);
        Some((link.from_master_free_at, link.end))
    }

    pub(super) fn send_to_master(&mut self, link_id: u64, input: Input) {
        let delay = self.delay();
        let Some(link) = self.links.get_mut(&link_id) else {
            return;
        };
        link.to_master_free_at = link.to_master_free_at.max(self.now + delay);
        let at = link.to_master_free_at;
        self.at(
            at,
            Event::ToMaster {
                link: link_id,
                input: Box::new(input),
            },
        );
    }

    pub(super) fn delay(&mut self) -> u64 {
        if self.rng.one_in(50) {
            self.rng.range(20, 400)
        } else {
            self.rng.range(0, 5)
        }
    }

    pub(super) fn open_link(&mut self, end: LinkEnd) -> u64 {
        self.next_link += 1;
        let link = Link {
            epoch: self.epoch,
            broken: false,
            to_master_free_at: 0,
            from_master_free_at: 0,
            end,
        };
        self.links.insert(self.next_link, link);
        self.next_link
    }

    /// The master closes a link after what it sent before.
    pub(super) fn close(&mut self, link_id: u64) {
        let Some((at, end)) = self.arrival(link_id) else {
            return;
        };
        self.links.get_mut(&link_id).expect("just found").epoch = u64::MAX;
        self.notice(at, link_id, end);
    }

    pub(super) fn notice(&mut self, at: u64, link: u64, end: LinkEnd) {
        match end {
            LinkEnd::Agent(agent) => self.at(
                at,
                Event::AgentNotices {
                    agent,
                    connection: ConnectionId(link),
                },
            ),
            LinkEnd::Framework(framework) => {
                self.at(
                    at,
                    Event::FrameworkNotices {
                        framework,
                        stream: StreamId(link),
                    },
                );
            }
        }
    }

    /// The network breaks a link: what is in flight is lost, and each end notices in its own time.
    pub(super) fn break_link(&mut self, link_id: u64) {
        let (first, second) = (self.rng.range(0, 3_000), self.rng.range(0, 3_000));
        let Some(link) = self
            .links
            .get_mut(&link_id)
            .filter(|link| !link.broken && link.epoch == self.epoch)
        else {
            return;
        };
        link.broken = true;
        let end = link.end;
        self.notice(self.now + first, link_id, end);
        // The master's side is told through a link of its own, which nothing else uses.
        let notice = self.open_link(end);
        let input = match end {
            LinkEnd::Agent(_) => Input::AgentDisconnected {
                connection: ConnectionId(link_id),
            },
            LinkEnd::Framework(_) => Input::SchedulerDisconnected {
                stream: StreamId(link_id),
            },
        };
        self.at(
            self.now + second,
            Event::ToMaster {
                link: notice,
                input: Box::new(input),
            },
        );
    }
}
