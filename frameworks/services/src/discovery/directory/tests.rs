use super::*;
use crate::catalogue::{Counts, Update, UpdateState};
use crate::plan::PortAssignment;
use crate::spec::{PortSpec, ServiceSpec};

/// A catalogue with one service, of whose instances these are ready or not.
pub(crate) fn web(ready: &[bool]) -> Catalogue {
    let instances = ready.iter().enumerate().map(|(index, ready)| Instance {
        index: u32::try_from(index).unwrap(),
        state: State::Running,
        task_id: Some(format!("web.{index}.x")),
        agent_id: Some(format!("a{index}")),
        host: format!("10.0.0.{}", index + 1),
        ready: *ready,
        ports: vec![PortAssignment {
            name: "http".to_owned(),
            port: 31_000,
        }],
        version: Some(1),
        running_since_ms: None,
        failures: 0,
        crash_looping: false,
        due_ms: None,
        last_end: None,
        volumes: None,
    });
    let instances: Vec<_> = instances.collect();
    let mut spec = ServiceSpec::command("web", "true");
    spec.ports = vec![PortSpec::any("http")];
    spec.labels = [("team".to_owned(), "red".to_owned())].into();
    let status = ServiceStatus {
        spec,
        version: 1,
        instance_version: 1,
        update: Update {
            state: UpdateState::Done,
            outdated: 0,
            reason: None,
            reverts: None,
        },
        removed: false,
        running: 0,
        ready: 0,
        restarts: 0,
        instances,
        kept_volumes: Vec::new(),
    };
    Catalogue {
        services: [("web".to_owned(), status)].into(),
        connected: true,
        counts: Counts::default(),
        ..Catalogue::default()
    }
}

pub(crate) fn addresses() -> Addresses {
    let address = |number: u8| {
        (
            format!("10.0.0.{number}"),
            Arc::from([IpAddr::from([10, 0, 0, number])]),
        )
    };
    (1..=9).map(address).collect()
}

fn tasks(view: &View) -> Vec<&str> {
    let entries = view.services.values().flat_map(|entry| &entry.instances);
    entries.map(|found| found.task_id.as_str()).collect()
}

#[test]
fn every_change_has_a_number_and_what_changes_nothing_has_none() {
    let mut directory = Directory::new(100);
    assert!(directory.update(&web(&[true, false]), &addresses()));
    assert_eq!((directory.ready.index, directory.all.index), (101, 101));
    assert!(!directory.update(&web(&[true, false]), &addresses()));
    assert_eq!(tasks(&directory.ready), ["web.0.x"]);
    assert_eq!(tasks(&directory.all), ["web.0.x", "web.1.x"]);

    let mut more = web(&[true, false]);
    more.counts.launched = 9;
    let instance = &mut more.services.get_mut("web").unwrap().instances[1];
    instance.state = State::Ending;
    assert!(directory.update(&more, &addresses()));
    assert_eq!(
        (directory.ready.index, directory.all.index),
        (101, 102),
        "it took no requests"
    );

    assert!(directory.update(&web(&[true, true]), &addresses()));
    assert_eq!((directory.ready.index, directory.all.index), (103, 103));
    let web = Some(["web".to_owned()]);
    let none = Some(["none".to_owned()]);
    assert_eq!(directory.ready.index_of(web.as_ref().map(|ids| &ids[..])), 103);
    assert_eq!(directory.ready.index_of(none.as_ref().map(|ids| &ids[..])), 100);

    assert!(directory.update(&Catalogue::default(), &addresses()));
    assert_eq!(
        directory.ready.index_of(web.as_ref().map(|ids| &ids[..])),
        104,
        "it went"
    );
    assert_eq!(directory.ready.json(None), r#"{"index":104,"services":{}}"#);
}

#[test]
fn an_instance_is_found_once_its_host_was_looked_up_by_name_where_it_has_no_address() {
    let mut directory = Directory::new(0);
    let mut known = Addresses::new();
    directory.update(&web(&[true]), &known);
    assert!(tasks(&directory.ready).is_empty());
    assert!(directory.ready.services.contains_key("web"), "the service is there");
    known.insert("10.0.0.1".to_owned(), Arc::from([]));
    assert!(directory.update(&web(&[true]), &known));
    assert_eq!(directory.ready.services["web"].instances[0].address, "10.0.0.1");
    known.insert("10.0.0.1".to_owned(), Arc::from([IpAddr::from([1, 2, 3, 4])]));
    assert!(directory.update(&web(&[true]), &known));
    assert_eq!(directory.ready.services["web"].instances[0].address, "1.2.3.4");
}

#[test]
fn a_service_is_told_with_labels_and_ports() {
    let mut directory = Directory::new(0);
    directory.update(&web(&[true]), &addresses());
    let json: serde_json::Value = serde_json::from_str(&directory.ready.json(None)).unwrap();
    let web = serde_json::json!({
        "index": 1, "labels": {"team": "red"}, "ports": ["http"],
        "instances": [{
            "index": 0, "task_id": "web.0.x", "agent_id": "a0", "host": "10.0.0.1", "address": "10.0.0.1", "addresses": ["10.0.0.1"],
            "ports": {"http": 31_000}, "version": 1, "state": "running", "ready": true,
        }],
    });
    assert_eq!(json, serde_json::json!({"index": 1, "services": {"web": web}}));
}

#[test]
fn a_service_that_is_to_end_is_there_as_long_as_it_has_instances() {
    let mut directory = Directory::new(0);
    let mut ending = web(&[false]);
    ending.services.get_mut("web").unwrap().removed = true;
    directory.update(&ending, &addresses());
    assert_eq!(directory.all.services.len(), 1);
    ending.services.get_mut("web").unwrap().instances.clear();
    directory.update(&ending, &addresses());
    assert_eq!(directory.all.services.len(), 0);
}
