//! An agent's stream.

use proffer_proto::link::agent_message::Body;
use proffer_proto::link::{AgentMessage, MasterMessage, Pong, Register, master_message};
use proffer_proto::v1::{self, scheduler::event};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::common::{PATIENCE, framework, link, master, next, scheduler, subscribed};

fn scalar(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value }),
        ..v1::Resource::default()
    }
}

fn register(id: Option<v1::AgentId>) -> AgentMessage {
    let agent = v1::AgentInfo {
        hostname: "agent1".to_owned(),
        resources: vec![scalar("cpus", 4.0), scalar("mem", 1024.0)],
        id,
        ..v1::AgentInfo::default()
    };
    let register = Register {
        protocol: 1,
        agent,
        version: "0.1.0".to_owned(),
        ..Register::default()
    };
    AgentMessage {
        body: Some(Body::Register(register)),
    }
}

async fn heard(messages: &mut Streaming<MasterMessage>) -> anyhow::Result<master_message::Body> {
    let message = tokio::time::timeout(PATIENCE, messages.message()).await??;
    message
        .and_then(|message| message.body)
        .ok_or_else(|| anyhow::anyhow!("the stream ended"))
}

#[tokio::test]
async fn an_agent_registers_and_its_resources_are_offered() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let mut client = scheduler(&server).await?;
    let mut framework = subscribed(&mut client, framework("first", 60.0)).await?;

    let (to_master, outgoing) = mpsc::channel(8);
    let mut link = link(&server).await?;
    let mut messages = link.attach(ReceiverStream::new(outgoing)).await?.into_inner();
    to_master.send(register(None)).await?;
    let master_message::Body::Registered(registered) = heard(&mut messages).await? else {
        anyhow::bail!("not registered");
    };
    let offer = loop {
        let event = next(&mut framework.events).await?;
        let event = event.ok_or_else(|| anyhow::anyhow!("the stream ended"))?;
        if event.r#type() == event::Type::Offers {
            break event.offers.unwrap_or_default().offers.remove(0);
        }
    };
    assert_eq!(offer.agent_id, registered.agent_id);

    // The agent leaves: its offer is rescinded.
    drop((to_master, messages));
    loop {
        let event = next(&mut framework.events).await?;
        let event = event.ok_or_else(|| anyhow::anyhow!("the stream ended"))?;
        if event.r#type() == event::Type::Rescind {
            assert_eq!(event.rescind.map(|rescind| rescind.offer_id), Some(offer.id));
            break;
        }
    }
    server.stop().await
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_register_is_refused() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let (to_master, outgoing) = mpsc::channel(8);
    to_master
        .send(AgentMessage {
            body: Some(Body::Pong(Pong { sequence: 1 })),
        })
        .await?;
    let mut link = link(&server).await?;
    let mut messages = link.attach(ReceiverStream::new(outgoing)).await?.into_inner();
    let refused = tokio::time::timeout(PATIENCE, messages.message()).await?.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("register"), "{refused:?}");
    server.stop().await
}
