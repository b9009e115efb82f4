//! Which master to ask next, and how long to wait before.
//!
//! ```text
//! lost the leader   -> another master, after a random part of SPREAD: thousands of agents lose it at the same moment
//! not reached       -> the next one at once; after a pause where none was reached
//! names the leader  -> that one at once
//! knows no leader   -> the same one again after a pause, as the others will know none either; now and then another one
//! ```
//!
//! Pauses grow from attempt to attempt, so that the more agents wait, and the longer, the less each of them asks.
//! Simulated agents of benchmarks search in the same way.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// An election takes about as long, so that nothing is lost by it.
const SPREAD: Duration = Duration::from_millis(300);
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const PAUSE_GROWTH: f64 = 1.5;
/// A machine that is gone must not hold up the search.
const CONNECT_TIMEOUT_MIN: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(4);
/// How many hints to a leader are followed without a pause.
const HINTS_MAX: u32 = 3;
/// How often in a row a master may say that it knows no leader before another one is asked: it may be cut off.
const IGNORANCE_MAX: u32 = 3;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The master could not be reached, or did not answer.
    Unreached,
    /// It does not lead; perhaps it knows who does.
    NotLeading(Option<String>),
    /// The agent was registered there.
    Lost,
}

impl End {
    /// What a master says that does not lead; or the connection broke, which the transport puts in other words.
    pub fn of(status: &tonic::Status) -> Self {
        let leader = status.metadata().get(proffer_proto::metadata::LEADER);
        let leader = leader.and_then(|leader| leader.to_str().ok());
        let leader = leader.filter(|leader| !leader.is_empty()).map(str::to_owned);
        match status.code() {
            tonic::Code::Unavailable if std::error::Error::source(status).is_none() => End::NotLeading(leader),
            _ => End::Unreached,
        }
    }
}

/// The search for the leader, as long as the agent runs.
#[derive(Debug)]
pub struct Search {
    masters: Vec<String>,
    /// The one that is asked, or the next of the list where there is a hint.
    turn: usize,
    /// Who was named.
    hint: Option<String>,
    hints: u32,
    ignorance: u32,
    /// Masters in a row that could not be reached.
    unreached: usize,
    /// Rounds in a row in which none could.
    deserted: u32,
    pause: Duration,
    random: fn() -> f64,
}

impl Search {
    /// Begins at the first of the masters.
    pub fn new(masters: Vec<String>) -> Self {
        Search {
            masters,
            turn: 0,
            hint: None,
            hints: 0,
            ignorance: 0,
            unreached: 0,
            deserted: 0,
            pause: PAUSE_MIN,
            random: fraction,
        }
    }

    /// The master to ask now.
    pub fn candidate(&self) -> &str {
        let in_turn = || &self.masters[self.turn % self.masters.len()];
        self.hint.as_ref().unwrap_or_else(in_turn)
    }

    /// How long a connection to it may take.
    pub fn connect_timeout(&self) -> Duration {
        (CONNECT_TIMEOUT_MIN * (1 << self.deserted.min(8))).min(CONNECT_TIMEOUT_MAX)
    }

    /// Takes the end of the attempt at the candidate; returns how long to wait before the next one.
    pub fn ended(&mut self, end: End) -> Duration {
        match end {
            End::Unreached => self.unreached(),
            End::NotLeading(leader) => {
                (self.unreached, self.deserted) = (0, 0);
                match leader {
                    Some(leader) if self.candidate() != leader && self.hints < HINTS_MAX => self.follow(leader),
                    _ => self.nobody_leads(),
                }
            }
            End::Lost => self.lost(),
        }
    }

    fn unreached(&mut self) -> Duration {
        // One that was named is beside the list.
        if self.hint.take().is_none() {
            self.turn += 1;
            self.unreached += 1;
        }
        if self.unreached < self.masters.len() {
            return Duration::ZERO;
        }
        self.unreached = 0;
        self.deserted = self.deserted.saturating_add(1);
        self.next_pause()
    }

    fn follow(&mut self, leader: String) -> Duration {
        self.hints += 1;
        self.hint = Some(leader);
        Duration::ZERO
    }

