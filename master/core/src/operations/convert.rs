//! What an operation takes and what it makes of that; which ones are refused, and why.

use std::collections::BTreeSet;

use proffer_proto::resources::{Entry, Resources, Scalar};
use proffer_proto::v1::offer::Operation;
use proffer_proto::v1::offer::operation::{self, Type};
use proffer_proto::v1::{self, volume};
use proffer_proto::{Rejection, roles};

/// Resources that become others. The amounts stay: both sides are the same where all reservations are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Conversion {
    pub(crate) consumed: Resources,
    pub(crate) produced: Resources,
    /// The volumes among what is consumed whose data is to go.
    pub(crate) destroyed: Resources,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By<'a> {
    /// A framework, which reserves for the role that it was offered the resources as.
    Framework {
        role: &'a str,
        principal: Option<&'a str>,
    },
    Operator,
}

/// Whether it makes other resources of resources.
pub(crate) fn is_conversion(operation: &Operation) -> bool {
    matches!(
        operation.r#type(),
        Type::Reserve | Type::Unreserve | Type::Create | Type::Destroy | Type::GrowVolume | Type::ShrinkVolume
    )
}

/// What an operation does. `volumes` are the volumes of the agent, by role and id.
///
/// # Errors
/// By the path of the field within the operation.
pub(crate) fn conversion(
    operation: &Operation,
    by: By<'_>,
    volumes: &BTreeSet<(String, String)>,
) -> Result<Conversion, Rejection> {
    match operation.r#type() {
        Type::Reserve => {
            let part = operation
                .reserve
                .as_ref()
                .ok_or_else(|| Rejection::missing("reserve"))?;
            reserve(part, by).map_err(|rejection| rejection.within("reserve"))
        }
        Type::Unreserve => {
            let part = operation.unreserve.as_ref();
            let part = part.ok_or_else(|| Rejection::missing("unreserve"))?;
            unreserve(part, by).map_err(|rejection| rejection.within("unreserve"))
        }
        Type::Create => {
            let part = operation.create.as_ref().ok_or_else(|| Rejection::missing("create"))?;
            create(part, by, volumes).map_err(|rejection| rejection.within("create"))
        }
        Type::Destroy => {
            let part = operation
                .destroy
                .as_ref()
                .ok_or_else(|| Rejection::missing("destroy"))?;
            destroy(part, by).map_err(|rejection| rejection.within("destroy"))
        }
        Type::GrowVolume => {
            let part = operation.grow_volume.as_ref();
            let part = part.ok_or_else(|| Rejection::missing("grow_volume"))?;
            grow(part, by).map_err(|rejection| rejection.within("grow_volume"))
        }
        Type::ShrinkVolume => {
            let part = operation.shrink_volume.as_ref();
            let part = part.ok_or_else(|| Rejection::missing("shrink_volume"))?;
            shrink(part, by).map_err(|rejection| rejection.within("shrink_volume"))
        }
        other => {
            let problem = format!("is {}", other.as_str_name());
            let accepted = "RESERVE, UNRESERVE, CREATE, DESTROY, GROW_VOLUME or SHRINK_VOLUME";
            Err(Rejection::new("type", problem, accepted))
        }
    }
}

/// The role and id of a volume.
pub(super) fn name(entry: &Entry) -> Option<(String, String)> {
    let role = entry.key().reservation_role().unwrap_or(roles::ANY);
    Some((role.to_owned(), entry.key().volume_id()?.to_owned()))
}

fn reserve(part: &operation::Reserve, by: By<'_>) -> Result<Conversion, Rejection> {
    let produced = read(&part.resources, by, "resources")?;
    for (index, entry) in produced.iter().enumerate() {
        reservable(entry, by)
            .map_err(|rejection| rejection.within(field(&part.resources, entry, "resources", index)))?;
    }
    if part.source.is_empty() {
        return Ok(Conversion {
            consumed: produced.clone().unreserve(),
            produced,
            ..Conversion::default()
        });
    }
    let consumed = read(&part.source, by, "source")?;
    without_volumes(&consumed, "source")?;
    if consumed.clone().to_declared() != produced.clone().to_declared() {
        let problem = format!("is {consumed}, other resources than those to be reserved");
        let accepted = format!("what {produced} is made of, in its present reservation");
        return Err(Rejection::new("source", problem, accepted));
    }
    Ok(Conversion {
        consumed,
        produced,
        ..Conversion::default()
    })
}

