//! What becomes of applications.

use super::*;
use crate::spec::{HealthCheck, PortSpec, Probe, VolumeSpec, volumes};

/// As Marathon's API gives it, with what it tells and all defaults.
const EXPORTED: &str = r#"{
  "id": "/prod/web", "cmd": "exec ./web --port $PORT0", "args": null, "user": null,
  "env": {"MODE": "fast", "LEVEL": 3}, "labels": {"team": "red"},
  "instances": 3, "cpus": 0.5, "mem": 64, "disk": 0, "gpus": 0, "executor": "",
  "constraints": [["hostname", "UNIQUE"], ["rack", "GROUP_BY", "3"], ["zone", "IS", "a"]],
  "fetch": [{"uri": "https://h/web.tgz", "extract": true, "executable": false, "cache": true}],
  "storeUrls": [], "dependencies": [], "acceptedResourceRoles": ["*"], "killSelection": "YOUNGEST_FIRST",
  "backoffSeconds": 1, "backoffFactor": 1.15, "maxLaunchDelaySeconds": 300,
  "container": {"type": "MESOS", "volumes": [{"containerPath": "data", "hostPath": "/data", "mode": "RO"}]},
  "healthChecks": [{
    "protocol": "MESOS_HTTP", "path": "/health", "portIndex": 0, "gracePeriodSeconds": 7, "intervalSeconds": 5,
    "timeoutSeconds": 2, "maxConsecutiveFailures": 4, "delaySeconds": 1, "ignoreHttp1xx": false
  }],
  "readinessChecks": [{"name": "up", "protocol": "HTTP", "path": "/ready", "portName": "http", "intervalSeconds": 3}],
  "portDefinitions": [
    {"port": 10001, "protocol": "tcp", "name": "http", "labels": {}},
    {"port": 10002, "protocol": "tcp"}
  ],
  "requirePorts": false, "networks": [{"mode": "host"}],
  "upgradeStrategy": {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.2},
  "taskKillGracePeriodSeconds": 9, "unreachableStrategy": {"inactiveAfterSeconds": 60, "expungeAfterSeconds": 120},
  "version": "2020-01-01T00:00:00.000Z", "versionInfo": {}, "tasksStaged": 0, "tasksRunning": 3, "tasksHealthy": 3,
  "tasksUnhealthy": 0, "deployments": []
}"#;

fn application(json: &str) -> Converted {
    convert(serde_json::from_str(json).unwrap()).unwrap()
}

#[test]
fn an_application_becomes_a_specification() {
    let converted = application(EXPORTED);
    assert!(converted.left_out.is_empty(), "{:?}", converted.left_out);
    let spec = ServiceSpec::from_yaml(EXPORTED).unwrap();
    assert_eq!(spec, converted.spec);
    let expected = ServiceSpec {
        instances: 3,
        cpus: 0.5,
        ports: vec![PortSpec::any("http"), PortSpec::any("port1")],
        env: [("MODE", "fast"), ("LEVEL", "3")]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .into(),
        labels: [("team".to_owned(), "red".to_owned())].into(),
        artifacts: vec![Artifact {
            cache: true,
            ..Artifact::new("https://h/web.tgz")
        }],
        volumes: vec![VolumeSpec {
            source: volumes::VolumeSource::Host("/data".to_owned()),
            path: "data".to_owned(),
            mode: volumes::Mode::Ro,
        }],
        health: Some(HealthCheck {
            delay_seconds: 1.0,
            interval_seconds: 5.0,
            timeout_seconds: 2.0,
            grace_seconds: 7.0,
            failures: 4,
            ..HealthCheck::new(Probe::Http {
                port: "http".to_owned(),
                path: "/health".to_owned(),
            })
        }),
        readiness: spec.readiness.clone(),
        constraints: vec![
            Constraint::new("hostname", Operator::Unique),
            Constraint::new("rack", Operator::GroupBy(Some(3))),
            Constraint::new("zone", Operator::Cluster(Some("a".to_owned()))),
        ],
        update: UpdatePolicy {
            minimum_healthy: Some(0.5),
            over_capacity: Some(0.2),
            ..UpdatePolicy::default()
        },
        kill_grace_seconds: 9.0,
        backoff: Backoff {
            initial_ms: 1_000,
            max_ms: 300_000,
            factor: 1.15,
            ..Backoff::default()
        },
        partition: Partition::Replace {
            replace_after_seconds: 60.0,
        },
        ..ServiceSpec::command("prod-web", "exec ./web --port $PORT0")
    };
    assert_eq!(spec, expected);
    let readiness = spec.readiness.unwrap();
    assert_eq!((readiness.interval_seconds, readiness.timeout_seconds), (3.0, 10.0));
    assert_eq!(readiness.probe.port(), Some("http"));
}

