//! The events of a scheduler's stream, built.

use proffer_proto::v1::scheduler::{Event, event};
use proffer_proto::v1::{self, TaskStatus};

fn of(kind: event::Type) -> Event {
    Event {
        r#type: Some(kind as i32),
        ..Event::default()
    }
}

pub(crate) fn subscribed(id: &v1::FrameworkId, heartbeat_seconds: f64, master: Option<&v1::MasterInfo>) -> Event {
    Event {
        subscribed: Some(Box::new(event::Subscribed {
            framework_id: id.clone(),
            heartbeat_interval_seconds: Some(heartbeat_seconds),
            master_info: master.cloned(),
        })),
        ..of(event::Type::Subscribed)
    }
}

pub(crate) fn offers(offers: Vec<v1::Offer>) -> Event {
    Event {
        offers: Some(event::Offers { offers }),
        ..of(event::Type::Offers)
    }
}

pub(crate) fn rescind(offer_id: v1::OfferId) -> Event {
    Event {
        rescind: Some(event::Rescind { offer_id }),
        ..of(event::Type::Rescind)
    }
}

pub(crate) fn inverse_offers(inverse_offers: Vec<v1::InverseOffer>) -> Event {
    Event {
        inverse_offers: Some(event::InverseOffers { inverse_offers }),
        ..of(event::Type::InverseOffers)
    }
}

pub(crate) fn rescind_inverse(inverse_offer_id: v1::OfferId) -> Event {
    Event {
        rescind_inverse_offer: Some(event::RescindInverseOffer { inverse_offer_id }),
        ..of(event::Type::RescindInverseOffer)
    }
}

pub(crate) fn update(status: TaskStatus) -> Event {
    Event {
        update: Some(event::Update { status }),
        ..of(event::Type::Update)
    }
}

pub(crate) fn operation(status: v1::OperationStatus) -> Event {
    Event {
        update_operation_status: Some(event::UpdateOperationStatus { status }),
        ..of(event::Type::UpdateOperationStatus)
    }
}

pub(crate) fn message(agent_id: v1::AgentId, executor_id: v1::ExecutorId, data: Vec<u8>) -> Event {
    Event {
        message: Some(event::Message {
            agent_id,
            executor_id,
            data,
        }),
        ..of(event::Type::Message)
    }
}

pub(crate) fn failure(agent_id: v1::AgentId, executor: Option<(v1::ExecutorId, i32)>) -> Event {
    let (executor_id, status) = executor.unzip();
    Event {
        failure: Some(event::Failure {
            agent_id: Some(agent_id),
            executor_id,
            status,
        }),
        ..of(event::Type::Failure)
    }
}

pub(crate) fn error(message: &str) -> Event {
    Event {
        error: Some(event::Error {
            message: message.to_owned(),
        }),
        ..of(event::Type::Error)
    }
}

pub(crate) fn heartbeat() -> Event {
    of(event::Type::Heartbeat)
}
