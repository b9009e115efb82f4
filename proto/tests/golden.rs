//! Messages written down by hand from the tables of the v1 API, as bytes and as JSON: the encoder had no part in them.

use std::fmt::Debug;

use proffer_proto::v1::{executor, master, quota, scheduler};
use proffer_proto::{json, required};
use prost::{Message, Name};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Turns `0a 04 "root"` into bytes; `#` begins a remark.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap();
        for (index, piece) in line.split('"').enumerate() {
            if index % 2 == 1 {
                bytes.extend(piece.as_bytes());
            } else {
                bytes.extend(piece.split_whitespace().map(|hex| u8::from_str_radix(hex, 16).unwrap()));
            }
        }
    }
    bytes
}

fn check<T>(wire: &str, text: &str)
where
    T: Message + Name + Default + PartialEq + Debug + Serialize + DeserializeOwned,
{
    let wire = bytes(wire);
    let from_wire: T = required::decode(wire.clone()).unwrap();
    let from_json: T = json::from_slice(text.as_bytes()).unwrap();
    assert_eq!(from_wire, from_json, "both forms say the same");
    assert_eq!(from_json.encode_to_vec(), wire);
    let written: serde_json::Value = serde_json::from_slice(&json::to_vec(&from_wire)).unwrap();
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(text).unwrap());
}

#[test]
fn scheduler_subscribe() {
    check::<scheduler::Call>(
        r#"10 01                             # type
           1a 27                             # subscribe
             0a 20                           #   framework_info
               0a 04 "root"                  #     user
               12 04 "demo"                  #     name
               21 00 00 00 00 00 00 4e 40    #     failover_timeout 60.0
               28 01                         #     checkpoint
               52 02 08 05                   #     capabilities { type }
               62 03 "web"                   #     roles
             12 03 "web"                     #   suppressed_roles"#,
        r#"{"type": "SUBSCRIBE", "subscribe": {
             "framework_info": {"user": "root", "name": "demo", "failover_timeout": 60.0, "checkpoint": true,
                                "capabilities": [{"type": "PARTITION_AWARE"}], "roles": ["web"]},
             "suppressed_roles": ["web"]}}"#,
    );
}

#[test]
fn scheduler_accept_with_launch() {
    check::<scheduler::Call>(
        r#"0a 04 0a 02 "f1"                            # framework_id
           10 03                                       # type
           22 62                                       # accept
             0a 04 0a 02 "o1"                          #   offer_ids
             12 4f                                     #   operations
               08 01                                   #     type
               12 4b                                   #     launch
                 0a 49                                 #       task_infos
                   0a 03 "web"                         #         name
                   12 04 0a 02 "t1"                    #         task_id
                   1a 04 0a 02 "a1"                    #         agent_id
                   22 13                               #         resources
                     0a 04 "cpus"                      #           name
                     10 00                             #           type
                     1a 09 09 00 00 00 00 00 00 e0 3f  #           scalar 0.5
                   22 15                               #         resources
                     0a 05 "ports"                     #           name
                     10 01                             #           type
                     22 0a 0a 08 08 98 f2 01 10 98 f2 01  #        ranges 31000-31000
                   3a 0a                               #         command
                     1a 06 "exit 0"                    #           value
                     30 01                             #           shell
             1a 09 09 00 00 00 00 00 00 00 40          #   filters { refuse_seconds 2.0 }"#,
        r#"{"framework_id": {"value": "f1"}, "type": "ACCEPT", "accept": {
             "offer_ids": [{"value": "o1"}],
             "operations": [{"type": "LAUNCH", "launch": {"task_infos": [{
               "name": "web", "task_id": {"value": "t1"}, "agent_id": {"value": "a1"},
               "resources": [
                 {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}},
                 {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31000}]}}],
               "command": {"value": "exit 0", "shell": true}}]}}],
             "filters": {"refuse_seconds": 2.0}}}"#,
    );
}

