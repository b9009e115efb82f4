//! The persistent volumes that the master wants here: what the journal remembers of them, and who may mount them.
//!
//! The master says the whole of it, again at every registration. A volume that it still names is the one that is here, unless
//! it says that that one is destroyed; what it does not name is left alone. So data is removed only where the master says so
//! of a volume that the journal knows, and never because one of the two has forgotten something.

use proffer_proto::link::{self, LayoutApplied, agent_message};
use proffer_proto::v1;

use super::{Core, Effect, Session, send};
use crate::checkpoint::record::{Fact, Volume, VolumeFailure, Volumes};

/// How many failures are remembered.
const FAILURES_MAX: usize = 64;

/// What became of a layout.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LaidOut {
    /// The layout that was asked for.
    pub wanted: Volumes,
    /// What could not be done.
    pub failures: Vec<VolumeFailure>,
    /// Those of `going` whose data is gone.
    pub gone: Vec<Volume>,
}

/// A persistent volume and where a container has it.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumeMount {
    /// The volume.
    pub volume: Volume,
    /// Where, as the task says.
    pub container_path: String,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// The master says which volumes there are to be.
pub(super) fn wanted(core: &mut Core, layout: link::Layout, effects: &mut Vec<Effect>) {
    let same = core.volumes.as_ref().filter(|known| known.lineage == layout.lineage);
    if same.is_some_and(|known| known.version > layout.version) {
        tracing::error!(
            version = layout.version,
            "the master has an older layout of this agent's volumes than the agent: it is passed over"
        );
        return;
    }
    let known = same.cloned();
    if let Some(other) = core.volumes.as_ref().filter(|_| known.is_none()) {
        for volume in &other.volumes {
            tracing::warn!(
                role = volume.role,
                volume_id = volume.id,
                "the masters do not know this volume any more: its data is left where it is"
            );
        }
    }
    let next = next(known.clone().unwrap_or_default(), &layout);
    if known.as_ref() != Some(&next) {
        effects.push(Effect::Checkpoint(Fact::Volumes(next.clone()).into()));
    }
    core.volumes = Some(next.clone());
    effects.push(Effect::LayOut(next));
}

/// What there is after a layout.
fn next(known: Volumes, layout: &link::Layout) -> Volumes {
    let same = |volume: &Volume, name: &(String, String)| volume.role == name.0 && volume.id == name.1;
    let mut next = Volumes {
        lineage: layout.lineage,
        version: layout.version,
        volumes: Vec::new(),
        ..known.clone()
    };
    for volume in &known.volumes {
        let destroyed = layout.destroyed.iter().filter_map(|destroyed| {
            let (name, _) = describe(&destroyed.volume)?;
            (same(volume, &name) && volume.since < destroyed.version).then_some(destroyed.version)
        });
        if let Some(wanted) = destroyed.max() {
            next.going.push(Volume {
                wanted,
                ..volume.clone()
            });
        }
    }
    for (name, bytes) in layout.resources.iter().filter_map(describe) {
        let here = known.volumes.iter().find(|volume| same(volume, &name));
        let here = here.filter(|here| {
            !next
                .going
                .iter()
                .any(|going| same(going, &name) && going.since == here.since)
        });
        next.volumes.push(match here {
            Some(here) if here.bytes == bytes => here.clone(),
            Some(here) => Volume {
                bytes,
                wanted: layout.version,
                ..here.clone()
            },
            None => Volume {
                role: name.0,
                id: name.1,
                bytes,
                lineage: layout.lineage,
                since: layout.version,
                wanted: layout.version,
            },
        });
    }
    next
}

/// The role, the id and the size of a persistent volume.
fn describe(resource: &v1::Resource) -> Option<((String, String), u64)> {
    let id = &resource.disk.as_ref()?.persistence.as_ref()?.id;
    let role = resource.reservations.last().and_then(|layer| layer.role.clone());
    let mebibytes = resource.scalar.as_ref().map_or(0.0, |scalar| scalar.value);
    let bytes = ((mebibytes * 1000.0).round() as u64).saturating_mul(1 << 20) / 1000;
    Some(((role.unwrap_or_default(), id.clone()), bytes))
}

/// What could be done of a layout is done.
pub(super) fn done(core: &mut Core, done: LaidOut, effects: &mut Vec<Effect>) {
    let Some(volumes) = core.volumes.as_mut().filter(|own| own.lineage == done.wanted.lineage) else {
        return;
    };
    let before = volumes.clone();
    volumes.going.retain(|going| !done.gone.contains(going));
    for failure in done.failures {
        let known =
            |own: &VolumeFailure| (&own.role, &own.id, own.version) == (&failure.role, &failure.id, failure.version);
        if !volumes.failures.iter().any(known) {
            volumes.failures.push(failure);
        }
    }
    let excess = volumes.failures.len().saturating_sub(FAILURES_MAX);
    volumes.failures.drain(..excess);
    if *volumes != before {
        effects.push(Effect::Checkpoint(Fact::Volumes(volumes.clone()).into()));
    }
    let failures = volumes.failures.iter().map(|failure| link::VolumeFailure {
        role: failure.role.clone(),
        volume_id: failure.id.clone(),
        version: failure.version,
        message: failure.message.clone(),
    });
    let applied = LayoutApplied {
        lineage: done.wanted.lineage,
        version: done.wanted.version,
        failures: failures.collect(),
    };
    if let Session::Registered(session) = core.session {
        effects.push(send(session, agent_message::Body::LayoutApplied(applied)));
    }
}

