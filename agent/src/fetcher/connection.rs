//! One request to a server: connection, TLS, and the head of the answer.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Where distributions keep the certificates that the host trusts.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Perhaps another time.
    #[error("{0}")]
    Broken(String),
    /// Never.
    #[error("{0}")]
    Refused(String),
}

/// How servers are asked.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// The certificates to trust in place of the host's.
    pub(super) ca_file: Option<PathBuf>,
    /// How long a server may be silent.
    pub(super) stall: Duration,
    /// How long to wait before it is asked again; four times as long each further time.
    pub(super) pause: Duration,
}

/// An answer, whose connection lives as long as it does.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    _connection: Connection,
}

#[derive(Debug)]
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks for a file; `headers` are added.
pub(super) async fn get(settings: &Settings, url: &Uri, headers: &http::HeaderMap) -> Result<Answer, Error> {
    let authority = url
        .authority()
        .ok_or_else(|| Error::Refused("the URL names no host".into()))?;
    let is_https = url.scheme() == Some(&http::uri::Scheme::HTTPS);
    let port = authority.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    let host = authority.host().trim_matches(['[', ']']);
    let connect = async {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(stream)
    };
    let stream = in_time(CONNECT_TIMEOUT, connect)
        .await
        .map_err(|error| broken("cannot connect", &error))?;
    let (path, silent) = (url.path_and_query().map_or("/", |path| path.as_str()), settings.stall);
    let mut request = Request::get(path)
        .header(header::HOST, authority.as_str())
        .header(header::USER_AGENT, concat!("proffer-agent/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        // The bytes as they are: their checksum is asked for.
        .header(header::ACCEPT_ENCODING, "identity")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Error::Refused(error.to_string()))?;
    request.headers_mut().extend(headers.clone());
    if !is_https {
        return ask(TokioIo::new(stream), request, silent).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| Error::Refused(error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(tls(settings)?));
    let stream = in_time(CONNECT_TIMEOUT, connector.connect(name, stream)).await;
    let stream = stream.map_err(
        |error| match error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
            // A certificate does not become better.
            true => Error::Refused(format!("TLS: {error}")),
            false => broken("TLS", &error),
        },
    )?;
    ask(TokioIo::new(stream), request, silent).await
}

async fn ask<S>(stream: TokioIo<S>, request: Request<Empty<Bytes>>, silent: Duration) -> Result<Answer, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = hyper::client::conn::http1::handshake(stream).await;
    let (mut sender, connection) = handshake.map_err(|error| broken("HTTP", &error))?;
    let connection = Connection(tokio::spawn(connection).abort_handle());
    let response = tokio::time::timeout(silent, sender.send_request(request)).await;
    let response = response
        .map_err(|_| Error::Broken(format!("no answer within {} s", silent.as_secs_f64())))?
        .map_err(|error| broken("no answer", &error))?;
    Ok(Answer {
        response,
        _connection: connection,
    })
}

/// Read anew each time: certificates change, and an agent that fetches nothing keeps none in memory.
fn tls(settings: &Settings) -> Result<ClientConfig, Error> {
    let bundles = BUNDLES.map(PathBuf::from);
    let candidates = settings.ca_file.as_ref().map_or(&bundles[..], std::slice::from_ref);
    let Some(path) = candidates.iter().find(|path| path.exists()) else {
        let looked = candidates
            .iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>();
        return Err(Error::Refused(format!(
            "https: no trusted certificates on this host (looked for {}); install ca-certificates or give --fetch-ca-file",
            looked.join(", ")
        )));
    };
    let unreadable = |error: &dyn std::fmt::Display| Error::Refused(format!("https: {}: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
        // One that is not understood is not trusted, and that is all.
        let _ = roots.add(certificate.map_err(|error| unreadable(&error))?);
    }
    if roots.is_empty() {
        return Err(unreadable(&"holds no certificate"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| unreadable(&error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("nothing within {} s", limit.as_secs()),
        )),
    }
}

fn broken(what: &str, error: &dyn std::error::Error) -> Error {
    let mut text = format!("{what}: {error}");
    if let Some(source) = error.source() {
        text = format!("{text}: {source}");
    }
    Error::Broken(text)
}
