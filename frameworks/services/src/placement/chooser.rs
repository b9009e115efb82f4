//! Chooses agents for the instances of one service, by its rules and wishes.
//!
//! Values of attributes are numbered once, so that a decision is a walk over small integers: it costs some nanoseconds
//! an agent, whatever the rules are.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::spec::constraints::regex;
use crate::spec::{AffinityTo, Operator, ServiceSpec};

use super::Machine;

/// Where each agent stands with one attribute, and how many instances lie on each value.
#[derive(Clone, Debug)]
struct Field {
    /// The number of each agent's value.
    of: Vec<u32>,
    /// How many instances lie on each value.
    counts: Vec<u32>,
}

/// A rule that what lies elsewhere decides on.
#[derive(Clone, Debug)]
enum Rule {
    /// So many on a value at most.
    AtMost(Field, u32),
    /// All on one value.
    Together(Field),
    /// Evenly over the values, at least so many.
    Evenly(Field, u32),
}

/// Chooses agents for the instances of one service.
#[derive(Clone, Debug)]
pub struct Chooser {
    /// Whether an agent may be chosen at all: the rules that nothing changes hold, and there may be room.
    open: Vec<bool>,
    /// What an agent is worth by affinity.
    worth: Vec<i64>,
    rules: Vec<Rule>,
    /// What each instance on a value costs.
    spread: Vec<(Field, i64)>,
    /// How many instances of the service are on each agent.
    on_agent: Field,
    /// What is left on each agent: of equals the emptiest is chosen.
    room: Vec<u64>,
}

/// By what agents are compared; the least is chosen.
type Rank = (u32, i64, u32, Reverse<u64>);

impl Chooser {
    /// The choice among `machines`, of which each has so much `room`. `here` are those of the service's instances that are
    /// alive; `neighbours` says whether instances of another service are on an agent.
    pub fn new<'a>(
        spec: &ServiceSpec,
        machines: &[Machine],
        room: Vec<u64>,
        here: impl IntoIterator<Item = &'a Machine>,
        neighbours: impl Fn(&str, &Machine) -> bool,
    ) -> Self {
        let here: Vec<&Machine> = here.into_iter().collect();
        let mut chooser = Self {
            open: vec![true; machines.len()],
            worth: vec![0; machines.len()],
            rules: Vec::new(),
            spread: Vec::new(),
            on_agent: Field::new("@agent", machines, &here),
            room,
        };
        for constraint in &spec.constraints {
            chooser.rule(&constraint.attribute, &constraint.operator, machines, &here);
        }
        for wish in &spec.spread {
            let field = Field::new(&wish.attribute, machines, &here);
            chooser.spread.push((field, wish.weight.into()));
        }
        for wish in &spec.affinity {
            let holds: Box<dyn Fn(&Machine) -> bool + '_> = match &wish.to {
                AffinityTo::Attribute { attribute, like } => Box::new(matches(attribute, like)),
                AffinityTo::Service { service } => Box::new(|machine| neighbours(service, machine)),
            };
            for (worth, machine) in chooser.worth.iter_mut().zip(machines) {
                *worth += if holds(machine) { i64::from(wish.weight) } else { 0 };
            }
        }
        chooser
    }

    fn rule(&mut self, attribute: &str, operator: &Operator, machines: &[Machine], here: &[&Machine]) {
        let field = || Field::new(attribute, machines, here);
        match operator {
            Operator::Unique => self.rules.push(Rule::AtMost(field(), 1)),
            Operator::MaxPer(most) => self.rules.push(Rule::AtMost(field(), *most)),
            Operator::Cluster(None) => self.rules.push(Rule::Together(field())),
            Operator::GroupBy(least) => self.rules.push(Rule::Evenly(field(), least.unwrap_or(1))),
            Operator::Cluster(Some(value)) => {
                return self.keep(machines, |machine| machine.value(attribute) == Some(value));
            }
            Operator::Like(pattern) => return self.keep(machines, matches(attribute, pattern)),
            Operator::Unlike(pattern) => {
                let matching = matches(attribute, pattern);
                return self.keep(machines, |machine| !matching(machine));
            }
        }
        // Who has no value has none that could be counted.
        self.keep(machines, |machine| machine.value(attribute).is_some());
    }

    fn keep(&mut self, machines: &[Machine], holds: impl Fn(&Machine) -> bool) {
        for (open, machine) in self.open.iter_mut().zip(machines) {
            *open = *open && holds(machine);
        }
    }

    /// The best agent for the next instance, by its index, where there is one.
    pub fn best(&self) -> Option<usize> {
        let floors: Vec<u32> = self.rules.iter().map(Rule::floor).collect();
        let allowed = |machine: &usize| {
            self.open[*machine]
                && self
                    .rules
                    .iter()
                    .zip(&floors)
                    .all(|(rule, floor)| rule.holds(*machine, *floor))
        };
        (0..self.open.len())
            .filter(allowed)
            .min_by_key(|machine| self.rank(*machine))
    }

    fn rank(&self, machine: usize) -> Rank {
        let grouped = self.rules.iter().map(|rule| match rule {
            Rule::Evenly(field, _) => field.count(machine),
            Rule::AtMost(..) | Rule::Together(_) => 0,
        });
        let spread = self
            .spread
            .iter()
            .map(|(field, weight)| weight * i64::from(field.count(machine)));
        let cost = spread.sum::<i64>() - self.worth[machine];
        (
            grouped.sum(),
            cost,
            self.on_agent.count(machine),
            Reverse(self.room[machine]),
        )
    }

    /// An instance goes to an agent, which has so much room afterwards.
    pub fn place(&mut self, machine: usize, room: u64) {
        for rule in &mut self.rules {
            rule.field_mut().add(machine);
        }
        for (field, _) in &mut self.spread {
            field.add(machine);
        }
        self.on_agent.add(machine);
        self.room[machine] = room;
    }

    /// There is no room on an agent.
    pub fn close(&mut self, machine: usize) {
        self.open[machine] = false;
    }
}

