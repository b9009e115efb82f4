//! Reserved resources, volumes and operations as scripts write them.
//!
//! `disk(web!):100` is reserved dynamically for `web`, `disk(web):100` by the agent, `disk(a!a/b!):100` for `a` and then within
//! that for `a/b`; `disk(web!)#v1:100` is the volume `v1` there; `cpus~:2` may be taken back. `reserve@op1:disk(web!),100` is an operation with an id.

use proffer_proto::resources::{Reservation, Resources, Scalar};
use proffer_proto::v1::offer::{Operation, operation};
use proffer_proto::v1::resource::{DiskInfo, disk_info};
use proffer_proto::v1::{self, scheduler::call, volume};

use super::{World, command};

/// Reads resources.
pub(super) fn resources(text: &str) -> Vec<v1::Resource> {
    if !text.contains(['!', '#', '~']) {
        return Resources::parse(text).expect("resources").to_wire();
    }
    let parts = text.split(';').filter(|part| !part.is_empty());
    let list: Vec<v1::Resource> = parts.flat_map(resource).collect();
    Resources::from_wire(&list).expect("resources").to_wire()
}

fn resource(part: &str) -> Vec<v1::Resource> {
    let (subject, value) = part.split_once(':').expect("name:value");
    let (subject, volume) = subject
        .split_once('#')
        .map_or((subject, None), |(name, id)| (name, Some(id)));
    let (name, layers) = subject.split_once('(').unwrap_or((subject, ")"));
    let mut layers = layers.trim_end_matches(')');
    let mut resources = Resources::parse(&format!("{}:{value}", name.trim_end_matches('~'))).expect("a resource");
    if name.ends_with('~') {
        resources = resources.to_revocable();
    }
    while !layers.is_empty() {
        let end = layers.find(['!', '|']).unwrap_or(layers.len());
        let dynamic = layers[end..].starts_with('!');
        resources = resources.reserve(&Reservation {
            role: layers[..end].to_owned(),
            dynamic,
            ..Reservation::default()
        });
        layers = layers.get(end + 1..).unwrap_or_default();
    }
    let mut list = resources.to_wire();
    for resource in &mut list {
        resource.disk = volume.map(|id| {
            Box::new(DiskInfo {
                persistence: Some(disk_info::Persistence {
                    id: id.to_owned(),
                    principal: None,
                }),
                volume: Some(v1::Volume {
                    container_path: "data".to_owned(),
                    mode: volume::Mode::Rw as i32,
                    ..v1::Volume::default()
                }),
                source: None,
            })
        });
    }
    list
}

impl World {
    /// The operations of `do=reserve@op1:cpus(web!),1+launch:t1:cpus(web!),1`.
    pub(super) fn operations(&self, list: &str, agent: &str) -> Vec<Operation> {
        list.split('+').map(|text| self.operation(text, agent)).collect()
    }

    fn operation(&self, text: &str, agent: &str) -> Operation {
        let (verb, rest) = text.split_once(':').expect("verb:resources");
        let (verb, id) = verb.split_once('@').map_or((verb, None), |(verb, id)| (verb, Some(id)));
        let all = || resources(&rest.replace(',', ":"));
        let (first, second) = rest.split_once(':').unwrap_or((rest, ""));
        let one = |text: &str| resources(&text.replace(',', ":")).remove(0);
        let mut operation = Operation {
            id: id.map(v1::OperationId::from),
            ..Operation::default()
        };
        let kind = match verb {
            "reserve" => {
                operation.reserve = Some(operation::Reserve {
                    resources: all(),
                    source: Vec::new(),
                });
                operation::Type::Reserve
            }
            "move" => {
                operation.reserve = Some(operation::Reserve {
                    resources: resources(&first.replace(',', ":")),
                    source: resources(&second.replace(',', ":")),
                });
                operation::Type::Reserve
            }
            "unreserve" => {
                operation.unreserve = Some(operation::Unreserve { resources: all() });
                operation::Type::Unreserve
            }
            "create" => {
                operation.create = Some(operation::Create { volumes: all() });
                operation::Type::Create
            }
            "destroy" => {
                operation.destroy = Some(operation::Destroy { volumes: all() });
                operation::Type::Destroy
            }
            "grow" => {
                operation.grow_volume = Some(Box::new(operation::GrowVolume {
                    volume: one(first),
                    addition: one(second),
                }));
                operation::Type::GrowVolume
            }
            "shrink" => {
                operation.shrink_volume = Some(Box::new(operation::ShrinkVolume {
                    volume: one(first),
                    subtract: second
                        .parse::<f64>()
                        .map(|value| Scalar::from_f64(value).expect("an amount").into())
                        .expect("a number"),
                }));
                operation::Type::ShrinkVolume
            }
            "launch" => {
                let task = v1::TaskInfo {
                    name: first.to_owned(),
                    task_id: first.into(),
                    agent_id: self.id(agent).into(),
                    resources: resources(&second.replace(',', ":")),
                    command: Some(command()),
                    ..v1::TaskInfo::default()
                };
                operation.launch = Some(operation::Launch { task_infos: vec![task] });
                operation::Type::Launch
            }
            _ => panic!("there is no operation {verb}"),
        };
        operation.set_type(kind);
        operation
    }

