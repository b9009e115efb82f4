use std::pin::pin;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use futures_util::StreamExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::discovery::directory::tests::{addresses, web};

/// A directory that changes, with its routes.
struct Bench {
    sender: watch::Sender<Known>,
    directory: Directory,
    router: Router,
}

impl Bench {
    fn new() -> Self {
        let (sender, known) = watch::channel(None);
        Self {
            sender,
            directory: Directory::new(100),
            router: router(known),
        }
    }

    fn becomes(&mut self, ready: &[bool]) {
        self.directory.update(&web(ready), &addresses());
        self.sender.send_replace(Some(Arc::new(self.directory.clone())));
    }

    /// Asks, and answers the status with the index and the number of instances.
    fn ask(&self, query: &str) -> impl Future<Output = (u16, u64, usize)> + use<> {
        let request = Request::get(format!("/v1/discovery?{query}"))
            .body(Body::empty())
            .unwrap();
        let answer = self.router.clone().oneshot(request);
        async {
            let answer = answer.await.unwrap();
            let status = answer.status().as_u16();
            let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let instances = json["services"]["web"]["instances"].as_array().map_or(0, Vec::len);
            (status, json["index"].as_u64().unwrap_or_default(), instances)
        }
    }
}

/// Whether a future waits; it is asked once.
fn pends(future: &mut (impl Future + Unpin)) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    pin!(future).poll(&mut context).is_pending()
}

#[tokio::test]
async fn who_knows_the_state_waits_for_the_next_one() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask("").await.0, 503);
    let waiting = tokio::spawn(bench.ask("index=0"));
    bench.becomes(&[true, false]);
    assert_eq!(waiting.await.unwrap(), (200, 101, 1));
    assert_eq!(bench.ask("").await, (200, 101, 1));
    assert_eq!(bench.ask("all=true").await, (200, 101, 2));
    assert_eq!(bench.ask("service=db").await, (200, 100, 0));

    let mut one = pin!(bench.ask("index=101&service=web"));
    let mut other = pin!(bench.ask("index=100&service=db&wait=0.05"));
    assert!(pends(&mut one));
    assert!(pends(&mut other));
    bench.becomes(&[true, true]);
    assert_eq!(one.await, (200, 102, 2));
    assert_eq!(other.await, (200, 100, 0), "the time was up");
    assert_eq!(bench.ask("index=7&wait=600").await, (200, 102, 2), "it knows less");
    assert_eq!(
        bench.ask("index=999&wait=600").await,
        (200, 102, 2),
        "it knows what never was"
    );
}

#[tokio::test]
async fn a_parameter_that_is_not_accepted_is_named() {
    let bench = Bench::new();
    for query in ["wait=-1", "wait=601", "wait=NaN", "index=x", "all=yes", "srevice=web"] {
        assert_eq!(bench.ask(query).await.0, 400, "{query}");
    }
    let one = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let rejection = Asked::read(&one("wait", "601")).unwrap_err();
    assert_eq!(
        rejection.to_string(),
        "`wait` is \"601\"; accepted: seconds from 0 to 600"
    );
}

#[tokio::test]
async fn no_more_than_so_many_watch() {
    let mut bench = Bench::new();
    bench.becomes(&[true]);
    let mut waiting: Vec<_> = (0..WATCHERS_MAX)
        .map(|_| Box::pin(bench.ask("index=101&wait=60")))
        .collect();
    for one in &mut waiting {
        assert!(pends(one));
    }
    assert_eq!(bench.ask("index=101").await.0, 503);
    drop(waiting);
    assert_eq!(bench.ask("").await.0, 200);
}

#[tokio::test]
async fn a_slow_reader_of_the_stream_is_told_of_what_is_there_not_of_what_was() {
    let mut bench = Bench::new();
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let mut stream = pin!(events(bench.sender.subscribe(), Asked::default(), permit));
    bench.becomes(&[true]);
    let told = |event: Option<Result<Event, Infallible>>| format!("{:?}", event.unwrap().unwrap());
    assert!(told(stream.next().await).contains("id: 101"));
    for _ in 0..500 {
        bench.becomes(&[true, true]);
        bench.becomes(&[true, false]);
    }
    let next = told(stream.next().await);
    assert!(next.contains("id: 1101"), "{next}");
    assert!(pends(&mut stream.next()));
}
