//! The loop itself.

use std::sync::mpsc as blocking;
use std::time::Duration;

use proffer_master_core::Input;
use proffer_replication::Role;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::slow::Watched;
use super::{Driver, Ended, Error, Request, Stopping};
use crate::fatal;
use crate::peers::Event;

/// How many requests, and how many events of other masters, are taken together.
const TAKEN_AT_ONCE: usize = 512;
/// What so many steps send leaves together; of more, the first would wait too long.
const STEPS_TOGETHER: u32 = 128;
/// How long a leader that stops waits for another to lead, or for what was proposed.
const STOP_MAX: Duration = Duration::from_secs(2);

/// Where everything comes from.
pub(super) struct Inbox {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) ended: mpsc::UnboundedReceiver<Ended>,
    pub(super) peers: mpsc::Receiver<Event>,
}

impl Driver {
    /// Runs until it is told to stop or cannot go on. `ready` hears when the registry is restored and, in a group of one,
    /// when this master leads.
    pub(super) async fn run(mut self, mut inbox: Inbox, ready: blocking::Sender<()>) -> Result<(), Error> {
        let mut taken = Vec::with_capacity(TAKEN_AT_ONCE);
        let mut events = Vec::with_capacity(TAKEN_AT_ONCE);
        let mut ends = Vec::new();
        // The last, and so the first to be dropped: nobody sees a stream end, and nothing is written, after a panic.
        let _fatal = fatal::OnPanic(fatal::end_process);
        self.begin().await?;
        // The caller may have given up.
        let _ = ready.send(());
        loop {
            let wake = self.wake.map(|at| self.clock.until(at));
            let (must_tick, next_tick) = (self.must_tick(), self.ticks.next());
            tokio::select! {
                count = inbox.requests.recv_many(&mut taken, TAKEN_AT_ONCE) => {
                    if count == 0 {
                        break;
                    }
                }
                Some(event) = inbox.peers.recv() => events.push(event),
                Some(end) = inbox.ended.recv() => ends.push(end),
                () = self.bell.notified() => {}
                () = sleep(wake.unwrap_or_default()), if wake.is_some() => {}
                () = sleep_until(next_tick), if must_tick => {}
            }
            while events.len() < TAKEN_AT_ONCE
                && let Ok(event) = inbox.peers.try_recv()
            {
                events.push(event);
            }
            while taken.len() < TAKEN_AT_ONCE
                && let Ok(request) = inbox.requests.try_recv()
            {
                taken.push(request);
            }
            while let Ok(end) = inbox.ended.try_recv() {
                ends.push(end);
            }
            if !ends.is_empty() {
                // What a stream said before it ended is heard first; what comes meanwhile is not.
                let waiting = inbox.requests.len();
                inbox.requests.recv_many(&mut taken, waiting).await;
            }
            self.hear_writer()?;
            self.hear_readers();
            for event in events.drain(..) {
                self.hear_peer(event)?;
            }
            self.tick();
            for request in taken.drain(..) {
                self.accept(request);
            }
            for end in ends.drain(..) {
                self.ended(end);
            }
            if self.wake.is_some_and(|at| at <= self.clock.now()) {
                self.wake = None;
                self.inputs.push_back(Input::Tick);
            }
            self.settle()?;
            if self.may_stop() {
                break;
            }
        }
        self.stop()
    }

    /// Settles until a group of one has its leader, and in the registry what belongs there.
    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        self.check_level()?;
        self.peers.leader(None);
        self.group_changed();
        self.settle()?;
        while self.member.is_alone() && (!self.master.is_leader() || self.group.is_tending()) {
            self.bell.notified().await;
            self.hear_writer()?;
            self.settle()?;
        }
        Ok(())
    }

    /// Tells the member what is durable.
    pub(super) fn hear_writer(&mut self) -> Result<(), Error> {
        let number = self.writer.written().number()?;
        if number > self.written {
            self.written = number;
            self.member.written(number);
        }
        Ok(())
    }

    fn hear_peer(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Message(message) => {
                let from = message.from;
                if let Err(refusal) = self.member.receive(*message) {
                    tracing::debug!(from, %refusal, "a message of another master is not taken");
                }
            }
            Event::Unreachable(id) => self.member.unreachable(id),
            Event::SnapshotSent { id, whole } => self.member.snapshot_sent(id, whole),
        }
        Ok(())
    }

    fn must_tick(&self) -> bool {
        !self.member.is_alone() || self.group.is_busy() || self.stopping.is_some()
    }

    /// Raft's clock ticks if it is time.
    fn tick(&mut self) {
        if !self.must_tick() || !self.ticks.take() {
            return;
        }
        if self.turns.take() {
            self.member.tick();
            self.tick_group();
        } else {
            self.member.beat();
        }
    }

    /// Steps until nothing is left to do but wait.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        loop {
            let must_tick = self.must_tick();
            let mut steps = 0;
            while let Some(input) = self.inputs.pop_front() {
                self.step(input);
                steps += 1;
                if steps % STEPS_TOGETHER == 0 {
                    self.wake_readers();
                }
                if must_tick && self.ticks.is_due() {
                    self.tick();
                    break;
                }
            }
            self.propose();
            let mut outcomes = std::mem::take(&mut self.outcomes);
            self.member.drive(&mut outcomes)?;
            let is_settled = outcomes.is_empty();
            for outcome in outcomes.drain(..) {
                self.replicated(outcome)?;
            }
            self.outcomes = outcomes;
            if is_settled && self.inputs.is_empty() && !self.take_snapshot() {
                break;
            }
        }
        if self.keeper.has_failed() {
            let index = self.member.applied();
            self.keeper.rebuild(index, self.master.image());
        }
        self.keeper.hand_over();
        for bell in self.bells.drain(..) {
            bell.ring();
        }
        self.wake_readers();
        Ok(())
    }

    pub(super) fn step(&mut self, input: Input) {
        let now = self.clock.now();
        let mut effects = std::mem::take(&mut self.effects);
        let watched = Watched::begin(&input);
        {
            let _span = tracing::trace_span!("step", now = now.0).entered();
            tracing::trace!(?input);
            self.master.step(now, input, &mut effects);
        }
        let count = effects.len();
        for effect in effects.drain() {
            self.carry_out(effect);
        }
        watched.end(count);
        self.effects = effects;
    }

    /// Begins to stop: another master leads first, if there is one; else what was proposed is committed first.
    pub(super) fn begin_to_stop(&mut self) {
        let hands_over = self.member.transfer_leadership(None);
        if hands_over {
            tracing::info!("the leadership is handed over before the master stops");
        }
        self.stopping = Some(Stopping {
            hands_over,
            at: Instant::now() + STOP_MAX,
        });
    }

    fn may_stop(&self) -> bool {
        let Some(stopping) = &self.stopping else { return false };
        let is_over = if stopping.hands_over {
            self.leader.is_some_and(|leader| leader != self.me.member)
        } else {
            let status = self.member.status();
            status.role != Role::Leader || status.committed == status.last
        };
        is_over || Instant::now() >= stopping.at
    }

    pub(super) fn stop(&mut self) -> Result<(), Error> {
        self.waiting.clear();
        self.agents.clear();
        self.streams.clear();
        self.keeper.stop();
        self.writer.stop()?;
        tracing::info!(applied = self.member.applied(), "the driver has stopped");
        Ok(())
    }
}
