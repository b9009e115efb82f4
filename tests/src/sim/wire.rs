//! Short forms of the messages that model agents and frameworks send.

use proffer_proto::v1::{
    CommandInfo, FrameworkId, FrameworkInfo, Resource, TaskId, TaskInfo, TaskState, TaskStatus, framework_info,
    resource, task_status, value,
};

/// A task within the cluster.
pub(crate) type TaskKey = (FrameworkId, TaskId);

pub(crate) fn scalar(name: &str, amount: f64) -> Resource {
    Resource {
        name: name.to_owned(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(value::Scalar { value: amount }),
        ..Resource::default()
    }
}

pub(crate) fn ports(begin: u64, end: u64) -> Resource {
    Resource {
        name: "ports".to_owned(),
        r#type: value::Type::Ranges.into(),
        ranges: Some(value::Ranges {
            range: vec![value::Range { begin, end }],
        }),
        ..Resource::default()
    }
}

pub(crate) fn amount(resources: &[Resource], name: &str) -> f64 {
    resources
        .iter()
        .filter(|resource| resource.name == name)
        .filter_map(|resource| resource.scalar.as_ref())
        .map(|scalar| scalar.value)
        .sum()
}

pub(crate) fn first_port(resources: &[Resource]) -> Option<u64> {
    let ranges = resources
        .iter()
        .find(|resource| resource.name == "ports")?
        .ranges
        .as_ref()?;
    ranges.range.first().map(|range| range.begin)
}

/// The resources as allocated to the role of the offer.
pub(crate) fn allocated(mut resource: Resource, role: &str) -> Resource {
    resource.allocation_info = Some(resource::AllocationInfo {
        role: Some(role.to_owned()),
    });
    resource
}

/// Resources that the agent declares as the role's.
pub(crate) fn reserved(mut resource: Resource, role: &str) -> Resource {
    resource.reservations.push(resource::ReservationInfo {
        r#type: Some(resource::reservation_info::Type::Static.into()),
        role: Some(role.to_owned()),
        ..resource::ReservationInfo::default()
    });
    resource
}

pub(crate) fn framework_info(index: usize, failover_seconds: f64) -> FrameworkInfo {
    use framework_info::capability::Type;
    let capability = |kind: Type| framework_info::Capability {
        r#type: Some(kind.into()),
    };
    let mut capabilities = vec![capability(Type::PartitionAware), capability(Type::MultiRole)];
    if index % 2 == 1 {
        capabilities.push(capability(Type::RevocableResources));
    }
    FrameworkInfo {
        user: "nobody".to_owned(),
        name: format!("model-{index}"),
        failover_timeout: Some(failover_seconds),
        checkpoint: Some(true),
        roles: vec![format!("role-{}", index % 2)],
        capabilities,
        ..FrameworkInfo::default()
    }
}

pub(crate) fn shell(value: &str) -> CommandInfo {
    CommandInfo {
        value: Some(value.to_owned()),
        ..CommandInfo::default()
    }
}

pub(crate) fn status(task: &TaskInfo, state: TaskState, uuid: u64, now: u64) -> TaskStatus {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&uuid.to_be_bytes());
    TaskStatus {
        task_id: task.task_id.clone(),
        state: state.into(),
        agent_id: Some(task.agent_id.clone()),
        uuid: Some(bytes.to_vec()),
        timestamp: Some(now as f64 / 1000.0),
        source: Some(task_status::Source::Executor.into()),
        ..TaskStatus::default()
    }
}
