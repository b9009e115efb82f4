//! Resources from and to the messages of the v1 API: where untrusted quantities are rejected.

use std::sync::Arc;

use super::key::{self, Disk, Traits};
use super::{Entry, Key, Kind, Quantity, Ranges, Reservation, Resources, Scalar, Set};
use crate::v1::resource::reservation_info::Type as ReservationType;
use crate::v1::resource::{AllocationInfo, ReservationInfo, RevocableInfo, SharedInfo};
use crate::v1::{self, value};
use crate::{Rejection, ids, roles};

/// The names whose type is fixed.
const FIXED_KINDS: &[(&str, Kind)] = &[
    ("cpus", Kind::Scalar),
    ("mem", Kind::Scalar),
    ("disk", Kind::Scalar),
    ("gpus", Kind::Scalar),
    ("ports", Kind::Ranges),
];

impl Resources {
    /// Reads a list of resource messages; what is listed several times adds up.
    ///
    /// # Errors
    /// The first resource that is invalid, by a path such as `[2].scalar.value`.
    pub fn from_wire(list: &[v1::Resource]) -> Result<Self, Rejection> {
        let mut resources = Self {
            entries: Vec::with_capacity(list.len()),
        };
        for (index, message) in list.iter().enumerate() {
            let entry = entry(message).map_err(|rejection| rejection.at(index))?;
            let known = resources.entries.iter().find(|known| known.key.name == entry.key.name);
            if known.is_some_and(|known| known.key.kind != entry.key.kind) {
                let problem = "differs from that of an earlier resource of this name";
                return Err(Rejection::new("type", problem, "one type a name").at(index));
            }
            if entry.key.volume_id().is_some() && !entry.key.is_shared() && resources.position(&entry.key).is_ok() {
                let problem = "is listed twice, and the volume is not shared";
                return Err(Rejection::new("disk.persistence.id", problem, "each volume once").at(index));
            }
            resources.insert(entry);
        }
        Ok(resources)
    }

    /// The messages, in the order of the keys; a shared volume once for each of its users.
    pub fn to_wire(&self) -> Vec<v1::Resource> {
        let mut list = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let message = message(entry);
            for _ in 1..entry.copies {
                list.push(message.clone());
            }
            list.push(message);
        }
        list
    }
}

impl TryFrom<&[v1::Resource]> for Resources {
    type Error = Rejection;

    fn try_from(list: &[v1::Resource]) -> Result<Self, Rejection> {
        Self::from_wire(list)
    }
}

impl From<&Resources> for Vec<v1::Resource> {
    fn from(resources: &Resources) -> Self {
        resources.to_wire()
    }
}

fn entry(message: &v1::Resource) -> Result<Entry, Rejection> {
    if message.name.is_empty() {
        return Err(Rejection::new("name", "is empty", "a name such as cpus"));
    }
    let quantity = quantity(message)?;
    check_kind(&message.name, &quantity)?;
    let mut traits = Traits {
        reservations: reservations(message)?,
        revocable: message.revocable.is_some(),
        shared: message.shared.is_some(),
        disk: message.disk.as_deref().cloned().map(Disk::new),
        whole: None,
    };
    check_disk(message, &traits)?;
    if traits.disk.as_ref().is_some_and(Disk::is_whole) {
        traits.whole = match quantity {
            Quantity::Scalar(size) => Some(size),
            _ => None,
        };
    }
    let allocation_role = match &message.allocation_info {
        None => None,
        Some(AllocationInfo { role: None }) => return Err(Rejection::missing("allocation_info.role")),
        Some(AllocationInfo { role: Some(role) }) => {
            roles::check(role, "allocation_info.role")?;
            Some(Arc::from(role.as_str()))
        }
    };
    let key = Key {
        name: key::shared(&message.name),
        kind: quantity.kind(),
        traits: None,
        allocation_role,
    };
    Ok(Entry {
        key: key.with_traits(traits),
        quantity,
        copies: 1,
    })
}

