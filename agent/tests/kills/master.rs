//! A master that keeps a [`Book`].

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use proffer_proto::api::agent_link_server::{AgentLink, AgentLinkServer};
use proffer_proto::link::{AgentMessage, MasterMessage, Registered, agent_message, master_message};
use proffer_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::book::Book;

/// To the agent that is registered.
pub(crate) type Stream = mpsc::UnboundedSender<Result<MasterMessage, Status>>;

#[derive(Clone)]
pub(crate) struct Master {
    address: String,
    book: Arc<Mutex<Book>>,
}

impl Master {
    pub(crate) async fn start(book: Book) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let master = Self {
            address: listener.local_addr()?.to_string(),
            book: Arc::new(Mutex::new(book)),
        };
        let service = AgentLinkServer::new(master.clone()).max_decoding_message_size(64 << 20);
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))),
        );
        Ok(master)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut Book) -> T) -> T {
        look(&mut self.book.lock().expect("no test panics while it looks"))
    }
}

#[tonic::async_trait]
impl AgentLink for Master {
    type AttachStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<MasterMessage, Status>> + Send>>;

    async fn attach(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Self::AttachStream>, Status> {
        let mut messages = request.into_inner();
        let Some(agent_message::Body::Register(register)) = messages.message().await?.and_then(|m| m.body) else {
            return Err(Status::invalid_argument("register: must be the first message"));
        };
        let (stream, receiver) = mpsc::unbounded_channel();
        let registered = Registered {
            agent_id: register.agent.id.clone().unwrap_or(v1::AgentId {
                value: "agent-1".into(),
            }),
            ping_interval_seconds: 60.0,
        };
        let body = Some(master_message::Body::Registered(registered));
        let _ = stream.send(Ok(MasterMessage { body }));
        let session = self.look(|book| book.registered(&register, stream));
        let master = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = messages.message().await {
                if let Some(agent_message::Body::StatusUpdate(update)) = message.body {
                    master.look(|book| book.heard(session, update));
                }
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }
}
