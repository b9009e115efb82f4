//! The published schema says what the reader does: of thousands of changed specifications both think the same.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use regex::Regex;
use serde_json::{Value, json};

use super::*;

/// A specification with every field.
fn full() -> Value {
    json!({
        "id": "web", "command": "x", "init": [{"name": "prepare", "command": "touch x"}], "instances": 3, "cpus": 0.5, "mem": 64, "disk": 10,
        "ports": [{"name": "http", "port": 0}],
        "env": {"A": "b"}, "labels": {"team": "t"},
        "artifacts": [{
            "uri": "http://h/f", "checksum": format!("sha256:{}", "0a".repeat(32)), "extract": true,
            "executable": false, "cache": true, "path": "bin/f",
        }],
        "files": [{"path": "conf/a", "content": "text"}],
        "volumes": [{"host": "/data", "path": "data", "mode": "rw"}],
        "user": "nobody",
        "health": {
            "http": {"port": "http", "path": "/health"}, "delay_seconds": 1, "interval_seconds": 2,
            "timeout_seconds": 3, "grace_seconds": 4, "failures": 5,
        },
        "readiness": {
            "grpc": {"port": "http", "service": "s"}, "delay_seconds": 1, "interval_seconds": 2, "timeout_seconds": 3,
        },
        "constraints": [
            ["rack", "UNIQUE"], ["rack", "CLUSTER"], ["rack", "CLUSTER", "r1"], ["rack", "GROUP_BY"],
            ["rack", "GROUP_BY", 3], ["rack", "MAX_PER", "2"],
        ],
        "spread": [{"attribute": "rack", "weight": 5}],
        "affinity": [{"service": "cache", "weight": 5}],
        "drain_seconds": 3, "kill_grace_seconds": 2,
        "backoff": {"initial_ms": 1, "max_ms": 2, "factor": 1.5, "reset_after_seconds": 3},
        "partition": {"replace_after_seconds": 9}, "persistence": {"scale_down": "keep", "replace_after_seconds": 9},
        "update": {
            "minimum_healthy": 0.5, "over_capacity": 0.25, "progress_deadline_seconds": 60, "on_failure": "pause",
            "strategy": "rolling", "canary": {"share": 0.1, "watch_seconds": 5, "max_failures": 2},
        },
    })
}

/// One with what has to be compiled, which is slow to read thousands of times.
fn compiled() -> Value {
    json!({
        "id": "web", "command": "x",
        "constraints": [["rack", "LIKE", "r"], ["rack", "UNLIKE", "q"]],
        "affinity": [{"attribute": "disk", "like": "ssd", "weight": -5}],
        "volumes": [{"persistent": {"size": 64}, "path": "data"}],
        "persistence": {"scale_down": "delete", "replace_after_seconds": 60},
    })
}

/// One whose versions run side by side.
fn side_by_side() -> Value {
    json!({"id": "web", "command": "x", "update": {"strategy": "blue-green", "retire_after_seconds": 5}})
}

/// What is put in the place of every value.
fn strange() -> Vec<Value> {
    let long = "x".repeat(200_000);
    vec![
        json!(null),
        json!(true),
        json!("x"),
        json!(""),
        json!("X_y"),
        json!("-a"),
        json!("/"),
        json!("a//b"),
        json!(long),
        json!(0),
        json!(1),
        json!(7),
        json!(-1),
        json!(-101),
        json!(101),
        json!(0.05),
        json!(1.5),
        json!(70_000),
        json!(1e10),
        json!(1e16),
        json!([]),
        json!({}),
        json!(["x"]),
        json!({"x": "y"}),
        json!({"unknown": 1}),
        json!("keep"),
        json!("ro"),
        json!("UNIQUE"),
        json!("NO_SUCH"),
    ]
}

