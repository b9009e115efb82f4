//! Chooses which master to ask next.
//!
//! Only the leading master answers calls. The others answer gRPC `UNAVAILABLE`, with the metadata `proffer-leader: host:port`
//! where they know the leader. A search goes in rounds: in each, every configured master is asked at most once, and every
//! master that another one names, at once. The former leader comes last, as it has just failed, or the others would know it
//! and name it. After a round in which nobody led there is a pause. Pauses begin short, as an election takes less than a
//! second, and grow slowly, so that a search adds little to what it waits for.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::line::Line;
use crate::masters::Masters;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const PAUSE_GROWTH: f64 = 1.25;
/// A machine that is gone must not hold up the search: the others are there at once.
const CONNECT_TIMEOUT_MIN: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(4);
/// A master that stands still accepts connections and says nothing.
const ANSWER_TIMEOUT_MIN: Duration = Duration::from_secs(3);
const ANSWER_TIMEOUT_MAX: Duration = Duration::from_secs(15);
/// How many masters that are not configured are asked in a round because others named them.
const STRANGERS_MAX: usize = 4;

/// Why a master is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It cannot be reached.
    Unreachable,
    /// It was reached, and did not answer in time.
    Silent,
    /// It answered that it does not lead, perhaps naming the leader; or its connection broke.
    NotLeading(Option<String>),
}

/// Chooses the master to ask next. One lives as long as its owner.
#[derive(Debug)]
pub(crate) struct Finder {
    masters: Masters,
    /// Who led last.
    former: Option<String>,
    /// Named by the master that was asked last.
    hint: Option<String>,
    /// Where a round begins in the list.
    first: usize,
    /// Who was asked in this round.
    asked: BTreeSet<String>,
    /// A master was reached in this round.
    reached: bool,
    /// Rounds in a row in which none was.
    deserted: u32,
    /// Answers that did not come in time since a leader was found.
    silent: u32,
    pause: Backoff,
}

impl Finder {
    pub(crate) fn new(masters: Masters) -> Self {
        Finder {
            masters,
            former: None,
            hint: None,
            first: 0,
            asked: BTreeSet::new(),
            reached: false,
            deserted: 0,
            silent: 0,
            pause: Backoff::growing(PAUSE_MIN, PAUSE_MAX, PAUSE_GROWTH),
        }
    }

    /// The address to ask now.
    pub(crate) fn candidate(&mut self) -> String {
        let address = match self.next() {
            Some(address) => address,
            // An attempt was abandoned without a word about its outcome.
            None => {
                self.asked.clear();
                self.next().expect("a list of masters is not empty")
            }
        };
        self.hint = None;
        self.asked.insert(address.clone());
        address
    }

    /// A connection to the candidate; the error says who it is and why there is none.
    pub(crate) async fn line(&self, candidate: &str) -> Result<Line, String> {
        self.masters.line(candidate, self.connect_timeout()).await
    }

    /// How long a connection to the candidate may take.
    fn connect_timeout(&self) -> Duration {
        doubled(CONNECT_TIMEOUT_MIN, self.deserted).min(CONNECT_TIMEOUT_MAX)
    }

    /// How long the candidate may take to answer.
    pub(crate) fn answer_timeout(&self) -> Duration {
        doubled(ANSWER_TIMEOUT_MIN, self.silent).min(ANSWER_TIMEOUT_MAX)
    }

    /// The master of this address leads.
    pub(crate) fn found(&mut self, address: &str) {
        if self.former.as_deref() != Some(address) {
            self.former = Some(address.to_owned());
        }
        self.hint = None;
        self.asked.clear();
        (self.reached, self.deserted, self.silent) = (false, 0, 0);
        self.pause.reset();
    }

    /// The master that was asked last is of no use: how long to wait before the next is asked.
    pub(crate) fn failed(&mut self, failed: Failed) -> Duration {
        self.reached |= failed != Failed::Unreachable;
        match failed {
            Failed::Unreachable => {}
            Failed::Silent => self.silent = self.silent.saturating_add(1),
            Failed::NotLeading(leader) => self.hint = leader,
        }
        if self.next().is_some() {
            return Duration::ZERO;
        }
        self.deserted = match self.reached {
            true => 0,
            false => self.deserted.saturating_add(1),
        };
        self.reached = false;
        self.asked.clear();
        self.first += 1;
        self.pause.next_delay()
    }

