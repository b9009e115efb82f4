//! Keeps callers of other clusters out: who knows its cluster says so, and every answer names this one.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::HeaderValue;
use proffer_proto::metadata::CLUSTER;

use super::pages;

/// Which cluster this master is of.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    id: HeaderValue,
    name: String,
}

impl Cluster {
    /// Ids are made by masters, of hexadecimal digits and hyphens. One that no header could hold guards against nothing.
    pub(super) fn new(id: &str, name: &str) -> Self {
        Cluster {
            id: HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("")),
            name: name.to_owned(),
        }
    }

    fn is_of(&self, theirs: Option<&HeaderValue>) -> bool {
        self.id.is_empty() || theirs.is_none_or(|theirs| *theirs == self.id)
    }

    fn stranger(&self, theirs: &HeaderValue) -> String {
        format!(
            "this master is of cluster `{}` (id {}), and you belong to the cluster of id {}: is its address in the wrong list \
             of masters? An agent comes to another cluster only with an empty work directory",
            self.name,
            self.id.to_str().unwrap_or_default(),
            String::from_utf8_lossy(theirs.as_bytes()),
        )
    }
}

/// Refuses a stranger's call as a master does that does not lead, so that it goes on to the next of its list.
pub(super) async fn guard(State(cluster): State<Cluster>, request: Request, next: Next) -> Response {
    let theirs = request.headers().get(CLUSTER);
    let mut response = match theirs {
        Some(theirs) if !cluster.is_of(Some(theirs)) => {
            let grpc = pages::is_grpc(request.headers());
            pages::misdirected(grpc, cluster.stranger(theirs))
        }
        _ => next.run(request).await,
    };
    response.headers_mut().insert(CLUSTER, cluster.id);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_told_both_clusters() {
        let cluster = Cluster::new("ab-1", "blue");
        assert!(cluster.is_of(None));
        assert!(cluster.is_of(Some(&HeaderValue::from_static("ab-1"))));
        let theirs = HeaderValue::from_static("cd-2");
        assert!(!cluster.is_of(Some(&theirs)));
        let text = cluster.stranger(&theirs);
        assert!(text.contains("`blue` (id ab-1)") && text.contains("id cd-2"), "{text}");
    }
}
