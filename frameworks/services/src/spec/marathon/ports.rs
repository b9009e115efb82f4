//! The ports of an application.

use proffer_proto::Rejection;

use super::super::{PortSpec, ServiceSpec};
use super::{Fields, LeftOut};

/// Without `requirePorts` the number of a port is that of a load balancer elsewhere: the instance gets any port.
pub(super) fn convert(fields: &mut Fields, spec: &mut ServiceSpec, left: &mut LeftOut) -> Result<(), Rejection> {
    let required = fields.nullable("requirePorts", "true or false")?.unwrap_or(false);
    let numbers: Option<Vec<u16>> = fields.nullable("ports", "a list of ports from 0 to 65535")?;
    let definitions = fields.values("portDefinitions")?;
    for (index, value) in definitions.iter().cloned().enumerate() {
        let mut names = Fields::of(value).map_err(|rejection| rejection.at(index).within("portDefinitions"))?;
        let within = |rejection: Rejection| rejection.at(index).within("portDefinitions");
        let name: Option<String> = names.nullable("name", "a name").map_err(within)?;
        let number: Option<u16> = names.nullable("port", "a port from 0 to 65535").map_err(within)?;
        let protocol: Option<String> = names.nullable("protocol", "tcp").map_err(within)?;
        if protocol.is_some_and(|protocol| protocol != "tcp") {
            let field = format!("portDefinitions[{index}].protocol");
            left.out(field, "is not tcp, which is what ports are announced as", "tcp");
        }
        let labels: Option<super::Map<String, super::Value>> = names.nullable("labels", "a map").map_err(within)?;
        if labels.is_some_and(|labels| !labels.is_empty()) {
            let field = format!("portDefinitions[{index}].labels");
            left.out(field, "cannot be honoured", "`labels` of the application");
        }
        spec.ports
            .push(port(index, name, number.filter(|_| required).unwrap_or(0)));
        left.rest(&format!("portDefinitions[{index}]"), names);
    }
    if definitions.is_empty() {
        let numbers = numbers.unwrap_or_default().into_iter().enumerate();
        let ports = numbers.map(|(index, number)| port(index, None, if required { number } else { 0 }));
        spec.ports.extend(ports);
    }
    Ok(())
}

fn port(index: usize, name: Option<String>, port: u16) -> PortSpec {
    let name = name.unwrap_or_else(|| format!("port{index}"));
    PortSpec { name, port }
}
