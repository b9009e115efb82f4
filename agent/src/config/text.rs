//! The text form of resources and attributes: `name:value;name:value`, where a value is a number, `[1-5,8-9]`, `{a,b}`, or,
//! for attributes, any text.

use std::fmt::Write as _;

use proffer_proto::v1;
use proffer_proto::v1::value::{Range, Ranges, Scalar, Set, Text, Type};

use super::Error;

/// The largest number whose thousandths are exact in a double.
const SCALAR_MAX: f64 = 9_007_199_254_740.0;

enum Value {
    Scalar(f64),
    Ranges(Vec<(u64, u64)>),
    Set(Vec<String>),
    Text(String),
}

/// Parses resources.
pub(super) fn resources(text: &str) -> Result<Vec<v1::Resource>, Error> {
    let bad = |problem: String| Error::new("resources", problem);
    let mut resources: Vec<v1::Resource> = Vec::new();
    for (name, value) in pairs(text).map_err(bad)? {
        if resources.iter().any(|resource| resource.name == name) {
            return Err(bad(format!("`{name}` is given twice")));
        }
        if !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        {
            return Err(bad(format!(
                "`{name}` is not a name; static reservations (`cpus(role):1`) are not supported"
            )));
        }
        let value = parse(&value).map_err(|problem| bad(format!("{name}: {problem}")))?;
        let expected = match name.as_str() {
            "cpus" | "mem" | "disk" | "gpus" => matches!(value, Value::Scalar(_)),
            "ports" => matches!(&value, Value::Ranges(ranges) if ranges.iter().all(|(_, end)| *end <= 65_535)),
            _ => true,
        };
        if !expected {
            return Err(bad(format!(
                "{name}: must be a number, or for ports ranges up to 65535 such as [31000-31999]"
            )));
        }
        resources.push(resource(name, value).map_err(bad)?);
    }
    Ok(resources)
}

/// Parses attributes.
pub(super) fn attributes(text: &str) -> Result<Vec<v1::Attribute>, Error> {
    let bad = |problem: String| Error::new("attributes", problem);
    let mut attributes = Vec::new();
    for (name, value) in pairs(text).map_err(bad)? {
        let mut attribute = v1::Attribute {
            name: name.clone(),
            ..Default::default()
        };
        match parse(&value).map_err(|problem| bad(format!("{name}: {problem}")))? {
            Value::Scalar(value) => attribute.scalar = Some(Scalar { value }),
            Value::Ranges(ranges) => {
                attribute.set_type(Type::Ranges);
                attribute.ranges = Some(wire_ranges(ranges));
            }
            Value::Set(item) => {
                attribute.set_type(Type::Set);
                attribute.set = Some(Set { item });
            }
            Value::Text(value) => {
                attribute.set_type(Type::Text);
                attribute.text = Some(Text { value });
            }
        }
        attributes.push(attribute);
    }
    Ok(attributes)
}

/// A scalar resource.
pub(super) fn scalar(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        r#type: Type::Scalar.into(),
        scalar: Some(Scalar { value }),
        ..Default::default()
    }
}

/// A resource of one range.
pub(super) fn range(name: &str, begin: u64, end: u64) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        r#type: Type::Ranges.into(),
        ranges: Some(wire_ranges(vec![(begin, end)])),
        ..Default::default()
    }
}

/// The text form again.
pub(super) fn show_resources(resources: &[v1::Resource]) -> String {
    let shown = resources.iter().map(|resource| {
        show(
            &resource.name,
            resource.scalar.as_ref(),
            resource.ranges.as_ref(),
            resource.set.as_ref(),
            None,
        )
    });
    shown.collect::<Vec<_>>().join(";")
}

/// The text form again.
pub(super) fn show_attributes(attributes: &[v1::Attribute]) -> String {
    let shown = attributes.iter().map(|attribute| {
        show(
            &attribute.name,
            attribute.scalar.as_ref(),
            attribute.ranges.as_ref(),
            attribute.set.as_ref(),
            attribute.text.as_ref(),
        )
    });
    shown.collect::<Vec<_>>().join(";")
}