    fn nobody_leads(&mut self) -> Duration {
        self.hints = 0;
        self.ignorance += 1;
        if self.hint.take().is_some() || self.ignorance >= IGNORANCE_MAX {
            self.turn += 1;
            self.ignorance = 0;
        }
        self.next_pause()
    }

    fn lost(&mut self) -> Duration {
        let leader = self.candidate().to_owned();
        let others = self.masters.iter().filter(|master| **master != leader).count();
        // Anywhere in the list but at the leader, which would be the first choice of every agent otherwise.
        let skip = (others as f64 * (self.random)()) as usize;
        let choice = (0..self.masters.len())
            .filter(|&index| self.masters[index] != leader)
            .nth(skip);
        *self = Search {
            turn: choice.unwrap_or_default(),
            random: self.random,
            ..Search::new(std::mem::take(&mut self.masters))
        };
        SPREAD.mul_f64((self.random)())
    }

    /// Between a half and the whole of a step.
    fn next_pause(&mut self) -> Duration {
        let pause = self.pause.mul_f64(0.5 + (self.random)() / 2.0);
        self.pause = self.pause.mul_f64(PAUSE_GROWTH).min(PAUSE_MAX);
        pause
    }
}

/// Random, in [0, 1).
fn fraction() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random % (1 << 20)) as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(masters: &[&str]) -> Search {
        Search {
            random: || 0.5,
            ..Search::new(masters.iter().map(|master| (*master).to_owned()).collect())
        }
    }

    fn knows_none() -> End {
        End::NotLeading(None)
    }

    fn names(leader: &str) -> End {
        End::NotLeading(Some(leader.to_owned()))
    }

    #[test]
    fn masters_that_are_gone_are_passed_over_at_once() {
        let mut search = search(&["a", "b", "c"]);
        for master in ["a", "b"] {
            assert_eq!(search.candidate(), master);
            assert_eq!(search.ended(End::Unreached), Duration::ZERO);
        }
        assert_eq!(search.candidate(), "c");
        assert_eq!(search.ended(End::Unreached), PAUSE_MIN.mul_f64(0.75));
        assert_eq!(search.connect_timeout(), CONNECT_TIMEOUT_MIN * 2);
        assert_eq!(search.candidate(), "a");
    }

    #[test]
    fn while_nobody_leads_one_master_is_asked_ever_less_often() {
        let mut search = search(&["a", "b"]);
        let mut pauses = Vec::new();
        for master in ["a", "a", "a", "b", "b", "b", "a"] {
            assert_eq!(search.candidate(), master);
            pauses.push(search.ended(knows_none()));
        }
        assert_eq!(pauses[0], PAUSE_MIN.mul_f64(0.75));
        assert!(pauses.is_sorted() && pauses[6] > Duration::from_secs(1), "{pauses:?}");
        for _ in 0..10 {
            assert!(search.ended(knows_none()) <= PAUSE_MAX);
        }
    }

    #[test]
    fn a_named_leader_is_followed_at_once_and_a_circle_is_not() {
        let mut search = search(&["a", "b"]);
        assert_eq!(search.ended(names("b")), Duration::ZERO);
        assert_eq!(search.candidate(), "b");
        assert_eq!(search.ended(names("a")), Duration::ZERO);
        assert_eq!(search.ended(names("b")), Duration::ZERO);
        assert!(search.ended(names("a")) > Duration::ZERO, "they name each other");
    }

    #[test]
    fn a_named_leader_that_is_gone_leads_back_to_the_list() {
        let mut search = search(&["a", "b"]);
        assert_eq!(search.ended(names("c")), Duration::ZERO);
        assert_eq!(search.candidate(), "c");
        assert_eq!(search.ended(End::Unreached), Duration::ZERO);
        assert_eq!(search.candidate(), "a");
        assert!(
            search.ended(names("a")) > Duration::ZERO,
            "a master that names itself does not lead"
        );
    }

    #[test]
    fn agents_that_lose_the_leader_come_to_the_others_not_at_once() {
        let mut lost = search(&["a", "b", "c"]);
        lost.ended(names("b"));
        assert_eq!(lost.ended(End::Lost), SPREAD / 2);
        assert_eq!(lost.candidate(), "c");
        let mut alone = search(&["a"]);
        assert_eq!(alone.ended(End::Lost), SPREAD / 2);
        assert_eq!(alone.candidate(), "a");
    }
}
