//! One small HTTP request, for the questions that the demo asks the web service.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::failed;
use crate::exit::Failure;

const DEADLINE: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// GETs a path and reads the answer's body as JSON.
pub(crate) async fn get_json(address: &str, path: &str) -> Result<serde_json::Value, Failure> {
    let answer = tokio::time::timeout(DEADLINE, get(address, path)).await;
    let answer = answer.map_err(|_| failed(&format!("ask {address}"), "no answer in time"))?;
    let answer = answer.map_err(|error| failed(&format!("ask {address}"), error))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(|error| failed(&format!("read the answer to {path}"), error))
}

async fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
