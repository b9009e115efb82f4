//! Applications of Marathon: their JSON is read, and converted into a specification.
//!
//! What an application asks for is done, or named by its path in [`Converted::left_out`]. What Marathon only tells of an
//! application (`tasksRunning`, `versionInfo`...) is passed over. Defaults are Marathon's.

use proffer_proto::Rejection;
use serde_json::{Map, Value};

use super::fields::{Fields, shown};
use super::{Artifact, Backoff, Constraint, Operator, Partition, Run, ServiceSpec, UpdatePolicy};

mod checks;
mod container;
mod ports;

/// What became of an application.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The specification.
    pub spec: ServiceSpec,
    /// What of the application is not in it, by its path.
    pub left_out: Vec<Rejection>,
}

impl Converted {
    /// The specification, where nothing of the application was left out.
    ///
    /// # Errors
    /// All that was left out, by the path of the first and in the words of all.
    pub fn whole(self) -> Result<ServiceSpec, Rejection> {
        let mut left = self.left_out.into_iter();
        let Some(mut first) = left.next() else {
            return Ok(self.spec);
        };
        for another in left {
            first.accepted.push_str(&format!("; {another}"));
        }
        Err(first)
    }
}

/// Fields by which an application is told from a specification of ours.
const TELLING: &[&str] = &[
    "cmd",
    "args",
    "container",
    "portDefinitions",
    "requirePorts",
    "healthChecks",
    "readinessChecks",
    "upgradeStrategy",
    "unreachableStrategy",
    "backoffSeconds",
    "backoffFactor",
    "maxLaunchDelaySeconds",
    "taskKillGracePeriodSeconds",
    "acceptedResourceRoles",
    "fetch",
    "uris",
    "networks",
    "ipAddress",
    "killSelection",
    "versionInfo",
    "residency",
];

/// What Marathon tells of an application and nobody asks for.
const TOLD: &[&str] = &[
    "version",
    "versionInfo",
    "tasks",
    "tasksStaged",
    "tasksRunning",
    "tasksHealthy",
    "tasksUnhealthy",
    "deployments",
    "lastTaskFailure",
    "readinessCheckResults",
    "taskStats",
];

/// Whether a parsed document is an application of Marathon: it has fields that only those have, and no command of ours.
pub fn is_application(value: &Value) -> bool {
    let has = |name: &str| value.get(name).is_some();
    value.is_object() && !has("command") && !has("argv") && TELLING.iter().any(|name| has(name))
}

/// Converts an application.
///
/// # Errors
/// A value that is not what Marathon's fields take, or that the specification does not accept.
pub fn convert(value: Value) -> Result<Converted, Rejection> {
    let mut left = LeftOut::default();
    let mut fields = Fields::of(value)?;
    let mut spec = ServiceSpec::command(id(&mut fields)?, String::new());
    spec.run = run(&mut fields)?;
    scalars(&mut fields, &mut spec)?;
    spec.env = texts(&mut fields, "env", &mut left)?;
    spec.labels = texts(&mut fields, "labels", &mut left)?;
    ports::convert(&mut fields, &mut spec, &mut left)?;
    container::convert(&mut fields, &mut spec, &mut left)?;
    artifacts(&mut fields, &mut spec, &mut left)?;
    checks::convert(&mut fields, &mut spec, &mut left)?;
    spec.constraints = fields.list("constraints", constraint)?;
    spec.backoff = backoff(&mut fields)?;
    spec.partition = partition(&mut fields, &mut left)?;
    spec.update = update(&mut fields, &mut left)?;
    neutral(&mut fields, &mut left)?;
    for (name, _) in fields.rest() {
        if !TOLD.contains(&name.as_str()) {
            left.out(name, "is not known", "the fields of a Marathon application");
        }
    }
    spec.validate()?;
    Ok(Converted { spec, left_out: left.0 })
}

/// What is not converted.
#[derive(Debug, Default)]
struct LeftOut(Vec<Rejection>);

impl LeftOut {
    fn out(&mut self, field: impl Into<String>, problem: &str, accepted: &str) {
        self.0.push(Rejection::new(field, problem, accepted));
    }

    /// Names what is left of an object.
    fn rest(&mut self, within: &str, fields: Fields) {
        for (name, _) in fields.rest() {
            self.out(format!("{within}.{name}"), "cannot be honoured", "nothing in its place");
        }
    }
}

/// `/prod/web` is `prod-web`.
fn id(fields: &mut Fields) -> Result<String, Rejection> {
    let id: String = fields.required("id", "a name as text")?;
    Ok(id.trim_matches('/').replace(['/', '.'], "-"))
}

