//! What is accepted, and what each rejection names.

use super::*;

mod schema;

const WEB: &str = "
id: web
command: ./web --port $PORT0
instances: 3
cpus: 0.5
mem: 64
ports:
  - name: http
  - {name: admin, port: 31999}
env: {MODE: fast}
kill_grace_seconds: 2
backoff: {initial_ms: 100, max_ms: 1000, factor: 1.5, reset_after_seconds: 3}
constraints: [[hostname, UNIQUE]]
";

#[test]
fn yaml_and_json_read_the_same_and_come_back() {
    let spec = ServiceSpec::from_yaml(WEB).unwrap();
    assert_eq!((spec.instances, spec.cpus, spec.ports.len()), (3, 0.5, 2));
    assert_eq!(
        spec.ports[1],
        PortSpec {
            port: 31999,
            ..PortSpec::any("admin")
        }
    );
    assert_eq!(spec.constraints, [Constraint::new("hostname", Operator::Unique)]);
    let json = serde_json::to_vec(&spec).unwrap();
    assert_eq!(ServiceSpec::from_json(&json).unwrap(), spec);
}

#[test]
fn defaults_are_valid() {
    let spec = ServiceSpec::from_yaml("{id: a, argv: [sleep, '9']}").unwrap();
    assert_eq!(spec.instances, 1);
    assert_eq!(spec.run, Run::Argv(vec!["sleep".to_owned(), "9".to_owned()]));
    ServiceSpec::command("a", "true").validate().unwrap();
}