fn reservable(entry: &Entry, by: By<'_>) -> Result<(), Rejection> {
    let innermost = entry.key().reservations().last().filter(|layer| layer.dynamic);
    let Some(innermost) = innermost else {
        let accepted = "the resource as it is to become: the innermost of its `reservations` of the type DYNAMIC";
        return Err(Rejection::new("reservations", "has no dynamic reservation", accepted));
    };
    if entry.key().volume_id().is_some() {
        let accepted = "disk space; a persistent volume keeps its reservation";
        return Err(Rejection::new("disk.persistence", "is set", accepted));
    }
    if entry.key().is_revocable() {
        let accepted = "resources that are not revocable";
        return Err(Rejection::new("revocable", "is set", accepted));
    }
    let By::Framework { role, principal } = by else {
        return Ok(());
    };
    if innermost.role != role {
        let problem = format!("reserves for {:?}", innermost.role);
        let accepted = format!("{role:?}, the role that the resources are offered to");
        return Err(Rejection::new("reservations", problem, accepted));
    }
    match (innermost.principal.as_deref(), principal) {
        (Some(named), own) if Some(named) != own => {
            let accepted = own.map_or("no principal: the framework has none".to_owned(), |own| {
                format!("{own:?}, the framework's, or none")
            });
            let problem = format!("has the principal {named:?}");
            Err(Rejection::new("reservations", problem, accepted))
        }
        _ => Ok(()),
    }
}

fn unreserve(part: &operation::Unreserve, by: By<'_>) -> Result<Conversion, Rejection> {
    let consumed = read(&part.resources, by, "resources")?;
    without_volumes(&consumed, "resources")?;
    for (index, entry) in consumed.iter().enumerate() {
        let innermost = entry.key().reservations().last();
        if !innermost.is_some_and(|layer| layer.dynamic) {
            let problem = "is not reserved dynamically";
            let accepted = "what RESERVE reserved; a static reservation is the agent's own";
            let field = field(&part.resources, entry, "resources", index);
            return Err(Rejection::new("reservations", problem, accepted).within(field));
        }
    }
    Ok(Conversion {
        produced: consumed.clone().unreserve(),
        consumed,
        ..Conversion::default()
    })
}

fn create(part: &operation::Create, by: By<'_>, volumes: &BTreeSet<(String, String)>) -> Result<Conversion, Rejection> {
    let mut names = volumes.clone();
    for (index, message) in part.volumes.iter().enumerate() {
        let one = Resources::from_wire(std::slice::from_ref(message));
        let one = one.map_err(|rejection| rejection.within(format!("volumes[{index}]")))?;
        for entry in &one {
            let at = |rejection: Rejection| rejection.within(format!("volumes[{index}]"));
            creatable(entry, by).map_err(at)?;
            let name = name(entry).ok_or_else(|| at(Rejection::missing("disk.persistence")))?;
            if names.contains(&name) {
                let problem = format!("is {:?}, a volume that the role {:?} has on the agent", name.1, name.0);
                return Err(at(Rejection::new(
                    "disk.persistence.id",
                    problem,
                    "an id that is new there",
                )));
            }
            names.insert(name);
        }
    }
    let produced = read(&part.volumes, by, "volumes")?;
    Ok(Conversion {
        consumed: produced.clone().to_plain_disk(),
        produced,
        ..Conversion::default()
    })
}

fn creatable(entry: &Entry, by: By<'_>) -> Result<(), Rejection> {
    let disk = entry.key().disk();
    let Some(persistence) = disk.and_then(|disk| disk.persistence.as_ref()) else {
        let accepted = "the volume as it is to become: with `disk.persistence.id`";
        return Err(Rejection::new("disk.persistence", "is missing", accepted));
    };
    if disk.is_some_and(|disk| disk.source.is_some()) {
        let problem = "is set, but volumes on disks of their own are not there yet";
        return Err(Rejection::new(
            "disk.source",
            problem,
            "volumes on the agent's plain disk",
        ));
    }
    if entry.key().is_shared() {
        let problem = "is set, but shared volumes are not there yet";
        return Err(Rejection::new("shared", problem, "volumes of one task at a time"));
    }
    if let By::Framework { principal, .. } = by
        && let Some(named) = &persistence.principal
        && Some(named.as_str()) != principal
    {
        let accepted = "the framework's principal, or none";
        return Err(Rejection::new(
            "disk.persistence.principal",
            format!("is {named:?}"),
            accepted,
        ));
    }
    mounted(entry)?;
    let mode = disk.and_then(|disk| disk.volume.as_ref()).map(v1::Volume::mode);
    if mode != Some(volume::Mode::Rw) {
        let accepted = "RW; a task may have the volume as RO";
        return Err(Rejection::new("disk.volume.mode", "is RO", accepted));
    }
    Ok(())
}

/// Checks where a task or the creator of a volume wants it in containers.
pub(crate) fn mounted(entry: &Entry) -> Result<(), Rejection> {
    if entry.key().volume_id().is_none() {
        return Ok(());
    }
    let Some(volume) = entry.key().disk().and_then(|disk| disk.volume.as_ref()) else {
        return Err(Rejection::missing("disk.volume"));
    };
    if volume.host_path.is_some() || volume.source.is_some() || volume.image.is_some() {
        let accepted = "`container_path` and `mode` alone: the agent knows where the volume is";
        return Err(Rejection::new("disk.volume", "says where the volume is", accepted));
    }
    let path = &volume.container_path;
    let odd = path.is_empty() || path.contains('\0') || path.split('/').any(|part| part == "..");
    if odd {
        let problem = format!("is {path:?}");
        let accepted = "a path in the container, or below the sandbox where it is relative, without `..`";
        return Err(Rejection::new("disk.volume.container_path", problem, accepted));
    }
    Ok(())
}

