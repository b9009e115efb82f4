//! Everything that can happen in the simulated world.

use proffer_master_core::{ConnectionId, Input, StreamId};
use proffer_proto::link::MasterMessage;
use proffer_proto::state;
use proffer_proto::v1::scheduler::{Call, Event as SchedulerEvent};

use crate::sim::wire::TaskKey;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// To a running process: void if it ended, late if it stands still.
    Master {
        machine: usize,
        incarnation: u64,
        what: ToMaster,
    },
    MasterStart {
        machine: usize,
    },
    /// The process is killed.
    Crash {
        machine: usize,
    },
    /// Most machines lose their power.
    Outage,
    /// The process goes on.
    Resume {
        machine: usize,
        incarnation: u64,
    },
    /// A batch has been written.
    DiskDone {
        machine: usize,
        incarnation: u64,
    },
    DiskMended {
        machine: usize,
    },
    /// A member that left the group is switched off.
    Retire {
        machine: usize,
        member: u64,
    },
    NetworkMended,
    ToAgent {
        agent: usize,
        connection: ConnectionId,
        message: Box<MasterMessage>,
    },
    ToFramework {
        framework: usize,
        stream: StreamId,
        event: Box<SchedulerEvent>,
    },
    ToWatcher {
        watcher: usize,
        stream: StreamId,
        event: Box<state::Event>,
    },
    WatchConnect {
        watcher: usize,
    },
    WatchNotices {
        watcher: usize,
        stream: StreamId,
    },
    /// A peer that says nothing any more is given up, if it still does not.
    LinkTimesOut {
        link: u64,
    },
    AgentConnect {
        agent: usize,
    },
    AgentNotices {
        agent: usize,
        connection: ConnectionId,
    },
    AgentRetry {
        agent: usize,
    },
    AgentStart {
        agent: usize,
    },
    TaskEnds {
        agent: usize,
        key: TaskKey,
    },
    FrameworkConnect {
        framework: usize,
    },
    FrameworkNotices {
        framework: usize,
        stream: StreamId,
    },
    FrameworkTimer {
        framework: usize,
    },
    FrameworkStart {
        framework: usize,
    },
    /// A client of the frameworks' state makes its next call, or tries one again that was not taken.
    StateNext {
        client: usize,
    },
    /// There is no room for what a client wanted to write.
    StateRefused {
        client: usize,
        attempt: u64,
    },
    StateAnswered {
        client: usize,
        attempt: u64,
        answer: Box<state::Answer>,
    },
    /// The client learns that its call had no effect.
    StateNotTaken {
        client: usize,
        attempt: u64,
    },
    /// The client waits no longer.
    StateGivenUp {
        client: usize,
        attempt: u64,
    },
    /// The operator changes the group.
    Operator,
    /// The operator drains, deactivates or reactivates an agent.
    Order,
    Fault,
    Heal,
}

/// What happens to a running master.
#[derive(Debug)]
pub(crate) enum ToMaster {
    RaftTick,
    /// The core's timer.
    Wake {
        at: u64,
    },
    /// An encoded message of another master.
    Message {
        from: usize,
        bytes: Vec<u8>,
    },
    SnapshotSent {
        id: u64,
        whole: bool,
    },
    Unreachable {
        id: u64,
    },
    Written {
        number: Option<u64>,
    },
    /// Over a link.
    Input {
        link: u64,
        input: Box<Input>,
    },
    /// The end of a link.
    LinkEnded {
        input: Box<Input>,
    },
    Call {
        framework: usize,
        stream: StreamId,
        call: Box<Call>,
    },
    State {
        client: usize,
        attempt: u64,
        call: Box<state::Call>,
    },
}
