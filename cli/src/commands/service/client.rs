//! Asks the control API of the services' scheduler.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::ServicesArgs;
use crate::exit::{Failure, FailureKind};

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The control API of one scheduler.
#[derive(Debug)]
pub(super) struct Client {
    address: String,
}

impl Client {
    /// Finds the scheduler: where it is said, or where the framework of that name says that its pages are.
    pub(super) async fn find(args: &ServicesArgs) -> Result<Self, Failure> {
        if let Some(address) = &args.control {
            let address = address.clone();
            return Ok(Self { address });
        }
        let frameworks = args.cluster.operator().get_frameworks().await;
        let frameworks = frameworks.map_err(|error| args.cluster.failure(error))?.frameworks;
        let mut named = frameworks
            .into_iter()
            .filter(|framework| framework.framework_info.name == args.framework);
        let found = named.find(|framework| framework.connected);
        let address = found.and_then(|framework| framework.framework_info.webui_url);
        let address = address.as_deref().and_then(|url| url.strip_prefix("http://"));
        let address = address.ok_or_else(|| {
            let text = format!(
                "no framework `{}` with a control API is connected to {}; `proffer services` starts one, --control names it",
                args.framework, args.cluster.master
            );
            Failure::new(FailureKind::NotFound, text)
        })?;
        Ok(Self {
            address: address.trim_end_matches('/').to_owned(),
        })
    }

    /// One request; an answer without a body is null.
    pub(super) async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        self.ask_within(DEADLINE, method, path, body).await
    }

    /// The same with a time of its own for the answer.
    pub(super) async fn ask_within(
        &self,
        deadline: Duration,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let unreachable = |why: &dyn std::fmt::Display| {
            let text = format!(
                "the scheduler of the services at {} does not answer ({why})",
                self.address
            );
            Failure::new(FailureKind::Unreachable, text)
        };
        let asked = async {
            let (status, answer) = request(&self.address, method, path, body.as_ref()).await?;
            match answer["active"].as_str().filter(|_| status == 307) {
                // It stands by.
                Some(active) => request(active, method, path, body.as_ref()).await,
                None => Ok((status, answer)),
            }
        };
        let answer = tokio::time::timeout(deadline, asked).await;
        let answer = answer.map_err(|_| unreachable(&"no answer in time"))?;
        let (status, body) = answer.map_err(|error: std::io::Error| unreachable(&error))?;
        let kind = match status {
            200..300 => return Ok(body),
            400 | 409 => FailureKind::Rejected,
            404 => FailureKind::NotFound,
            _ => FailureKind::Failed,
        };
        let text = body["error"].as_str().map(str::to_owned);
        Err(Failure::new(
            kind,
            text.unwrap_or_else(|| format!("status {status} for {method} {path}")),
        ))
    }
}

async fn request(address: &str, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(address).await?;
    let body = body.map(ToString::to_string).unwrap_or_default();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}");
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let understood = answer.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(body).ok()?
        };
        Some((status, body))
    });
    understood.ok_or_else(|| std::io::Error::other("it answers something else than HTTP with JSON"))
}