#[test]
fn every_rejection_names_its_field() {
    for (text, field, accepted) in [
        ("[]", "", "a map of fields"),
        ("{id: web", "", "YAML"),
        ("{command: x}", "id", "a name"),
        ("{id: a}", "command", "`argv`"),
        ("{id: a, command: x, argv: [y]}", "argv", "either"),
        ("{id: a, command: x, image: debian}", "image", "`command`"),
        ("{id: A, command: x}", "id", "a-z"),
        ("{id: a.b, command: x}", "id", "a-z"),
        ("{id: 7, command: x}", "id", "text"),
        ("{id: a, command: ''}", "command", "1 to"),
        ("{id: a, argv: []}", "argv", "program"),
        ("{id: a, command: x, instance: 3}", "instance", "instances"),
        ("{id: a, command: x, instances: -1}", "instances", "from 0"),
        ("{id: a, command: x, instances: 1.5}", "instances", "whole"),
        ("{id: a, command: x, instances: 100001}", "instances", "100000"),
        ("{id: a, command: x, cpus: 0}", "cpus", "0.001"),
        ("{id: a, command: x, cpus: .nan}", "cpus", "a number"),
        ("{id: a, command: x, cpus: .inf}", "cpus", "a number"),
        ("{id: a, command: x, mem: lots}", "mem", "MiB"),
        ("{id: a, command: x, disk: -1}", "disk", "0 to"),
        ("{id: a, command: x, ports: http}", "ports", "a list"),
        ("{id: a, command: x, ports: [{port: 1}]}", "ports[0].name", "text"),
        (
            "{id: a, command: x, ports: [{name: p, port: 70000}]}",
            "ports[0].port",
            "65535",
        ),
        (
            "{id: a, command: x, ports: [{name: p}, {name: p}]}",
            "ports[1].name",
            "its own",
        ),
        (
            "{id: a, command: x, ports: [{name: p, port: 5}, {name: q, port: 5}]}",
            "ports[1].port",
            "once",
        ),
        (
            "{id: a, command: x, ports: [{name: p, host: 5}]}",
            "ports[0].host",
            "name, port",
        ),
        ("{id: a, command: x, env: {A: 1}}", "env", "quotes"),
        ("{id: a, command: x, env: {PORT0: '1'}}", "env.PORT0", "other than"),
        (
            "{id: a, command: x, env: {PORT_HTTP: '1'}}",
            "env.PORT_HTTP",
            "other than",
        ),
        ("{id: a, command: x, user: ''}", "user", "1 to"),
        (
            "{id: a, command: x, drain_seconds: 9, update: {progress_deadline_seconds: 9}}",
            "drain_seconds",
            "less than `update.progress_deadline_seconds`",
        ),
        (
            "{id: a, command: x, kill_grace_seconds: -1}",
            "kill_grace_seconds",
            "0 to",
        ),
        (
            "{id: a, command: x, backoff: {initial_ms: 9, max_ms: 8}}",
            "backoff.initial_ms",
            "max_ms",
        ),
        ("{id: a, command: x, backoff: {factor: 0.5}}", "backoff.factor", "1 to"),
        ("{id: a, command: x, backoff: {wait: 1}}", "backoff.wait", "initial_ms"),
        (
            "{id: a, command: x, constraints: {unique: true}}",
            "constraints",
            "list",
        ),
        (
            "{id: a, command: x, constraints: [UNIQUE]}",
            "constraints[0]",
            "[hostname, UNIQUE]",
        ),
        (
            "{id: a, command: x, constraints: [[rack]]}",
            "constraints[0]",
            "[hostname, UNIQUE]",
        ),
        (
            "{id: a, command: x, constraints: [[rack, ONCE]]}",
            "constraints[0][1]",
            "MAX_PER",
        ),
        (
            "{id: a, command: x, constraints: [[rack, UNIQUE, 1]]}",
            "constraints[0][2]",
            "nothing",
        ),
        (
            "{id: a, command: x, constraints: [[rack, MAX_PER]]}",
            "constraints[0][2]",
            "whole",
        ),
        (
            "{id: a, command: x, constraints: [[rack, MAX_PER, 0]]}",
            "constraints[0][2]",
            "from 1",
        ),
        (
            "{id: a, command: x, constraints: [[rack, LIKE, '(']]}",
            "constraints[0][2]",
            "regular",
        ),
        (
            "{id: a, command: x, constraints: [['@rack', UNIQUE]]}",
            "constraints[0][0]",
            "@zone",
        ),
        (
            "{id: a, command: x, constraints: [[7, UNIQUE]]}",
            "constraints[0][0]",
            "[hostname, UNIQUE]",
        ),
        (
            "{id: a, command: x, spread: [{attribute: rack, weight: 0}]}",
            "spread[0].weight",
            "100",
        ),
        (
            "{id: a, command: x, affinity: [{service: b, like: x}]}",
            "affinity[0]",
            "either",
        ),
        (
            "{id: a, command: x, affinity: [{service: b, weight: 0}]}",
            "affinity[0].weight",
            "not 0",
        ),
        (
            "{id: a, command: x, affinity: [{attribute: d, like: '['}]}",
            "affinity[0].like",
            "regular",
        ),
        (
            "{id: a, command: x, artifacts: [{uri: ftp://x}]}",
            "artifacts[0].uri",
            "http",
        ),
        (
            "{id: a, command: x, artifacts: [{uri: /x, checksum: 'md5:1'}]}",
            "artifacts[0].checksum",
            "sha256",
        ),
        (
            "{id: a, command: x, artifacts: [{uri: /x, path: ../x}]}",
            "artifacts[0].path",
            "below",
        ),
        (
            "{id: a, command: x, volumes: [{host: x, path: y}]}",
            "volumes[0].host",
            "absolute",
        ),
        (
            "{id: a, command: x, volumes: [{host: /x, path: y, mode: RX}]}",
            "volumes[0].mode",
            "rw",
        ),
        (
            "{id: a, command: x, volumes: [{persistent: 5, path: y}]}",
            "volumes[0].persistent",
            "map of fields",
        ),
        (
            "{id: a, command: x, volumes: [{persistent: {size: 0}, path: y}]}",
            "volumes[0].persistent.size",
            "1 to",
        ),
        (
            "{id: a, command: x, volumes: [{persistent: {size: 9}, host: /x, path: y}]}",
            "volumes[0].persistent",
            "either `host`",
        ),
        (
            "{id: a, command: x, volumes: [{persistent: {size: 9}, path: y}], update: {over_capacity: 0.5}}",
            "update.over_capacity",
            "persistent volumes",
        ),
        (
            "{id: a, command: x, update: {strategy: blue-green, canary: {count: 1}}}",
            "update.canary",
            "rolling",
        ),
        (
            "{id: a, command: x, update: {canary: {}}}",
            "update.canary.share",
            "either `share`",
        ),
        (
            "{id: a, command: x, volumes: [{persistent: {size: 9}, path: y}], update: {strategy: blue-green}}",
            "update.strategy",
            "persistent volumes",
        ),
        ("{id: a, command: x, files: [{path: y}]}", "files[0].content", "text"),
        (
            "{id: a, command: x, files: [{path: /y, content: z}]}",
            "files[0].path",
            "below",
        ),
        (
            "{id: a, command: x, volumes: [{host: /x, path: y}], files: [{path: y, content: z}]}",
            "files[0].path",
            "once",
        ),
        ("{id: a, command: x, health: {}}", "health", "`grpc`"),
        (
            "{id: a, command: x, health: {command: x, tcp: {port: p}}}",
            "health",
            "one of",
        ),
        (
            "{id: a, command: x, health: {tcp: {port: p}}}",
            "health.tcp.port",
            "there is none",
        ),
        (
            "{id: a, command: x, ports: [{name: q}], readiness: {http: {port: p}}}",
            "readiness.http.port",
            ": q",
        ),
        (
            "{id: a, command: x, ports: [{name: p}], readiness: {http: {port: p, path: x}}}",
            "readiness.http.path",
            "begins with /",
        ),
        (
            "{id: a, command: x, health: {command: x, failures: 0}}",
            "health.failures",
            "1 to",
        ),
        (
            "{id: a, command: x, readiness: {command: x, failures: 1}}",
            "readiness.failures",
            "interval",
        ),
        ("{id: a, command: x, partition: leave}", "partition", "`keep`"),
        (
            "{id: a, command: x, partition: {replace_after_seconds: -1}}",
            "partition.replace_after_seconds",
            "0 to",
        ),
        (
            "{id: a, command: x, update: {minimum_healthy: 2}}",
            "update.minimum_healthy",
            "0 to 1",
        ),
        (
            "{id: a, command: x, update: {minimum_healthy: 1, over_capacity: 0}}",
            "update.over_capacity",
            "below 1",
        ),
        (
            "{id: a, command: x, update: {on_failure: stop}}",
            "update.on_failure",
            "revert or pause",
        ),
        ("{id: a, command: 'x {{prot.http}}'}", "command", "{{host}}"),
        ("{id: a, argv: [x, '{{port.http}}']}", "argv[1]", "{{host}}"),
        ("{id: a, command: x, env: {A: '{{'}}", "env.A", "{{host}}"),
        (
            "{id: a, command: x, files: [{path: y, content: '{{x}}'}]}",
            "files[0].content",
            "{{host}}",
        ),
        (
            "{id: a, command: x, health: {command: '{{x}}'}}",
            "health.command",
            "{{host}}",
        ),
        ("{id: a, command: x, init: [{command: y}]}", "init[0].name", "a name"),
        ("{id: a, command: x, init: [{name: y}]}", "init[0].command", "`argv`"),
        (
            "{id: a, command: x, init: [{name: y, command: z}, {name: y, command: z}]}",
            "init[1].name",
            "once",
        ),
        ("{id: a, command: x, sidecars: []}", "sidecars", "affinity"),
    ] {
        let rejection = ServiceSpec::from_yaml(text).expect_err(text);
        assert_eq!(rejection.field, field, "{text}: {rejection}");
        assert!(rejection.accepted.contains(accepted), "{text}: {rejection}");
    }
}

#[test]
fn names_that_only_look_reserved_are_free() {
    for name in ["PORTAL", "SERVICES", "PORT1A"] {
        assert!(!env::is_reserved(name), "{name}");
    }
}

#[test]
fn a_change_of_the_number_needs_no_new_instances() {
    let spec = ServiceSpec::from_yaml(WEB).unwrap();
    assert!(spec.same_instance(&ServiceSpec {
        instances: 9,
        ..spec.clone()
    }));
    assert!(!spec.same_instance(&ServiceSpec {
        mem: 65.0,
        ..spec.clone()
    }));
}

#[test]
fn the_examples_are_valid() {
    let spec = ServiceSpec::from_yaml(include_str!("../../../../examples/web.yaml")).unwrap();
    assert_eq!((spec.id.as_str(), spec.backoff), ("web", Backoff::default()));
    let page = include_str!("../../../../docs/services.md");
    let blocks: Vec<_> = page.split("```yaml\n").skip(1).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let (text, _) = block.split_once("```").unwrap();
        ServiceSpec::from_yaml(text).unwrap_or_else(|rejection| panic!("{rejection}\n{text}"));
    }
    ServiceSpec::from_yaml("{id: a, argv: [sleep, '9']}").unwrap();
}
