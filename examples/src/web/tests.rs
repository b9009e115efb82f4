//! The server over real sockets.

use std::path::PathBuf;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::access::Line;
use super::*;

struct Server {
    port: u16,
    log: PathBuf,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("access.log");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel::<()>();
        let opened = AccessLog::open(&log, "web.7".to_owned()).unwrap();
        let ended = tokio::task::spawn_local(serve(listener, opened, async move {
            let _ = stopped.await;
        }));
        Self {
            port,
            log,
            stop,
            ended,
            _directory: directory,
        }
    }

    async fn ask(&self, head: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        ask(&mut stream, head, body).await
    }

    fn lines(&self) -> Vec<Line> {
        access::read(&self.log).unwrap()
    }
}

async fn ask(stream: &mut TcpStream, head: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let request =
        format!("{head} HTTP/1.1\r\nhost: test\r\nx-request-id: r-1\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&response).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: "))
            && body.len() == length.parse::<usize>().unwrap()
        {
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            return (status, serde_json::from_str(body).unwrap());
        }
        assert_ne!(
            stream.read_buf(&mut response).await.unwrap(),
            0,
            "the connection ended within {text:?}"
        );
    }
}

async fn local<F: Future<Output = ()>>(test: F) {
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_response_means_that_its_line_is_in_the_log() {
    local(async {
        let server = Server::start().await;
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        for n in 0..20 {
            let (status, body) = ask(&mut stream, &format!("GET /api/items/{n}"), "").await;
            assert_eq!((status, body["item"].as_u64()), (200, Some(n)));
            assert_eq!(server.lines().len() as u64, n + 1);
        }
        let line = server.lines().pop().unwrap();
        assert_eq!(
            (line.route.as_str(), line.method.as_str(), line.status),
            ("/api/items/{n}", "GET", 200)
        );
        assert_eq!((line.instance.as_str(), line.id.as_str()), ("web.7", "r-1"));
        assert!(line.ts_ms > 1_600_000_000_000);
    })
    .await;
}

#[tokio::test]
async fn health_and_bind_leave_no_line() {
    local(async {
        let server = Server::start().await;
        assert_eq!(server.ask("GET /health", "").await.0, 200);
        let (_, taken) = server.ask(&format!("GET /bind?port={}", server.port), "").await;
        assert_eq!(
            (taken["bound"].as_bool(), taken["errno"].as_str()),
            (Some(false), Some("EADDRINUSE"))
        );
        assert_eq!(server.ask("GET /bind?port=0", "").await.0, 400);
        assert!(server.lines().is_empty());
    })
    .await;
}

#[tokio::test]
async fn bad_requests_are_rejected_by_field() {
    local(async {
        let server = Server::start().await;
        let cases = [
            ("POST /api/orders", "{", 400, "body"),
            ("POST /api/orders", r#"{"quantity":1}"#, 400, "item"),
            ("POST /api/orders", r#"{"item":1,"quantity":-3}"#, 400, "quantity"),
            ("GET /api/items/-1", "", 400, "n"),
            ("GET /api/items/99999999999999999999", "", 400, "n"),
            ("GET /slow?ms=60001", "", 400, "ms"),
            ("PUT /api/orders", "", 405, "method"),
        ];
        for (head, body, status, field) in cases {
            let (got, answer) = server.ask(head, body).await;
            assert_eq!((got, answer["field"].as_str()), (status, Some(field)), "{head} {body}");
        }
        assert_eq!(server.ask("GET /api/items/18446744073709551615", "").await.0, 200);
        assert_eq!(server.ask("GET /nothing", "").await.0, 404);
        assert_eq!(server.lines().last().unwrap().route, "other");
    })
    .await;
}

#[tokio::test]
async fn a_request_in_flight_is_answered_after_the_stop() {
    local(async {
        let server = Server::start().await;
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        ask(&mut stream, "GET /", "").await;
        let slow = tokio::task::spawn_local(async move { ask(&mut stream, "GET /slow?ms=200", "").await.0 });
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        server.stop.send(()).unwrap();
        assert_eq!(slow.await.unwrap(), 200);
        server.ended.await.unwrap();
        assert_eq!(access::read(&server.log).unwrap().len(), 2);
    })
    .await;
}
