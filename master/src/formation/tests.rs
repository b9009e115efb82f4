//! Scripts of one master, and whole groups in chance orders with crashes and wiped disks.

use std::collections::BTreeSet;

use proffer_proto::raft::{Founding, Introduction};
use proffer_proto::registry::Member;

use super::{Effect, Exchange, Input, founding, registry};

fn member(id: u64, address: &str) -> Member {
    Member {
        id,
        address: address.to_owned(),
        level: 2,
        version: "test".to_owned(),
    }
}

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn exchange(id: u64, address: &str, peers: &[&str]) -> Exchange {
    Exchange::new(
        member(id, address),
        "blue".to_owned(),
        format!("made-by-{id}"),
        list(peers),
    )
}

fn heard(introduction: Introduction) -> Input {
    Input::Heard {
        asked: Some(introduction.address.clone()),
        introduction,
    }
}

/// Gives a master its inputs and tells what it does about each, a line an effect.
fn check(mut exchange: Exchange, inputs: Vec<Input>, expected: &[&str]) {
    let mut lines = Vec::new();
    for input in inputs {
        let mut effects = Vec::new();
        exchange.step(input, &mut effects);
        lines.extend(effects.iter().map(line));
    }
    assert_eq!(lines, expected, "{lines:#?}");
}

fn line(effect: &Effect) -> String {
    let ids = |founding: &Founding| {
        let ids: Vec<u64> = founding.members.iter().map(|member| member.id).collect();
        format!("{} {ids:?}", founding.cluster_id)
    };
    match effect {
        Effect::Write(founding) => format!("write {}", ids(founding)),
        Effect::Answer { ticket, refusal } => format!("answer {ticket} {}", refusal.as_deref().unwrap_or("yes")),
        Effect::Tell(obstacle) => format!("tell {obstacle}"),
        Effect::Formed { founding, founder } => {
            format!(
                "formed {} {}",
                ids(founding),
                if *founder { "founder" } else { "follower" }
            )
        }
    }
}

const ABC: &[&str] = &["a:1", "b:1", "c:1"];

fn made_by_1(ids: &[u64]) -> Founding {
    Founding {
        protocol: 1,
        cluster_id: "made-by-1".to_owned(),
        cluster: "blue".to_owned(),
        members: ids.iter().map(|&id| member(id, "somewhere:1")).collect(),
    }
}

#[test]
fn the_first_founds_once_all_are_there_and_others_wait_to_be_told() {
    let (b, c) = (exchange(2, "b:1", ABC), exchange(3, "c:1", &["c:1", "b:1", "a:1"]));
    let inputs = vec![
        heard(b.introduction()),
        heard(c.introduction()),
        Input::Silent { peer: "b:1".to_owned() },
        Input::Written,
    ];
    check(
        exchange(1, "a:1", ABC),
        inputs,
        &[
            "tell the master at c:1 does not answer yet",
            "write made-by-1 [1, 2, 3]",
            "formed made-by-1 [1, 2, 3] founder",
        ],
    );
    let a = exchange(1, "a:1", ABC);
    let inputs = vec![
        heard(a.introduction()),
        heard(c.introduction()),
        Input::Founding {
            founding: made_by_1(&[1, 2, 3]),
            ticket: 7,
        },
        Input::Founding {
            founding: made_by_1(&[1, 2, 3]),
            ticket: 8,
        },
        Input::Written,
        Input::Founding {
            founding: made_by_1(&[1, 2, 3]),
            ticket: 9,
        },
    ];
    check(
        b,
        inputs,
        &[
            "tell the master at c:1 does not answer yet",
            "write made-by-1 [1, 2, 3]",
            "answer 7 yes",
            "answer 8 yes",
            "formed made-by-1 [1, 2, 3] follower",
            "answer 9 yes",
        ],
    );
}

#[test]
fn a_master_that_stopped_answering_is_not_founded_with() {
    let (b, c) = (exchange(2, "b:1", ABC), exchange(3, "c:1", ABC));
    let inputs = vec![
        heard(b.introduction()),
        Input::Silent { peer: "b:1".to_owned() },
        heard(c.introduction()),
        // Its disk was wiped meanwhile.
        heard(exchange(22, "b:1", ABC).introduction()),
    ];
    check(
        exchange(1, "a:1", ABC),
        inputs,
        &[
            "tell the master at c:1 does not answer yet",
            "tell the master at b:1 does not answer yet",
            "write made-by-1 [1, 3, 22]",
        ],
    );
}