#[test]
fn the_shortest_has_the_defaults_of_marathon() {
    let spec = application(r#"{"id": "a", "args": ["sleep", "9"], "ports": [0, 31005], "requirePorts": true}"#).spec;
    assert_eq!((spec.cpus, spec.mem, spec.instances, spec.disk), (1.0, 128.0, 1, None));
    assert_eq!(spec.run, Run::Argv(vec!["sleep".to_owned(), "9".to_owned()]));
    assert_eq!((spec.ports[0].port, spec.ports[1].port), (0, 31005));
    assert_eq!(spec.kill_grace_seconds, 3.0);
    let kept = application(r#"{"id": "a", "cmd": "x", "unreachableStrategy": "disabled"}"#).spec;
    assert_eq!(kept.partition, Partition::Keep);
}

#[test]
fn what_cannot_be_honoured_is_named_by_its_path() {
    for (field, path) in [
        (
            r#""container": {"type": "DOCKER", "docker": {"image": "debian"}}"#,
            "container.type container.docker",
        ),
        (
            r#""container": {"volumes": [{"containerPath": "d", "persistent": {"size": 9}}]}"#,
            "container.volumes[0]",
        ),
        (r#""gpus": 1"#, "gpus"),
        (r#""dependencies": ["/db"]"#, "dependencies"),
        (r#""networks": [{"mode": "container", "name": "n"}]"#, "networks"),
        (r#""acceptedResourceRoles": ["web"]"#, "acceptedResourceRoles"),
        (r#""killSelection": "OLDEST_FIRST""#, "killSelection"),
        (r#""residency": {}"#, "residency"),
        (
            r#""secrets": {"s": {"source": "x"}}, "env": {"A": {"secret": "s"}}"#,
            "env.A secrets",
        ),
        (r#""fetch": [{"uri": "/x", "output": "y"}]"#, "fetch[0].output"),
        (
            r#""portDefinitions": [{"protocol": "udp", "labels": {"VIP_0": "x"}}]"#,
            "portDefinitions[0].protocol portDefinitions[0].labels",
        ),
        (
            r#""healthChecks": [{"protocol": "HTTPS"}], "ports": [0]"#,
            "healthChecks[0].protocol",
        ),
        (
            r#""healthChecks": [{"protocol": "TCP", "ipProtocol": "IPv6"}], "ports": [0]"#,
            "healthChecks[0].ipProtocol",
        ),
        (
            r#""healthChecks": [{"protocol": "TCP", "maxConsecutiveFailures": 0}], "ports": [0]"#,
            "healthChecks[0].maxConsecutiveFailures",
        ),
        (
            r#""healthChecks": [{"protocol": "TCP"}, {"protocol": "TCP"}], "ports": [0]"#,
            "healthChecks[1]",
        ),
        (
            r#""readinessChecks": [{"portName": "port0", "httpStatusCodesForReady": [302]}], "ports": [0]"#,
            "readinessChecks[0].httpStatusCodesForReady",
        ),
        (r#""nonsense": 1"#, "nonsense"),
    ] {
        let json = format!(r#"{{"id": "a", "cmd": "x", {field}}}"#);
        let paths: Vec<_> = application(&json).left_out.into_iter().map(|left| left.field).collect();
        assert_eq!(paths.join(" "), path, "{json}");
        let rejection = ServiceSpec::from_yaml(&json).unwrap_err();
        let text = rejection.to_string();
        assert!(paths.iter().all(|path| text.contains(path)), "{text}");
    }
}

#[test]
fn what_is_wrong_is_rejected_by_its_path() {
    for (json, field) in [
        (r#"{"cmd": "x"}"#, "id"),
        (r#"{"id": "a", "fetch": []}"#, "cmd"),
        (r#"{"id": "a", "cmd": "x", "args": ["y"]}"#, "args"),
        (r#"{"id": "a", "cmd": "x", "instances": "3"}"#, "instances"),
        (r#"{"id": "a", "cmd": "x", "fetch": [{}]}"#, "fetch[0].uri"),
        (
            r#"{"id": "a", "cmd": "x", "constraints": [["rack", "BEST"]]}"#,
            "constraints[0][1]",
        ),
        (
            r#"{"id": "a", "cmd": "x", "constraints": [["rack", "IS", ""]]}"#,
            "constraints[0][2]",
        ),
        (
            r#"{"id": "a", "cmd": "x", "healthChecks": [{"protocol": "TCP"}]}"#,
            "healthChecks[0].portIndex",
        ),
        (
            r#"{"id": "a", "cmd": "x", "readinessChecks": [{}]}"#,
            "readinessChecks[0].portName",
        ),
        (
            r#"{"id": "a", "cmd": "x", "unreachableStrategy": "never"}"#,
            "unreachableStrategy",
        ),
        (r#"{"id": "a", "cmd": "x", "backoffSeconds": -1}"#, "backoffSeconds"),
        (r#"{"id": "A_", "cmd": "x"}"#, "id"),
    ] {
        let rejection = ServiceSpec::from_yaml(json).expect_err(json);
        assert_eq!(rejection.field, field, "{json}: {rejection}");
    }
}