    /// The call of an operator who has an operation done.
    pub(super) fn ordered(&self, agent: &str, text: &str) -> v1::master::Call {
        use v1::master::call::{self, Type};
        let agent_id: v1::AgentId = self.id(agent).into();
        let operation = self.operation(text, agent);
        let mut call = v1::master::Call::default();
        if let Some(part) = operation.reserve {
            call.set_type(Type::ReserveResources);
            call.reserve_resources = Some(call::ReserveResources {
                agent_id,
                resources: part.resources,
                source: part.source,
            });
        } else if let Some(part) = operation.unreserve {
            call.set_type(Type::UnreserveResources);
            call.unreserve_resources = Some(call::UnreserveResources {
                agent_id,
                resources: part.resources,
            });
        } else if let Some(part) = operation.create {
            call.set_type(Type::CreateVolumes);
            call.create_volumes = Some(call::CreateVolumes {
                agent_id,
                volumes: part.volumes,
            });
        } else if let Some(part) = operation.destroy {
            call.set_type(Type::DestroyVolumes);
            call.destroy_volumes = Some(call::DestroyVolumes {
                agent_id,
                volumes: part.volumes,
            });
        } else if let Some(part) = operation.grow_volume {
            call.set_type(Type::GrowVolume);
            call.grow_volume = Some(call::GrowVolume {
                agent_id: Some(agent_id),
                volume: part.volume,
                addition: part.addition,
            });
        } else if let Some(part) = operation.shrink_volume {
            call.set_type(Type::ShrinkVolume);
            call.shrink_volume = Some(call::ShrinkVolume {
                agent_id: Some(agent_id),
                volume: part.volume,
                subtract: part.subtract,
            });
        }
        call
    }

    /// What an agent answers that has applied its layout, all but the volumes of `fail=web/v1+...`.
    pub(super) fn applied(&self, agent: &str, failed: &[String]) -> proffer_proto::link::LayoutApplied {
        let id = v1::AgentId::from(self.id(agent));
        let leading = self.master.leading.as_ref().expect("a leader");
        let agent = leading.agent_ids.get(&id).map(|slot| &leading.agents[*slot]);
        let (lineage, version) = agent.map_or((0, 0), |agent| (agent.lineage, agent.layout.version));
        let failures = failed.iter().map(|volume| {
            let (role, id) = volume.rsplit_once('/').expect("role/id");
            proffer_proto::link::VolumeFailure {
                role: role.to_owned(),
                volume_id: id.to_owned(),
                version,
                message: "the disk is broken".to_owned(),
            }
        });
        proffer_proto::link::LayoutApplied {
            lineage,
            version,
            failures: failures.collect(),
        }
    }

    /// The uuid of the final status of an operation.
    pub(super) fn operation_uuid(&self, id: &str) -> Option<Vec<u8>> {
        let leading = self.master.leading.as_ref()?;
        let mut operations = leading.agents.iter().flat_map(|(_, agent)| &agent.layout.operations);
        let found = operations.find(|operation| operation.info.id.as_ref().is_some_and(|own| own.value == id));
        found.map(|operation| operation.uuid.to_vec())
    }

    /// The calls about operations.
    pub(super) fn about_operations(
        &self,
        verb: &str,
        words: &[&str],
        base: v1::scheduler::Call,
    ) -> v1::scheduler::Call {
        match verb {
            "acknowledges-operation" => v1::scheduler::Call {
                acknowledge_operation_status: Some(call::AcknowledgeOperationStatus {
                    agent_id: None,
                    uuid: self.operation_uuid(words[0]).unwrap_or_else(|| vec![0; 16]),
                    operation_id: words[0].into(),
                }),
                ..base
            },
            _ => v1::scheduler::Call {
                reconcile_operations: Some(call::ReconcileOperations {
                    operations: words
                        .iter()
                        .map(|word| {
                            let (id, agent) = word.split_once('@').map_or((*word, None), |(id, on)| (id, Some(on)));
                            call::reconcile_operations::Operation {
                                operation_id: id.into(),
                                agent_id: agent.map(|agent| self.id(agent).into()),
                            }
                        })
                        .collect(),
                }),
                ..base
            },
        }
    }
}