#[test]
fn a_master_that_is_not_among_the_founded_refuses() {
    let founding = |founding| Input::Founding { founding, ticket: 1 };
    let mut twice = made_by_1(&[2, 3]);
    twice.members.push(member(3, "d:1"));
    let other_protocol = Founding {
        protocol: 2,
        ..made_by_1(&[2])
    };
    let waits = "tell the master at a:1 does not answer yet";
    let waits_too = "tell the master at c:1 does not answer yet";
    check(
        exchange(2, "b:1", ABC),
        vec![
            founding(made_by_1(&[1, 20, 3])),
            founding(twice),
            founding(other_protocol),
            founding(made_by_1(&[1, 2, 3])),
            Input::Written,
            founding(Founding {
                cluster_id: "another".to_owned(),
                ..made_by_1(&[1, 2, 3])
            }),
        ],
        &[
            "answer 1 this master has the id 2, which is not among the initial members of cluster made-by-1: its work directory was \
             made after they had found each other",
            waits,
            waits_too,
            "answer 1 two members have the same id, or one has the id 0",
            "answer 1 the protocol is 2, and this master speaks 1",
            "write made-by-1 [1, 2, 3]",
            "answer 1 yes",
            "formed made-by-1 [1, 2, 3] follower",
            "answer 1 this master is of cluster made-by-1",
        ],
    );
}

#[test]
fn differing_lists_are_told_with_both() {
    let b = exchange(2, "b:1", &["a:1", "b:1", "d:1"]);
    let d = exchange(4, "d:1", &["a:1", "b:1", "d:1"]);
    let asked_us = Input::Heard {
        asked: None,
        introduction: d.introduction(),
    };
    check(
        exchange(1, "a:1", &["a:1", "b:1"]),
        vec![
            heard(b.introduction()),
            heard(b.introduction()),
            asked_us,
            heard(exchange(2, "b:1", &["b:1", "a:1"]).introduction()),
        ],
        &[
            "tell the master at b:1 was started with --peers a:1,b:1,d:1, this one with --peers a:1,b:1: all must name the same masters in \
             the same way",
            "tell the master at d:1 was started with --peers a:1,b:1,d:1, this one with --peers a:1,b:1: all must name the same masters in \
             the same way",
            "write made-by-1 [1, 2]",
        ],
    );
}

#[test]
fn a_wrong_name_a_copied_directory_and_another_protocol_are_told() {
    let pair = &["a:1", "b:1"];
    let mut other_name = exchange(2, "b:1", pair).introduction();
    other_name.cluster = Some("red".to_owned());
    let mut other_protocol = exchange(2, "b:1", pair).introduction();
    other_protocol.protocol = 9;
    let alias = Input::Heard {
        asked: Some("b:1".to_owned()),
        introduction: exchange(2, "10.0.0.1:1", pair).introduction(),
    };
    check(
        exchange(1, "a:1", pair),
        vec![
            heard(other_name),
            heard(exchange(1, "b:1", pair).introduction()),
            heard(other_protocol),
            alias,
        ],
        &[
            "tell the master at b:1 was started with --cluster red, this one with --cluster blue: all must have the same",
            "tell the masters at b:1 and a:1 have the same id 1, so one has a copy of the other's work directory: empty one of the two",
            "tell the master at b:1 speaks version 9 of the masters' protocol, this one version 1: run the same program",
            "tell the master at b:1 says that it is reached at 10.0.0.1:1: --peers must name each master as its --advertise does",
        ],
    );
}

#[test]
fn a_new_master_among_those_who_have_a_cluster_founds_nothing_and_says_so_again_and_again() {
    let answer = "this master is of cluster x, and you are not; use --join".to_owned();
    let foreign = Input::Foreign {
        peer: "b:1".to_owned(),
        answer,
    };
    let mut formed = exchange(3, "c:1", ABC).introduction();
    formed.cluster_id = Some("x".to_owned());
    let told_b = "tell the master at b:1 answers: this master is of cluster x, and you are not; use --join";
    let told_c = "tell the master at c:1 is of cluster x, and has not said yet that this one is too";
    check(
        exchange(1, "a:1", ABC),
        vec![heard(formed), foreign.clone(), foreign, Input::Remind],
        &[
            "tell the master at b:1 does not answer yet",
            told_c,
            told_b,
            told_c,
            told_b,
        ],
    );
}

