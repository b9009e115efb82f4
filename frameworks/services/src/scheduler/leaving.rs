//! Agents that are going to be taken away: what is there is replaced elsewhere first, and only then given up.
//!
//! An inverse offer asks for what runs on an agent of a machine that is going to be maintained. It is accepted when
//! what is left of ours there was told to end. One whose agent is drained ends its tasks itself: their replacements come as soon as that is heard.

use std::collections::HashMap;

use proffer_proto::v1::scheduler::{Call, call};
use proffer_proto::v1::{InverseOffer, Offer, OfferId};
use proffer_sdk::Context;

use super::{Message, Services};
use crate::plan::Input;

/// The inverse offers that were not answered yet, by agent.
pub(super) type Asked = HashMap<String, Vec<OfferId>>;

impl Services {
    /// Agents are asked back.
    pub(super) fn asked_back(&mut self, context: &mut Context<Message>, offers: Vec<InverseOffer>) {
        for offer in offers {
            let Some(agent_id) = offer.agent_id.map(|id| id.value) else {
                continue;
            };
            tracing::info!(agent_id, "agent is asked back");
            self.asked.entry(agent_id.clone()).or_default().push(offer.id);
            self.step(context, Input::Leave(agent_id));
        }
    }

    /// An agent that is offered without a word of maintenance stays.
    pub(super) fn look_who_stays(&mut self, context: &mut Context<Message>, offers: &[Offer]) {
        if self.plan.leaving().is_empty() {
            return;
        }
        let staying = offers.iter().filter(|offer| offer.unavailability.is_none());
        let staying: Vec<String> = staying.map(|offer| offer.agent_id.value.clone()).collect();
        for agent_id in staying {
            self.asked.remove(&agent_id);
            self.step(context, Input::Stay(agent_id));
        }
    }

    /// Gives back the agents on which nothing is to stay.
    pub(super) fn give_back(&mut self, context: &mut Context<Message>) {
        if self.asked.is_empty() {
            return;
        }
        let left: Vec<String> = self
            .asked
            .keys()
            .filter(|agent| !self.plan.uses(agent))
            .cloned()
            .collect();
        for agent_id in left {
            tracing::info!(agent_id, "agent is left");
            let inverse_offer_ids = self.asked.remove(&agent_id).unwrap_or_default();
            context.submit(Call {
                r#type: Some(call::Type::AcceptInverseOffers.into()),
                accept_inverse_offers: Some(call::AcceptInverseOffers {
                    inverse_offer_ids,
                    filters: None,
                }),
                ..Call::default()
            });
        }
    }
}

/// Whether new instances may go to what is offered while there is a choice.
pub(super) fn stays(offer: &Offer) -> bool {
    offer.unavailability.is_none()
}
