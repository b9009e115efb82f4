//! Scripts about checks, as in [`crate::core::tests`].

use proffer_proto::v1;

use super::plan::Plan;
use super::{Probe, Seen};
use crate::core::tests::{check, run};

#[test]
fn changes_of_health_are_told_and_repeated_failure_kills() {
    check(
        "0 attach
         0 registered
         0 launch t health
         10 started c1 42
         11 ack t u1
         1010 tick
         1020 checked c1 health 1 refused
         1520 tick
         1530 checked c1 health 2 connected
         1531 ack t u2
         2030 tick
         2040 checked c1 health 3 connected
         2540 tick
         2550 checked c1 health 4 refused
         2551 ack t u3
         3050 tick
         3060 checked c1 health 5 refused
         3560 tick
         4000 exit c1 signal 15",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t health
           checkpoint framework f
           checkpoint launch t
           start c1
         > 10 started c1 42
           watch c1
           write checked t
           write update running
           send u1 t running
         > 11 ack t u1
           note acknowledged t
         > 1010 tick
           check c1 health 1
         > 1020 checked c1 health 1 refused
         > 1520 tick
           check c1 health 2
         > 1530 checked c1 health 2 connected
           write checked t healthy
           write update running
           send u2 t running task_health_check_status_updated healthy
         > 1531 ack t u2
           note acknowledged t
         > 2030 tick
           check c1 health 3
         > 2040 checked c1 health 3 connected
         > 2540 tick
           check c1 health 4
         > 2550 checked c1 health 4 refused
           write checked t unhealthy
           write update running
           send u3 t running task_health_check_status_updated (refused) unhealthy
         > 2551 ack t u3
           note acknowledged t
         > 3050 tick
           check c1 health 5
         > 3060 checked c1 health 5 refused
           checkpoint ending t 8060ms
           terminate c1
         > 3560 tick
         > 4000 exit c1 signal 15
           send freed t
           checkpoint update killed
           send u4 t killed task_health_check_status_updated (its health check failed too many times in a row; ended by signal 15 (SIGTERM)) unhealthy
           release c1",
    );
}

