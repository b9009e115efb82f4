//! Which agents a framework wants to be offered at all: its offer constraints, made ready to be asked often.

use std::fmt;

use proffer_proto::{Rejection, v1};
use regex::{Regex, RegexBuilder};
use v1::scheduler::attribute_constraint::selector::{PseudoattributeType, Selector};
use v1::scheduler::attribute_constraint::{self, predicate::Predicate};
use v1::scheduler::offer_constraints::RoleConstraints;

use super::Description;

/// More constraints than these are not taken of one role: each is asked of every agent.
const CONSTRAINTS_MAX: usize = 256;
/// What one compiled regular expression may take, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 18;

/// The constraints of one role: an agent is wanted if all constraints of at least one group hold for it.
///
/// As in the v1 API: a predicate about text holds for every attribute that is there and is no text, and of several
/// attributes of one name the first counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraints {
    groups: Vec<Vec<Constraint>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Constraint {
    of: Of,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Of {
    Hostname,
    Region,
    Zone,
    Attribute(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Exists(bool),
    Equals(bool, String),
    Matches(bool, Pattern),
}

#[derive(Clone)]
struct Pattern(Regex);

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_str().fmt(f)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// What a test is asked about.
enum Found<'a> {
    Nothing,
    Text(&'a str),
    /// An attribute that is no text.
    Other,
}

impl Constraints {
    /// Makes the constraints of a role ready.
    ///
    /// # Errors
    /// No group, an empty group, too many constraints, a constraint without selector or predicate, a regular expression
    /// that cannot be compiled or is too large; the field is told from the role's constraints on.
    pub fn compile(constraints: &RoleConstraints) -> Result<Self, Rejection> {
        if constraints.groups.is_empty() {
            return Err(Rejection::new("groups", "is empty", "one or more groups"));
        }
        let count: usize = constraints
            .groups
            .iter()
            .map(|group| group.attribute_constraints.len())
            .sum();
        if count > CONSTRAINTS_MAX {
            let problem = format!("hold {count} constraints");
            return Err(Rejection::new("groups", problem, format!("up to {CONSTRAINTS_MAX}")));
        }
        let mut groups = Vec::new();
        for (index, group) in constraints.groups.iter().enumerate() {
            let field = format!("groups[{index}].attribute_constraints");
            if group.attribute_constraints.is_empty() {
                return Err(Rejection::new(field, "is empty", "one or more constraints"));
            }
            let mut compiled = Vec::new();
            for (index, constraint) in group.attribute_constraints.iter().enumerate() {
                let constraint = Constraint::compile(constraint);
                compiled.push(constraint.map_err(|rejection| rejection.at(index).within(&field))?);
            }
            groups.push(compiled);
        }
        Ok(Constraints { groups })
    }

    /// Whether an agent is wanted.
    pub fn accept(&self, agent: &Description<'_>) -> bool {
        let holds = |constraint: &Constraint| constraint.test.holds(&constraint.of.find(agent));
        self.groups.iter().any(|group| group.iter().all(holds))
    }
}

impl Constraint {
    fn compile(constraint: &v1::scheduler::AttributeConstraint) -> Result<Self, Rejection> {
        Ok(Constraint {
            of: Of::compile(&constraint.selector).map_err(|rejection| rejection.within("selector"))?,
            test: Test::compile(&constraint.predicate).map_err(|rejection| rejection.within("predicate"))?,
        })
    }
}

impl Of {
    fn compile(selector: &attribute_constraint::Selector) -> Result<Self, Rejection> {
        match &selector.selector {
            Some(Selector::AttributeName(name)) => Ok(Of::Attribute(name.clone())),
            Some(Selector::PseudoattributeType(kind)) => match PseudoattributeType::try_from(*kind) {
                Ok(PseudoattributeType::Hostname) => Ok(Of::Hostname),
                Ok(PseudoattributeType::Region) => Ok(Of::Region),
                Ok(PseudoattributeType::Zone) => Ok(Of::Zone),
                _ => Err(Rejection::new(
                    "pseudoattribute_type",
                    format!("is {kind}, which is unknown"),
                    "HOSTNAME, REGION or ZONE",
                )),
            },
            None => Err(Rejection::new(
                "",
                "is empty",
                "`attribute_name` or `pseudoattribute_type`",
            )),
        }
    }

    fn find<'a>(&self, agent: &Description<'a>) -> Found<'a> {
        let text = |text: Option<&'a str>| text.map_or(Found::Nothing, Found::Text);
        match self {
            Of::Hostname => Found::Text(agent.hostname),
            Of::Region => text(agent.region()),
            Of::Zone => text(agent.zone()),
            Of::Attribute(name) => match agent.attributes.iter().find(|attribute| attribute.name == *name) {
                None => Found::Nothing,
                Some(attribute) if attribute.r#type() == v1::value::Type::Text => {
                    Found::Text(attribute.text.as_ref().map_or("", |text| &text.value))
                }
                Some(_) => Found::Other,
            },
        }
    }
}

impl Test {
    fn compile(predicate: &attribute_constraint::Predicate) -> Result<Self, Rejection> {
        match &predicate.predicate {
            Some(Predicate::Exists(_)) => Ok(Test::Exists(true)),
            Some(Predicate::NotExists(_)) => Ok(Test::Exists(false)),
            Some(Predicate::TextEquals(equals)) => Ok(Test::Equals(true, equals.value.clone())),
            Some(Predicate::TextNotEquals(equals)) => Ok(Test::Equals(false, equals.value.clone())),
            Some(Predicate::TextMatches(matches)) => Ok(Test::Matches(true, pattern(&matches.regex, "text_matches")?)),
            Some(Predicate::TextNotMatches(matches)) => {
                Ok(Test::Matches(false, pattern(&matches.regex, "text_not_matches")?))
            }
            None => Err(Rejection::new(
                "",
                "is empty",
                "`exists`, `not_exists`, `text_equals`, `text_not_equals`, `text_matches` or `text_not_matches`",
            )),
        }
    }

    fn holds(&self, found: &Found<'_>) -> bool {
        match (self, found) {
            (Test::Exists(wanted), found) => *wanted != matches!(found, Found::Nothing),
            (Test::Equals(wanted, _) | Test::Matches(wanted, _), Found::Nothing) => !wanted,
            (_, Found::Other) => true,
            (Test::Equals(wanted, value), Found::Text(text)) => *wanted == (value == text),
            (Test::Matches(wanted, pattern), Found::Text(text)) => *wanted == pattern.0.is_match(text),
        }
    }
}

/// A regular expression that has to match the whole of a text.
fn pattern(regex: &str, field: &str) -> Result<Pattern, Rejection> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
    // First by itself, so that nothing in it can reach beyond the parentheses that are put around it.
    let built = build(regex).and_then(|_| build(&format!(r"\A(?:{regex})\z")));
    built.map(Pattern).map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default();
        Rejection::new(
            format!("{field}.regex"),
            format!("is {regex:?}, which cannot be compiled: {reason}"),
            format!("a regular expression that compiles to at most {REGEX_BYTES_MAX} bytes"),
        )
    })
}
