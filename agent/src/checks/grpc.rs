//! Asks by the gRPC health checking protocol (`grpc.health.v1`).

use std::net::{IpAddr, SocketAddr};

use tonic::Code;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::Result;
use crate::core::checks::Seen;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// `SERVING`.
const SERVING: i32 = 1;

pub(super) async fn ask(address: (IpAddr, u16), service: &str) -> Result {
    let address = SocketAddr::from(address);
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await;
    let channel = channel.map_err(|error| format!("cannot connect to {address}: {}", cause(&error)))?;
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| format!("{address}: {error}"))?;
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(HealthCheckRequest {
        service: service.to_owned(),
    });
    let codec: ProstCodec<HealthCheckRequest, HealthCheckResponse> = ProstCodec::default();
    match client.unary(request, path, codec).await {
        Ok(answer) => {
            let status = answer.into_inner().status;
            let serves = status == SERVING;
            let message = if serves {
                "SERVING".into()
            } else {
                format!("not SERVING: status {status}")
            };
            Ok((Seen::Serving(serves), message))
        }
        // What the protocol answers for a service that it does not know.
        Err(status) if status.code() == Code::NotFound => {
            Ok((Seen::Serving(false), format!("service {service:?} is not known")))
        }
        Err(status) => Err(format!("{address}: {}: {}", status.code(), status.message())),
    }
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), cause)
}
