//! Where instances may run: rules that are never broken.
//!
//! They are written as the established schedulers write them: `[hostname, UNIQUE]`, `[rack, GROUP_BY, 3]`,
//! `[rack, LIKE, 'r[12]']`.

use std::fmt;

use proffer_proto::Rejection;
use regex::Regex;
use serde::ser::{Serialize, SerializeSeq as _, Serializer};
use serde_json::Value;

use super::fields::shown;
use super::values::{at_most, text};

/// The most constraints of one service.
pub const CONSTRAINTS_MAX: usize = 32;

/// What an agent must be like, or how instances must lie on agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// An attribute of the agents, or `hostname`, `@agent`, `@region`, `@zone`.
    pub attribute: String,
    /// What must hold of it.
    pub operator: Operator,
}

/// What must hold of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// No two instances where it has the same value.
    Unique,
    /// All instances where it has this value; without one, where it has one and the same.
    Cluster(Option<String>),
    /// As many instances for each value as for any other, or one more; of at least so many values.
    GroupBy(Option<u32>),
    /// Only where the whole of it matches this regular expression.
    Like(String),
    /// Only where it is absent, or does not match.
    Unlike(String),
    /// At most so many instances where it has the same value.
    MaxPer(u32),
}

const ACCEPTED: &str = "a list such as [hostname, UNIQUE]: an attribute; UNIQUE, CLUSTER, GROUP_BY, LIKE, UNLIKE or \
                        MAX_PER; and what the operator takes";

impl Constraint {
    /// A constraint on an attribute.
    pub fn new(attribute: impl Into<String>, operator: Operator) -> Self {
        let attribute = attribute.into();
        Self { attribute, operator }
    }

    pub(super) fn read(value: Value) -> Result<Self, Rejection> {
        let Value::Array(parts) = &value else {
            return Err(Rejection::new("", format!("is {}", shown(&value)), ACCEPTED));
        };
        let mut words = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            words.push(match part {
                Value::String(text) => text.clone(),
                Value::Number(number) if index == 2 => number.to_string(),
                other => return Err(Rejection::new("", format!("has {}", shown(other)), ACCEPTED).at(index)),
            });
        }
        let (attribute, operator, argument) = match words.as_slice() {
            [attribute, operator] => (attribute, operator, None),
            [attribute, operator, argument] => (attribute, operator, Some(argument.as_str())),
            _ => return Err(Rejection::new("", format!("has {} elements", words.len()), ACCEPTED)),
        };
        Ok(Self::new(attribute, Operator::read(operator, argument)?))
    }

    fn validate(&self) -> Result<(), Rejection> {
        attribute("[0]", &self.attribute)?;
        match &self.operator {
            Operator::Like(pattern) | Operator::Unlike(pattern) => regex("[2]", pattern).map(drop),
            Operator::GroupBy(Some(0)) | Operator::MaxPer(0) => {
                Err(Rejection::new("[2]", "is 0", "a whole number from 1"))
            }
            Operator::Cluster(Some(value)) => text("[2]", value, 1, 1024),
            _ => Ok(()),
        }
    }
}

impl Operator {
    fn read(name: &str, argument: Option<&str>) -> Result<Self, Rejection> {
        let count = |text: &str| {
            let count = text.parse::<u32>();
            count.map_err(|_| Rejection::new("[2]", format!("is {text:?}"), "a whole number from 1"))
        };
        let needed = |what: &str| argument.ok_or_else(|| Rejection::new("[2]", "is missing", what));
        match name.to_ascii_uppercase().as_str() {
            "UNIQUE" if argument.is_none() => Ok(Self::Unique),
            "UNIQUE" => Err(Rejection::new("[2]", "is set", "nothing after UNIQUE")),
            "CLUSTER" => Ok(Self::Cluster(argument.map(str::to_owned))),
            "GROUP_BY" => Ok(Self::GroupBy(argument.map(count).transpose()?)),
            "LIKE" => Ok(Self::Like(needed("a regular expression")?.to_owned())),
            "UNLIKE" => Ok(Self::Unlike(needed("a regular expression")?.to_owned())),
            "MAX_PER" => Ok(Self::MaxPer(count(needed("a whole number from 1")?)?)),
            _ => {
                let accepted = "UNIQUE, CLUSTER, GROUP_BY, LIKE, UNLIKE or MAX_PER";
                Err(Rejection::new("[1]", format!("is {name:?}"), accepted))
            }
        }
    }

    /// Its name and what comes after it.
    pub fn words(&self) -> (&'static str, Option<String>) {
        match self {
            Self::Unique => ("UNIQUE", None),
            Self::Cluster(value) => ("CLUSTER", value.clone()),
            Self::GroupBy(count) => ("GROUP_BY", count.map(|count| count.to_string())),
            Self::Like(pattern) => ("LIKE", Some(pattern.clone())),
            Self::Unlike(pattern) => ("UNLIKE", Some(pattern.clone())),
            Self::MaxPer(count) => ("MAX_PER", Some(count.to_string())),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, argument) = self.operator.words();
        write!(f, "[{}, {name}", self.attribute)?;
        argument.map_or(Ok(()), |argument| write!(f, ", {argument}"))?;
        f.write_str("]")
    }
}

impl Serialize for Constraint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, argument) = self.operator.words();
        let mut words = serializer.serialize_seq(Some(2 + usize::from(argument.is_some())))?;
        words.serialize_element(&self.attribute)?;
        words.serialize_element(name)?;
        if let Some(argument) = argument {
            words.serialize_element(&argument)?;
        }
        words.end()
    }
}

pub(super) fn validate(constraints: &[Constraint]) -> Result<(), Rejection> {
    at_most("constraints", constraints.len(), CONSTRAINTS_MAX)?;
    for (index, constraint) in constraints.iter().enumerate() {
        let validated = constraint.validate();
        validated.map_err(|rejection| rejection.at(index).within("constraints"))?;
    }
    Ok(())
}

/// Checks the name of an attribute.
pub(super) fn attribute(field: &str, name: &str) -> Result<(), Rejection> {
    text(field, name, 1, 256)?;
    if name.starts_with('@') && !matches!(name, "@agent" | "@hostname" | "@region" | "@zone") {
        let accepted = "the name of an attribute, or hostname, @agent, @region, @zone";
        return Err(Rejection::new(field, format!("is {name:?}"), accepted));
    }
    Ok(())
}

/// The regular expression that the whole of a value has to match.
pub(crate) fn regex(field: &str, pattern: &str) -> Result<Regex, Rejection> {
    text(field, pattern, 1, 1024)?;
    let compiled = Regex::new(&format!("^(?:{pattern})$"));
    compiled.map_err(|_| {
        let accepted = "a regular expression in the syntax of the regex crate, without look-around and back-references";
        Rejection::new(field, format!("is {pattern:?}"), accepted)
    })
}
