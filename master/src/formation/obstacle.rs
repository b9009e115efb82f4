//! What a group that forms waits for, in words for people.

use std::fmt;

/// Why the group is not formed yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// A master of the list does not answer.
    Missing {
        /// Its address.
        peer: String,
    },
    /// A master means another group.
    List {
        /// Its address.
        peer: String,
        /// The addresses that it was started with.
        theirs: Vec<String>,
        /// The addresses that this one was started with.
        ours: Vec<String>,
    },
    /// A master's cluster has another name.
    Name {
        /// Its address.
        peer: String,
        /// The name that it was started with.
        theirs: String,
        /// The name that this one was started with.
        ours: String,
    },
    /// A master answers at an address of the list under another.
    Misnamed {
        /// The address of the list.
        peer: String,
        /// What the master there says.
        says: String,
    },
    /// Two masters have the same id.
    SameId {
        /// One.
        peer: String,
        /// The other.
        other: String,
        /// Their id.
        member: u64,
    },
    /// A master speaks another protocol.
    Protocol {
        /// Its address.
        peer: String,
        /// The version of the protocol.
        theirs: u32,
    },
    /// A master is of a cluster already; its word that this one is too may be on the way.
    Formed {
        /// Its address.
        peer: String,
        /// Its cluster.
        cluster_id: String,
    },
    /// A master is of a cluster that this one is not of.
    Foreign {
        /// Its address.
        peer: String,
        /// What it answers.
        answer: String,
    },
}

impl Obstacle {
    /// Whether a person must do something about it.
    pub fn is_error(&self) -> bool {
        !matches!(self, Self::Missing { .. } | Self::Formed { .. })
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { peer } => write!(f, "the master at {peer} does not answer yet"),
            Self::List { peer, theirs, ours } => write!(
                f,
                "the master at {peer} was started with --peers {}, this one with --peers {}: all must name the same masters in the same way",
                theirs.join(","),
                ours.join(",")
            ),
            Self::Name { peer, theirs, ours } => write!(
                f,
                "the master at {peer} was started with --cluster {theirs}, this one with --cluster {ours}: all must have the same"
            ),
            Self::Misnamed { peer, says } => write!(
                f,
                "the master at {peer} says that it is reached at {says}: --peers must name each master as its --advertise does"
            ),
            Self::SameId { peer, other, member } => write!(
                f,
                "the masters at {peer} and {other} have the same id {member}, so one has a copy of the other's work directory: \
                 empty one of the two"
            ),
            Self::Protocol { peer, theirs } => write!(
                f,
                "the master at {peer} speaks version {theirs} of the masters' protocol, this one version {}: run the same program",
                super::PROTOCOL
            ),
            Self::Formed { peer, cluster_id } => {
                write!(
                    f,
                    "the master at {peer} is of cluster {cluster_id}, and has not said yet that this one is too"
                )
            }
            Self::Foreign { peer, answer } => write!(f, "the master at {peer} answers: {answer}"),
        }
    }
}