fn show(
    name: &str,
    scalar: Option<&Scalar>,
    ranges: Option<&Ranges>,
    set: Option<&Set>,
    text: Option<&Text>,
) -> String {
    let mut shown = format!("{name}:");
    if let Some(scalar) = scalar {
        let _ = write!(shown, "{}", scalar.value);
    }
    if let Some(ranges) = ranges {
        let parts: Vec<_> = ranges
            .range
            .iter()
            .map(|range| format!("{}-{}", range.begin, range.end))
            .collect();
        let _ = write!(shown, "[{}]", parts.join(","));
    }
    if let Some(set) = set {
        let _ = write!(shown, "{{{}}}", set.item.join(","));
    }
    if let Some(text) = text {
        shown.push_str(&text.value);
    }
    shown
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    text.split(';')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.split_once(':') {
            Some((name, value)) if !name.trim().is_empty() && !value.trim().is_empty() => {
                Ok((name.trim().to_owned(), value.trim().to_owned()))
            }
            _ => Err(format!("`{pair}` is not name:value")),
        })
        .collect()
}

fn parse(text: &str) -> Result<Value, String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let ranges: Result<Vec<_>, _> = inner.split(',').map(|part| parse_range(part.trim())).collect();
        return ranges.map(Value::Ranges);
    }
    if let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return Ok(Value::Set(
            inner.split(',').map(|item| item.trim().to_owned()).collect(),
        ));
    }
    match text.parse::<f64>() {
        Ok(value) if (0.0..=SCALAR_MAX).contains(&value) => Ok(Value::Scalar((value * 1000.0).round() / 1000.0)),
        Ok(_) => Err(format!("`{text}` must be a number from 0 to {SCALAR_MAX}")),
        Err(_) => Ok(Value::Text(text.to_owned())),
    }
}

fn parse_range(text: &str) -> Result<(u64, u64), String> {
    let bad = || format!("`{text}` is not a range such as 31000-31999");
    let (begin, end) = text.split_once('-').ok_or_else(bad)?;
    let begin = begin.trim().parse().map_err(|_| bad())?;
    let end = end.trim().parse().map_err(|_| bad())?;
    if begin > end { Err(bad()) } else { Ok((begin, end)) }
}

fn resource(name: String, value: Value) -> Result<v1::Resource, String> {
    let mut resource = v1::Resource {
        name,
        ..Default::default()
    };
    match value {
        Value::Scalar(value) => resource.scalar = Some(Scalar { value }),
        Value::Ranges(ranges) => {
            resource.set_type(Type::Ranges);
            resource.ranges = Some(wire_ranges(ranges));
        }
        Value::Set(item) => {
            resource.set_type(Type::Set);
            resource.set = Some(Set { item });
        }
        Value::Text(text) => {
            return Err(format!(
                "{}: `{text}` is neither a number, nor ranges [1-5], nor a set {{a,b}}",
                resource.name
            ));
        }
    }
    Ok(resource)
}

/// Sorted, and merged where they touch.
fn wire_ranges(mut ranges: Vec<(u64, u64)>) -> Ranges {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::new();
    for (begin, end) in ranges {
        match merged.last_mut() {
            Some(last) if begin <= last.end.saturating_add(1) => last.end = last.end.max(end),
            _ => merged.push(Range { begin, end }),
        }
    }
    Ranges { range: merged }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_there_and_back() {
        let text = "cpus:1.5;mem:64;ports:[31000-31009,31020-31020];labels:{a,b}";
        assert_eq!(show_resources(&resources(text).unwrap()), text);
        let text = "rack:r1;zone:a-b;rating:3";
        assert_eq!(show_attributes(&attributes(text).unwrap()), text);
        assert_eq!(
            show_resources(&resources("ports:[5-9, 1-4,8-12]").unwrap()),
            "ports:[1-12]"
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "cpus",
            "cpus:",
            ":1",
            "cpus:x",
            "cpus:NaN",
            "cpus:inf",
            "cpus:[1-2]",
            "ports:5",
            "ports:[1-70000]",
        ] {
            assert!(resources(bad).is_err(), "{bad}");
        }
        assert!(resources("cpus:1;cpus:2").unwrap_err().to_string().contains("twice"));
        assert!(
            resources("cpus(ads):1")
                .unwrap_err()
                .to_string()
                .contains("reservations")
        );
    }
}
