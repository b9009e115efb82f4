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
async fn a_certificate_that_nobody_knows_is_good_enough() {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let directory = tempfile::tempdir().unwrap();
    let (key, certificate) = (directory.path().join("key"), directory.path().join("certificate"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=elsewhere"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(std::process::Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no openssl here to make a certificate");
        return;
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&certificate).unwrap()],
            PrivateKeyDer::from_pem_file(&key).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let answer = hyper::service::service_fn(|_| async {
                Ok::<_, Infallible>(axum::http::Response::new(axum::body::Body::empty()))
            });
            let stream = hyper_util::rt::TokioIo::new(stream);
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(stream, answer)
                .await;
        }
    });
    let (seen, message) = http::ask(true, (HOST, port), "/x").await.unwrap();
    assert_eq!(seen, Seen::HttpStatus(200), "{message}");
    assert!(message.starts_with("GET https://127.0.0.1:"), "{message}");
    let plain = nobody().await;
    assert!(http::ask(true, (HOST, plain), "/").await.is_err());
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
