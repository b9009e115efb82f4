//! The values of one attribute, numbered.

use std::collections::{BTreeMap, HashMap};

use super::Machine;

/// Where each agent stands with one attribute, and how many instances lie on each value.
#[derive(Debug)]
pub(super) struct Field {
    /// The number of each agent's value.
    of: Vec<u32>,
    /// How many instances lie on each value.
    counts: Vec<u32>,
    /// On how many values so many instances lie, of those that have some.
    used: BTreeMap<u32, usize>,
}

impl Field {
    pub(super) fn new(attribute: &str, machines: &[Machine], here: &[&Machine]) -> Self {
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
        let mut field = Self {
            of,
            counts: vec![0; numbers.len()],
            used: BTreeMap::new(),
        };
        for value in used {
            field.add_to(value);
        }
        field
    }

    /// The number of an agent's value.
    pub(super) fn value(&self, machine: usize) -> u32 {
        self.of[machine]
    }

    /// How many instances lie on an agent's value.
    pub(super) fn count(&self, machine: usize) -> u32 {
        self.counts[self.of[machine] as usize]
    }

    /// An instance goes to an agent.
    pub(super) fn add(&mut self, machine: usize) {
        self.add_to(self.of[machine]);
    }

    /// Whether no instance lies anywhere.
    pub(super) fn is_unused(&self) -> bool {
        self.used.is_empty()
    }

    /// How many instances lie on the value with the fewest, of at least so many values that have some; otherwise none.
    pub(super) fn fewest(&self, values: usize) -> u32 {
        let fewest = self.used.keys().next().copied().unwrap_or(0);
        // Few kinds of counts: where there are many, values are counted no further than needed.
        let mut missing = values;
        for count in self.used.values() {
            missing = missing.saturating_sub(*count);
            if missing == 0 {
                return fewest;
            }
        }
        0
    }

    fn add_to(&mut self, value: u32) {
        let count = &mut self.counts[value as usize];
        if let Some(alike) = self.used.get_mut(count) {
            *alike -= 1;
            if *alike == 0 {
                self.used.remove(count);
            }
        }
        *count += 1;
        *self.used.entry(*count).or_default() += 1;
    }
}
