//! Offer operations: what makes reserved resources and persistent volumes of offered ones.
//!
//! Operations of one ACCEPT are carried out in their order, and each finds what the one before has made; so a volume can be
//! made and used in one go. An operation with an id is answered by [`Scheduler::operation`](crate::Scheduler::operation).
//!
//! ```
//! use proffer_sdk::operations;
//! use proffer_sdk::proto::v1::offer::operation;
//!
//! # let disk = operations::scalar("disk", 1024.0);
//! let space = operations::reserved(disk, "db");
//! let volume = operations::volume(space.clone(), "table", "data");
//! let operations = vec![
//!     operations::reserve(vec![space]),
//!     operations::named(operations::create(vec![volume.clone()]), "make-table"),
//! ];
//! assert_eq!(operations[1].r#type(), operation::Type::Create);
//! assert_eq!(operations::volume_id(&volume), Some("table"));
//! ```

use std::collections::BTreeMap;

use proffer_proto::v1::offer::{Operation, operation};
use proffer_proto::v1::resource::reservation_info::Type as ReservationType;
use proffer_proto::v1::resource::{DiskInfo, ReservationInfo, disk_info};
use proffer_proto::v1::scheduler::Call;
use proffer_proto::v1::{
    AgentId, OperationId, OperationState, OperationStatus, Resource, TaskInfo, Volume, value, volume,
};

/// How many final statuses are remembered, so that none is told twice.
const TOLD_MAX: usize = 1024;

/// An amount of a resource that is not reserved; `disk` and `mem` in megabytes (2^20 bytes).
pub fn scalar(name: &str, amount: f64) -> Resource {
    Resource {
        name: name.to_owned(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(value::Scalar { value: amount }),
        ..Resource::default()
    }
}

/// The resource as it is when it is reserved for this role as well. Within a reservation the role refines it: it is one below.
pub fn reserved(mut resource: Resource, role: &str) -> Resource {
    resource.reservations.push(ReservationInfo {
        role: Some(role.to_owned()),
        r#type: Some(ReservationType::Dynamic.into()),
        ..ReservationInfo::default()
    });
    resource
}

/// Reserved disk space as it is when it is a persistent volume, mounted there in containers: below the sandbox where the
/// path is relative.
pub fn volume(mut disk: Resource, id: &str, container_path: &str) -> Resource {
    let source = disk.disk.take().and_then(|disk| disk.source);
    disk.disk = Some(Box::new(DiskInfo {
        persistence: Some(disk_info::Persistence {
            id: id.to_owned(),
            principal: None,
        }),
        volume: Some(Volume {
            container_path: container_path.to_owned(),
            mode: volume::Mode::Rw.into(),
            ..Volume::default()
        }),
        source,
    }));
    disk
}

/// The volume as a task has it that may only read it.
pub fn read_only(mut volume: Resource) -> Resource {
    if let Some(mount) = volume.disk.as_mut().and_then(|disk| disk.volume.as_mut()) {
        mount.mode = volume::Mode::Ro.into();
    }
    volume
}

/// The id of a persistent volume.
pub fn volume_id(resource: &Resource) -> Option<&str> {
    Some(&resource.disk.as_ref()?.persistence.as_ref()?.id)
}

/// Gives an operation an id, which is new within the framework: then its outcome is told until it is acknowledged. Not for launches.
pub fn named(operation: Operation, id: &str) -> Operation {
    Operation {
        id: Some(OperationId { value: id.to_owned() }),
        ..operation
    }
}

/// Reserves resources, given as they are to become.
pub fn reserve(resources: Vec<Resource>) -> Operation {
    let source = Vec::new();
    Operation {
        reserve: Some(operation::Reserve { resources, source }),
        ..of(operation::Type::Reserve)
    }
}

/// Takes the innermost reservation of resources away.
pub fn unreserve(resources: Vec<Resource>) -> Operation {
    Operation {
        unreserve: Some(operation::Unreserve { resources }),
        ..of(operation::Type::Unreserve)
    }
}

/// Makes volumes of reserved disk space, given as they are to become.
pub fn create(volumes: Vec<Resource>) -> Operation {
    Operation {
        create: Some(operation::Create { volumes }),
        ..of(operation::Type::Create)
    }
}

/// Makes reserved disk space of volumes again. Their data is removed.
pub fn destroy(volumes: Vec<Resource>) -> Operation {
    Operation {
        destroy: Some(operation::Destroy { volumes }),
        ..of(operation::Type::Destroy)
    }
}

/// Adds disk space that is reserved like the volume to it.
pub fn grow(volume: Resource, addition: Resource) -> Operation {
    Operation {
        grow_volume: Some(Box::new(operation::GrowVolume { volume, addition })),
        ..of(operation::Type::GrowVolume)
    }
}

/// Takes so many megabytes from a volume.
pub fn shrink(volume: Resource, megabytes: f64) -> Operation {
    let subtract = value::Scalar { value: megabytes };
    Operation {
        shrink_volume: Some(Box::new(operation::ShrinkVolume { volume, subtract })),
        ..of(operation::Type::ShrinkVolume)
    }
}

/// Launches tasks, beside operations that make what they use.
pub fn launch(task_infos: Vec<TaskInfo>) -> Operation {
    Operation {
        launch: Some(operation::Launch { task_infos }),
        ..of(operation::Type::Launch)
    }
}

fn of(kind: operation::Type) -> Operation {
    Operation {
        r#type: Some(kind.into()),
        ..Operation::default()
    }
}

/// Whether nothing follows a state.
pub fn is_final(state: OperationState) -> bool {
    use OperationState as State;
    !matches!(
        state,
        State::OperationPending
            | State::OperationUnreachable
            | State::OperationRecovering
            | State::OperationUnsupported
    )
}

/// The operations whose outcome is not known, and the outcomes that were told.
#[derive(Debug, Default)]
pub(crate) struct OperationTable {
    open: BTreeMap<String, Option<AgentId>>,
    told: Vec<Vec<u8>>,
}

impl OperationTable {
    /// Learns the operations of an ACCEPT that is being made.
    pub(crate) fn observe_call(&mut self, call: &Call) {
        for operation in call.accept.iter().flat_map(|accept| &accept.operations) {
            if let Some(id) = &operation.id {
                self.open.insert(id.value.clone(), None);
            }
        }
    }

    /// Whether a status is to be told; one with a uuid is told once.
    pub(crate) fn is_news(&mut self, status: &OperationStatus) -> bool {
        if let Some(id) = &status.operation_id {
            match is_final(status.state()) {
                true => drop(self.open.remove(&id.value)),
                false => {
                    self.open.insert(id.value.clone(), status.agent_id.clone());
                }
            }
        }
        let Some(uuid) = &status.uuid else { return true };
        if self.told.contains(&uuid.value) {
            return false;
        }
        if self.told.len() >= TOLD_MAX {
            self.told.remove(0);
        }
        self.told.push(uuid.value.clone());
        true
    }

    /// What is to be asked for after a new subscription.
    pub(crate) fn open(&self) -> Vec<(OperationId, Option<AgentId>)> {
        let open = self.open.iter();
        open.map(|(id, agent)| (OperationId { value: id.clone() }, agent.clone()))
            .collect()
    }
}
