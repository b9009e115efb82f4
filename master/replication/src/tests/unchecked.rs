//! A group among whose messages are some that no sound member sent: what it tells may be nonsense, and is not looked at.

use raft::eraftpb::MessageType;

use super::cluster::Cluster;
use crate::{Member, Outcome};

impl Cluster {
    /// Calls a member, and takes only its messages and writes: what it tells may be nonsense.
    pub(crate) fn with_unchecked(&mut self, id: u64, call: impl FnOnce(&mut Member)) {
        let Self {
            machines,
            sent,
            messages,
            ..
        } = self;
        let Some(member) = machines.get_mut(&id).and_then(|machine| machine.member.as_mut()) else {
            return;
        };
        call(member);
        let mut outcomes = Vec::new();
        while member.drive(&mut outcomes).is_ok() {
            if outcomes.is_empty() {
                return;
            }
            for outcome in outcomes.drain(..) {
                match outcome {
                    Outcome::Send(message) => {
                        sent.push((id, message.to, message.get_msg_type()));
                        messages.push_back(*message);
                    }
                    Outcome::Write(write) => member.written(write.number),
                    _ => {}
                }
            }
        }
        self.machine(id).member = None;
    }

    /// Delivers so many messages to members who may refuse them.
    pub(crate) fn deliver_unchecked(&mut self, count: usize) {
        for _ in 0..count {
            let Some(message) = self.messages.pop_front() else {
                return;
            };
            let (from, to) = (message.from, message.to);
            let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
            if self.machines.contains_key(&to) && self.is_up(to) {
                self.with_unchecked(to, |member| {
                    let _ = member.receive(message);
                });
            }
            if is_snapshot && self.is_up(from) {
                self.with_unchecked(from, |member| member.snapshot_sent(to, true));
            }
        }
    }
}