fn run(fields: &mut Fields) -> Result<Run, Rejection> {
    let cmd: Option<String> = fields.nullable("cmd", "a line for the shell")?;
    let args: Option<Vec<String>> = fields.nullable("args", "a list of a program and its arguments")?;
    match (cmd, args.filter(|args| !args.is_empty())) {
        (Some(cmd), None) => Ok(Run::Command(cmd)),
        (None, Some(args)) => Ok(Run::Argv(args)),
        (Some(_), Some(_)) => Err(Rejection::new("args", "is set beside `cmd`", "either `cmd` or `args`")),
        (None, None) => {
            let accepted = "`cmd` or `args`; an image's own command is not there yet";
            Err(Rejection::new("cmd", "is missing", accepted))
        }
    }
}

fn scalars(fields: &mut Fields, spec: &mut ServiceSpec) -> Result<(), Rejection> {
    spec.instances = fields.nullable("instances", "a whole number from 0")?.unwrap_or(1);
    spec.cpus = fields.nullable("cpus", "a number")?.unwrap_or(1.0);
    spec.mem = fields.nullable("mem", "a number of MiB")?.unwrap_or(128.0);
    let disk: Option<f64> = fields.nullable("disk", "a number of MiB")?;
    spec.disk = disk.filter(|disk| *disk > 0.0);
    spec.user = fields.nullable("user", "the name of a user")?;
    spec.kill_grace_seconds = fields
        .nullable("taskKillGracePeriodSeconds", "a number of seconds")?
        .unwrap_or(3.0);
    Ok(())
}

/// A map of texts; what is no text, such as a secret, is left out.
fn texts(
    fields: &mut Fields,
    name: &'static str,
    left: &mut LeftOut,
) -> Result<std::collections::BTreeMap<String, String>, Rejection> {
    let map: Option<Map<String, Value>> = fields.nullable(name, "a map from names to text")?;
    let mut texts = std::collections::BTreeMap::new();
    for (key, value) in map.unwrap_or_default() {
        match value {
            Value::String(text) => drop(texts.insert(key, text)),
            Value::Number(number) => drop(texts.insert(key, number.to_string())),
            Value::Bool(truth) => drop(texts.insert(key, truth.to_string())),
            _ => left.out(format!("{name}.{key}"), "is no text", "text; secrets are not there yet"),
        }
    }
    Ok(texts)
}

fn artifacts(fields: &mut Fields, spec: &mut ServiceSpec, left: &mut LeftOut) -> Result<(), Rejection> {
    for uri in fields
        .nullable::<Vec<String>>("uris", "a list of URIs")?
        .unwrap_or_default()
    {
        spec.artifacts.push(Artifact::new(uri));
    }
    for (index, value) in fields.values("fetch")?.into_iter().enumerate() {
        let read = |value| {
            let mut fields = Fields::of(value)?;
            let mut artifact = Artifact::new(fields.required::<String>("uri", "a URI")?);
            artifact.extract = fields.nullable("extract", "true or false")?.unwrap_or(true);
            artifact.executable = fields.nullable("executable", "true or false")?.unwrap_or(false);
            artifact.cache = fields.nullable("cache", "true or false")?.unwrap_or(false);
            artifact.path = fields.nullable("destPath", "a path in the sandbox")?;
            Ok((artifact, fields))
        };
        let (artifact, rest) = read(value).map_err(|rejection: Rejection| rejection.at(index).within("fetch"))?;
        spec.artifacts.push(artifact);
        left.rest(&format!("fetch[{index}]"), rest);
    }
    Ok(())
}

/// Ours, and `IS`, which is `CLUSTER` with a value; an empty value is none.
fn constraint(value: Value) -> Result<Constraint, Rejection> {
    let mut words = match value {
        Value::Array(words) => words,
        other => return Constraint::read(other),
    };
    words.truncate(words.len() - usize::from(words.len() > 2 && words[2] == ""));
    let is = words.get(1).and_then(Value::as_str) == Some("IS");
    if is {
        words[1] = "CLUSTER".into();
    }
    let read = Constraint::read(words.into())?;
    match read.operator {
        Operator::Cluster(None) if is => Err(Rejection::new("[2]", "is missing", "a value after IS")),
        _ => Ok(read),
    }
}