#[test]
fn scheduler_decline() {
    check::<scheduler::Call>(
        r#"0a 04 0a 02 "f1"                       # framework_id
           10 04                                  # type
           2a 17                                  # decline
             0a 04 0a 02 "o1" 0a 04 0a 02 "o2"    #   offer_ids
             12 09 09 00 00 00 00 00 00 14 40     #   filters { refuse_seconds 5.0 }"#,
        r#"{"framework_id": {"value": "f1"}, "type": "DECLINE", "decline": {
             "offer_ids": [{"value": "o1"}, {"value": "o2"}], "filters": {"refuse_seconds": 5.0}}}"#,
    );
}

#[test]
fn scheduler_kill() {
    check::<scheduler::Call>(
        r#"0a 04 0a 02 "f1"                   # framework_id
           10 06                              # type
           32 16                              # kill
             0a 04 0a 02 "t1"                 #   task_id
             12 04 0a 02 "a1"                 #   agent_id
             1a 08 0a 06 08 80 bc c1 96 0b    #   kill_policy { grace_period { 3,000,000,000 } }"#,
        r#"{"framework_id": {"value": "f1"}, "type": "KILL", "kill": {
             "task_id": {"value": "t1"}, "agent_id": {"value": "a1"},
             "kill_policy": {"grace_period": {"nanoseconds": 3000000000}}}}"#,
    );
}

#[test]
fn scheduler_acknowledge() {
    check::<scheduler::Call>(
        r#"0a 04 0a 02 "f1"              # framework_id
           10 08                         # type
           42 1e                         # acknowledge
             0a 04 0a 02 "a1"            #   agent_id
             12 04 0a 02 "t1"            #   task_id
             1a 10 "0123456789abcdef"    #   uuid"#,
        r#"{"framework_id": {"value": "f1"}, "type": "ACKNOWLEDGE", "acknowledge": {
             "agent_id": {"value": "a1"}, "task_id": {"value": "t1"}, "uuid": "MDEyMzQ1Njc4OWFiY2RlZg=="}}"#,
    );
}

#[test]
fn scheduler_reconcile() {
    check::<scheduler::Call>(
        r#"0a 04 0a 02 "f1"        # framework_id
           10 09                   # type
           4a 0e                   # reconcile
             0a 0c                 #   tasks
               0a 04 0a 02 "t1"    #     task_id
               12 04 0a 02 "a1"    #     agent_id"#,
        r#"{"framework_id": {"value": "f1"}, "type": "RECONCILE", "reconcile": {
             "tasks": [{"task_id": {"value": "t1"}, "agent_id": {"value": "a1"}}]}}"#,
    );
}

#[test]
fn scheduler_subscribed() {
    check::<scheduler::Event>(
        r#"08 01                           # type
           12 1d                           # subscribed
             0a 04 0a 02 "f1"              #   framework_id
             11 00 00 00 00 00 00 2e 40    #   heartbeat_interval_seconds 15.0
             1a 0c                         #   master_info
               0a 02 "m1"                  #     id
               10 ff 80 80 08              #     ip 127.0.0.1
               18 ba 27                    #     port 5050"#,
        r#"{"type": "SUBSCRIBED", "subscribed": {
             "framework_id": {"value": "f1"}, "heartbeat_interval_seconds": 15.0,
             "master_info": {"id": "m1", "ip": 16777343, "port": 5050}}}"#,
    );
}

#[test]
fn scheduler_offers() {
    check::<scheduler::Event>(
        r#"08 02                                     # type
           1a 43                                     # offers
             0a 41                                   #   offers
               0a 04 0a 02 "o1"                      #     id
               12 04 0a 02 "f1"                      #     framework_id
               1a 04 0a 02 "a1"                      #     agent_id
               22 02 "h1"                            #     hostname
               2a 22                                 #     resources
                 0a 03 "mem"                         #       name
                 10 00                               #       type
                 1a 09 09 00 00 00 00 00 00 90 40    #       scalar 1024.0
                 5a 05 0a 03 "web"                   #       allocation_info { role }
                 6a 07 1a 03 "web" 20 02             #       reservations { role, type }
               52 05 0a 03 "web"                     #     allocation_info { role }"#,
        r#"{"type": "OFFERS", "offers": {"offers": [{
             "id": {"value": "o1"}, "framework_id": {"value": "f1"}, "agent_id": {"value": "a1"}, "hostname": "h1",
             "resources": [{"name": "mem", "type": "SCALAR", "scalar": {"value": 1024.0},
                            "allocation_info": {"role": "web"},
                            "reservations": [{"role": "web", "type": "DYNAMIC"}]}],
             "allocation_info": {"role": "web"}}]}}"#,
    );
}

