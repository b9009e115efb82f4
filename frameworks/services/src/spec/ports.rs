//! The ports of an instance.

use std::collections::BTreeSet;

use proffer_proto::Rejection;
use serde::Serialize;
use serde_json::Value;

use super::fields::Fields;
use super::values::{at_most, label};

/// The most ports that one instance may have.
pub const PORTS_MAX: usize = 32;

/// One port of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortSpec {
    /// Its name, a DNS label.
    pub name: String,
    /// The port, or 0 for any that an offer has.
    pub port: u16,
}

impl PortSpec {
    /// Any port that an offer has.
    pub fn any(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { name, port: 0 }
    }

    pub(super) fn read(value: Value) -> Result<Self, Rejection> {
        let mut fields = Fields::of(value)?;
        let port = PortSpec {
            name: fields.required("name", "a name as text")?,
            port: fields
                .optional("port", "a port from 1 to 65535, or 0 for any")?
                .unwrap_or(0),
        };
        fields.end()?;
        Ok(port)
    }
}

pub(super) fn validate(ports: &[PortSpec]) -> Result<(), Rejection> {
    at_most("ports", ports.len(), PORTS_MAX)?;
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let field = format!("ports[{index}].name");
        label(&field, &port.name)?;
        if !names.insert(port.name.as_str()) {
            let problem = format!("is `{}` a second time", port.name);
            return Err(Rejection::new(field, problem, "a name of its own for every port"));
        }
        if port.port != 0 && !numbers.insert(port.port) {
            let problem = format!("is {} a second time", port.port);
            return Err(Rejection::new(
                format!("ports[{index}].port"),
                problem,
                "every port once, or 0 for any",
            ));
        }
    }
    Ok(())
}

/// Checks that a port of this name is there.
pub(super) fn named(field: &str, name: &str, ports: &[PortSpec]) -> Result<(), Rejection> {
    if ports.iter().any(|port| port.name == name) {
        return Ok(());
    }
    let names: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
    let accepted = match names.as_slice() {
        [] => "the name of a port under `ports`, of which there is none".to_owned(),
        names => format!("the name of a port: {}", names.join(", ")),
    };
    Err(Rejection::new(field, format!("is {name:?}"), accepted))
}
