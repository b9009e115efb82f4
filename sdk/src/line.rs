//! A connection to a master on which every call says which cluster the caller is of, once a leading master has told it.
//!
//! Masters refuse calls of another cluster's, so that one wrong address in a list misleads nobody.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use proffer_proto::metadata::CLUSTER;
use tonic::body::Body;
use tonic::transport::{Channel, Error};
use tower::Service;

/// Of an answer that has no messages, which is how masters refuse.
const STATUS_HEADER: &str = "grpc-status";

/// The cluster that the callers who share this are of: the first whose leading master answered one of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cluster(Arc<OnceLock<HeaderValue>>);

impl Cluster {
    fn sign(&self, headers: &mut HeaderMap) {
        if let Some(id) = self.0.get() {
            headers.insert(CLUSTER, id.clone());
        }
    }

    fn learn(&self, headers: &HeaderMap) {
        if self.0.get().is_some() || headers.contains_key(STATUS_HEADER) {
            return;
        }
        if let Some(id) = headers.get(CLUSTER) {
            // Another call may have learnt it meanwhile.
            let _ = self.0.set(id.clone());
        }
    }
}

/// Cheap to clone; the clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    channel: Channel,
    cluster: Cluster,
}

impl Line {
    pub(crate) fn new(channel: Channel, cluster: Cluster) -> Self {
        Line { channel, cluster }
    }
}

impl Service<Request<Body>> for Line {
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>, Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        self.cluster.sign(request.headers_mut());
        let cluster = self.cluster.clone();
        let answer = self.channel.call(request);
        async move {
            let response = answer.await?;
            cluster.learn(response.headers());
            Ok(response)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        let of = of.iter().copied();
        of.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn the_cluster_is_that_of_the_first_master_that_answers_and_not_of_one_that_refuses() {
        let cluster = Cluster::default();
        let mut signed = HeaderMap::new();
        cluster.sign(&mut signed);
        assert!(signed.is_empty());
        cluster.learn(&headers(&[(CLUSTER, "red"), (STATUS_HEADER, "14")]));
        cluster.learn(&headers(&[]));
        cluster.learn(&headers(&[(CLUSTER, "blue")]));
        cluster.clone().learn(&headers(&[(CLUSTER, "green")]));
        cluster.sign(&mut signed);
        assert_eq!(signed[CLUSTER], "blue");
    }
}