    /// Who comes next in this round. A hint to a master that was asked already is kept for the next one.
    fn next(&self) -> Option<String> {
        let configured = self.masters.addresses();
        let open = |address: &&String| !self.asked.contains(*address);
        let strangers = self
            .asked
            .iter()
            .filter(|address| !configured.contains(address))
            .count();
        let hint = self.hint.iter().find(open);
        let hint = hint.filter(|hint| strangers < STRANGERS_MAX || configured.contains(hint));
        let in_turn = configured
            .iter()
            .cycle()
            .skip(self.first % configured.len())
            .take(configured.len());
        let other = in_turn
            .filter(open)
            .find(|address| Some(*address) != self.former.as_ref());
        hint.or(other).or_else(|| self.former.iter().find(open)).cloned()
    }
}

fn doubled(span: Duration, times: u32) -> Duration {
    span * (1 << times.min(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder(masters: &str) -> Finder {
        Finder::new(masters.parse().expect("addresses of masters"))
    }

    fn no_leader() -> Failed {
        Failed::NotLeading(None)
    }

    fn names(leader: &str) -> Failed {
        Failed::NotLeading(Some(leader.into()))
    }

    #[test]
    fn every_master_is_asked_once_before_a_pause() {
        let mut finder = finder("a:1,b:1,c:1");
        for address in ["a:1", "b:1"] {
            assert_eq!(finder.candidate(), address);
            assert_eq!(finder.failed(no_leader()), Duration::ZERO);
        }
        assert_eq!(finder.candidate(), "c:1");
        let pause = finder.failed(Failed::Unreachable);
        assert!(pause >= PAUSE_MIN / 2 && pause <= PAUSE_MIN, "{pause:?}");
        assert_eq!(finder.candidate(), "b:1", "the next round begins elsewhere");
    }

    #[test]
    fn a_named_leader_is_asked_at_once() {
        let mut finder = finder("a:1,b:1,c:1");
        finder.candidate();
        assert_eq!(finder.failed(names("c:1")), Duration::ZERO);
        assert_eq!(finder.candidate(), "c:1");
    }

    #[test]
    fn masters_that_name_each_other_are_not_followed_in_a_circle() {
        let mut finder = finder("a:1,b:1");
        assert_eq!(finder.candidate(), "a:1");
        assert_eq!(finder.failed(names("b:1")), Duration::ZERO);
        assert_eq!(finder.candidate(), "b:1");
        assert!(finder.failed(names("a:1")) > Duration::ZERO);
        assert_eq!(finder.candidate(), "a:1", "perhaps it leads by now");
    }

    #[test]
    fn ever_new_names_end_a_round_too() {
        let mut finder = finder("a:1");
        let mut asked = 0;
        loop {
            finder.candidate();
            asked += 1;
            if finder.failed(names(&format!("stranger-{asked}:1"))) > Duration::ZERO {
                break;
            }
        }
        assert_eq!(asked, 1 + STRANGERS_MAX);
    }

    #[test]
    fn a_leader_that_failed_is_asked_last() {
        let mut finder = finder("a:1,b:1,c:1");
        finder.found("a:1");
        for address in ["b:1", "c:1"] {
            assert_eq!(finder.failed(no_leader()), Duration::ZERO);
            assert_eq!(finder.candidate(), address);
        }
        assert_eq!(finder.failed(no_leader()), Duration::ZERO);
        assert_eq!(finder.candidate(), "a:1");
        assert!(finder.failed(no_leader()) > Duration::ZERO);
    }

    #[test]
    fn a_leader_that_is_not_configured_is_remembered() {
        let mut finder = finder("a:1");
        finder.found("b:1");
        assert_eq!(finder.candidate(), "a:1");
        assert_eq!(finder.failed(Failed::Unreachable), Duration::ZERO);
        assert_eq!(finder.candidate(), "b:1");
    }

    #[test]
    fn timeouts_grow_only_where_they_are_what_fails() {
        let mut finder = finder("a:1,b:1");
        let mut round = |failures: [Failed; 2]| {
            for failed in failures {
                finder.candidate();
                finder.failed(failed);
            }
            (finder.connect_timeout().as_millis(), finder.answer_timeout().as_secs())
        };
        assert_eq!(
            round([Failed::Unreachable, no_leader()]),
            (500, 3),
            "the other one lives"
        );
        assert_eq!(round([Failed::Unreachable, Failed::Unreachable]), (1000, 3));
        assert_eq!(round([Failed::Unreachable, Failed::Unreachable]), (2000, 3));
        assert_eq!(round([Failed::Unreachable, Failed::Silent]), (500, 6));
        assert_eq!(round([Failed::Silent, Failed::Silent]), (500, 15));
        finder.found("a:1");
        assert_eq!(finder.answer_timeout(), ANSWER_TIMEOUT_MIN);
    }
}