#[test]
fn scheduler_update() {
    check::<scheduler::Event>(
        r#"08 04                             # type
           2a 26                             # update
             0a 24                           #   status
               0a 04 0a 02 "t1"              #     task_id
               10 03                         #     state
               22 03 "oom"                   #     message
               2a 04 0a 02 "a1"              #     agent_id
               31 00 00 00 00 00 00 f8 3f    #     timestamp 1.5
               48 01                         #     source
               50 08                         #     reason
               5a 02 00 ff                   #     uuid"#,
        r#"{"type": "UPDATE", "update": {"status": {
             "task_id": {"value": "t1"}, "state": "TASK_FAILED", "message": "oom", "agent_id": {"value": "a1"},
             "timestamp": 1.5, "source": "SOURCE_AGENT", "reason": "REASON_CONTAINER_LIMITATION_MEMORY",
             "uuid": "AP8="}}}"#,
    );
}

#[test]
fn executor_launch() {
    check::<executor::Event>(
        r#"08 02                   # type
           22 11                   # launch
             0a 0f                 #   task
               0a 01 "t"           #     name
               12 04 0a 02 "t1"    #     task_id
               1a 04 0a 02 "a1"    #     agent_id"#,
        r#"{"type": "LAUNCH", "launch": {"task": {
             "name": "t", "task_id": {"value": "t1"}, "agent_id": {"value": "a1"}}}}"#,
    );
}

#[test]
fn executor_update() {
    check::<executor::Call>(
        r#"0a 04 0a 02 "e1"          # executor_id
           12 04 0a 02 "f1"          # framework_id
           18 02                     # type
           2a 0a                     # update
             0a 08                   #   status
               0a 04 0a 02 "t1"      #     task_id
               10 01                 #     state"#,
        r#"{"executor_id": {"value": "e1"}, "framework_id": {"value": "f1"}, "type": "UPDATE",
            "update": {"status": {"task_id": {"value": "t1"}, "state": "TASK_RUNNING"}}}"#,
    );
}

#[test]
fn operator_drain_agent() {
    check::<master::Call>(
        r#"08 25                   # type
           aa 01 0c                # drain_agent
             0a 04 0a 02 "a1"      #   agent_id
             12 02 08 0a           #   max_grace_period { seconds }
             18 01                 #   mark_gone"#,
        r#"{"type": "DRAIN_AGENT", "drain_agent": {
             "agent_id": {"value": "a1"}, "max_grace_period": "10s", "mark_gone": true}}"#,
    );
}

#[test]
fn operator_update_quota() {
    check::<master::Call>(
        r#"08 24                                      # type
           a2 01 1c                                   # update_quota
             08 01                                    #   force
             12 18                                    #   quota_configs
               0a 03 "web"                            #     role
               1a 11                                  #     limits
                 0a 04 "cpus"                         #       key
                 12 09 09 00 00 00 00 00 00 00 40     #       value 2.0"#,
        r#"{"type": "UPDATE_QUOTA", "update_quota": {
             "force": true, "quota_configs": [{"role": "web", "limits": {"cpus": {"value": 2.0}}}]}}"#,
    );
}

#[test]
fn quota_guarantee() {
    check::<quota::QuotaConfig>(
        r#"0a 03 "web"                                # role
           12 11                                      # guarantees
             0a 04 "cpus"                             #   key
             12 09 09 00 00 00 00 00 00 00 40         #   value 2.0"#,
        r#"{"role": "web", "guarantees": {"cpus": {"value": 2.0}}}"#,
    );
}

#[test]
fn unset_fields_with_a_default_are_written_unless_deprecated() {
    // user and name only; `role` has a default too, and is deprecated.
    let bare: proffer_proto::v1::FrameworkInfo = required::decode(bytes(r#"0a 04 "root" 12 04 "demo""#)).unwrap();
    let written: serde_json::Value = serde_json::from_slice(&json::to_vec(&bare)).unwrap();
    let expected = r#"{"user": "root", "name": "demo", "failover_timeout": 0.0, "checkpoint": false}"#;
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(expected).unwrap());
}
