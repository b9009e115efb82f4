//! Templates: what an instance is told of itself and of the others, in its command, environment and files.
//!
//! `{{name}}` stands for a value, `{{{{` for two braces. Names are checked when a specification is read, so that a
//! template that was accepted can be filled. Values are those at the launch of an instance.
//!
//! | name | value |
//! |---|---|
//! | `service`, `task`, `version` | the id of the service, of the task, and the version of the specification |
//! | `instance`, `instances` | the index of the instance, and how many are wanted |
//! | `host`, `agent` | the host name and the id of the agent |
//! | `attribute.NAME` | an attribute of the agent; nothing where it has none |
//! | `port.NAME` | a port of the instance |
//! | `peers.NAME` | `host:port` of that port of every other instance that has one, by index, separated by commas |

use proffer_proto::Rejection;

use crate::placement::Machine;
use crate::plan::PortAssignment;
use crate::spec::PortSpec;

/// What templates are filled with.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The id of the service.
    pub service: &'a str,
    /// The version of the specification.
    pub version: u64,
    /// The id of the task.
    pub task: &'a str,
    /// The index of the instance.
    pub instance: u32,
    /// How many instances are wanted.
    pub instances: u32,
    /// Where it runs.
    pub machine: &'a Machine,
    /// Its ports.
    pub ports: &'a [PortAssignment],
    /// The indices, hosts and ports of all instances, by index; this one may be among them.
    pub peers: &'a [(u32, &'a str, &'a [PortAssignment])],
}

/// A name that may stand in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name<'a> {
    Service,
    Version,
    Task,
    Instance,
    Instances,
    Host,
    Agent,
    Attribute(&'a str),
    Port(&'a str),
    Peers(&'a str),
}

/// A part of a template.
enum Part<'a> {
    Text(&'a str),
    Value(Name<'a>),
}

/// Checks that a template can be filled.
pub(crate) fn check(field: &str, template: &str, ports: &[PortSpec]) -> Result<(), Rejection> {
    for part in parts(template) {
        let part = part.map_err(|problem| Rejection::new(field, problem, accepted(ports)))?;
        if let Part::Value(Name::Port(name) | Name::Peers(name)) = part
            && !ports.iter().any(|port| port.name == name)
        {
            let problem = format!("names the port `{name}` in a template");
            return Err(Rejection::new(field, problem, accepted(ports)));
        }
    }
    Ok(())
}

fn accepted(ports: &[PortSpec]) -> String {
    let mut accepted = "{{service}}, {{version}}, {{task}}, {{instance}}, {{instances}}, {{host}}, {{agent}}, \
                        {{attribute.NAME}}"
        .to_owned();
    for port in ports {
        accepted.push_str(&format!(", {{{{port.{0}}}}}, {{{{peers.{0}}}}}", port.name));
    }
    accepted.push_str("; {{{{ for two braces");
    accepted
}

/// Fills a template. One that was never checked is left as it is where it cannot be filled.
pub fn fill(template: &str, facts: &Facts<'_>) -> String {
    let mut filled = String::with_capacity(template.len());
    for part in parts(template) {
        match part {
            Ok(Part::Text(text)) => filled.push_str(text),
            Ok(Part::Value(name)) => filled.push_str(&name.value(facts)),
            Err(_) => return template.to_owned(),
        }
    }
    filled
}

/// The parts of a template, or what is wrong with it.
fn parts(template: &str) -> impl Iterator<Item = Result<Part<'_>, String>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (part, after) = if let Some(after) = rest.strip_prefix("{{{{") {
            (Ok(Part::Text("{{")), after)
        } else if let Some(inside) = rest.strip_prefix("{{") {
            match inside.split_once("}}") {
                Some((name, after)) => (Name::read(name.trim()).map(Part::Value), after),
                None => (Err("has `{{` without `}}`".to_owned()), ""),
            }
        } else {
            let end = rest.find("{{").unwrap_or(rest.len());
            (Ok(Part::Text(&rest[..end])), &rest[end..])
        };
        rest = after;
        Some(part)
    })
}

