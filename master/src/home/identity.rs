//! The file `identity`: who a master is, and whether it is of a cluster yet.
//!
//! Format 1 knows masters of a group of one only, whose member id is 1.

use std::fs;
use std::io;
use std::path::Path;

use proffer_proto::registry::Member;
use serde::{Deserialize, Serialize};

use super::{Error, io_error, write_atomically};

const FORMAT: u32 = 2;

/// What a work directory says of its master.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// It is of no cluster yet.
    Apart(Apart),
    /// It is of a cluster, for good.
    Formed(Identity),
}

/// A master that is of no cluster yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Apart {
    /// The id under which others may know it already.
    pub member: u64,
    /// How it is to find its cluster.
    pub way: Way,
}

/// How a master finds its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// It founds one with others.
    Peers,
    /// It joins one.
    Join,
}

/// Who a master is, for as long as its work directory exists.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The cluster's random id.
    pub cluster_id: String,
    /// The cluster's name, for people.
    pub cluster: String,
    /// The master's id in the group.
    pub member: u64,
    /// The initial members, where this master is one of several.
    pub founders: Vec<Member>,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    member: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<Way>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    founders: Vec<Founder>,
}

#[derive(Serialize, Deserialize)]
struct Founder {
    id: u64,
    address: String,
    level: u32,
    version: String,
}

/// An id that no other master has: random, and neither 0 nor negative where somebody takes it for signed.
pub(super) fn new_member() -> u64 {
    (uuid::Uuid::new_v4().as_u64_pair().1 >> 1).max(2)
}

/// Reads the file of a work directory, if there is one.
pub(super) fn read(directory: &Path) -> Result<Option<Standing>, Error> {
    let path = directory.join("identity");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    let not_ours = |problem| Error::NotOurs {
        path: directory.to_path_buf(),
        problem,
    };
    let damaged = |reason: String| {
        not_ours(format!(
            "its file `identity` is damaged ({reason}). {}",
            crate::log::ADVICE
        ))
    };
    let record: Record = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if !(1..=FORMAT).contains(&record.format) {
        let format = record.format;
        return Err(not_ours(format!(
            "its format is {format}, and this version knows 1 to {FORMAT}"
        )));
    }
    standing(record)
        .map(Some)
        .ok_or_else(|| damaged("a field is missing".to_owned()))
}

/// Makes the file durable.
pub(super) fn write(directory: &Path, standing: &Standing) -> Result<(), Error> {
    let path = directory.join("identity");
    let text = serde_json::to_vec_pretty(&record(standing)).map_err(io::Error::other);
    text.and_then(|text| write_atomically(&path, &text))
        .map_err(io_error("write", &path))
}

fn standing(record: Record) -> Option<Standing> {
    let member = record.member;
    if let Some(way) = record.way {
        return Some(Standing::Apart(Apart { member, way }));
    }
    let founders = record.founders.into_iter().map(|founder| Member {
        id: founder.id,
        address: founder.address,
        level: founder.level,
        version: founder.version,
    });
    Some(Standing::Formed(Identity {
        cluster_id: record.cluster_id?,
        cluster: record.cluster?,
        member,
        founders: founders.collect(),
    }))
}

fn record(standing: &Standing) -> Record {
    match standing {
        Standing::Apart(apart) => Record {
            format: FORMAT,
            member: apart.member,
            way: Some(apart.way),
            cluster_id: None,
            cluster: None,
            founders: Vec::new(),
        },
        Standing::Formed(identity) => Record {
            format: FORMAT,
            member: identity.member,
            way: None,
            cluster_id: Some(identity.cluster_id.clone()),
            cluster: Some(identity.cluster.clone()),
            founders: identity
                .founders
                .iter()
                .map(|member| Founder {
                    id: member.id,
                    address: member.address.clone(),
                    level: member.level,
                    version: member.version.clone(),
                })
                .collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reread(standing: &Standing) -> Standing {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), standing).unwrap();
        read(directory.path()).unwrap().unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let apart = Standing::Apart(Apart {
            member: new_member(),
            way: Way::Join,
        });
        assert_eq!(reread(&apart), apart);
        let formed = Standing::Formed(Identity {
            cluster_id: "c".to_owned(),
            cluster: "blue".to_owned(),
            member: u64::MAX >> 1,
            founders: vec![Member {
                id: 7,
                address: "a:1".to_owned(),
                level: 2,
                version: "0".to_owned(),
            }],
        });
        assert_eq!(reread(&formed), formed);
    }

    #[test]
    fn the_first_format_is_a_group_of_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        std::fs::write(&path, r#"{"format":1,"cluster_id":"c","cluster":"blue","member":1}"#).unwrap();
        let Some(Standing::Formed(identity)) = read(directory.path()).unwrap() else {
            panic!("it is formed");
        };
        assert_eq!((identity.member, identity.cluster_id.as_str()), (1, "c"));
        for (text, problem) in [
            (r#"{"format":3,"member":1}"#, "this version knows 1 to 2"),
            (r#"{"format":2,"member":1}"#, "a field is missing"),
            (r#"{"format":2,"#, "is damaged"),
        ] {
            std::fs::write(&path, text).unwrap();
            let refused = read(directory.path()).unwrap_err().to_string();
            assert!(refused.contains(problem), "{refused}");
        }
    }
}
