//! Questions to real servers.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};

use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::grpc::{HealthCheckRequest, HealthCheckResponse};
use super::{connect, grpc, http};
use crate::core::checks::Seen;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn serve(router: axum::Router) -> u16 {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

/// A port on which nobody listens.
async fn nobody() -> u16 {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_web_server_is_asked_for_its_status() {
    let router = axum::Router::new()
        .route("/good", get(|| async { "a body that nobody reads" }))
        .route("/bad", get(|| async { StatusCode::SERVICE_UNAVAILABLE }));
    let port = serve(router).await;
    for (path, status) in [("/good?a=b", 200), ("/bad", 503), ("/none", 404)] {
        let (seen, message) = http::ask(false, (HOST, port), path).await.unwrap();
        assert_eq!(seen, Seen::HttpStatus(status), "{message}");
        assert!(message.ends_with(&format!("{path}: status {status}")), "{message}");
    }
    let problem = http::ask(false, (HOST, nobody().await), "/").await.unwrap_err();
    assert!(problem.contains("cannot connect to 127.0.0.1:"), "{problem}");
    assert!(connect((HOST, port)).await.is_ok());

    // What answers nonsense is no web server.
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"SSH-2.0-none\r\n\r\n").await;
        }
    });
    assert!(http::ask(false, (HOST, port), "/").await.is_err());
}

#[tokio::test]
async fn a_grpc_service_is_asked_whether_it_serves() {
    let answer = |request: Request<HealthCheckRequest>| async move {
        match request.into_inner().service.as_str() {
            "" => Ok(Response::new(HealthCheckResponse { status: 1 })),
            "tired" => Ok(Response::new(HealthCheckResponse { status: 2 })),
            "closed" => Err(Status::permission_denied("not for you")),
            _ => Err(Status::not_found("no such service")),
        }
    };
    let handler = move |request: axum::extract::Request| async move {
        let mut server = tonic::server::Grpc::new(ProstCodec::<HealthCheckResponse, HealthCheckRequest>::default());
        Ok::<_, Infallible>(server.unary(tower::service_fn(answer), request).await)
    };
    let router = axum::Router::new().route_service("/grpc.health.v1.Health/Check", tower::service_fn(handler));
    let port = serve(router).await;
    assert_eq!(grpc::ask((HOST, port), "").await.unwrap().0, Seen::Serving(true));
    let (seen, message) = grpc::ask((HOST, port), "tired").await.unwrap();
    assert_eq!(
        (seen, message.as_str()),
        (Seen::Serving(false), "not SERVING: status 2")
    );
    assert_eq!(
        grpc::ask((HOST, port), "unheard").await.unwrap().0,
        Seen::Serving(false)
    );
    assert!(
        grpc::ask((HOST, port), "closed")
            .await
            .unwrap_err()
            .contains("not for you")
    );
    assert!(
        grpc::ask((HOST, nobody().await), "")
            .await
            .unwrap_err()
            .contains("cannot connect")
    );
}
