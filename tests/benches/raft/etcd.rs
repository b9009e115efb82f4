//! The other side: three members of etcd, through the few messages of its API that are needed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use proffer_tests::bench;
use proffer_tests::load::puts::{self, Measured, Puts, Store};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

const MEMBERS: usize = 3;
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// `etcdserverpb.PutRequest`
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `etcdserverpb.PutResponse`
#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

/// `etcdserverpb.StatusRequest`
#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

/// `etcdserverpb.StatusResponse`
#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// `etcdserverpb.ResponseHeader`
#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
}

/// A running group; its processes are killed when it is dropped.
pub(crate) struct Etcd {
    members: Vec<Child>,
    connections: Vec<EtcdConnection>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            // It is our own child: at worst it has ended by itself.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

impl Etcd {
    /// None where etcd is not installed.
    pub(crate) async fn start(directory: &Path) -> anyhow::Result<Option<Self>> {
        let ports = free_ports(2 * MEMBERS)?;
        let (for_callers, for_peers) = ports.split_at(MEMBERS);
        let peer = |index: usize| format!("http://127.0.0.1:{}", for_peers[index]);
        let all: Vec<String> = (0..MEMBERS).map(|index| format!("e{index}={}", peer(index))).collect();
        let mut etcd = Etcd {
            members: Vec::new(),
            connections: Vec::new(),
        };
        for (index, port) in for_callers.iter().enumerate() {
            let log = std::fs::File::create(directory.join(format!("etcd-{index}.log")))?;
            let url = format!("http://127.0.0.1:{port}");
            let spawned = Command::new("etcd")
                .arg(format!("--name=e{index}"))
                .arg(format!(
                    "--data-dir={}",
                    directory.join(format!("etcd-{index}")).display()
                ))
                .arg(format!("--listen-client-urls={url}"))
                .arg(format!("--advertise-client-urls={url}"))
                .arg(format!("--listen-peer-urls={}", peer(index)))
                .arg(format!("--initial-advertise-peer-urls={}", peer(index)))
                .arg(format!("--initial-cluster={}", all.join(",")))
                .args(["--initial-cluster-state=new", "--logger=zap", "--log-level=warn"])
                .env_clear()
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn();
            match spawned {
                Ok(member) => etcd.members.push(member),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error).context("cannot start etcd"),
            }
        }
        let leader = leader(for_callers).await?;
        let channels = puts::connect(&leader).await?;
        etcd.connections = channels.into_iter().map(EtcdConnection).collect();
        Ok(Some(etcd))
    }

    pub(crate) async fn measure(&self, puts: Puts) -> anyhow::Result<Measured> {
        puts.run(&self.connections).await
    }

    pub(crate) fn resident_mib(&self) -> Vec<f64> {
        let resident = self.members.iter().map(|member| bench::resident_mib(member.id()));
        resident.filter_map(Result::ok).collect()
    }

    /// Of all of them together.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<f64> {
        self.members
            .iter()
            .map(|member| bench::processor_seconds(member.id()))
            .sum()
    }
}

#[derive(Debug, Clone)]
struct EtcdConnection(Channel);

impl EtcdConnection {
    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> anyhow::Result<A>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.0.clone());
        grpc.ready().await?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc
            .unary(tonic::Request::new(request), path, ProstCodec::default())
            .await?;
        Ok(answer.into_inner())
    }
}

impl Store for EtcdConnection {
    async fn put(&mut self, key: String, value: Vec<u8>) -> anyhow::Result<()> {
        let key = key.into_bytes();
        let _: PutResponse = self.call("/etcdserverpb.KV/Put", PutRequest { key, value }).await?;
        Ok(())
    }
}

/// Waits until a member leads.
async fn leader(ports: &[u16]) -> anyhow::Result<String> {
    let began = Instant::now();
    while began.elapsed() < READY_DEADLINE {
        for port in ports {
            let address = format!("127.0.0.1:{port}");
            let Ok(channels) = puts::connect(&address).await else {
                continue;
            };
            let mut connection = EtcdConnection(channels[0].clone());
            let status: anyhow::Result<StatusResponse> = connection
                .call("/etcdserverpb.Maintenance/Status", StatusRequest {})
                .await;
            let Ok(status) = status else { continue };
            if status.leader != 0 && status.header.is_some_and(|header| header.member_id == status.leader) {
                return Ok(address);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("no member of etcd leads after {READY_DEADLINE:?}")
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let listeners: Vec<_> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
    ports.collect()
}