fn backoff(fields: &mut Fields) -> Result<Backoff, Rejection> {
    let seconds: f64 = fields.nullable("backoffSeconds", "a number of seconds")?.unwrap_or(1.0);
    let max: f64 = fields
        .nullable("maxLaunchDelaySeconds", "a number of seconds")?
        .unwrap_or(300.0);
    let factor = fields.nullable("backoffFactor", "a number from 1")?.unwrap_or(1.15);
    for (field, value) in [("backoffSeconds", seconds), ("maxLaunchDelaySeconds", max)] {
        super::values::within(field, value, 0.0, 86_400.0)?;
    }
    Ok(Backoff {
        initial_ms: (seconds * 1_000.0).min(max * 1_000.0) as u64,
        max_ms: (max * 1_000.0) as u64,
        factor,
        ..Backoff::default()
    })
}

fn partition(fields: &mut Fields, left: &mut LeftOut) -> Result<Partition, Rejection> {
    let accepted = "\"disabled\", or a map with `inactiveAfterSeconds`";
    match fields.nullable::<Value>("unreachableStrategy", accepted)? {
        None => Ok(Partition::default()),
        Some(Value::String(text)) if text == "disabled" => Ok(Partition::Keep),
        Some(value @ Value::Object(_)) => {
            let mut fields = Fields::of(value)?;
            let within = |rejection: Rejection| rejection.within("unreachableStrategy");
            let after = fields.nullable("inactiveAfterSeconds", "a number of seconds");
            // What is expunged is given up; here that is so from the replacement on.
            let _: Option<f64> = fields
                .nullable("expungeAfterSeconds", "a number of seconds")
                .map_err(within)?;
            let replace_after_seconds = after.map_err(within)?.unwrap_or(0.0);
            left.rest("unreachableStrategy", fields);
            Ok(Partition::Replace { replace_after_seconds })
        }
        Some(other) => Err(Rejection::new(
            "unreachableStrategy",
            format!("is {}", shown(&other)),
            accepted,
        )),
    }
}

fn update(fields: &mut Fields, left: &mut LeftOut) -> Result<UpdatePolicy, Rejection> {
    let Some(value) = fields.nullable("upgradeStrategy", "a map")? else {
        return Ok(UpdatePolicy::default());
    };
    let within = |rejection: Rejection| rejection.within("upgradeStrategy");
    let mut fields = Fields::of(value).map_err(within)?;
    let share = "a share from 0 to 1";
    let minimum: Option<f64> = fields.nullable("minimumHealthCapacity", share).map_err(within)?;
    let over: Option<f64> = fields.nullable("maximumOverCapacity", share).map_err(within)?;
    left.rest("upgradeStrategy", fields);
    let (minimum, over) = (minimum.unwrap_or(1.0), over.unwrap_or(1.0));
    // There one more instance is run where nothing else is allowed; here that is what a policy without shares does.
    let stuck = minimum == 1.0 && over == 0.0;
    Ok(UpdatePolicy {
        minimum_healthy: Some(minimum),
        over_capacity: (!stuck).then_some(over),
        ..UpdatePolicy::default()
    })
}

/// Fields that may be there with a value that asks for nothing.
fn neutral(fields: &mut Fields, left: &mut LeftOut) -> Result<(), Rejection> {
    let default = |names: &[&'static str], nothing: &[Value]| (names.to_vec(), nothing.to_vec());
    let neutral = [
        default(
            &["dependencies", "storeUrls", "secrets", "volumes", "checks"],
            &[Value::Array(Vec::new()), Value::Object(Map::new())],
        ),
        default(&["gpus"], &[0.into(), 0.0.into()]),
        default(&["executor"], &["".into()]),
        default(&["tty"], &[false.into()]),
        default(
            &["acceptedResourceRoles"],
            &[vec!["*"].into(), Value::Array(Vec::new())],
        ),
        // Highest indices are ended first, which are the youngest as a rule.
        default(&["killSelection"], &["YOUNGEST_FIRST".into()]),
        default(
            &["networks"],
            &[serde_json::json!([{"mode": "host"}]), Value::Array(Vec::new())],
        ),
        default(&["ipAddress", "residency", "role", "check"], &[]),
    ];
    for (names, nothing) in neutral {
        for name in names {
            let value: Option<Value> = fields.nullable(name, "")?;
            if let Some(value) = value.filter(|value| !nothing.contains(value)) {
                let accepted: Vec<_> = nothing.iter().map(ToString::to_string).collect();
                let accepted = if accepted.is_empty() {
                    "nothing in its place".to_owned()
                } else {
                    accepted.join(" or ")
                };
                left.out(
                    name,
                    &format!("is {}, which cannot be honoured", shown(&value)),
                    &accepted,
                );
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
