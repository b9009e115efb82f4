//! The network between masters: messages are delayed, lost, repeated and overtaken; ways are cut, also one way only.

use std::collections::BTreeSet;

use crate::sim::rng::Rng;

/// What becomes of a message: the delays of its copies. None if it is lost.
pub(crate) type Fate = Vec<u64>;

/// The ways between the machines.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// From and to.
    cut: BTreeSet<(usize, usize)>,
    /// Nothing is lost or repeated any more.
    pub(crate) calm: bool,
}

impl Network {
    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to))
    }

    pub(crate) fn fate(&mut self, from: usize, to: usize, rng: &mut Rng) -> Fate {
        if self.is_cut(from, to) || (!self.calm && rng.one_in(100)) {
            return Fate::new();
        }
        let mut fate = vec![self.delay(rng)];
        if !self.calm && rng.one_in(100) {
            fate.push(self.delay(rng));
        }
        fate
    }

    pub(crate) fn delay(&self, rng: &mut Rng) -> u64 {
        if !self.calm && rng.one_in(50) {
            rng.range(20, 400)
        } else {
            rng.range(0, 5)
        }
    }

    /// Cuts the ways from every machine of one side to every machine of the other.
    pub(crate) fn cut(&mut self, from: &[usize], to: &[usize]) {
        for a in from {
            self.cut.extend(to.iter().filter(|b| *b != a).map(|b| (*a, *b)));
        }
    }

    /// Every way is open again.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_one_way_and_heals() {
        let mut rng = Rng::new(7);
        let mut network = Network {
            calm: true,
            ..Network::default()
        };
        network.cut(&[0], &[0, 1, 2]);
        assert_eq!(network.fate(0, 1, &mut rng).len(), 0);
        assert_eq!(network.fate(1, 0, &mut rng).len(), 1);
        network.heal();
        assert_eq!(network.fate(0, 1, &mut rng).len(), 1);
    }

    #[test]
    fn messages_are_lost_repeated_and_overtaken() {
        let mut rng = Rng::new(7);
        let mut network = Network::default();
        let fates: Vec<Fate> = (0..5_000).map(|_| network.fate(0, 1, &mut rng)).collect();
        assert!(fates.iter().any(Vec::is_empty));
        assert!(fates.iter().any(|fate| fate.len() == 2));
        assert!(fates.windows(2).any(|pair| pair[0].first() > pair[1].first()));
    }
}
