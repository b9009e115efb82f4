//! Which masters are there, whether they mean the same group, and who founds it: decided without I/O.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::raft::{Founding, Introduction};
use proffer_proto::registry::Member;

use super::{Obstacle, PROTOCOL, founding};

/// Bounds what masters outside the list can make this one remember.
const WRONG_MAX: usize = 64;

/// What a master that waits for its group hears.
#[derive(Debug, Clone)]
pub enum Input {
    /// A master said who it is; where it was asked, under which address of the list.
    Heard {
        /// The address under which it was asked.
        asked: Option<String>,
        /// What it says.
        introduction: Introduction,
    },
    /// A master of the list could not be asked.
    Silent {
        /// Its address.
        peer: String,
    },
    /// A master of the list is of a cluster that this one is not of.
    Foreign {
        /// Its address.
        peer: String,
        /// What it answered.
        answer: String,
    },
    /// A master says that the group is founded.
    Founding {
        /// With what.
        founding: Founding,
        /// Numbers the answer.
        ticket: u64,
    },
    /// What was to be written is durable.
    Written,
    /// Time to say again what is waited for.
    Remind,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make durable that the group begins with this; then [`Input::Written`].
    Write(Founding),
    /// Answer a master that told of the founding; with why not, where this master refuses.
    Answer {
        /// The number of what is answered.
        ticket: u64,
        /// Why not.
        refusal: Option<String>,
    },
    /// Tell people what is waited for.
    Tell(Obstacle),
    /// The group is formed; nothing more is decided here. Where `founder`, the others are to be told.
    Formed {
        /// With what.
        founding: Founding,
        /// Whether this master founded it.
        founder: bool,
    },
}

#[derive(Debug)]
enum State {
    Waiting,
    Writing {
        founding: Founding,
        founder: bool,
        tickets: Vec<u64>,
    },
    Formed(Founding),
}

/// One master that waits for its group.
#[derive(Debug)]
pub struct Exchange {
    me: Member,
    cluster: String,
    /// The cluster's id, should this master found it.
    cluster_id: String,
    /// The addresses of the initial members, sorted; this one's too.
    peers: Vec<String>,
    /// What each of the others said last, as long as it answers.
    heard: BTreeMap<String, Introduction>,
    /// What is wrong at an address of the list.
    wrong: BTreeMap<String, Obstacle>,
    told: BTreeSet<Obstacle>,
    state: State,
}

impl Exchange {
    /// A master that has heard of nobody. `cluster_id` is random.
    pub fn new(me: Member, cluster: String, cluster_id: String, mut peers: Vec<String>) -> Self {
        peers.sort();
        Self {
            me,
            cluster,
            cluster_id,
            peers,
            heard: BTreeMap::new(),
            wrong: BTreeMap::new(),
            told: BTreeSet::new(),
            state: State::Waiting,
        }
    }

    /// What this master says of itself.
    pub fn introduction(&self) -> Introduction {
        Introduction {
            protocol: PROTOCOL,
            member: self.me.id,
            address: self.me.address.clone(),
            level: self.me.level,
            version: self.me.version.clone(),
            cluster_id: None,
            cluster: Some(self.cluster.clone()),
            leader: None,
            peers: self.peers.clone(),
        }
    }

    /// The masters to ask who they are: all of the list but this one.
    pub fn others(&self) -> impl Iterator<Item = &String> {
        self.peers.iter().filter(|peer| **peer != self.me.address)
    }

    /// Everything that is waited for.
    pub fn obstacles(&self) -> BTreeSet<Obstacle> {
        let mut obstacles: BTreeSet<Obstacle> = self.wrong.values().cloned().collect();
        for peer in self.others() {
            match self.heard.get(peer) {
                Some(heard) => obstacles.extend(self.disagreement(peer, heard)),
                None if self.wrong.contains_key(peer) => {}
                None => drop(obstacles.insert(Obstacle::Missing { peer: peer.clone() })),
            }
        }
        obstacles
    }

