//! Changes of single fields by their paths, as operators write them.

use proffer_proto::Rejection;
use serde_json::{Map, Value};

use super::ServiceSpec;

/// What a path may look like.
const ACCEPTED: &str =
    "FIELD=VALUE with a field such as `instances`, `env.MODE`, `update.over_capacity` or `ports[0].port`";

impl ServiceSpec {
    /// The same with other values of some fields, each written as `FIELD=VALUE`. A value is JSON, or else text; those of
    /// `env` and `labels` are always text. `null` takes a field out.
    pub fn with(&self, changes: &[String]) -> Result<Self, Rejection> {
        let mut spec =
            serde_json::to_value(self).map_err(|error| Rejection::new("", error.to_string(), "a specification"))?;
        for change in changes {
            let (path, value) = change
                .split_once('=')
                .filter(|(path, _)| !path.is_empty())
                .ok_or_else(|| Rejection::new("", format!("is {change:?}"), ACCEPTED))?;
            let steps = steps(path)?;
            let is_text =
                steps.len() == 2 && matches!(&steps[0], Step::Field(name) if name == "env" || name == "labels");
            let parsed = || serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            let value = if is_text && value != "null" {
                Value::from(value)
            } else {
                parsed()
            };
            // An instance has either of them.
            if let ([Step::Field(name)], Value::Object(fields)) = (&steps[..], &mut spec) {
                match name.as_str() {
                    "command" => drop(fields.remove("argv")),
                    "argv" => drop(fields.remove("command")),
                    _ => {}
                }
            }
            set(&mut spec, path, &steps, value)?;
        }
        Self::from_value(spec)
    }
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
}

fn steps(path: &str) -> Result<Vec<Step>, Rejection> {
    // Names of variables and labels may have dots.
    for map in ["env", "labels"] {
        if let Some(name) = path.strip_prefix(map).and_then(|rest| rest.strip_prefix('.')) {
            return Ok(vec![Step::Field(map.to_owned()), Step::Field(name.to_owned())]);
        }
    }
    let wrong = || Rejection::new(path, "is no path to a field", ACCEPTED);
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (name, indices) = part.split_at(part.find('[').unwrap_or(part.len()));
        if name.is_empty() {
            return Err(wrong());
        }
        steps.push(Step::Field(name.to_owned()));
        let mut rest = indices;
        while !rest.is_empty() {
            let (index, after) = rest
                .strip_prefix('[')
                .and_then(|rest| rest.split_once(']'))
                .ok_or_else(wrong)?;
            steps.push(Step::Index(index.parse().map_err(|_| wrong())?));
            rest = after;
        }
    }
    Ok(steps)
}

/// Sets what a path leads to. Maps on the way are made; of a list the place behind its end may be set, too.
fn set(place: &mut Value, path: &str, steps: &[Step], value: Value) -> Result<(), Rejection> {
    let Some((step, rest)) = steps.split_first() else {
        *place = value;
        return Ok(());
    };
    let takes_out = rest.is_empty() && value.is_null();
    match step {
        Step::Field(name) => {
            if place.is_null() {
                *place = Value::Object(Map::new());
            }
            let fields = place
                .as_object_mut()
                .ok_or_else(|| Rejection::new(path, format!("has `{name}` in what has no fields"), ACCEPTED))?;
            if takes_out {
                fields.remove(name);
                return Ok(());
            }
            set(fields.entry(name).or_insert(Value::Null), path, rest, value)
        }
        Step::Index(index) => {
            if place.is_null() {
                *place = Value::Array(Vec::new());
            }
            let Some(elements) = place.as_array_mut().filter(|elements| *index <= elements.len()) else {
                let problem = format!("has [{index}] where there is no such place in a list");
                return Err(Rejection::new(path, problem, ACCEPTED));
            };
            if takes_out {
                if *index < elements.len() {
                    elements.remove(*index);
                }
                return Ok(());
            }
            if *index == elements.len() {
                elements.push(Value::Null);
            }
            set(&mut elements[*index], path, rest, value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{PortSpec, Run};

    fn with(changes: &[&str]) -> Result<ServiceSpec, Rejection> {
        let mut spec = ServiceSpec::command("web", "old");
        spec.ports = vec![PortSpec::any("http")];
        spec.env = [("MODE".to_owned(), "slow".to_owned())].into();
        let changes: Vec<_> = changes.iter().map(|change| (*change).to_owned()).collect();
        spec.with(&changes)
    }

    #[test]
    fn fields_are_set_by_their_paths() {
        let spec = with(&[
            "instances=5",
            "cpus=0.5",
            "command=exec ./web --a=b",
            "env.N=5",
            "env.MODE=null",
            "labels.proxy.http.host=example.org",
            "ports[0].port=8080",
            "ports[1].name=admin",
            "update.over_capacity=0.5",
            "readiness={\"tcp\": {\"port\": \"admin\"}}",
            "readiness.interval_seconds=3",
        ]);
        let spec = spec.unwrap();
        assert_eq!(
            (spec.instances, spec.cpus, spec.update.over_capacity),
            (5, 0.5, Some(0.5))
        );
        assert_eq!(spec.run, Run::Command("exec ./web --a=b".to_owned()));
        assert_eq!(spec.env, [("N".to_owned(), "5".to_owned())].into());
        assert_eq!(spec.labels["proxy.http.host"], "example.org");
        assert_eq!((spec.ports[0].port, spec.ports[1].name.as_str()), (8080, "admin"));
        assert_eq!(spec.readiness.unwrap().interval_seconds, 3.0);
        let argv = with(&["argv=[\"./web\", \"x\"]", "ports[0]=null"]).unwrap();
        assert_eq!(argv.run, Run::Argv(vec!["./web".to_owned(), "x".to_owned()]));
        assert!(argv.ports.is_empty());
    }

    #[test]
    fn a_change_that_is_not_accepted_names_its_field() {
        for (change, field) in [
            ("instances", ""),
            ("=5", ""),
            ("instances=many", "instances"),
            ("a..b=1", "a..b"),
            ("ports[x]=1", "ports[x]"),
            ("ports[7].port=1", "ports[7].port"),
            ("cpus.a=1", "cpus.a"),
            ("colour=red", "colour"),
            ("ports[0].port=99999", "ports[0].port"),
        ] {
            assert_eq!(with(&[change]).unwrap_err().field, field, "{change}");
        }
    }
}
