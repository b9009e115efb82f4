//! What the scheduler says, as tables for people and as JSON for programs.

use proffer_services::ServiceSpec;
use serde::Serialize;
use serde_json::Value;

use super::local::print as write;
use crate::commands::OutputArgs;
use crate::exit::Failure;
use crate::output::{Format, Row, print};

#[derive(Serialize)]
struct Service {
    id: String,
    version: String,
    wanted: String,
    running: String,
    ready: String,
    update: String,
    restarts: String,
}

impl Row for Service {
    const TITLES: &'static [&'static str] = &["ID", "VERSION", "WANTED", "RUNNING", "READY", "UPDATE", "RESTARTS"];
    fn cells(&self) -> Vec<String> {
        let Self {
            id,
            version,
            wanted,
            running,
            ready,
            update,
            restarts,
        } = self;
        [id, version, wanted, running, ready, update, restarts]
            .map(String::clone)
            .into()
    }
}

/// Lists services.
pub(super) fn services(output: &OutputArgs, all: &Value) -> Result<(), Failure> {
    let rows = all.as_object().into_iter().flatten().map(|(id, service)| Service {
        id: id.clone(),
        version: text(&service["version"]),
        wanted: text(&service["spec"]["instances"]),
        running: text(&service["running"]),
        ready: text(&service["ready"]),
        update: match service["removed"].as_bool() {
            Some(true) => "ends".to_owned(),
            _ => text(&service["update"]["state"]),
        },
        restarts: text(&service["restarts"]),
    });
    Ok(print(output.output, &rows.collect::<Vec<_>>())?)
}

#[derive(Serialize)]
struct Instance {
    index: String,
    state: String,
    ready: bool,
    version: String,
    host: String,
    ports: String,
    task: String,
    last_end: String,
}

impl Row for Instance {
    const TITLES: &'static [&'static str] = &[
        "INDEX", "STATE", "READY", "VERSION", "HOST", "PORTS", "TASK", "LAST END",
    ];
    fn cells(&self) -> Vec<String> {
        let ready = if self.ready { "yes" } else { "no" };
        let cells = [&self.index, &self.state, &ready.to_owned(), &self.version, &self.host];
        let more = [&self.ports, &self.task, &self.last_end];
        cells.into_iter().chain(more).map(String::clone).collect()
    }
}

/// Shows the instances of a service, and where its update stands.
pub(super) fn instances(output: &OutputArgs, service: &Value) -> Result<(), Failure> {
    let rows = service["instances"].as_array().into_iter().flatten().map(|instance| {
        let ports = instance["ports"].as_array().into_iter().flatten();
        let ports = ports.map(|port| format!("{}:{}", text(&port["name"]), port["port"]));
        let state = text(&instance["state"]);
        let crashes = instance["crash_looping"].as_bool() == Some(true);
        Instance {
            index: text(&instance["index"]),
            state: if crashes {
                format!("{state} (crash loop)")
            } else {
                state
            },
            ready: instance["ready"].as_bool() == Some(true),
            version: text(&instance["version"]),
            host: text(&instance["host"]),
            ports: ports.collect::<Vec<_>>().join(","),
            task: text(&instance["task_id"]),
            last_end: text(&instance["last_end"]),
        }
    });
    if output.output == Format::Table {
        let update = &service["update"];
        let mut line = format!("version {}, update {}", service["version"], text(&update["state"]));
        for (name, why) in [("because", &update["reason"]), ("reverted because", &update["reverts"])] {
            if let Some(why) = why.as_str() {
                line.push_str(&format!(", {name} {why}"));
            }
        }
        line.push('\n');
        line.push_str(&volumes(service));
        write(&line)?;
    }
    Ok(print(output.output, &rows.collect::<Vec<_>>())?)
}

/// Where persistent volumes lie that no running instance has.
fn volumes(service: &Value) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let waiting = list(&service["instances"])
        .into_iter()
        .filter(|one| one["state"] == "missing");
    let waiting = waiting.map(|one| ("waits for", one["volumes"].clone()));
    let kept = list(&service["kept_volumes"]).into_iter().map(|one| ("has left", one));
    let lines = waiting.chain(kept).filter(|(_, volumes)| volumes.is_object());
    let lines = lines.map(|(does, volumes)| {
        let ids: Vec<_> = list(&volumes["volumes"]).iter().map(text).collect();
        let (id, index) = (text(&service["spec"]["id"]), &volumes["index"]);
        let (host, agent) = (text(&volumes["host"]), text(&volumes["agent_id"]));
        format!(
            "{id}.{index} {does} its volumes {} on {host} ({agent})\n",
            ids.join(", ")
        )
    });
    lines.collect()
}