/// What no schema can say, and the reader rejects by these words.
const BEYOND: &[&str] = &[
    "the name of a port",
    "a regular expression",
    "@zone",
    "0 to max_ms",
    "not 0",
    "without `.`",
    "zero bytes",
    "is set by Proffer",
    "`minimum_healthy` below 1",
    "`strategy: ",
    "less than `update.progress_deadline_seconds`",
];

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

#[test]
fn schema_and_reader_think_the_same_of_every_specification() {
    let schema = schema();
    let compared = [full(), compiled(), side_by_side()]
        .iter()
        .map(|base| compare(&schema, base))
        .sum::<usize>();
    assert!(compared > 2_000, "{compared}");
}

#[test]
fn the_schema_names_every_field_and_says_something_of_it() {
    let schema = schema();
    let named: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
    let mut known: BTreeSet<_> = full().as_object().unwrap().keys().cloned().collect();
    known.insert("argv".to_owned());
    assert_eq!(named, known);
    for (name, field) in schema["properties"].as_object().unwrap() {
        assert!(field["description"].is_string(), "{name}");
    }
}

#[test]
fn defaults_in_the_schema_are_those_of_the_reader() {
    let spec = ServiceSpec::from_value(json!({
        "id": "a", "command": "x", "ports": [{"name": "p"}],
        "health": {"http": {"port": "p"}}, "readiness": {"grpc": {"port": "p"}},
        "artifacts": [{"uri": "/x"}], "volumes": [{"host": "/x", "path": "y"}],
        "spread": [{"attribute": "rack"}], "affinity": [{"service": "b"}], "backoff": {}, "update": {"canary": {"count": 1}},
        "persistence": {},
    }));
    let read = serde_json::to_value(spec.unwrap()).unwrap();
    let mut compared = 0;
    defaults(&schema(), &schema(), &read, &mut compared);
    assert!(compared >= 25, "{compared}");
}

/// Compares every default that the schema names with what was read.
fn defaults(root: &Value, schema: &Value, read: &Value, compared: &mut usize) {
    let schema = resolved(root, schema);
    if let (Some(default), false) = (schema.get("default"), read.is_null()) {
        assert_eq!(number_or_value(default), number_or_value(read));
        *compared += 1;
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        defaults(root, field, &read[name], compared);
    }
    for element in read.as_array().into_iter().flatten() {
        defaults(root, &schema["items"], element, compared);
    }
}

fn number_or_value(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), number_or_value(value)))
            .collect(),
        other => other.as_f64().map_or_else(|| other.clone(), Value::from),
    }
}

/// Puts strange values everywhere, and takes every field away. Tells how many specifications that made.
fn compare(schema: &Value, base: &Value) -> usize {
    agree(schema, base, "");
    assert!(ServiceSpec::from_value(base.clone()).is_ok());
    let mut paths = Vec::new();
    pointers(base, String::new(), &mut paths);
    let mut compared = 0;
    for path in &paths {
        for value in strange() {
            let mut changed = base.clone();
            *changed.pointer_mut(path).unwrap() = value;
            agree(schema, &changed, path);
            compared += 1;
        }
        let (parent, name) = path.rsplit_once('/').unwrap();
        let mut changed = base.clone();
        let Some(fields) = changed.pointer_mut(parent).and_then(Value::as_object_mut) else {
            continue;
        };
        fields.remove(name);
        agree(schema, &changed, "");
        changed.pointer_mut(parent).unwrap()[format!("{name}_")] = json!(1);
        agree(schema, &changed, "");
    }
    compared
}

#[track_caller]
fn agree(schema: &Value, spec: &Value, path: &str) {
    let read = ServiceSpec::from_value(spec.clone());
    let found = if path.is_empty() { None } else { spec.pointer(path) };
    let shown = found.map(|value| value.to_string().chars().take(60).collect::<String>());
    match (valid(schema, schema, spec), read) {
        (true, Ok(_)) | (false, Err(_)) => {}
        (false, Ok(_)) => panic!("{path} = {shown:?}: the reader takes it, the schema does not"),
        (true, Err(rejection)) => {
            let text = rejection.to_string();
            let beyond = BEYOND.iter().any(|words| text.contains(words));
            assert!(
                beyond,
                "{path} = {shown:?}: the schema takes it, the reader does not: {text}"
            );
        }
    }
}

