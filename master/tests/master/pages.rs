//! Plain HTTP on the same port as gRPC.

use proffer_master::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::master;

async fn get(server: &Server, path: &str) -> anyhow::Result<(u16, serde_json::Value)> {
    let mut stream = TcpStream::connect(server.address()).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: master\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let status = response.split(' ').nth(1).unwrap_or_default().parse()?;
    let body = response.split("\r\n\r\n").nth(1).unwrap_or_default();
    Ok((status, serde_json::from_str(body)?))
}

#[tokio::test]
async fn health_and_version_are_json() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let (status, health) = get(&server, "/health").await?;
    assert_eq!(
        (status, &health["healthy"], &health["leading"]),
        (200, &true.into(), &true.into())
    );
    assert_eq!(health["leader"], server.address().to_string());
    let (status, version) = get(&server, "/version").await?;
    assert_eq!((status, &version["cluster"]), (200, &"proffer".into()));
    server.stop().await
}

#[tokio::test]
async fn an_unknown_path_is_a_404_that_names_it() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let (status, body) = get(&server, "/nothing/here").await?;
    assert_eq!(status, 404);
    assert!(
        body["error"]
            .as_str()
            .is_some_and(|error| error.contains("/nothing/here")),
        "{body}"
    );
    server.stop().await
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let channel = crate::common::connect(&server).await?;
    // The executor API is an agent's.
    let mut client = proffer_proto::api::executor_client::ExecutorClient::new(channel);
    let refused = client
        .submit(proffer_proto::v1::executor::Call::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented, "{refused:?}");
    server.stop().await
}
