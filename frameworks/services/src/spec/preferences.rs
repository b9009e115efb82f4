//! Where instances had better run: wishes that bend where there is no room.

use proffer_proto::Rejection;
use serde::Serialize;
use serde_json::Value;

use super::constraints::{attribute, regex};
use super::fields::Fields;
use super::values::{at_most, label};

/// The most wishes of one kind of one service.
pub const PREFERENCES_MAX: usize = 16;

/// Instances are to lie evenly over the values of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// An attribute, or `hostname`, `@agent`, `@region`, `@zone`.
    pub attribute: String,
    /// What each instance that is there already costs a value, 1 to 100.
    pub weight: u32,
}

/// Instances are to be where something is, or where it is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Affinity {
    /// To what.
    #[serde(flatten)]
    pub to: AffinityTo,
    /// What a place with it is worth, -100 to 100; below 0 it is avoided.
    pub weight: i32,
}

/// To what an affinity is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum AffinityTo {
    /// Agents with an attribute the whole of which matches.
    Attribute {
        /// Its name.
        attribute: String,
        /// The regular expression.
        like: String,
    },
    /// Agents on which instances of a service are.
    Service {
        /// The id of the service.
        service: String,
    },
}

const WEIGHT: u32 = 50;

impl Spread {
    pub(super) fn read(value: Value) -> Result<Self, Rejection> {
        let mut fields = Fields::of(value)?;
        let spread = Self {
            attribute: fields.required("attribute", "the name of an attribute")?,
            weight: fields
                .optional("weight", "a whole number from 1 to 100")?
                .unwrap_or(WEIGHT),
        };
        fields.end()?;
        Ok(spread)
    }

    fn validate(&self) -> Result<(), Rejection> {
        attribute("attribute", &self.attribute)?;
        if !(1..=100).contains(&self.weight) {
            return Err(Rejection::new("weight", format!("is {}", self.weight), "1 to 100"));
        }
        Ok(())
    }
}

impl Affinity {
    pub(super) fn read(value: Value) -> Result<Self, Rejection> {
        let mut fields = Fields::of(value)?;
        let service = fields.optional("service", "the id of a service")?;
        let name = fields.optional("attribute", "the name of an attribute")?;
        let like = fields.optional("like", "a regular expression")?;
        let weight = fields
            .optional("weight", "a whole number from -100 to 100, not 0")?
            .unwrap_or(WEIGHT.cast_signed());
        fields.end()?;
        let to = match (service, name, like) {
            (Some(service), None, None) => AffinityTo::Service { service },
            (None, Some(attribute), Some(like)) => AffinityTo::Attribute { attribute, like },
            _ => {
                let accepted = "either `service`, or `attribute` and `like`";
                return Err(Rejection::new("", "is not to one thing", accepted));
            }
        };
        Ok(Self { to, weight })
    }

    fn validate(&self) -> Result<(), Rejection> {
        match &self.to {
            AffinityTo::Attribute { attribute: name, like } => {
                attribute("attribute", name)?;
                regex("like", like)?;
            }
            AffinityTo::Service { service } => label("service", service)?,
        }
        if !(-100..=100).contains(&self.weight) || self.weight == 0 {
            let accepted = "-100 to 100, not 0";
            return Err(Rejection::new("weight", format!("is {}", self.weight), accepted));
        }
        Ok(())
    }
}

pub(super) fn validate(spread: &[Spread], affinity: &[Affinity]) -> Result<(), Rejection> {
    at_most("spread", spread.len(), PREFERENCES_MAX)?;
    at_most("affinity", affinity.len(), PREFERENCES_MAX)?;
    for (index, wish) in spread.iter().enumerate() {
        wish.validate()
            .map_err(|rejection| rejection.at(index).within("spread"))?;
    }
    for (index, wish) in affinity.iter().enumerate() {
        wish.validate()
            .map_err(|rejection| rejection.at(index).within("affinity"))?;
    }
    Ok(())
}