#[test]
fn a_group_of_one_founds_itself() {
    check(
        exchange(1, "a:1", &["a:1"]),
        vec![Input::Remind, Input::Written],
        &["write made-by-1 [1]", "formed made-by-1 [1] founder"],
    );
}

#[test]
fn every_founder_writes_the_same_registry() {
    let mut old = member(3, "c:1");
    old.level = 1;
    let members = [member(2, "b:1"), old, member(1, "a:1")];
    let mut sorted = members.to_vec();
    sorted.reverse();
    sorted.swap(1, 2);
    assert_eq!(registry(&members), registry(&sorted));
    assert_eq!(registry(&members).level, Some(1));
    let ids: Vec<u64> = registry(&members).members.iter().map(|member| member.id).collect();
    assert_eq!(ids, [1, 2, 3]);
}

/// A master of a group in chance order: what survives, and what does not.
struct Place {
    address: String,
    /// Durable.
    id: u64,
    formed: Option<Founding>,
    /// None while it is down.
    running: Option<Exchange>,
    /// What it was told to write and has not synced.
    unsynced: Option<Founding>,
}

struct Group {
    places: Vec<Place>,
    random: u64,
    next_id: u64,
    /// Founding messages on their way, by place.
    on_the_way: Vec<(usize, Founding)>,
    /// Every founding that became durable somewhere, with the id that it became durable under.
    ever: BTreeSet<(String, u64)>,
}

impl Group {
    fn new(size: usize, seed: u64) -> Self {
        let mut group = Self {
            places: Vec::new(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            next_id: 1,
            on_the_way: Vec::new(),
            ever: BTreeSet::new(),
        };
        for index in 0..size {
            group.places.push(Place {
                address: format!("{index}:1"),
                id: 0,
                formed: None,
                running: None,
                unsynced: None,
            });
            group.wipe(index);
        }
        group
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % bound as u64) as usize
    }

    fn wipe(&mut self, index: usize) {
        self.places[index].id = self.next_id;
        self.next_id += 1;
        self.places[index].formed = None;
        self.stop(index);
    }

    fn stop(&mut self, index: usize) {
        self.places[index].running = None;
        self.places[index].unsynced = None;
    }

    fn start(&mut self, index: usize) {
        let peers: Vec<String> = self.places.iter().map(|place| place.address.clone()).collect();
        let cluster_id = format!("x{}", self.next_id);
        self.next_id += 1;
        let place = &mut self.places[index];
        let me = member(place.id, &place.address);
        place.running = Some(Exchange::new(me, "blue".to_owned(), cluster_id, peers));
        self.give(index, Input::Remind);
    }

