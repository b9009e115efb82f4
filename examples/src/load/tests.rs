//! The load against real servers, in this process and killed on purpose.

use std::io::{Read as _, Write as _};

use super::*;
use crate::web::access::{self, AccessLog};

fn endpoints(ports: &[u16]) -> (watch::Sender<Vec<String>>, watch::Receiver<Vec<String>>) {
    watch::channel(ports.iter().map(|port| format!("127.0.0.1:{port}")).collect())
}

fn quick(answered: u64, prefix: &str) -> Config {
    Config {
        give_up_after: Duration::from_secs(60),
        ..Config::requests(answered, prefix)
    }
}

async fn with_servers<F: Future<Output = ()>>(
    count: usize,
    body: impl FnOnce(Vec<u16>, Vec<std::path::PathBuf>, Vec<tokio::sync::oneshot::Sender<()>>) -> F,
) {
    let directory = tempfile::tempdir().unwrap();
    tokio::task::LocalSet::new()
        .run_until(async {
            let (mut ports, mut logs, mut stops) = (Vec::new(), Vec::new(), Vec::new());
            for instance in 0..count {
                let path = directory.path().join(format!("access.{instance}.log"));
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                ports.push(listener.local_addr().unwrap().port());
                let log = AccessLog::open(&path, format!("web.{instance}")).unwrap();
                let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
                tokio::task::spawn_local(crate::web::serve(listener, log, async move {
                    let _ = stopped.await;
                }));
                logs.push(path);
                stops.push(stop);
            }
            body(ports, logs, stops).await;
        })
        .await;
}

fn logged_ids(logs: &[std::path::PathBuf]) -> Vec<String> {
    logs.iter()
        .flat_map(|log| access::read(log).unwrap())
        .map(|line| line.id)
        .collect()
}

#[tokio::test]
async fn answers_are_counted_exactly_and_spread_over_the_endpoints() {
    with_servers(3, |ports, logs, stops| async move {
        let _servers = stops;
        let (_keep, endpoints) = endpoints(&ports);
        let report = run(quick(500, "exact"), endpoints).await;
        assert_eq!(report.answered, 500);
        assert_eq!(report.statuses.keys().copied().collect::<Vec<_>>(), [200, 201]);
        assert_eq!(report.routes["/api/items/{n}"], 300);
        let ids = logged_ids(&logs);
        let comparison = report.compare(ids.iter().map(String::as_str));
        assert!(comparison.equal(), "{comparison:?}");
        assert_eq!(comparison.logged, 500);
        for log in &logs {
            assert!(access::read(log).unwrap().len() > 50, "{} got its share", log.display());
        }
    })
    .await;
}

#[tokio::test]
async fn an_orderly_end_of_one_server_loses_no_line() {
    with_servers(2, |ports, logs, mut stops| async move {
        let (change, endpoints) = endpoints(&ports);
        let load = Load::start(quick(2_000, "orderly"), endpoints);
        while load.progress().answered < 200 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stops.pop().unwrap().send(()).unwrap();
        change.send(vec![format!("127.0.0.1:{}", ports[0])]).unwrap();
        let report = load.finish().await;
        assert_eq!(report.answered, 2_000);
        let ids = logged_ids(&logs);
        let comparison = report.compare(ids.iter().map(String::as_str));
        assert!(comparison.equal(), "{comparison:?}");
        assert_eq!(comparison.logged, 2_000 + comparison.ambiguous_logged);
    })
    .await;
}

/// A server that reads each request and closes the connection in place of an answer.
fn deaf_server() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
        }
    });
    port
}

#[tokio::test]
async fn half_a_response_is_ambiguous_and_replaced() {
    with_servers(1, |ports, logs, stops| async move {
        let _servers = stops;
        let (_keep, endpoints) = endpoints(&[ports[0], deaf_server()]);
        let report = run(quick(40, "half"), endpoints).await;
        assert_eq!(report.answered, 40);
        assert!(!report.ambiguous.is_empty());
        let ids = logged_ids(&logs);
        let comparison = report.compare(ids.iter().map(String::as_str));
        assert_eq!(
            (comparison.equal(), comparison.logged, comparison.ambiguous_logged),
            (true, 40, 0)
        );
    })
    .await;
}

#[tokio::test]
async fn a_refused_connection_is_not_ambiguous() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    with_servers(1, |ports, _logs, stops| async move {
        let _servers = stops;
        let (_keep, endpoints) = endpoints(&[ports[0], unused]);
        let report = run(quick(20, "refused"), endpoints).await;
        assert_eq!((report.answered, report.ambiguous.len()), (20, 0));
    })
    .await;
}

#[tokio::test]
async fn a_load_without_endpoints_gives_up() {
    let (_keep, endpoints) = endpoints(&[]);
    let config = Config {
        give_up_after: Duration::from_millis(50),
        ..Config::requests(5, "nobody")
    };
    assert_eq!(run(config, endpoints).await.answered, 0);
}

#[test]
fn a_comparison_names_what_is_missing_repeated_and_unknown() {
    let mut report = Report::new("p".to_owned());
    for number in [0, 1, 2] {
        report.answered(number, "/", 200, Duration::from_micros(5));
    }
    report.ambiguous.push("p-3".to_owned());
    let comparison = report.compare(["p-0", "p-1", "p-1", "p-3", "p-9", "other-1", ""]);
    let expected = Comparison {
        logged: 5,
        ambiguous_logged: 1,
        missing: vec!["p-2".to_owned()],
        repeated: vec!["p-1".to_owned()],
        unknown: vec!["p-9".to_owned()],
    };
    assert_eq!(comparison, expected);
}
