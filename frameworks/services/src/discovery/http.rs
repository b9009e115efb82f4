//! The directory over HTTP: as it is, at its next change, or as a stream of server-sent events.
//!
//! Who watches is told of what is there, not of every change in between: a slow reader costs the room of one answer, and
//! is left when it takes nothing for [`STALL`].

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use axum::{Json, Router, routing::get};
use futures_util::stream::{self, Stream};
use proffer_proto::Rejection;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{Directory, Known, View};
use crate::control::rejected;

/// So many may wait for changes at a time.
const WATCHERS_MAX: usize = 1_024;

/// How long a request waits for a change unless it says so itself, in seconds.
const WAIT: f64 = 60.0;

/// The longest wait that is accepted, in seconds.
const WAIT_MAX: f64 = 600.0;

/// How often a stream without changes says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a connection may take nothing of what is sent to it.
pub(crate) const STALL: Duration = Duration::from_secs(30);

/// What the requests share.
#[derive(Clone)]
struct Shared {
    known: watch::Receiver<Known>,
    watchers: Arc<Semaphore>,
}

/// The routes.
pub(crate) fn router(known: watch::Receiver<Known>) -> Router {
    let watchers = Arc::new(Semaphore::new(WATCHERS_MAX));
    Router::new()
        .route("/v1/discovery", get(discovery))
        .with_state(Shared { known, watchers })
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
struct Asked {
    /// Some services; all where it is not said.
    services: Option<Vec<String>>,
    /// Instances that take no requests, too.
    all: bool,
    /// What the asker knows already.
    index: Option<u64>,
    /// How long it waits for more.
    wait: Duration,
}

impl Asked {
    fn read(query: &BTreeMap<String, String>) -> Result<Self, Rejection> {
        let mut asked = Self {
            wait: Duration::from_secs_f64(WAIT),
            ..Self::default()
        };
        for (name, value) in query {
            let not = |accepted: &str| Rejection::new(name, format!("is {value:?}"), accepted);
            match name.as_str() {
                "service" => asked.services = Some(value.split(',').map(str::to_owned).collect()),
                "all" => asked.all = value.parse().map_err(|_| not("true or false"))?,
                "index" => asked.index = Some(value.parse().map_err(|_| not("the index of an earlier answer"))?),
                "wait" => {
                    let seconds = value.parse().ok().filter(|seconds| (0.0..=WAIT_MAX).contains(seconds));
                    let accepted = format!("seconds from 0 to {WAIT_MAX}");
                    asked.wait = Duration::from_secs_f64(seconds.ok_or_else(|| not(&accepted))?);
                }
                _ => {
                    return Err(Rejection::new(
                        name,
                        "is not a parameter",
                        "service, all, index and wait",
                    ));
                }
            }
        }
        Ok(asked)
    }

    fn view<'a>(&self, directory: &'a Directory) -> &'a View {
        if self.all { &directory.all } else { &directory.ready }
    }

    /// Whether there is something that the asker does not know. Numbers only grow, but for a clock that was set back.
    fn is_news(&self, known: &Known) -> bool {
        let services = self.services.as_deref();
        let index = known.as_ref().map(|known| self.view(known).index_of(services));
        index.is_some_and(|index| self.index != Some(index))
    }

    fn answer(&self, directory: &Directory) -> (u64, String) {
        let (view, services) = (self.view(directory), self.services.as_deref());
        (view.index_of(services), view.json(services))
    }
}

async fn discovery(
    State(shared): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let asked = match Asked::read(&query) {
        Ok(asked) => asked,
        Err(rejection) => return rejected(&rejection),
    };
    let Ok(permit) = shared.watchers.try_acquire_owned() else {
        return unavailable(&format!("{WATCHERS_MAX} watchers wait already"));
    };
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/event-stream")) {
        let last = headers
            .get("last-event-id")
            .and_then(|id| id.to_str().ok()?.parse().ok());
        let asked = Asked {
            index: last.or(asked.index),
            ..asked
        };
        let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
        return Sse::new(events(shared.known, asked, permit))
            .keep_alive(keep_alive)
            .into_response();
    }
    let mut known = shared.known;
    let wait = if asked.index.is_some() {
        asked.wait
    } else {
        Duration::ZERO
    };
    // When the time is up, what there is is told.
    let _ = tokio::time::timeout(wait, known.wait_for(|known| asked.is_news(known))).await;
    let directory = known.borrow().clone();
    match directory {
        Some(directory) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            (kind, asked.answer(&directory).1).into_response()
        }
        None => unavailable("not all instances were heard of yet, since the scheduler was started"),
    }
}

/// What is there, and again whenever that has changed by the time the one before was taken.
fn events(
    known: watch::Receiver<Known>,
    asked: Asked,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((known, asked, permit), async |(mut known, mut asked, permit)| {
        let directory = known.wait_for(|known| asked.is_news(known)).await.ok()?.clone();
        let (index, json) = asked.answer(directory.as_deref()?);
        asked.index = Some(index);
        let event = Event::default().event("state").id(index.to_string()).data(json);
        Some((Ok(event), (known, asked, permit)))
    })
}

fn unavailable(why: &str) -> Response {
    let retry = [(header::RETRY_AFTER, "1")];
    (StatusCode::SERVICE_UNAVAILABLE, retry, Json(json!({ "error": why }))).into_response()
}

#[cfg(test)]
mod tests;