    fn give(&mut self, index: usize, input: Input) {
        let place = &mut self.places[index];
        let Some(running) = &mut place.running else { return };
        if place.formed.is_some() {
            return;
        }
        let mut effects = Vec::new();
        running.step(input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Write(founding) => place.unsynced = Some(founding),
                Effect::Formed { founding, .. } => {
                    assert_eq!(place.formed.as_ref(), Some(&founding), "formed before it is durable");
                }
                Effect::Answer { ticket, refusal } => {
                    let durable = place.formed.is_some();
                    assert_eq!(refusal.is_none(), durable, "answered {ticket} with {refusal:?}");
                }
                Effect::Tell(_) => {}
            }
        }
    }

    fn sync(&mut self, index: usize) {
        let place = &mut self.places[index];
        let Some(founding) = place.unsynced.take() else { return };
        assert!(founding::check(&founding, place.id).is_ok());
        self.ever.insert((founding.cluster_id.clone(), place.id));
        let formed = founding.clone();
        // The input comes after the write, so that what it causes sees it.
        if let Some(running) = &mut place.running {
            place.formed = Some(formed);
            let mut effects = Vec::new();
            running.step(Input::Written, &mut effects);
            assert!(matches!(effects.last(), Some(Effect::Formed { .. })), "{effects:?}");
        }
    }

    /// One master asks another who it is, as the transport does it.
    fn ask(&mut self, from: usize, to: usize) {
        let peer = self.places[to].address.clone();
        let waits = |place: &Place| place.formed.is_none();
        if from == to || !waits(&self.places[from]) {
            return;
        }
        let Some(asker) = self.places[from].running.as_ref().map(Exchange::introduction) else {
            return;
        };
        let Some(mut answer) = self.places[to].running.as_ref().map(Exchange::introduction) else {
            self.give(from, Input::Silent { peer });
            return;
        };
        let Some(founding) = self.places[to].formed.clone() else {
            let introduction = asker;
            self.give(
                to,
                Input::Heard {
                    asked: None,
                    introduction,
                },
            );
            self.give(from, heard(answer));
            return;
        };
        if founding.members.iter().any(|member| member.id == asker.member) {
            answer.cluster_id = Some(founding.cluster_id.clone());
            self.on_the_way.push((from, founding));
            self.give(from, heard(answer));
        } else {
            let answer = "not of mine".to_owned();
            self.give(from, Input::Foreign { peer, answer });
        }
    }

    fn arrive(&mut self) {
        if self.on_the_way.is_empty() {
            return;
        }
        let chosen = self.below(self.on_the_way.len());
        let (to, founding) = self.on_the_way.swap_remove(chosen);
        self.give(to, Input::Founding { founding, ticket: 1 });
    }

    fn check_safety(&self) {
        for place in &self.places {
            let Some(founding) = &place.formed else { continue };
            assert!(founding.members.iter().any(|member| member.id == place.id));
        }
        let mut by_id = std::collections::BTreeMap::new();
        for (cluster, id) in &self.ever {
            let earlier = by_id.insert(id, cluster);
            assert!(
                earlier.is_none_or(|earlier| earlier == cluster),
                "member {id} is of two clusters"
            );
        }
    }

    /// Nothing fails any more: everyone asks everyone until nothing changes.
    fn settle(&mut self) {
        for index in 0..self.places.len() {
            if self.places[index].running.is_none() {
                self.start(index);
            }
        }
        for _ in 0..8 {
            for from in 0..self.places.len() {
                for to in 0..self.places.len() {
                    self.ask(from, to);
                    self.sync(from);
                    self.sync(to);
                }
            }
            while !self.on_the_way.is_empty() {
                self.arrive();
            }
            for index in 0..self.places.len() {
                self.sync(index);
            }
        }
    }

    fn clusters(&self) -> BTreeSet<&str> {
        let formed = self.places.iter().filter_map(|place| place.formed.as_ref());
        formed.map(|founding| founding.cluster_id.as_str()).collect()
    }
}

#[test]
fn groups_form_whole_wherever_their_masters_stop() {
    for seed in 0..2000 {
        let mut group = Group::new(1 + seed as usize % 5, seed);
        let size = group.places.len();
        for _ in 0..group.below(200) {
            let (index, other) = (group.below(size), group.below(size));
            match group.below(10) {
                0 => group.stop(index),
                1 | 2 if group.places[index].running.is_none() => group.start(index),
                3 => group.sync(index),
                4 => group.arrive(),
                _ => group.ask(index, other),
            }
            group.check_safety();
        }
        group.settle();
        group.check_safety();
        assert_eq!(group.clusters().len(), 1, "seed {seed}");
        assert!(group.places.iter().all(|place| place.formed.is_some()), "seed {seed}");
    }
}

#[test]
fn no_wiped_disk_gives_a_cluster_two_groups_that_could_act() {
    for seed in 0..2000 {
        let mut group = Group::new(3, seed);
        for _ in 0..group.below(200) {
            let (index, other) = (group.below(3), group.below(3));
            match group.below(12) {
                0 => group.stop(index),
                1 | 2 if group.places[index].running.is_none() => group.start(index),
                3 => group.sync(index),
                4 => group.arrive(),
                5 if group.below(6) == 0 => group.wipe(index),
                _ => group.ask(index, other),
            }
            group.check_safety();
        }
        group.settle();
        group.check_safety();
        let majorities = group.clusters().into_iter().filter(|cluster| {
            let of_it = |place: &&Place| {
                place
                    .formed
                    .as_ref()
                    .is_some_and(|founding| founding.cluster_id == **cluster)
            };
            group.places.iter().filter(of_it).count() >= 2
        });
        assert!(majorities.count() <= 1, "seed {seed}");
    }
}