fn destroy(part: &operation::Destroy, by: By<'_>) -> Result<Conversion, Rejection> {
    let consumed = read(&part.volumes, by, "volumes")?;
    if let Some(other) = consumed.iter().find(|entry| entry.key().volume_id().is_none()) {
        let problem = format!("hold {}, which is no persistent volume", other.name());
        return Err(Rejection::new("volumes", problem, "persistent volumes"));
    }
    Ok(Conversion {
        produced: consumed.clone().to_plain_disk(),
        destroyed: consumed.clone(),
        consumed,
    })
}

fn grow(part: &operation::GrowVolume, by: By<'_>) -> Result<Conversion, Rejection> {
    let (volume, size) = one_volume(&part.volume, by)?;
    let addition = read(std::slice::from_ref(&part.addition), by, "addition")?;
    let space = volume.clone().to_plain_disk();
    let same = |entry: &Entry| space.iter().all(|own| own.key() == entry.key());
    if addition.is_empty() || !addition.iter().all(same) {
        let accepted = format!("disk space that is reserved like the volume, as {space} is");
        return Err(Rejection::new("addition", format!("is {addition}"), accepted));
    }
    let produced = resized(&part.volume, size + addition.disk(), by)?;
    Ok(Conversion {
        consumed: volume + addition,
        produced,
        ..Conversion::default()
    })
}

fn shrink(part: &operation::ShrinkVolume, by: By<'_>) -> Result<Conversion, Rejection> {
    let (volume, size) = one_volume(&part.volume, by)?;
    let subtract = Scalar::from_f64(part.subtract.value).map_err(|rejection| rejection.within("subtract.value"))?;
    let left = size
        .checked_sub(subtract)
        .filter(|left| !left.is_zero() && !subtract.is_zero());
    let Some(left) = left else {
        let accepted = format!("more than 0 and less than {size}, the size of the volume");
        return Err(Rejection::new("subtract.value", format!("is {subtract}"), accepted));
    };
    let freed = resized(&part.volume, subtract, by)?.to_plain_disk();
    Ok(Conversion {
        consumed: volume,
        produced: resized(&part.volume, left, by)? + freed,
        ..Conversion::default()
    })
}

fn one_volume(message: &v1::Resource, by: By<'_>) -> Result<(Resources, Scalar), Rejection> {
    let volume = read(std::slice::from_ref(message), by, "volume")?;
    let size = volume.disk();
    match volume.iter().next() {
        Some(entry) if entry.key().volume_id().is_some() && !entry.key().is_shared() => Ok((volume, size)),
        _ => {
            let accepted = "one persistent volume that is not shared";
            Err(Rejection::new("volume", format!("is {volume}"), accepted))
        }
    }
}

/// The volume with another size.
fn resized(message: &v1::Resource, size: Scalar, by: By<'_>) -> Result<Resources, Rejection> {
    let resized = v1::Resource {
        scalar: Some(size.into()),
        ..message.clone()
    };
    read(&[resized], by, "volume")
}

fn without_volumes(resources: &Resources, field: &str) -> Result<(), Rejection> {
    match resources.iter().find_map(|entry| entry.key().volume_id()) {
        Some(id) => {
            let problem = format!("hold the persistent volume {id:?}");
            let accepted = "resources without volumes; DESTROY makes disk space of a volume";
            Err(Rejection::new(field, problem, accepted))
        }
        None => Ok(()),
    }
}

/// The resources without their allocation role, which is the framework's.
fn read(list: &[v1::Resource], by: By<'_>, field: &str) -> Result<Resources, Rejection> {
    let resources = Resources::from_wire(list).map_err(|rejection| rejection.within(field))?;
    if resources.is_empty() {
        return Err(Rejection::new(field, "is empty", "one or more resources"));
    }
    if let By::Framework { role: own, .. } = by {
        let roles = resources.iter().filter_map(|entry| entry.key().allocation_role());
        if let Some(role) = roles.into_iter().find(|role| *role != own) {
            let problem = format!("are allocated to the role {role:?}");
            let accepted = format!("resources of the offers, which are allocated to {own:?}");
            return Err(Rejection::new(field, problem, accepted));
        }
    }
    Ok(resources.unallocate())
}

/// Which of the messages an entry comes from, where that can be said.
fn field(list: &[v1::Resource], entry: &Entry, field: &str, index: usize) -> String {
    if list.len() == 1 {
        return format!("{field}[0]");
    }
    let position = list.iter().position(|message| {
        Resources::from_wire(std::slice::from_ref(message))
            .is_ok_and(|one| one.unallocate().iter().any(|own| own.key() == entry.key()))
    });
    format!("{field}[{}]", position.unwrap_or(index))
}
