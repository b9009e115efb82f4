//! Messages between masters: encoded, carried, decoded.

use proffer_replication::eraftpb::{Message, MessageType};
use proffer_replication::{Refusal, decode, encode};

use super::*;

impl World {
    pub(super) fn send_message(&mut self, from: usize, message: &Message) -> Step {
        self.leaders.sent(message)?;
        self.no_removed_leader.sent(message)?;
        let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
        let receiver = self.seats.get(&message.to).copied();
        let receiver = receiver.filter(|machine| self.machines[*machine].member == Some(message.to));
        let fate = match receiver {
            Some(to) => self.network.fate(from, to, &mut self.rng),
            None => Vec::new(),
        };
        self.detail(|| format!("{} -> {} {} {fate:?}", message.from, message.to, brief(message)));
        if is_snapshot {
            self.send_snapshot(from, receiver, message, fate.first().copied());
        } else if let Some(to) = receiver {
            self.trace.mix(&[from as u8, to as u8, message.get_msg_type() as u8]);
            let bytes = encode(message);
            for delay in fate {
                let bytes = bytes.clone();
                self.master_after(delay, to, ToMaster::Message { from, bytes });
            }
        }
        let runs = receiver.is_some_and(|to| self.machines[to].process.is_some());
        if !runs && self.rng.one_in(4) {
            let delay = self.rng.range(0, 50);
            self.master_after(delay, from, ToMaster::Unreachable { id: message.to });
        }
        Ok(())
    }

    /// Snapshots go by themselves, and their sender hears how that ended.
    fn send_snapshot(&mut self, from: usize, to: Option<usize>, message: &Message, delay: Option<u64>) {
        let id = message.to;
        let runs = to.filter(|to| self.machines[*to].process.is_some());
        if let (Some(to), Some(delay)) = (runs, delay) {
            let there = delay + self.rng.range(5, 150);
            let bytes = encode(message);
            self.master_after(there, to, ToMaster::Message { from, bytes });
            let back = there + self.rng.range(0, 20);
            self.master_after(back, from, ToMaster::SnapshotSent { id, whole: true });
        } else {
            let later = self.rng.range(20, 400);
            self.master_after(later, from, ToMaster::SnapshotSent { id, whole: false });
        }
    }

    pub(super) fn deliver_message(&mut self, machine: usize, from: usize, bytes: &[u8]) -> Step {
        if self.network.is_cut(from, machine) {
            return Ok(());
        }
        let message = decode(bytes).map_err(|refusal| refused(&refusal, "an encoded message"))?;
        let text = brief(&message);
        match self.process(machine).member().receive(message) {
            Ok(()) => Ok(()),
            // It was for a member that lived here before, or this one has left.
            Err(Refusal::NotMine(_) | Refusal::Removed) => Ok(()),
            Err(refusal) => Err(refused(&refusal, &text)),
        }
    }

    /// Every way between masters is open again.
    pub(super) fn mend_network(&mut self) {
        self.note(format_args!("the network between masters is whole again"));
        self.network.heal();
    }
}

fn refused(refusal: &Refusal, what: &str) -> Violation {
    let text = format!("a member sends what another does not take: {what}: {refusal}");
    Violation::new("masters_run", text)
}

fn brief(message: &Message) -> String {
    format!(
        "{:?} term {} log {}:{} commit {} entries {} reject {}",
        message.get_msg_type(),
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.get_entries().len(),
        message.reject
    )
}