fn pointers(value: &Value, path: String, paths: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(values) => values
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        let path = format!("{path}/{name}");
        paths.push(path.clone());
        pointers(child, path, paths);
    }
}

fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(target) => root.pointer(target.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// Whether a text matches a pattern; each pattern is compiled once.
fn matches(pattern: &str, text: &str) -> bool {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        let known = compiled.entry(pattern.to_owned());
        known.or_insert_with(|| Regex::new(pattern).unwrap()).is_match(text)
    })
}

/// Whether a value satisfies a schema, by the keywords that ours uses; another keyword is an error of the test.
fn valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let schema = resolved(root, schema);
    if let Value::Bool(any) = schema {
        return *any;
    }
    let keywords = schema.as_object().unwrap();
    keywords
        .iter()
        .all(|(keyword, wanted)| keyword_holds(root, keywords, keyword, wanted, value))
}

fn keyword_holds(root: &Value, schema: &Map<String, Value>, keyword: &str, wanted: &Value, value: &Value) -> bool {
    let all = |schemas: &Value| {
        schemas
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| valid(root, one, value))
            .count()
    };
    let limit = || wanted.as_f64().unwrap();
    let length = |len: Option<usize>, fits: fn(f64, f64) -> bool| len.is_none_or(|len| fits(len as f64, limit()));
    let fields = value.as_object();
    match keyword {
        "$schema" | "$defs" | "title" | "description" | "default" => true,
        "type" => match wanted.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "number" => value.is_number(),
            "integer" => value.is_u64() || value.is_i64(),
            other => panic!("no such type: {other}"),
        },
        "const" => value == wanted,
        "enum" => wanted.as_array().unwrap().contains(value),
        "oneOf" => all(wanted) == 1,
        "anyOf" => all(wanted) >= 1,
        "not" => !valid(root, wanted, value),
        "minimum" => value.as_f64().is_none_or(|number| number >= limit()),
        "maximum" => value.as_f64().is_none_or(|number| number <= limit()),
        "minLength" => length(value.as_str().map(|text| text.chars().count()), |len, limit| {
            len >= limit
        }),
        "maxLength" => length(value.as_str().map(|text| text.chars().count()), |len, limit| {
            len <= limit
        }),
        "minItems" => length(value.as_array().map(Vec::len), |len, limit| len >= limit),
        "maxItems" => length(value.as_array().map(Vec::len), |len, limit| len <= limit),
        "pattern" => value
            .as_str()
            .is_none_or(|text| matches(wanted.as_str().unwrap(), text)),
        "required" => {
            let mut names = wanted.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
            fields.is_none_or(|fields| names.all(|name| fields.contains_key(name)))
        }
        "properties" => fields.into_iter().flatten().all(|(name, value)| {
            let field = wanted.get(name);
            field.is_none_or(|field| valid(root, field, value))
        }),
        "propertyNames" => fields
            .into_iter()
            .flatten()
            .all(|(name, _)| valid(root, wanted, &json!(name))),
        "additionalProperties" => fields.into_iter().flatten().all(|(name, value)| {
            let named = schema.get("properties").is_some_and(|named| named.get(name).is_some());
            named || valid(root, wanted, value)
        }),
        "prefixItems" => {
            let wanted = wanted.as_array().unwrap().iter();
            let values = value.as_array().into_iter().flatten();
            wanted.zip(values).all(|(wanted, value)| valid(root, wanted, value))
        }
        "items" => {
            let prefix = schema.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
            value
                .as_array()
                .into_iter()
                .flatten()
                .skip(prefix)
                .all(|value| valid(root, wanted, value))
        }
        other => panic!("the test knows no keyword {other}"),
    }
}
