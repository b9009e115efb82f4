//! Asks a web server. Only the status counts.

use std::net::{IpAddr, SocketAddr};

use axum::body::Body;
use http::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Result, connect, tls};
use crate::core::checks::Seen;

pub(super) async fn ask(tls: bool, address: (IpAddr, u16), path: &str) -> Result {
    let stream = connect(address).await?;
    let authority = SocketAddr::from(address);
    let scheme = if tls { "https" } else { "http" };
    let status = match tls {
        true => match tls::over(stream, address.0).await {
            Ok(stream) => get(stream, authority, path).await,
            Err(error) => Err(format!("TLS: {error}")),
        },
        false => get(stream, authority, path).await,
    };
    let status = status.map_err(|problem| format!("GET {scheme}://{authority}{path}: {problem}"))?;
    Ok((
        Seen::HttpStatus(status),
        format!("GET {scheme}://{authority}{path}: status {status}"),
    ))
}

async fn get(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    authority: SocketAddr,
    path: &str,
) -> std::result::Result<u16, String> {
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
    let request = Request::get(path)
        .header(header::HOST, authority.to_string())
        .header(header::USER_AGENT, concat!("proffer-agent/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Body::empty())
        .map_err(|error| error.to_string())?;
    let answer = async { sender.send_request(request).await.map_err(|error| error.to_string()) };
    // The connection is worked on only for as long as the answer is waited for: of its body nothing is read.
    tokio::select! {
        answer = answer => Ok(answer?.status().as_u16()),
        Err(error) = connection => Err(error.to_string()),
    }
}
