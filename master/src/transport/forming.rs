//! What is served while a master waits for its group: the formation itself, and that it waits.

use axum::Router;
use axum::extract::Extension;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Json, Response as Page};
use axum::routing::get;
use proffer_proto::api::raft_server::{Raft, RaftServer};
use proffer_proto::raft::{
    Envelope, Founded, Founding, Introduction, JoinAnswer, JoinRequest, SnapshotPiece, StreamEnd,
};
use serde_json::json;
use tokio::sync::oneshot;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::{About, pages, raft};
use crate::formation::{Asked, Forming};

const WAITS: &str = "this master waits for its group to form, or to be taken into one; try again";

#[derive(Debug)]
struct Service(Forming);

#[derive(Debug, Clone)]
struct Context {
    forming: Forming,
    about: About,
}

/// Every service and page of a master that waits.
pub fn forming(forming: Forming, about: About) -> Router {
    let context = Context {
        forming: forming.clone(),
        about: about.clone(),
    };
    Routes::new(RaftServer::new(Service(forming)))
        .into_axum_router()
        .route("/health", get(health))
        .route("/version", get(pages::version))
        .fallback(unavailable)
        .layer(axum::Extension(context))
        .layer(axum::Extension(about))
}

async fn health(Extension(context): Extension<Context>) -> Page {
    let Introduction { member, cluster_id, .. } = context.forming.introduction;
    let body = json!({
        "healthy": false,
        "forming": true,
        "leading": false,
        "leader": null,
        "member": member,
        "cluster_id": cluster_id,
        "address": context.about.advertise,
        "waits_for": *context.forming.waits_for.borrow(),
    });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

async fn unavailable(headers: HeaderMap) -> Page {
    if pages::is_grpc(&headers) {
        return Status::unavailable(WAITS).into_http();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": WAITS }))).into_response()
}

#[tonic::async_trait]
impl Raft for Service {
    async fn deliver(&self, _: Request<Streaming<Envelope>>) -> Result<Response<StreamEnd>, Status> {
        Err(Status::unavailable(WAITS))
    }

    async fn send_snapshot(&self, _: Request<Streaming<SnapshotPiece>>) -> Result<Response<StreamEnd>, Status> {
        Err(Status::unavailable(WAITS))
    }

    async fn introduce(&self, request: Request<Introduction>) -> Result<Response<Introduction>, Status> {
        let who = request.into_inner();
        raft::check(&who)?;
        let Some(asked) = &self.0.asked else {
            return Err(Status::failed_precondition(
                "this master was started with --join, and forms no group with --peers",
            ));
        };
        // Whether it is heard does not change the answer.
        let _ = asked.try_send(Asked::Introduced(who));
        Ok(Response::new(self.0.introduction.clone()))
    }

    async fn found(&self, request: Request<Founding>) -> Result<Response<Founded>, Status> {
        let Some(asked) = &self.0.asked else {
            let refusal = "this master was started with --join, and is founded with nobody".to_owned();
            return Ok(Response::new(Founded { refusal: Some(refusal) }));
        };
        let (reply, answered) = oneshot::channel();
        let founding = request.into_inner();
        let unavailable = |()| Status::unavailable(WAITS);
        let founded = asked.send(Asked::Founded { founding, reply }).await;
        founded.map_err(|_| unavailable(()))?;
        let answer = answered.await.map_err(|_| unavailable(()))?;
        Ok(Response::new(answer))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinAnswer>, Status> {
        Err(Status::unavailable(WAITS))
    }
}