#[derive(Serialize)]
struct Version {
    version: u64,
    instance_version: u64,
    at_ms: u64,
    instances: u64,
    done: bool,
    reverts: String,
}

impl Row for Version {
    const TITLES: &'static [&'static str] = &["VERSION", "OF INSTANCES", "INSTANCES", "DONE LAST", "REVERTS"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.version.to_string(),
            self.instance_version.to_string(),
            self.instances.to_string(),
            if self.done { "yes".to_owned() } else { String::new() },
            self.reverts.clone(),
        ]
    }
}

/// Lists versions, the latest first.
pub(super) fn versions(output: &OutputArgs, versions: &Value) -> Result<(), Failure> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let past = versions["history"].as_array().into_iter().flatten().rev();
    let rows = std::iter::once(versions).chain(past).map(|version| Version {
        version: number(&version["version"]),
        instance_version: number(&version["instance_version"]),
        at_ms: number(&version["at_ms"]),
        instances: number(&version["spec"]["instances"]),
        done: versions["stable"] == version["version"],
        reverts: text(&version["reverts"]),
    });
    Ok(print(output.output, &rows.collect::<Vec<_>>())?)
}

/// Shows what a specification would do.
pub(super) fn plan(output: &OutputArgs, spec: &ServiceSpec, plan: &Value) -> Result<(), Failure> {
    if output.output == Format::Json {
        let text = serde_json::to_string_pretty(plan).map_err(anyhow::Error::from)?;
        return write(&format!("{text}\n"));
    }
    let mut text = match plan["version"].as_u64() {
        Some(version) => format!("{} has version {version}\n", spec.id),
        None => format!("{} is new\n", spec.id),
    };
    let differences = plan["differences"].as_array().into_iter().flatten();
    for difference in differences.filter(|difference| difference["field"] != "") {
        let (field, from, to) = (&difference["field"], &difference["from"], &difference["to"]);
        text.push_str(&format!("  {}: {from} -> {to}\n", field.as_str().unwrap_or_default()));
    }
    if plan["replaces"] != 0 {
        text.push_str(&format!(
            "replaces {} instances, of which {} are ready at any time\n",
            plan["replaces"], plan["least_ready"]
        ));
    }
    for start in plan["starts"].as_array().into_iter().flatten() {
        let (index, host, agent) = (&start["index"], &start["host"], &start["agent_id"]);
        let (host, agent) = (host.as_str().unwrap_or_default(), agent.as_str().unwrap_or_default());
        text.push_str(&format!("starts {}.{index} on {host} ({agent})\n", spec.id));
    }
    if plan["without_place"] != 0 {
        text.push_str(&format!("finds no place now for {} instances\n", plan["without_place"]));
    }
    text.push_str(&touches(plan));
    for index in plan["ends"].as_array().into_iter().flatten() {
        text.push_str(&format!("ends {}.{index}\n", spec.id));
    }
    write(&text)
}

/// What a change would touch of others.
fn touches(plan: &Value) -> String {
    let mut said = String::new();
    for quota in plan["quota"].as_array().into_iter().flatten() {
        let (role, resource) = (text(&quota["role"]), text(&quota["resource"]));
        let most = quota["limit"].as_f64().map(|limit| format!(" of at most {limit}"));
        let (used, more) = (&quota["used"], &quota["more"]);
        let beyond = if quota["beyond_limit"] == true {
            ", which is too much"
        } else {
            ""
        };
        let most = most.unwrap_or_default();
        said.push_str(&format!(
            "uses {more} {resource} more of the role {role}, which has {used}{most}{beyond}\n"
        ));
    }
    for recall in plan["recalls"].as_array().into_iter().flatten() {
        let tasks = recall["tasks"].as_array().into_iter().flatten().map(text);
        let (host, tasks) = (text(&recall["host"]), tasks.collect::<Vec<_>>().join(", "));
        said.push_str(&format!(
            "takes lent resources back on {host}, where these run: {tasks}\n"
        ));
    }
    said
}

/// A value as people read it; what is not there is nothing.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
