//! Resources as operators write them: `cpus:4;mem:2048;ports:[31000-32000];disk(role):100;zones:{a,b}`.

use std::fmt;

use super::{Entry, Quantity, Ranges, Reservation, Resources, Scalar, Set};
use crate::{Rejection, roles, v1};

impl Resources {
    /// Reads the text form, or the JSON form (a list of resource objects as in the v1 API) where the text begins with `[`.
    ///
    /// # Errors
    /// What cannot be read, by the name of the resource.
    pub fn parse(text: &str) -> Result<Self, Rejection> {
        let text = text.trim();
        if text.starts_with('[') {
            let list: Vec<v1::Resource> = serde_json::from_str(text).map_err(|error| {
                Rejection::new(
                    "",
                    format!("is no list of resources in JSON: {error}"),
                    "[{\"name\":\"cpus\",\"type\":\"SCALAR\",\"scalar\":{\"value\":4}}]",
                )
            })?;
            return Self::from_wire(&list);
        }
        let mut resources = Self::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            resources += parse_one(part)?;
        }
        Ok(resources)
    }
}

impl std::str::FromStr for Resources {
    type Err = Rejection;

    fn from_str(text: &str) -> Result<Self, Rejection> {
        Self::parse(text)
    }
}

fn parse_one(part: &str) -> Result<Resources, Rejection> {
    let accepted = "name:value or name(role):value, where the value is 1.5, [1-5,7-9] or {a,b}";
    let Some((subject, value)) = part.split_once(':') else {
        return Err(Rejection::new(part, "has no `:`", accepted));
    };
    let (name, role) = match subject.trim().split_once('(') {
        None => (subject.trim(), None),
        Some((name, rest)) => match rest.strip_suffix(')') {
            Some(role) => (name.trim(), Some(role.trim())),
            None => return Err(Rejection::new(subject, "has no `)` after the role", accepted)),
        },
    };
    if name.is_empty() {
        return Err(Rejection::new(part, "has no name", accepted));
    }
    let quantity = parse_quantity(value.trim()).map_err(|rejection| rejection.within(name))?;
    super::wire::check_kind(name, &quantity).map_err(|rejection| rejection.within(name))?;
    let resources = Resources::of(name, quantity);
    match role {
        None | Some(roles::ANY) => Ok(resources),
        Some(role) => {
            roles::check(role, "role").map_err(|rejection| rejection.within(name))?;
            Ok(resources.reserve(&Reservation {
                role: role.to_owned(),
                ..Reservation::default()
            }))
        }
    }
}

fn parse_quantity(value: &str) -> Result<Quantity, Rejection> {
    if let Some(inner) = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let mut intervals = Vec::new();
        for item in inner.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (begin, end) = item.split_once('-').unwrap_or((item, item));
            let (Ok(begin), Ok(end)) = (begin.trim().parse(), end.trim().parse()) else {
                return Err(Rejection::new(
                    "",
                    format!("has the range {item:?}"),
                    "ranges such as [31000-32000,33000]",
                ));
            };
            intervals.push((begin, end));
        }
        return Ranges::from_intervals(intervals).map(Quantity::Ranges);
    }
    if let Some(inner) = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let items = inner.split(',').map(str::trim).filter(|item| !item.is_empty());
        return Ok(Quantity::Set(items.map(str::to_owned).collect::<Set>()));
    }
    let number: f64 = value.parse().map_err(|_| {
        Rejection::new(
            "",
            format!("is {value:?}"),
            "a number such as 1.5, ranges such as [1-5,7-9], or a set such as {a,b}",
        )
    })?;
    Scalar::from_f64(number).map(Quantity::Scalar)
}

pub(super) fn write(resources: &Resources, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, entry) in resources.iter().enumerate() {
        if index > 0 {
            f.write_str(";")?;
        }
        write_entry(entry, f)?;
    }
    Ok(())
}

fn write_entry(entry: &Entry, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(entry.name())?;
    if let Some(role) = entry.key().reservation_role() {
        write!(f, "({role})")?;
    }
    let mut remarks = Vec::new();
    let innermost = entry.key().reservations().last();
    remarks.extend(innermost.filter(|own| own.dynamic).map(|own| match &own.id {
        Some(id) => format!("reserved as {id}"),
        None => "reserved".to_owned(),
    }));
    remarks.extend(entry.key().volume_id().map(|id| format!("volume {id}")));
    remarks.extend(entry.key().is_revocable().then(|| "revocable".to_owned()));
    remarks.extend(entry.key().is_shared().then(|| format!("shared by {}", entry.copies())));
    remarks.extend(entry.key().allocation_role().map(|role| format!("allocated to {role}")));
    if !remarks.is_empty() {
        write!(f, "{{{}}}", remarks.join(", "))?;
    }
    match entry.quantity() {
        Quantity::Scalar(amount) => write!(f, ":{amount}"),
        Quantity::Ranges(ranges) => write!(f, ":{ranges}"),
        Quantity::Set(set) => {
            let items: Vec<&str> = set.iter().map(String::as_str).collect();
            write!(f, ":{{{}}}", items.join(","))
        }
    }
}