impl<'a> Name<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        Ok(match text {
            "service" => Self::Service,
            "version" => Self::Version,
            "task" => Self::Task,
            "instance" => Self::Instance,
            "instances" => Self::Instances,
            "host" => Self::Host,
            "agent" => Self::Agent,
            _ => match text.split_once('.') {
                Some(("attribute", name)) if !name.is_empty() => Self::Attribute(name),
                Some(("port", name)) => Self::Port(name),
                Some(("peers", name)) => Self::Peers(name),
                _ => return Err(format!("has `{{{{{text}}}}}`, which stands for nothing")),
            },
        })
    }

    fn value(&self, facts: &Facts<'_>) -> String {
        match self {
            Self::Service => facts.service.to_owned(),
            Self::Version => facts.version.to_string(),
            Self::Task => facts.task.to_owned(),
            Self::Instance => facts.instance.to_string(),
            Self::Instances => facts.instances.to_string(),
            Self::Host => facts.machine.hostname.clone(),
            Self::Agent => facts.machine.agent_id.clone(),
            Self::Attribute(name) => facts.machine.value(name).unwrap_or_default().to_owned(),
            Self::Port(name) => port(facts.ports, name).map(|port| port.to_string()).unwrap_or_default(),
            Self::Peers(name) => {
                let address = |(index, host, ports): &(u32, &str, &[PortAssignment])| {
                    let known = *index != facts.instance && !host.is_empty();
                    let port = port(ports, name).filter(|_| known)?;
                    Some(format!("{host}:{port}"))
                };
                facts.peers.iter().filter_map(address).collect::<Vec<_>>().join(",")
            }
        }
    }
}

fn port(ports: &[PortAssignment], name: &str) -> Option<u16> {
    ports.iter().find(|port| port.name == name).map(|port| port.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(port: u16) -> Vec<PortAssignment> {
        vec![PortAssignment {
            name: "http".to_owned(),
            port,
        }]
    }

    #[test]
    fn a_template_is_filled_with_what_is_known_at_the_launch() {
        let machine = Machine {
            agent_id: "a7".to_owned(),
            hostname: "h7".to_owned(),
            attributes: [("rack".to_owned(), "r1".to_owned())].into(),
        };
        let (first, second) = (ports(1), ports(2));
        let facts = Facts {
            service: "web",
            version: 4,
            task: "web.2.x",
            instance: 2,
            instances: 3,
            machine: &machine,
            ports: &first,
            peers: &[
                (0, "h1", &second),
                (1, "", &second),
                (2, "h7", &first),
                (3, "h2", &[]),
                (4, "h3", &second),
            ],
        };
        for (template, filled) in [
            ("", ""),
            ("plain $PORT0 {} }}", "plain $PORT0 {} }}"),
            ("{{service}}-{{ instance }}/{{instances}}", "web-2/3"),
            (
                "{{host}}:{{port.http}} on {{agent}} in {{attribute.rack}}{{attribute.none}}",
                "h7:1 on a7 in r1",
            ),
            ("--join={{peers.http}}", "--join=h1:2,h3:2"),
            ("{{task}} v{{version}}", "web.2.x v4"),
            ("{{{{service}}", "{{service}}"),
            ("{{{{{{host}}", "{{h7"),
        ] {
            assert_eq!(fill(template, &facts), filled, "{template}");
            check("command", template, &[PortSpec::any("http")]).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_filled_is_rejected_by_its_field() {
        for (template, problem) in [
            ("{{hots}}", "stands for nothing"),
            ("{{}}", "stands for nothing"),
            ("{{attribute.}}", "stands for nothing"),
            ("{{host", "without"),
            ("{{port.admin}}", "`admin`"),
            ("{{peers.admin}}", "`admin`"),
        ] {
            let rejection = check("argv[1]", template, &[PortSpec::any("http")]).unwrap_err();
            assert_eq!(rejection.field, "argv[1]");
            assert!(rejection.problem.contains(problem), "{rejection}");
            assert!(rejection.accepted.contains("{{peers.http}}"), "{rejection}");
        }
    }
}