#[test]
fn a_restart_keeps_the_verdict_and_begins_no_grace_period() {
    check(
        "0 attach
         0 registered
         0 launch t health
         10 started c1 42
         11 ack t u1
         1010 tick
         1020 checked c1 health 1 connected
         1021 ack t u2
         1030 restart
         1030 found c1 running
         1031 checked c1 health 1 refused
         2000 attach
         2001 registered
         2002 tick
         2010 checked c1 health 1 refused
         2011 checked c1 health 1 connected",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t health
           checkpoint framework f
           checkpoint launch t
           start c1
         > 10 started c1 42
           watch c1
           write checked t
           write update running
           send u1 t running
         > 11 ack t u1
           note acknowledged t
         > 1010 tick
           check c1 health 1
         > 1020 checked c1 health 1 connected
           write checked t healthy
           write update running
           send u2 t running task_health_check_status_updated healthy
         > 1021 ack t u2
           note acknowledged t
         > 1030 restart
           recover [\"c1\"]
         > 1030 found c1 running
           watch c1
         > 1031 checked c1 health 1 refused
         > 2000 attach
           send register a1 t:running healthy
         > 2001 registered
         > 2002 tick
           check c1 health 1
         > 2010 checked c1 health 1 refused
           write checked t unhealthy
           write update running
           send u101 t running task_health_check_status_updated (refused) unhealthy
         > 2011 checked c1 health 1 connected",
    );
    // Not healthy yet, and found again when the grace period is over.
    let transcript = run("0 attach
         0 registered
         0 launch t health
         10 started c1 42
         11 ack t u1
         2900 restart
         2900 found c1 running
         3000 tick
         3400 tick
         3410 checked c1 health 1 refused");
    assert!(transcript.contains("write checked t unhealthy"), "{transcript}");
}

#[test]
fn a_check_only_tells_what_changed() {
    check(
        "0 attach
         0 registered
         0 launch t status
         10 started c1 42
         10 tick
         20 checked c1 status 1 200
         21 ack t u1
         22 ack t u2
         1020 tick
         1030 checked c1 status 2 200
         2030 tick
         2040 checked c1 status 3 late
         2041 ack t u3
         2042 kill t
         3040 tick",
        "> 0 attach
           send register -
         > 0 registered
           checkpoint agent a1
         > 0 launch t status
           checkpoint framework f
           checkpoint launch t
           start c1
         > 10 started c1 42
           watch c1
           write checked t http -
           write update running
           send u1 t running http -
         > 10 tick
           check c1 status 1
         > 20 checked c1 status 1 200
           write checked t http 200
           write update running
         > 21 ack t u1
           note acknowledged t
           send u2 t running task_check_status_updated http 200
         > 22 ack t u2
           note acknowledged t
         > 1020 tick
           check c1 status 2
         > 1030 checked c1 status 2 200
         > 2030 tick
           check c1 status 3
         > 2040 checked c1 status 3 late
           write checked t http -
           write update running
           send u3 t running task_check_status_updated (late) http -
         > 2041 ack t u3
           note acknowledged t
         > 2042 kill t
           checkpoint ending t 7042ms
           terminate c1
         > 3040 tick",
    );
}

#[test]
fn changes_that_nobody_acknowledges_do_not_pile_up() {
    let mut script = String::from("0 attach\n0 registered\n0 launch t status\n10 started c1 42\n");
    for number in 1..=50 {
        let at = number * 2000;
        script.push_str(&format!(
            "{at} tick\n{} checked c1 status {number} {}\n",
            at + 1,
            200 + number % 2
        ));
    }
    let transcript = run(&script);
    assert_eq!(transcript.matches("check c1 status").count(), 50);
    assert_eq!(
        transcript.matches("write update running").count(),
        super::UPDATES_WAITING_MAX
    );
}

#[test]
fn what_is_wrong_with_a_check_is_named() {
    use v1::health_check::{HttpCheckInfo, Type};
    let http = |http: HttpCheckInfo| v1::HealthCheck {
        r#type: Some(Type::Http.into()),
        http: Some(http),
        ..Default::default()
    };
    let plain = HttpCheckInfo {
        port: 80,
        ..Default::default()
    };
    let plan = Plan::of_health_check(&http(plain.clone())).unwrap();
    let expected = [(199, false), (200, true), (399, true), (404, false)];
    for (status, passes) in expected {
        assert_eq!(plan.probe.passes(Seen::HttpStatus(status)), passes, "{status}");
    }
    assert!(!plan.probe.passes(Seen::Nothing));
    let chosen = Plan::of_health_check(&http(HttpCheckInfo {
        statuses: vec![404],
        path: Some("/a?b".into()),
        scheme: Some("https".into()),
        ..plain.clone()
    }));
    let Probe::Http { tls: true, path, .. } = &chosen.as_ref().unwrap().probe else {
        panic!("{chosen:?}")
    };
    assert_eq!(path, "/a?b");
    assert!(chosen.unwrap().probe.passes(Seen::HttpStatus(404)));

    let cases = [
        (v1::HealthCheck::default(), "type:"),
        (
            http(HttpCheckInfo {
                port: 0,
                ..plain.clone()
            }),
            "http.port: 0",
        ),
        (
            http(HttpCheckInfo {
                port: 65_536,
                ..plain.clone()
            }),
            "http.port: 65536",
        ),
        (
            http(HttpCheckInfo {
                path: Some("a".into()),
                ..plain.clone()
            }),
            "http.path:",
        ),
        (
            http(HttpCheckInfo {
                scheme: Some("ftp".into()),
                ..plain.clone()
            }),
            "http.scheme:",
        ),
        (
            http(HttpCheckInfo {
                statuses: vec![99],
                ..plain.clone()
            }),
            "http.statuses: 99",
        ),
        (
            v1::HealthCheck {
                interval_seconds: Some(-1.0),
                ..http(plain)
            },
            "interval_seconds: -1",
        ),
        (
            v1::HealthCheck {
                r#type: Some(Type::Command.into()),
                ..Default::default()
            },
            "command: must be set",
        ),
        (
            v1::HealthCheck {
                r#type: Some(Type::Tcp.into()),
                ..Default::default()
            },
            "tcp: must be set",
        ),
    ];
    for (check, problem) in cases {
        let said = Plan::of_health_check(&check).unwrap_err();
        assert!(said.starts_with(problem), "{said}");
    }
}