    /// Applies one input.
    pub fn step(&mut self, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Heard { asked, introduction } => self.hear(asked, introduction),
            Input::Silent { peer } => {
                self.heard.remove(&peer);
                self.wrong.remove(&peer);
            }
            Input::Foreign { peer, answer } => {
                self.heard.remove(&peer);
                self.wrong.insert(peer.clone(), Obstacle::Foreign { peer, answer });
            }
            Input::Founding { founding, ticket } => self.told_of(founding, ticket, effects),
            Input::Written => self.written(effects),
            Input::Remind => {
                self.wrong.retain(|peer, _| self.peers.contains(peer));
                self.told.clear();
            }
        }
        if matches!(self.state, State::Waiting) {
            self.decide(effects);
        }
    }

    fn hear(&mut self, asked: Option<String>, introduction: Introduction) {
        let peer = introduction.address.clone();
        if introduction.member == self.me.id && peer == self.me.address {
            return;
        }
        if let Some(asked) = asked.filter(|asked| *asked != peer) {
            self.heard.remove(&asked);
            let misnamed = Obstacle::Misnamed {
                peer: asked.clone(),
                says: peer,
            };
            self.wrong.insert(asked, misnamed);
            return;
        }
        if self.peers.contains(&peer) {
            self.wrong.remove(&peer);
            self.heard.insert(peer, introduction);
        } else if !introduction.peers.is_empty() && self.wrong.len() < WRONG_MAX {
            // It means a group with this master; nothing is waited for, but people should know.
            let list = self.list(&peer, &introduction);
            self.wrong.insert(peer, list);
        }
    }

    fn list(&self, peer: &str, heard: &Introduction) -> Obstacle {
        Obstacle::List {
            peer: peer.to_owned(),
            theirs: heard.peers.clone(),
            ours: self.peers.clone(),
        }
    }

    /// What is wrong with what a master of the list said.
    fn disagreement(&self, peer: &str, heard: &Introduction) -> Option<Obstacle> {
        let peer = peer.to_owned();
        if heard.protocol != PROTOCOL {
            let theirs = heard.protocol;
            return Some(Obstacle::Protocol { peer, theirs });
        }
        if let Some(cluster_id) = heard.cluster_id.clone() {
            return Some(Obstacle::Formed { peer, cluster_id });
        }
        if heard.peers != self.peers {
            return Some(self.list(&peer, heard));
        }
        if heard.cluster.as_ref().is_some_and(|cluster| *cluster != self.cluster) {
            return Some(Obstacle::Name {
                peer,
                theirs: heard.cluster.clone().unwrap_or_default(),
                ours: self.cluster.clone(),
            });
        }
        let mine = (self.me.id == heard.member).then(|| self.me.address.clone());
        let twin = mine.or_else(|| {
            let earlier = self.heard.iter().find(|(_, other)| other.member == heard.member);
            earlier.map(|(address, _)| address.clone())
        });
        twin.filter(|other| *other != peer).map(|other| Obstacle::SameId {
            peer,
            other,
            member: heard.member,
        })
    }

    fn decide(&mut self, effects: &mut Vec<Effect>) {
        let obstacles = self.obstacles();
        for obstacle in &obstacles {
            if !self.told.contains(obstacle) {
                effects.push(Effect::Tell(obstacle.clone()));
            }
        }
        // Masters outside the list do not hold it up.
        let clear = obstacles
            .iter()
            .all(|obstacle| matches!(obstacle, Obstacle::List { peer, .. } if !self.peers.contains(peer)));
        self.told = obstacles;
        if !clear || self.peers.first() != Some(&self.me.address) {
            return;
        }
        let founding = self.founding();
        effects.push(Effect::Write(founding.clone()));
        self.state = State::Writing {
            founding,
            founder: true,
            tickets: Vec::new(),
        };
    }

    fn founding(&self) -> Founding {
        let others = self.heard.values().map(|heard| Member {
            id: heard.member,
            address: heard.address.clone(),
            level: heard.level,
            version: heard.version.clone(),
        });
        let mut members: Vec<Member> = others.chain([self.me.clone()]).collect();
        members.sort_by_key(|member| member.id);
        Founding {
            protocol: PROTOCOL,
            cluster_id: self.cluster_id.clone(),
            cluster: self.cluster.clone(),
            members,
        }
    }

    fn told_of(&mut self, told: Founding, ticket: u64, effects: &mut Vec<Effect>) {
        let refuse = |refusal| Effect::Answer {
            ticket,
            refusal: Some(refusal),
        };
        if let Err(problem) = founding::check(&told, self.me.id) {
            effects.push(refuse(problem));
            return;
        }
        let other = |cluster_id: &str| refuse(format!("this master is of cluster {cluster_id}"));
        match &mut self.state {
            State::Waiting => {
                effects.push(Effect::Write(told.clone()));
                self.state = State::Writing {
                    founding: told,
                    founder: false,
                    tickets: vec![ticket],
                };
            }
            State::Writing { founding, tickets, .. } if *founding == told => tickets.push(ticket),
            State::Writing { founding, .. } => effects.push(other(&founding.cluster_id)),
            State::Formed(founding) if *founding == told => effects.push(Effect::Answer { ticket, refusal: None }),
            State::Formed(founding) => effects.push(other(&founding.cluster_id)),
        }
    }

    fn written(&mut self, effects: &mut Vec<Effect>) {
        let State::Writing {
            founding,
            founder,
            tickets,
        } = &self.state
        else {
            return;
        };
        let (founding, founder) = (founding.clone(), *founder);
        let answers = tickets.iter().map(|&ticket| Effect::Answer { ticket, refusal: None });
        effects.extend(answers);
        self.state = State::Formed(founding.clone());
        effects.push(Effect::Formed { founding, founder });
    }
}