/// The volumes that the container of a task mounts, or why it cannot have them.
pub(super) fn mounts(core: &Core, task: &v1::TaskInfo) -> Result<Vec<VolumeMount>, String> {
    of(core, &task.resources)
}

/// The volumes among these resources, or why they cannot be mounted.
pub(super) fn of(core: &Core, resources: &[v1::Resource]) -> Result<Vec<VolumeMount>, String> {
    let mut mounts: Vec<VolumeMount> = Vec::new();
    for (index, resource) in resources.iter().enumerate() {
        let Some(((role, id), _)) = describe(resource) else {
            continue;
        };
        let own = core.volumes.iter().flat_map(|volumes| &volumes.volumes);
        let Some(volume) = own.clone().find(|volume| volume.role == role && volume.id == id) else {
            return Err(format!(
                "resources[{index}].disk.persistence.id: the role `{role}` has no volume `{}` on this agent",
                id.escape_debug()
            ));
        };
        let place = resource.disk.as_ref().and_then(|disk| disk.volume.as_ref());
        let Some(place) = place else {
            return Err(format!(
                "resources[{index}].disk.volume: must say where the volume is mounted"
            ));
        };
        if mounts.iter().any(|other| other.container_path == place.container_path) {
            return Err(format!(
                "resources[{index}].disk.volume.container_path: another volume is mounted there"
            ));
        }
        mounts.push(VolumeMount {
            volume: volume.clone(),
            container_path: place.container_path.clone(),
            read_only: place.mode() == v1::volume::Mode::Ro,
        });
    }
    Ok(mounts)
}

/// Why a task that has no container of its own cannot have a volume.
pub(super) fn refuse_entrusted(task: &v1::TaskInfo) -> Option<String> {
    let index = task
        .resources
        .iter()
        .position(|resource| describe(resource).is_some())?;
    Some(format!(
        "resources[{index}].disk.persistence: a task of a custom executor has no container of its own; give the volume to the executor"
    ))
}

#[cfg(test)]
mod tests {
    use proffer_proto::v1::resource::disk_info::Persistence;
    use proffer_proto::v1::resource::{DiskInfo, ReservationInfo};

    use super::*;

    fn volume(id: &str, mebibytes: f64) -> v1::Resource {
        v1::Resource {
            name: "disk".into(),
            scalar: Some(v1::value::Scalar { value: mebibytes }),
            reservations: vec![ReservationInfo {
                role: Some("web".into()),
                ..ReservationInfo::default()
            }],
            disk: Some(Box::new(DiskInfo {
                persistence: Some(Persistence {
                    id: id.into(),
                    principal: None,
                }),
                ..DiskInfo::default()
            })),
            ..v1::Resource::default()
        }
    }

    fn layout(version: u64, volumes: &[(&str, f64)], destroyed: &[(&str, u64)]) -> link::Layout {
        link::Layout {
            lineage: 7,
            version,
            resources: volumes.iter().map(|(id, size)| volume(id, *size)).collect(),
            destroyed: destroyed
                .iter()
                .map(|(id, version)| link::DestroyedVolume {
                    volume: volume(id, 1.0),
                    version: *version,
                })
                .collect(),
        }
    }

    /// `v1@3:1048576`: the version that made each volume, and its size.
    fn shown(volumes: &[Volume]) -> Vec<String> {
        let one = |volume: &Volume| format!("{}@{}:{}", volume.id, volume.since, volume.bytes >> 20);
        volumes.iter().map(one).collect()
    }

    #[test]
    fn only_what_the_master_destroys_and_the_agent_made_goes() {
        let first = next(Volumes::default(), &layout(1, &[("a", 1.0), ("b", 2.0)], &[]));
        assert_eq!(shown(&first.volumes), ["a@1:1", "b@1:2"]);
        let again = next(first.clone(), &layout(1, &[("a", 1.0), ("b", 2.0)], &[]));
        assert_eq!(again, first, "the same layout changes nothing");
        let silent = next(first.clone(), &layout(2, &[("a", 1.0)], &[]));
        assert_eq!(shown(&silent.volumes), ["a@1:1"]);
        assert!(silent.going.is_empty(), "nobody said that b is destroyed");
        let grown = next(first.clone(), &layout(2, &[("a", 3.0)], &[("b", 2)]));
        assert_eq!(
            (shown(&grown.volumes), shown(&grown.going)),
            (vec!["a@1:3".into()], vec!["b@1:2".into()])
        );
        let remade = next(first.clone(), &layout(3, &[("a", 1.0), ("b", 5.0)], &[("b", 3)]));
        assert_eq!(shown(&remade.volumes), ["a@1:1", "b@3:5"], "b is another one now");
        assert_eq!(shown(&remade.going), ["b@1:2"]);
        let told_again = next(remade.clone(), &layout(3, &[("a", 1.0), ("b", 5.0)], &[("b", 3)]));
        assert_eq!(told_again, remade, "the new b is not the one that is destroyed");
    }
}
