//! Ports that were not allocated cannot be bound.

use std::net::TcpListener;
use std::ops::RangeInclusive;

use proffer_agent::containerizer::{ContainerSpec, Resources};

use crate::host::{Host, on_host, until};

const KINDS: usize = 10;

/// A port that was free a moment ago, with free neighbours on both sides; the kernel picks the first.
fn free_port() -> u16 {
    for _ in 0..100 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if port < 65_000 && free(port - 1) && free(port + 1) {
            return port;
        }
    }
    panic!("no free port");
}

fn binder(host: &Host, id: &str, ports: &[u16], allocated: &[RangeInclusive<u16>]) -> ContainerSpec {
    let work = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
    let mut spec = host.shell(id, &host.payload(id, &format!("bind {work}")));
    spec.resources.ports = allocated.to_vec();
    spec
}

/// The lines of one port: how many there are of each result.
fn results(output: &str, port: u16) -> (usize, usize) {
    let lines: Vec<_> = output
        .lines()
        .filter(|line| line.split(' ').nth(1) == Some(&port.to_string()))
        .collect();
    let count = |result: &str| lines.iter().filter(|line| line.ends_with(result)).count();
    (count(" ok"), count(" Some(1)"))
}

#[test]
fn a_port_outside_the_ranges_is_denied_on_every_kind_of_socket() {
    on_host("ports", async |host| {
        let port = free_port();
        let exit = host
            .run(&binder(
                &host,
                "one",
                &[port, port - 1, port + 1, 0, 80],
                &[port..=port],
            ))
            .await;
        let output = host.output("one");
        assert_eq!(exit.code, Some(0), "{output}");
        assert_eq!(results(&output, port), (KINDS, 0), "{output}");
        assert_eq!(results(&output, 0), (KINDS, 0), "the kernel picks one: {output}");
        for denied in [port - 1, port + 1, 80] {
            assert_eq!(results(&output, denied), (0, KINDS), "{denied}: {output}");
        }
        host.run(&binder(&host, "none", &[port], &[])).await;
        assert_eq!(results(&host.output("none"), port), (0, KINDS));
        let scattered: Vec<_> = (0..200)
            .map(|n| 2 * n + 1000..=2 * n + 1000)
            .chain([port..=port])
            .collect();
        host.run(&binder(&host, "many", &[port, 1001], &scattered)).await;
        let output = host.output("many");
        assert_eq!(
            (results(&output, port), results(&output, 1001)),
            ((KINDS, 0), (0, KINDS))
        );
        host.finish().await;
    });
}

#[test]
fn a_privileged_port_that_is_allocated_can_be_bound_without_privileges() {
    on_host("privileged port", async |host| {
        let Some(port) = (600..700).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) else {
            eprintln!("skipped: no privileged port is free");
            return host.finish().await;
        };
        host.run(&binder(&host, "c", &[port], &[port..=port])).await;
        assert_eq!(results(&host.output("c"), port), (KINDS, 0), "{}", host.output("c"));
        host.finish().await;
    });
}

#[test]
fn the_ports_of_a_running_container_change_at_once_also_after_recovery() {
    on_host("ports update", async |mut host| {
        let (first, second) = (free_port(), free_port());
        let round = |n: u32| {
            format!("until [ -e go{n} ]; do sleep 0.01; done; {}; echo round {n}", {
                host.payload("c", &format!("bind {first} {second}"))
            })
        };
        let mut spec = host.shell("c", &[round(1), round(2), round(3)].join("; "));
        spec.resources.ports = vec![first..=first];
        host.launch(&spec).await;
        let expected = [(KINDS, 0), (0, KINDS)];
        for n in 1..=3 {
            let (ports, expected) = match n {
                1 => (vec![first..=first], expected),
                2 => (vec![second..=second], [expected[1], expected[0]]),
                // A new agent does not know the program that is attached.
                _ => {
                    host.close();
                    host.reopen();
                    host.containerizer()
                        .recover(std::slice::from_ref(&spec.id))
                        .await
                        .unwrap();
                    (vec![first..=first, second..=second], [expected[0], expected[0]])
                }
            };
            let resources = Resources {
                ports,
                ..spec.resources.clone()
            };
            host.containerizer().update(&spec.id, &resources).await.unwrap();
            std::fs::write(host.sandbox("c").join(format!("go{n}")), "").unwrap();
            let output = host.output_with("c", &format!("round {n}\n")).await;
            let before = if n == 1 {
                0
            } else {
                output.find(&format!("round {}\n", n - 1)).unwrap()
            };
            let output = &output[before..];
            assert_eq!(
                [results(output, first), results(output, second)],
                expected,
                "round {n}: {output}"
            );
        }
        let id = spec.id.clone();
        until(
            || host.containerizer().containers().contains(&id).then_some(()),
            "known",
        )
        .await;
        assert_eq!(host.wait("c").await.code, Some(0));
        host.finish().await;
    });
}

#[test]
fn of_ten_thousand_tries_none_is_let_through_also_after_update_and_recovery() {
    const TRIES: u32 = 10_000;
    on_host("ten thousand", async |mut host| {
        let allocated = [20_000..=20_009, 20_010..=20_019, 20_020..=20_029];
        let rounds = allocated.iter().enumerate().map(|(n, ports)| {
            let work = format!("deny {} {} {TRIES}", ports.start(), ports.end());
            format!(
                "until [ -e go{n} ]; do sleep 0.01; done; {}; echo round {n}",
                host.payload("c", &work)
            )
        });
        let mut spec = host.shell("c", &rounds.collect::<Vec<_>>().join("; "));
        spec.resources.ports = vec![allocated[0].clone()];
        host.launch(&spec).await;
        for (n, ports) in allocated.iter().enumerate() {
            if n == 2 {
                host.close();
                host.reopen();
                let known = std::slice::from_ref(&spec.id);
                host.containerizer().recover(known).await.unwrap();
            }
            if n > 0 {
                let resources = Resources {
                    ports: vec![ports.clone()],
                    ..spec.resources.clone()
                };
                host.containerizer().update(&spec.id, &resources).await.unwrap();
            }
            std::fs::write(host.sandbox("c").join(format!("go{n}")), "").unwrap();
            let output = host.output_with("c", &format!("round {n}\n")).await;
            let results = output.matches(&format!("denied {TRIES} of {TRIES}\n")).count();
            assert_eq!(results, n + 1, "{output}");
        }
        assert_eq!(host.wait("c").await.code, Some(0));
        host.finish().await;
    });
}
