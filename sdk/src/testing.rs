//! Tests frameworks and executors without a cluster: a master and an agent that do what a test tells them, and offers out of
//! nothing.

mod fake_agent;
mod fake_master;
mod fake_state;
mod mailbox;

use std::ops::RangeInclusive;

pub use fake_agent::FakeAgent;
pub use fake_master::FakeMaster;
use proffer_proto::v1::{
    AgentId, FrameworkId, Offer, OfferId, OperationId, OperationState, OperationStatus, Resource, TaskId, TaskState,
    TaskStatus, Uuid, resource, value,
};

/// An offer of an agent whose host name is its id, to the role `*`, with 1024 MiB of disk.
///
/// ```
/// let offer = proffer_sdk::testing::offer("o1", "agent1", 4.0, 1024.0, 31000..=31009);
/// assert_eq!(offer.hostname, "agent1");
/// ```
pub fn offer(id: &str, agent: &str, cpus: f64, mem_mib: f64, ports: RangeInclusive<u16>) -> Offer {
    let allocation_info = resource::AllocationInfo { role: Some("*".into()) };
    let scalar = |name: &str, value| Resource {
        name: name.into(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(value::Scalar { value }),
        allocation_info: Some(allocation_info.clone()),
        ..Default::default()
    };
    let range = value::Range {
        begin: (*ports.start()).into(),
        end: (*ports.end()).into(),
    };
    let ports = Resource {
        name: "ports".into(),
        r#type: value::Type::Ranges.into(),
        ranges: Some(value::Ranges { range: vec![range] }),
        allocation_info: Some(allocation_info.clone()),
        ..Default::default()
    };
    Offer {
        id: OfferId { value: id.into() },
        framework_id: FrameworkId::default(),
        agent_id: AgentId { value: agent.into() },
        hostname: agent.into(),
        resources: vec![
            scalar("cpus", cpus),
            scalar("mem", mem_mib),
            scalar("disk", 1024.0),
            ports,
        ],
        allocation_info: Some(allocation_info),
        ..Default::default()
    }
}

/// A status update as an agent sends it, with a fresh uuid.
///
/// ```
/// use proffer_proto::v1::{TaskId, TaskState};
///
/// let id = TaskId { value: "t1".into() };
/// let status = proffer_sdk::testing::status(&id, "agent1", TaskState::TaskRunning);
/// assert_eq!(status.uuid.unwrap().len(), 16);
/// ```
pub fn status(task_id: &TaskId, agent: &str, state: TaskState) -> TaskStatus {
    TaskStatus {
        task_id: task_id.clone(),
        state: state.into(),
        agent_id: Some(AgentId { value: agent.into() }),
        uuid: Some(uuid::Uuid::new_v4().as_bytes().to_vec()),
        ..Default::default()
    }
}

/// The status of an operation as a master tells it; with a fresh uuid where it is an outcome that is to be acknowledged.
///
/// ```
/// use proffer_proto::v1::OperationState;
///
/// let status = proffer_sdk::testing::operation_status("reserve", "agent1", OperationState::OperationFinished);
/// assert_eq!(status.uuid.unwrap().value.len(), 16);
/// ```
pub fn operation_status(id: &str, agent: &str, state: OperationState) -> OperationStatus {
    let acknowledged = matches!(
        state,
        OperationState::OperationFinished | OperationState::OperationFailed
    );
    OperationStatus {
        operation_id: Some(OperationId { value: id.into() }),
        state: state.into(),
        agent_id: Some(AgentId { value: agent.into() }),
        uuid: acknowledged.then(|| Uuid {
            value: uuid::Uuid::new_v4().as_bytes().to_vec(),
        }),
        ..Default::default()
    }
}
