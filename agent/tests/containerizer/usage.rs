//! What a container uses is counted, also by an agent that did not start it.

use proffer_agent::containerizer::{ContainerId, Usage};

use crate::host::{on_host, until};

const PORT: u16 = 20_100;

#[test]
fn all_that_a_container_uses_is_counted_also_after_a_restart_of_the_agent() {
    on_host("usage", async |mut host| {
        let id = ContainerId("c".into());
        let script = format!(
            "{}; echo done; until [ -e go ]; do sleep 0.01; done; {}; echo again; sleep 1000",
            host.payload("c", &format!("traffic {PORT}")),
            host.payload("c", &format!("traffic {PORT}")),
        );
        let mut spec = host.shell("c", &script);
        spec.resources.ports = vec![PORT..=PORT];
        host.launch(&spec).await;
        host.output_with("c", "done\n").await;
        let first = host.containerizer().usage(&id).unwrap();
        let read = |name: &str| std::fs::metadata(name).is_ok();
        assert!(
            first.cpu_usec > Some(0) && first.memory_bytes > Some(0) && first.pids > Some(0),
            "{first:?}"
        );
        // The shell, and what it waits by.
        assert!(matches!(first.processes, Some(1..=3)), "{first:?}");
        assert!(
            first.memory_anon_bytes.is_some() && first.memory_file_bytes.is_some(),
            "{first:?}"
        );
        assert!(
            first.cpu_periods.is_some() && first.cpu_throttled_usec.is_some(),
            "{first:?}"
        );
        assert_eq!(first.memory_limit_bytes, Some(256 << 20));
        assert_eq!(first.cpu_pressure.is_some(), read("/proc/pressure/cpu"), "{first:?}");
        if host.enforces("io") {
            assert!(first.io_read_bytes.is_some() && first.io_writes.is_some(), "{first:?}");
        }
        if !host.enforces("network") {
            host.containerizer().destroy(&id).unwrap();
            return host.finish().await;
        }
        expect_traffic(&first, 1);
        host.close();
        host.reopen();
        host.containerizer().recover(std::slice::from_ref(&id)).await.unwrap();
        expect_traffic(&host.containerizer().usage(&id).unwrap(), 1);
        std::fs::write(host.sandbox("c").join("go"), "").unwrap();
        host.output_with("c", "again\n").await;
        let second = until(|| host.containerizer().usage(&id).ok(), "the figures").await;
        expect_traffic(&second, 2);
        assert!(second.cpu_usec >= first.cpu_usec);
        host.containerizer().destroy(&id).unwrap();
        host.finish().await;
    });
}

/// Each round is a hundred datagrams of 1,000 bytes with 28 bytes of headers, which are sent and received.
fn expect_traffic(usage: &Usage, rounds: u64) {
    let (bytes, packets) = (Some(rounds * 102_800), Some(rounds * 100));
    assert_eq!((usage.network_sent_bytes, usage.network_sent_packets), (bytes, packets));
    assert_eq!(
        (usage.network_received_bytes, usage.network_received_packets),
        (bytes, packets)
    );
}