fn quantity(message: &v1::Resource) -> Result<Quantity, Rejection> {
    let kind = value::Type::try_from(message.r#type);
    let given = [
        (value::Type::Scalar, "scalar", message.scalar.is_some()),
        (value::Type::Ranges, "ranges", message.ranges.is_some()),
        (value::Type::Set, "set", message.set.is_some()),
    ];
    for (of, field, is_set) in given {
        let wanted = kind == Ok(of);
        if wanted && !is_set {
            return Err(Rejection::missing(field));
        }
        if is_set && !wanted {
            let accepted = format!("`{field}` only where `type` is {}", of.as_str_name());
            return Err(Rejection::new(field, "does not belong to the type", accepted));
        }
    }
    if let Some(scalar) = &message.scalar {
        let amount = Scalar::from_f64(scalar.value).map_err(|rejection| rejection.within("scalar.value"))?;
        return Ok(Quantity::Scalar(amount));
    }
    if let Some(ranges) = &message.ranges {
        let intervals = ranges.range.iter().map(|range| (range.begin, range.end));
        let ranges = Ranges::from_intervals(intervals).map_err(|rejection| rejection.within("ranges.range"))?;
        return Ok(Quantity::Ranges(ranges));
    }
    if let Some(set) = &message.set {
        return Ok(Quantity::Set(set.item.iter().cloned().collect::<Set>()));
    }
    let problem = format!(
        "is {}",
        kind.map_or_else(|_| message.r#type.to_string(), |kind| kind.as_str_name().into())
    );
    Err(Rejection::new("type", problem, "SCALAR, RANGES or SET"))
}

/// Checks what is fixed by the name.
pub(super) fn check_kind(name: &str, quantity: &Quantity) -> Result<(), Rejection> {
    let fixed = FIXED_KINDS.iter().find(|(fixed, _)| *fixed == name);
    if let Some((_, kind)) = fixed
        && *kind != quantity.kind()
    {
        let problem = format!("is {:?} for {name}", quantity.kind());
        return Err(Rejection::new("type", problem, format!("{kind:?}")));
    }
    match quantity {
        Quantity::Scalar(amount) if name == "gpus" && amount.thousandths() % 1000 != 0 => Err(Rejection::new(
            "scalar.value",
            format!("is {amount}"),
            "a whole number of gpus",
        )),
        Quantity::Ranges(ranges) if name == "ports" => match ranges.intervals().last() {
            Some((_, end)) if end > 65535 => Err(Rejection::new(
                "ranges.range",
                format!("holds {end}"),
                "ports from 0 to 65535",
            )),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn check_disk(message: &v1::Resource, traits: &Traits) -> Result<(), Rejection> {
    let persistence = message.disk.as_ref().and_then(|disk| disk.persistence.as_ref());
    if message.disk.is_some() && message.name != "disk" {
        let problem = format!("is set for {}", message.name);
        return Err(Rejection::new("disk", problem, "`disk` only where the name is disk"));
    }
    let Some(persistence) = persistence else {
        if traits.shared {
            let problem = "is set for what is no persistent volume";
            return Err(Rejection::new(
                "shared",
                problem,
                "`shared` only with `disk.persistence`",
            ));
        }
        return Ok(());
    };
    ids::check_chosen(&persistence.id, "disk.persistence.id")?;
    if traits.reservations.is_empty() {
        let problem = "is set for an unreserved disk";
        return Err(Rejection::new("disk.persistence", problem, "a reserved disk"));
    }
    if traits.revocable {
        let problem = "is set for a persistent volume";
        return Err(Rejection::new("revocable", problem, "volumes that are not revocable"));
    }
    Ok(())
}

/// The layers of reservation, from either form: the list, or the older `role` with `reservation`.
#[allow(deprecated)]
fn reservations(message: &v1::Resource) -> Result<Vec<Reservation>, Rejection> {
    let role = message.role.as_deref().unwrap_or(roles::ANY);
    if message.reservations.is_empty() {
        return older_reservation(role, message.reservation.as_deref());
    }
    let mut layers: Vec<Reservation> = Vec::with_capacity(message.reservations.len());
    for (index, info) in message.reservations.iter().enumerate() {
        let layer = layer(info, layers.last()).map_err(|rejection| rejection.at(index).within("reservations"))?;
        layers.push(layer);
    }
    let innermost = &layers[layers.len() - 1];
    if message.role.is_some() && role != innermost.role {
        let problem = format!(
            "is {role:?} where the innermost of `reservations` is for {:?}",
            innermost.role
        );
        return Err(Rejection::new(
            "role",
            problem,
            "no `role` beside `reservations`, or the same one",
        ));
    }
    if let Some(older) = &message.reservation {
        let same = innermost.dynamic
            && innermost.principal == older.principal
            && innermost.labels == labels(older)
            && innermost.id == older.id;
        if !same {
            let problem = "contradicts the innermost of `reservations`";
            return Err(Rejection::new("reservation", problem, "only `reservations`"));
        }
    }
    Ok(layers)
}

fn older_reservation(role: &str, info: Option<&ReservationInfo>) -> Result<Vec<Reservation>, Rejection> {
    roles::check(role, "role")?;
    let Some(info) = info else {
        let plain = Reservation {
            role: role.to_owned(),
            ..Reservation::default()
        };
        return Ok(if role == roles::ANY { Vec::new() } else { vec![plain] });
    };
    if role == roles::ANY {
        let problem = "is set for resources of the role `*`";
        return Err(Rejection::new(
            "reservation",
            problem,
            "a `role` other than `*`, or `reservations`",
        ));
    }
    if info.role.as_deref().is_some_and(|inner| inner != role) {
        return Err(Rejection::new(
            "reservation.role",
            "differs from `role`",
            "the same role, or none",
        ));
    }
    if info.r#type.is_some_and(|kind| kind != ReservationType::Dynamic as i32) {
        return Err(Rejection::new("reservation.type", "is not DYNAMIC", "DYNAMIC, or none"));
    }
    check_id(info).map_err(|rejection| rejection.within("reservation"))?;
    Ok(vec![Reservation {
        role: role.to_owned(),
        dynamic: true,
        principal: info.principal.clone(),
        labels: labels(info),
        id: info.id.clone(),
    }])
}

fn layer(info: &ReservationInfo, outer: Option<&Reservation>) -> Result<Reservation, Rejection> {
    let role = info.role.clone().ok_or_else(|| Rejection::missing("role"))?;
    roles::check(&role, "role")?;
    check_id(info)?;
    if role == roles::ANY {
        return Err(Rejection::new("role", "is `*`", "a role other than `*`"));
    }
    let dynamic = match info.r#type.map(ReservationType::try_from) {
        Some(Ok(ReservationType::Static)) => false,
        Some(Ok(ReservationType::Dynamic)) => true,
        None => return Err(Rejection::missing("type")),
        Some(_) => return Err(Rejection::new("type", "is unknown", "STATIC or DYNAMIC")),
    };
    if let Some(outer) = outer {
        if !dynamic {
            return Err(Rejection::new(
                "type",
                "is STATIC within another reservation",
                "DYNAMIC",
            ));
        }
        if !roles::is_below(&role, &outer.role) {
            let problem = format!("is {role:?}, which does not refine {:?}", outer.role);
            return Err(Rejection::new(
                "role",
                problem,
                format!("a role below {:?}", outer.role),
            ));
        }
    }
    Ok(Reservation {
        role,
        dynamic,
        principal: info.principal.clone(),
        labels: labels(info),
        id: info.id.clone(),
    })
}

fn check_id(info: &ReservationInfo) -> Result<(), Rejection> {
    info.id.as_deref().map_or(Ok(()), |id| ids::check_chosen(id, "id"))
}

fn labels(info: &ReservationInfo) -> Vec<(String, Option<String>)> {
    let labels = info.labels.as_ref().map_or(&[][..], |labels| &labels.labels);
    let mut labels: Vec<_> = labels
        .iter()
        .map(|label| (label.key.clone(), label.value.clone()))
        .collect();
    labels.sort();
    labels
}

fn message(entry: &Entry) -> v1::Resource {
    let mut message = v1::Resource {
        name: entry.name().to_owned(),
        disk: entry.key.disk().cloned().map(Box::new),
        revocable: entry.key.is_revocable().then(RevocableInfo::default),
        shared: entry.key.is_shared().then(SharedInfo::default),
        allocation_info: entry.key.allocation_role().map(|role| AllocationInfo {
            role: Some(role.to_owned()),
        }),
        reservations: entry.key.reservations().iter().map(reservation_message).collect(),
        ..v1::Resource::default()
    };
    match &entry.quantity {
        Quantity::Scalar(amount) => {
            message.set_type(value::Type::Scalar);
            message.scalar = Some((*amount).into());
        }
        Quantity::Ranges(ranges) => {
            message.set_type(value::Type::Ranges);
            message.ranges = Some(ranges.into());
        }
        Quantity::Set(set) => {
            message.set_type(value::Type::Set);
            message.set = Some(value::Set {
                item: set.iter().cloned().collect(),
            });
        }
    }
    message
}

impl From<Scalar> for value::Scalar {
    fn from(amount: Scalar) -> Self {
        Self { value: amount.as_f64() }
    }
}

impl From<&Ranges> for value::Ranges {
    fn from(ranges: &Ranges) -> Self {
        Self {
            range: ranges
                .intervals()
                .map(|(begin, end)| value::Range { begin, end })
                .collect(),
        }
    }
}

fn reservation_message(reservation: &Reservation) -> ReservationInfo {
    let labels = reservation.labels.iter().map(|(key, value)| v1::Label {
        key: key.clone(),
        value: value.clone(),
    });
    let kind = if reservation.dynamic {
        ReservationType::Dynamic
    } else {
        ReservationType::Static
    };
    ReservationInfo {
        principal: reservation.principal.clone(),
        labels: (!reservation.labels.is_empty()).then(|| v1::Labels {
            labels: labels.collect(),
        }),
        role: Some(reservation.role.clone()),
        r#type: Some(kind as i32),
        id: reservation.id.clone(),
    }
}
