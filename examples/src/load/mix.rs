//! What a load asks for.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, header};

/// One kind of request.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The pattern under which the web server logs it.
    pub route: &'static str,
    /// How the request is made from its number.
    make: fn(u64) -> (Method, String, Bytes),
}

impl Target {
    /// `GET /`.
    pub const HOME: Self = Self {
        route: "/",
        make: |_| (Method::GET, "/".to_owned(), Bytes::new()),
    };

    /// `GET /api/items/{n}` for changing items.
    pub const ITEM: Self = Self {
        route: "/api/items/{n}",
        make: |n| (Method::GET, format!("/api/items/{}", n % 1_000), Bytes::new()),
    };

    /// `POST /api/orders`.
    pub const ORDER: Self = Self {
        route: "/api/orders",
        make: |n| {
            let order = serde_json::json!({ "item": n % 1_000, "quantity": 1 + n % 5 });
            (Method::POST, "/api/orders".to_owned(), Bytes::from(order.to_string()))
        },
    };

    /// `GET /slow`, for 1 to 5 milliseconds.
    pub const SLOW: Self = Self {
        route: "/slow",
        make: |n| (Method::GET, format!("/slow?ms={}", 1 + n % 5), Bytes::new()),
    };

    pub(super) fn request(
        &self,
        number: u64,
        id: &str,
        host: &str,
    ) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let (method, path, body) = (self.make)(number);
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header("x-request-id", id)
            .body(Full::new(body))
    }
}

/// Mostly items, some orders, now and then something slow.
pub fn default_mix() -> Vec<Target> {
    let (home, item, order, slow) = (Target::HOME, Target::ITEM, Target::ORDER, Target::SLOW);
    vec![item, item, order, item, home, item, item, order, item, slow]
}