impl Rule {
    /// What the rule needs to know of all values together.
    fn floor(&self) -> u32 {
        match self {
            Rule::AtMost(..) => 0,
            Rule::Together(field) => u32::from(field.counts.iter().any(|count| *count > 0)),
            Rule::Evenly(field, least) => {
                let used = field.counts.iter().copied().filter(|count| *count > 0);
                if used.clone().count() < *least as usize {
                    0
                } else {
                    used.min().unwrap_or(0)
                }
            }
        }
    }

    fn holds(&self, machine: usize, floor: u32) -> bool {
        match self {
            Rule::AtMost(field, most) => field.count(machine) < *most,
            Rule::Together(field) => floor == 0 || field.count(machine) > 0,
            Rule::Evenly(field, _) => field.count(machine) <= floor,
        }
    }

    fn field_mut(&mut self) -> &mut Field {
        match self {
            Rule::AtMost(field, _) | Rule::Together(field) | Rule::Evenly(field, _) => field,
        }
    }
}

impl Field {
    fn new(attribute: &str, machines: &[Machine], here: &[&Machine]) -> Self {
        let mut numbers: HashMap<Option<&str>, u32> = HashMap::new();
        let mut number = |value| {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            *numbers.entry(value).or_insert(next)
        };
        let of: Vec<u32> = machines
            .iter()
            .map(|machine| number(machine.value(attribute)))
            .collect();
        let used: Vec<u32> = here.iter().map(|machine| number(machine.value(attribute))).collect();
        let mut counts = vec![0; numbers.len()];
        for value in used {
            counts[value as usize] += 1;
        }
        Self { of, counts }
    }

    fn count(&self, machine: usize) -> u32 {
        self.counts[self.of[machine] as usize]
    }

    fn add(&mut self, machine: usize) {
        self.counts[self.of[machine] as usize] += 1;
    }
}

/// Whether the whole of an attribute matches. A valid specification has only patterns that can be compiled.
fn matches(attribute: &str, pattern: &str) -> impl Fn(&Machine) -> bool + use<> {
    let (attribute, pattern) = (attribute.to_owned(), regex("", pattern));
    move |machine| {
        let value = machine.value(&attribute);
        value.is_some_and(|value| pattern.as_ref().is_ok_and(|pattern| pattern.is_match(value)))
    }
}
