//! What rules see of an agent.

use std::collections::BTreeMap;

use proffer_proto::v1::{Attribute, Offer};
use serde::{Deserialize, Serialize};

/// What rules see of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The id of the agent.
    pub agent_id: String,
    /// Its host name.
    pub hostname: String,
    /// Its attributes that are texts or numbers, with `@region` and `@zone` where it has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Machine {
    /// The agent of an offer.
    pub fn of(offer: &Offer) -> Self {
        let text = |attribute: &Attribute| Some((attribute.name.clone(), text_of(attribute)?));
        let mut attributes: BTreeMap<_, _> = offer.attributes.iter().filter_map(text).collect();
        if let Some(domain) = offer.domain.as_ref().and_then(|domain| domain.fault_domain.as_ref()) {
            attributes.insert("@region".to_owned(), domain.region.name.clone());
            attributes.insert("@zone".to_owned(), domain.zone.name.clone());
        }
        Self {
            agent_id: offer.agent_id.value.clone(),
            hostname: offer.hostname.clone(),
            attributes,
        }
    }

    /// The value of an attribute, or of `hostname`, `@agent`, `@region`, `@zone`.
    pub fn value(&self, attribute: &str) -> Option<&str> {
        match attribute {
            "hostname" | "@hostname" => Some(&self.hostname),
            "@agent" => Some(&self.agent_id),
            name => self.attributes.get(name).map(String::as_str),
        }
    }
}

fn text_of(attribute: &Attribute) -> Option<String> {
    let number = || attribute.scalar.as_ref().map(|scalar| scalar.value.to_string());
    attribute.text.as_ref().map(|text| text.value.clone()).or_else(number)
}
