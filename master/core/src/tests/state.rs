//! The frameworks' replicated state, as scripts.

use bytes::Bytes;
use proffer_proto::registry as log;
use proffer_proto::registry::change::Body;
use proffer_proto::state::{self, call};

use super::{Words, World, check};
use crate::{Config, Effects, Input, Master, StreamId, Timestamp};

impl World {
    /// What the driver proposes: `member 2 joins|leaves`, `level 2`.
    pub(super) fn of_driver(&mut self, line: &str) -> Input {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse().expect("a number");
        let body = match words[0] {
            "level" => Body::RaiseLevel(log::RaiseLevel {
                level: number(1) as u32,
            }),
            _ if words[2] == "leaves" => Body::RemoveMember(log::RemoveMember { id: number(1) }),
            _ => Body::PutMember(log::PutMember {
                member: member(number(1), 2),
            }),
        };
        self.committed_apart(body)
    }

    fn committed_apart(&mut self, body: Body) -> Input {
        let change = log::Change { body: Some(body) };
        self.index += 1;
        self.committed.push(change.clone());
        Input::Committed {
            index: self.index,
            proposal: None,
            change,
        }
    }

    fn namespace(&self, text: &str) -> String {
        match text.strip_prefix("framework/") {
            Some(name) => format!("framework/{}", self.id(name)),
            None => text.to_owned(),
        }
    }

    /// - `gets app key`, `deletes app key [if=3]`, `puts app key [value=v] [size=1000] [if=3]`
    /// - `lists app [prefix=p] [after=k] [limit=9] [keys-only]`
    pub(super) fn state(&mut self, verb: &str, rest: &str) -> Input {
        let words = Words::of(rest);
        let text = |name: &str| words.options.get(name).map(|text| (*text).to_owned());
        let number = |name: &str| {
            words
                .options
                .get(name)
                .map(|text| text.parse::<u64>().expect("a number"))
        };
        let key = || words.words.get(1).copied().unwrap_or_default().to_owned();
        let body = match verb {
            "gets" => call::Body::Get(state::Get { key: key() }),
            "deletes" => call::Body::Delete(state::Delete {
                key: key(),
                expected_version: number("if"),
            }),
            "puts" => call::Body::Put(state::Put {
                key: key(),
                value: match number("size") {
                    Some(size) => Bytes::from(vec![b'x'; size as usize]),
                    None => Bytes::from(text("value").unwrap_or_default()),
                },
                expected_version: number("if"),
            }),
            "lists" => call::Body::List(state::List {
                prefix: text("prefix"),
                after: text("after"),
                limit: number("limit").map(|limit| limit as u32),
                keys_only: words.words.contains(&"keys-only").then_some(true),
            }),
            _ => panic!("nobody {verb} state"),
        };
        Input::State {
            request: self.request(),
            call: Box::new(state::Call {
                namespace: self.namespace(words.words.first().copied().unwrap_or_default()),
                body: Some(body),
            }),
        }
    }

    /// `w1 watches app [prefix=p]`, `w1 ends`.
    pub(super) fn watch(&mut self, who: &str, verb: &str, rest: &str) -> Input {
        if verb == "ends" {
            let stream = self.frameworks.insert(who.to_owned(), None).flatten();
            let stream = stream.expect("a stream");
            return Input::WatchEnded { stream };
        }
        let words = Words::of(rest);
        let (request, stream) = (self.request(), StreamId(self.number()));
        self.streams.insert(stream, who.to_owned());
        self.frameworks.insert(who.to_owned(), Some(stream));
        Input::Watch {
            request,
            stream,
            watch: Box::new(state::Watch {
                namespace: self.namespace(words.words[0]),
                prefix: words.options.get("prefix").map(|prefix| (*prefix).to_owned()),
            }),
        }
    }
}

fn member(id: u64, level: u32) -> log::Member {
    log::Member {
        id,
        address: format!("host-{id}:5050"),
        level,
        version: "1.0.0".to_owned(),
    }
}
