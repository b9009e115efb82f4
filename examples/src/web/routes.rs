//! The routes: from a request to its response, with its line in the access log between the two.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};

use super::access::{AccessLog, Entry};

/// The largest body of an order, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The longest time `/slow` can be asked for.
const SLOW_MS_MAX: u64 = 60_000;

/// The longest `x-request-id` that is logged, in bytes.
const ID_BYTES_MAX: usize = 128;

/// What a route answers.
struct Answer {
    route: &'static str,
    status: StatusCode,
    body: Value,
    logged: bool,
}

impl Answer {
    fn new(route: &'static str, status: StatusCode, body: Value) -> Self {
        Self {
            route,
            status,
            body,
            logged: true,
        }
    }

    fn ok(route: &'static str, body: Value) -> Self {
        Self::new(route, StatusCode::OK, body)
    }

    fn rejected(route: &'static str, field: &str, accepted: &str) -> Self {
        let body = json!({ "error": format!("{field}: {accepted}"), "field": field });
        Self::new(route, StatusCode::BAD_REQUEST, body)
    }

    fn unlogged(self) -> Self {
        Self { logged: false, ..self }
    }
}

/// Answers one request. An error closes the connection without a response.
pub(super) async fn answer(log: Rc<AccessLog>, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    let begun = Instant::now();
    let method = request.method().clone();
    let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok());
    let id = id.filter(|id| id.len() <= ID_BYTES_MAX).unwrap_or_default().to_owned();
    let answer = route(request).await?;
    if answer.logged {
        let latency_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let status = answer.status.as_u16();
        let entry = Entry {
            route: answer.route,
            method: method.as_str(),
            status,
            latency_us,
            id: &id,
        };
        log.append(entry)
            .inspect_err(|error| tracing::error!(%error, "append to the access log"))?;
    }
    let mut response = Response::new(Full::new(Bytes::from(answer.body.to_string())));
    *response.status_mut() = answer.status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

async fn route(request: Request<Incoming>) -> io::Result<Answer> {
    let path = request.uri().path().to_owned();
    let query = query(request.uri().query().unwrap_or_default());
    let get = request.method() == Method::GET || request.method() == Method::HEAD;
    let answer = match path.as_str() {
        "/api/orders" if request.method() == Method::POST => order(request.into_body()).await?,
        "/api/orders" => not_allowed("/api/orders", "POST"),
        "/" if get => Answer::ok(
            "/",
            json!({ "service": "web", "routes": ["/api/items/{n}", "/api/orders"] }),
        ),
        "/health" if get => Answer::ok("/health", json!({ "healthy": true })).unlogged(),
        "/bind" if get => bind(&query).unlogged(),
        "/slow" if get => slow(&query).await,
        "/" | "/health" | "/bind" | "/slow" => not_allowed("other", "GET"),
        _ => match path.strip_prefix("/api/items/") {
            Some(item) if get => items(item),
            Some(_) => not_allowed("/api/items/{n}", "GET"),
            None => Answer::new("other", StatusCode::NOT_FOUND, json!({ "error": "no such route" })),
        },
    };
    Ok(answer)
}

fn not_allowed(route: &'static str, accepted: &str) -> Answer {
    let body = json!({ "error": format!("method: accepted is {accepted}"), "field": "method" });
    Answer::new(route, StatusCode::METHOD_NOT_ALLOWED, body)
}

fn items(item: &str) -> Answer {
    const ROUTE: &str = "/api/items/{n}";
    match item.parse::<u64>() {
        Ok(n) => {
            let price_cents = 100 + n % 9_900 * 37 % 9_900;
            Answer::ok(
                ROUTE,
                json!({ "item": n, "name": format!("item {n}"), "price_cents": price_cents }),
            )
        }
        Err(_) => Answer::rejected(ROUTE, "n", "a number from 0 is accepted"),
    }
}

async fn order(body: Incoming) -> io::Result<Answer> {
    const ROUTE: &str = "/api/orders";
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Ok(Answer::rejected(ROUTE, "body", "at most 65536 bytes are accepted"));
        }
        Err(error) => return Err(io::Error::other(error)),
    };
    let Ok(order) = serde_json::from_slice::<Value>(&body) else {
        return Ok(Answer::rejected(ROUTE, "body", "JSON is accepted"));
    };
    let Some(item) = order["item"].as_u64() else {
        return Ok(Answer::rejected(ROUTE, "item", "a number from 0 is accepted"));
    };
    let Some(quantity @ 1..=1_000) = order["quantity"].as_u64() else {
        return Ok(Answer::rejected(
            ROUTE,
            "quantity",
            "a number from 1 to 1000 is accepted",
        ));
    };
    Ok(Answer::new(
        ROUTE,
        StatusCode::CREATED,
        json!({ "item": item, "quantity": quantity, "accepted": true }),
    ))
}

async fn slow(query: &HashMap<String, String>) -> Answer {
    const ROUTE: &str = "/slow";
    let ms = query.get("ms").map_or(Ok(100), |ms| ms.parse::<u64>());
    match ms {
        Ok(ms @ ..=SLOW_MS_MAX) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Answer::ok(ROUTE, json!({ "slept_ms": ms }))
        }
        _ => Answer::rejected(ROUTE, "ms", "a number from 0 to 60000 is accepted"),
    }
}

/// Tries to bind a port from inside the container, so that its port isolation can be seen from outside.
fn bind(query: &HashMap<String, String>) -> Answer {
    const ROUTE: &str = "/bind";
    let port = query.get("port").and_then(|port| port.parse::<u16>().ok());
    let Some(port @ 1..) = port else {
        return Answer::rejected(ROUTE, "port", "a number from 1 to 65535 is accepted");
    };
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Ok(_) => Answer::ok(ROUTE, json!({ "port": port, "bound": true, "errno": null })),
        Err(error) => Answer::ok(ROUTE, json!({ "port": port, "bound": false, "errno": errno(&error) })),
    }
}

fn errno(error: &io::Error) -> String {
    use rustix::io::Errno;
    let Some(errno) = Errno::from_io_error(error) else {
        return error.to_string();
    };
    match errno {
        Errno::PERM => "EPERM".to_owned(),
        Errno::ACCESS => "EACCES".to_owned(),
        Errno::ADDRINUSE => "EADDRINUSE".to_owned(),
        Errno::ADDRNOTAVAIL => "EADDRNOTAVAIL".to_owned(),
        Errno::AFNOSUPPORT => "EAFNOSUPPORT".to_owned(),
        Errno::MFILE => "EMFILE".to_owned(),
        other => format!("errno {}", other.raw_os_error()),
    }
}

/// Splits a query string. None of the parameters here needs percent-decoding: they are numbers.
fn query(text: &str) -> HashMap<String, String> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect()
}
