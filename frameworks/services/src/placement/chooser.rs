//! Chooses agents for the instances of one service, by its rules and wishes.
//!
//! Agents that are alike by all that is counted evenly or costs something make up a class, in which the one with the fewest instances and
//! then with the most room comes first. As instances only come, an agent never becomes better than it was: so both the classes
//! and the agents of each lie in heaps, in which what has become worse is put right when it is come upon. A decision thus costs
//! a few steps, and as many more as there are classes that the last one made worse.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::spec::constraints::regex;
use crate::spec::{AffinityTo, Operator, ServiceSpec};

use super::Machine;
use super::field::Field;

/// A rule that what lies elsewhere decides on.
#[derive(Debug)]
enum Rule {
    /// So many on a value at most.
    AtMost(Field, u32),
    /// All on one value.
    Together(Field),
}

/// Instances lie evenly over the values, on at least so many.
#[derive(Debug)]
struct Evenly {
    field: Field,
    least: u32,
}

/// By what the agents of a class are compared, and which it is; the least is chosen.
type InClass = (u32, Reverse<u64>, usize);
/// By what classes are compared: how unevenly, the cost, and their best agent.
type Rank = (u32, i64, InClass);

/// Chooses agents for the instances of one service.
#[derive(Debug)]
pub struct Chooser {
    /// Whether an agent may be chosen at all: the rules that nothing changes hold, and there may be room.
    open: Vec<bool>,
    /// Rules that forbid an agent for good once they do.
    rules: Vec<Rule>,
    evenly: Vec<Evenly>,
    /// What each instance on a value costs.
    spread: Vec<(Field, i64)>,
    /// What an agent is worth by affinity.
    worth: Vec<i64>,
    /// How many instances of the service are on each agent.
    on_agent: Field,
    /// What is left on each agent: of equals the emptiest is chosen.
    room: Vec<u64>,
    classes: Vec<BinaryHeap<Reverse<InClass>>>,
    order: BinaryHeap<Reverse<(Rank, usize)>>,
}

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
            rules: Vec::new(),
            evenly: Vec::new(),
            spread: Vec::new(),
            worth: vec![0; machines.len()],
            on_agent: Field::new("@agent", machines, &here),
            room,
            classes: Vec::new(),
            order: BinaryHeap::new(),
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
        chooser.classify();
        chooser
    }

    fn rule(&mut self, attribute: &str, operator: &Operator, machines: &[Machine], here: &[&Machine]) {
        let field = || Field::new(attribute, machines, here);
        match operator {
            Operator::Unique => self.rules.push(Rule::AtMost(field(), 1)),
            Operator::MaxPer(most) => self.rules.push(Rule::AtMost(field(), *most)),
            Operator::Cluster(None) => self.rules.push(Rule::Together(field())),
            Operator::GroupBy(least) => self.evenly.push(Evenly {
                field: field(),
                least: least.unwrap_or(1),
            }),
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

    /// Puts the agents that may be chosen into classes, and these into their order.
    fn classify(&mut self) {
        let mut numbers: HashMap<(Vec<u32>, i64), usize> = HashMap::new();
        let mut classes: Vec<Vec<Reverse<InClass>>> = Vec::new();
        for machine in (0..self.open.len()).filter(|machine| self.open[*machine]) {
            let counted = self.evenly.iter().map(|rule| &rule.field);
            let counted = counted.chain(self.spread.iter().map(|(field, _)| field));
            let values = counted.map(|field| field.value(machine)).collect();
            let class = *numbers.entry((values, self.worth[machine])).or_insert_with(|| {
                classes.push(Vec::new());
                classes.len() - 1
            });
            classes[class].push(Reverse(self.in_class(machine)));
        }
        self.classes = classes.into_iter().map(BinaryHeap::from).collect();
        for class in 0..self.classes.len() {
            if let Some(rank) = self.rank(class) {
                self.order.push(Reverse((rank, class)));
            }
        }
    }

    /// The best agent for the next instance, by its index, where there is one.
    pub fn best(&mut self) -> Option<usize> {
        let floors: Vec<u32> = self.evenly.iter().map(Evenly::floor).collect();
        let mut uneven = Vec::new();
        let mut chosen = None;
        while let Some(Reverse((known, class))) = self.order.pop() {
            // A class without any agent left is gone.
            let Some(rank) = self.rank(class) else { continue };
            let (.., (.., machine)) = rank;
            if rank != known {
                self.order.push(Reverse((rank, class)));
                continue;
            }
            // What is too much now may be right when others have as much.
            uneven.push(Reverse((rank, class)));
            let mut rules = self.evenly.iter().zip(&floors);
            if rules.all(|(rule, floor)| rule.field.count(machine) <= *floor) {
                chosen = Some(machine);
                break;
            }
        }
        self.order.extend(uneven);
        chosen
    }

    /// How a class stands now, by its best agent.
    fn rank(&mut self, class: usize) -> Option<Rank> {
        let first = loop {
            let Reverse(known) = *self.classes[class].peek()?;
            let (.., machine) = known;
            let is_forbidden = self.rules.iter().any(|rule| rule.forbids(machine));
            let now = self.in_class(machine);
            if self.open[machine] && !is_forbidden && now == known {
                break now;
            }
            self.classes[class].pop();
            if self.open[machine] && !is_forbidden {
                self.classes[class].push(Reverse(now));
            }
        };
        let (.., machine) = first;
        let grouped = self.evenly.iter().map(|rule| rule.field.count(machine));
        let spread = self.spread.iter();
        let spread = spread.map(|(field, weight)| weight * i64::from(field.count(machine)));
        Some((grouped.sum(), spread.sum::<i64>() - self.worth[machine], first))
    }

    fn in_class(&self, machine: usize) -> InClass {
        (self.on_agent.count(machine), Reverse(self.room[machine]), machine)
    }

    /// An instance goes to an agent, which has so much room afterwards: not more than before.
    pub fn place(&mut self, machine: usize, room: u64) {
        for rule in &mut self.rules {
            match rule {
                Rule::AtMost(field, _) | Rule::Together(field) => field.add(machine),
            }
        }
        for rule in &mut self.evenly {
            rule.field.add(machine);
        }
        for (field, _) in &mut self.spread {
            field.add(machine);
        }
        self.on_agent.add(machine);
        self.room[machine] = room.min(self.room[machine]);
    }

    /// There is no room on an agent.
    pub fn close(&mut self, machine: usize) {
        self.open[machine] = false;
    }
}

impl Rule {
    fn forbids(&self, machine: usize) -> bool {
        match self {
            Rule::AtMost(field, most) => field.count(machine) >= *most,
            Rule::Together(field) => !field.is_unused() && field.count(machine) == 0,
        }
    }
}

impl Evenly {
    /// So many may lie on a value that gets another.
    fn floor(&self) -> u32 {
        self.field.fewest(self.least as usize)
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
