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

    /// The version of a key; 0 if it is not there.
    pub(crate) fn version(&self, namespace: &str, key: &str) -> u64 {
        let entry = self.master.registry.state.get(&self.namespace(namespace), key);
        entry.map_or(0, |entry| entry.version)
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
        let request = self.request();
        let call = state::Call {
            namespace: self.namespace(words.words.first().copied().unwrap_or_default()),
            body: Some(body),
        };
        self.calls.insert(request, call.clone());
        let call = Box::new(call);
        Input::State { request, call }
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
        let watch = state::Watch {
            namespace: self.namespace(words.words[0]),
            prefix: words.options.get("prefix").map(|prefix| (*prefix).to_owned()),
        };
        self.watches.insert(stream, watch.clone());
        let watch = Box::new(watch);
        Input::Watch { request, stream, watch }
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

#[test]
fn what_is_written_is_read_with_its_version() {
    check(
        "> 0ms level 2
         > 1ms state gets app k1
           read
           answer got nothing
         > 2ms state puts app k1 value=one
           propose write app k1=one
           answer done #2
         > 3ms state gets app k1
           read
           answer got k1=one #2
         > 4ms state puts app k1 value=two
           propose write app k1=two
           answer done #3
         > 5ms state gets app k1
           read
           answer got k1=two #3
         > 6ms state deletes app k1
           propose write app k1
           answer done #4
         > 7ms state gets app k1
           read
           answer got nothing
         > 8ms state puts app k1 value=three
           propose write app k1=three
           answer done #5
         > 9ms state gets app k1
           read
           answer got k1=three #5
         > 10ms state gets other k1
           read
           answer got nothing",
    );
}

#[test]
fn a_condition_is_decided_when_the_write_is_applied() {
    check(
        "> manual
         > 0ms level 2
         > 1ms state puts app k1 value=one if=0
           propose write app k1=one if #0
         > 2ms state puts app k1 value=other if=0
           propose write app k1=other if #0
         > 3ms state puts app k1 value=two if=2
           propose write app k1=two if #2
         > 4ms commit
           answer done #2
         > 5ms commit
           answer conflict: k1=one #2
         > 6ms commit
           answer done #4
         > 7ms state deletes app k1 if=2
           propose write app k1 if #2
         > 7ms state deletes app k1 if=4
           propose write app k1 if #4
         > 7ms state deletes app k1 if=6
           propose write app k1 if #6
         > 8ms commit
           answer conflict: k1=two #4
         > 8ms commit
           answer done #6
         > 8ms commit
           answer conflict: nothing
         > 9ms state deletes app k1 if=0
           propose write app k1 if #0
         > 9ms state deletes app k1
           propose write app k1
         > 9ms commit
           answer done #8
         > 9ms commit
           answer done #9",
    );
}

#[test]
fn what_is_proposed_is_not_read() {
    check(
        "> manual
         > 0ms level 2
         > 1ms state puts app k1 value=one
           propose write app k1=one
         > 2ms state gets app k1
           read
         > 3ms readable
           answer got nothing
         > 4ms commit
           answer done #2
         > 5ms state gets app k1
           read
         > 6ms readable
           answer got k1=one #2",
    );
}

#[test]
fn reads_that_come_while_one_is_under_way_share_the_next() {
    check(
        "> manual
         > 0ms level 2
         > 1ms state gets app k1
           read
         > 2ms state gets app k2
         > 2ms state lists app
         > 2ms state gets app k3
         > 3ms readable
           answer got nothing
           read
         > 4ms unreadable
           answer not leader
           answer not leader
           answer not leader
         > 5ms state gets app k4
           read
         > 6ms loses
           answer not leader",
    );
}

#[test]
fn lists_are_in_order_and_continue_after_a_key() {
    check(
        "> 0ms level 2
         > 1ms state puts app a/1 value=1
           propose write app a/1=1
           answer done #2
         > 1ms state puts app b/2 value=2
           propose write app b/2=2
           answer done #3
         > 1ms state puts app b/1 value=1
           propose write app b/1=1
           answer done #4
         > 1ms state puts app b/3 value=3
           propose write app b/3=3
           answer done #5
         > 1ms state puts app c value=4
           propose write app c=4
           answer done #6
         > 1ms state puts apq z value=5
           propose write apq z=5
           answer done #7
         > 2ms state lists app
           read
           answer listed [a/1=1 #2, b/1=1 #4, b/2=2 #3, b/3=3 #5, c=4 #6]
         > 3ms state lists app prefix=b/
           read
           answer listed [b/1=1 #4, b/2=2 #3, b/3=3 #5]
         > 4ms state lists app prefix=b/ limit=2
           read
           answer listed [b/1=1 #4, b/2=2 #3], and more
         > 5ms state lists app prefix=b/ limit=2 after=b/2
           read
           answer listed [b/3=3 #5]
         > 5ms state lists app prefix=b/ limit=1 after=b/2
           read
           answer listed [b/3=3 #5]
         > 6ms state lists app after=b/3 keys-only
           read
           answer listed [c #6]
         > 7ms state lists app prefix=b/ after=a
           read
           answer listed [b/1=1 #4, b/2=2 #3, b/3=3 #5]
         > 7ms state lists app prefix=b/ after=c
           read
           answer listed []
         > 8ms state lists nothing
           read
           answer listed []",
    );
}

#[test]
fn a_list_has_at_most_four_mebibytes() {
    check(
        "> 0ms level 2
         > 1ms state puts app k1 size=1048576
           propose write app k1=<1048576 bytes>
           answer done #2
         > 1ms state puts app k2 size=1048576
           propose write app k2=<1048576 bytes>
           answer done #3
         > 1ms state puts app k3 size=1048576
           propose write app k3=<1048576 bytes>
           answer done #4
         > 1ms state puts app k4 size=1048576
           propose write app k4=<1048576 bytes>
           answer done #5
         > 2ms state lists app
           read
           answer listed [k1=<1048576 bytes> #2, k2=<1048576 bytes> #3, k3=<1048576 bytes> #4], and more
         > 3ms state lists app after=k3
           read
           answer listed [k4=<1048576 bytes> #5]
         > 4ms state lists app keys-only
           read
           answer listed [k1 #2, k2 #3, k3 #4, k4 #5]",
    );
}

#[test]
fn what_is_no_call_is_rejected() {
    check(
        "> 0ms level 2
         > 1ms state gets
           answer rejected: `namespace` is empty; accepted: 1 to 256 bytes of `A-Z a-z 0-9 . _ - /`
         > 1ms state gets a+b k
           answer rejected: `namespace` holds '+'; accepted: 1 to 256 bytes of `A-Z a-z 0-9 . _ - /`
         > 1ms state gets framework/f9 k
           answer rejected: `namespace` is \"framework/f9\", but no framework with this id is registered; accepted: `framework/` and the id of a registered framework, or a name that does not begin so
         > 1ms state gets app
           answer rejected: `get.key` is empty; accepted: 1 to 1024 bytes of UTF-8 without control characters
         > 1ms state puts app k size=1048577
           answer rejected: `put.value` is 1048577 bytes long; accepted: at most 1048576 bytes
         > 1ms state deletes app
           answer rejected: `delete.key` is empty; accepted: 1 to 1024 bytes of UTF-8 without control characters
         > 1ms state lists app limit=0
           answer rejected: `list.limit` is 0; accepted: 1 or more, or none
         > 1ms w1 watches a:b
           answer rejected: `namespace` holds ':'; accepted: 1 to 256 bytes of `A-Z a-z 0-9 . _ - /`",
    );
}

#[test]
fn nothing_is_written_before_all_masters_understand_it() {
    check(
        "> 0ms state puts app k value=v
           answer refused: state is written from level 2 on, and the group is at level 1, until all of its masters understand more
         > 1ms state gets app k
           read
           answer got nothing
         > 2ms state lists app
           read
           answer listed []
         > 3ms level 2
         > 4ms state puts app k value=v
           propose write app k=v
           answer done #2
         > 5ms level 1
         > 6ms state puts app k value=v
           propose write app k=v
           answer done #4
         > config level=1
         > 7ms level 2
         > 8ms state puts app k value=v
           answer refused: state is written from level 2 on, and this master is held at level 1",
    );
}

#[test]
fn the_whole_state_is_limited() {
    check(
        "> config state_bytes_max=300
         > manual
         > 0ms level 2
         > 1ms state puts app k1 size=100
           propose write app k1=<100 bytes>
         > 2ms state puts app k2 size=100
           answer exhausted: the state of all frameworks may have 300 bytes; it has 0, 169 more are on their way, and this write needs 169
         > 3ms commit
           answer done #2
         > 4ms state puts app k2 size=100
           answer exhausted: the state of all frameworks may have 300 bytes; it has 169, 0 more are on their way, and this write needs 169
         > 5ms state puts app k1 size=100
           propose write app k1=<100 bytes>
         > 5ms state puts app k1 size=100
           answer exhausted: the state of all frameworks may have 300 bytes; it has 169, 0 more are on their way, and this write needs 169
         > 6ms commit
           answer done #3
         > 7ms state puts app k1 size=200
           propose write app k1=<200 bytes>
         > 7ms state puts app k3
           answer exhausted: the state of all frameworks may have 300 bytes; it has 169, 100 more are on their way, and this write needs 69
         > 8ms commit
           answer done #4
         > 9ms state puts app k2
           answer exhausted: the state of all frameworks may have 300 bytes; it has 269, 0 more are on their way, and this write needs 69
         > 10ms state deletes app k1
           propose write app k1
         > 11ms state puts app k2
           answer exhausted: the state of all frameworks may have 300 bytes; it has 269, 0 more are on their way, and this write needs 69
         > 12ms commit
           answer done #5
         > 13ms state puts app k2 size=100
           propose write app k2=<100 bytes>
         > 14ms commit
           answer done #6",
    );
}

#[test]
fn dropped_writes_make_room_and_their_callers_are_told() {
    check(
        "> config state_bytes_max=300
         > manual
         > 0ms level 2
         > 1ms state puts app k1 size=200
           propose write app k1=<200 bytes>
         > 2ms state puts app k2 size=200
           answer exhausted: the state of all frameworks may have 300 bytes; it has 0, 269 more are on their way, and this write needs 269
         > 3ms drop
           answer not leader
         > 4ms state puts app k2 size=200
           propose write app k2=<200 bytes>
         > 5ms commit-dropped
         > 6ms state puts app k3 size=200
           answer exhausted: the state of all frameworks may have 300 bytes; it has 269, 269 more are on their way, and this write needs 269",
    );
}

#[test]
fn a_watch_tells_what_is_there_and_then_every_change() {
    check(
        "> 0ms level 2
         > 1ms state puts app a1 value=1
           propose write app a1=1
           answer done #2
         > 1ms state puts app a2 value=2
           propose write app a2=2
           answer done #3
         > 1ms state puts app b1 value=3
           propose write app b1=3
           answer done #4
         > 2ms w1 watches app
           read
           answer accepted
           w1 <- put a1=1 #2
           w1 <- put a2=2 #3
           w1 <- put b1=3 #4
           w1 <- current
         > 3ms w2 watches app prefix=a
           read
           answer accepted
           w2 <- put a1=1 #2
           w2 <- put a2=2 #3
           w2 <- current
         > 3ms w3 watches other
           read
           answer accepted
           w3 <- current
         > 4ms state puts app a1 value=4
           propose write app a1=4
           w1 <- put a1=4 #5
           w2 <- put a1=4 #5
           answer done #5
         > 5ms state puts app b1 value=5 if=99
           propose write app b1=5 if #99
           answer conflict: b1=3 #4
         > 6ms state puts app b1 value=5
           propose write app b1=5
           w1 <- put b1=5 #7
           answer done #7
         > 7ms state deletes app a2
           propose write app a2
           w1 <- deleted a2 #8
           w2 <- deleted a2 #8
           answer done #8
         > 8ms state deletes app a2
           propose write app a2
           answer done #9
         > 9ms state puts other a1 value=6
           propose write other a1=6
           w3 <- put a1=6 #10
           answer done #10
         > 10ms w1 ends
         > 11ms state puts app a1 value=7
           propose write app a1=7
           w2 <- put a1=7 #11
           answer done #11
         > 12ms loses
           close w2
           close w3",
    );
}

#[test]
fn a_watch_begins_with_all_that_was_committed_before_it() {
    check(
        "> manual
         > 0ms level 2
         > 1ms state puts app k1 value=1
           propose write app k1=1
         > 2ms w1 watches app
           read
         > 3ms commit
           answer done #2
         > 4ms readable
           answer accepted
           w1 <- put k1=1 #2
           w1 <- current
         > 5ms state puts app k2 value=2
           propose write app k2=2
         > 6ms w2 watches app
           read
         > 7ms w2 ends
         > 8ms readable
           answer accepted
         > 9ms w3 watches app
           read
         > 10ms unreadable
           answer not leader
         > 11ms w4 watches app
           read
         > 12ms loses
           answer not leader
           answer not leader
           close w1",
    );
}

#[test]
fn the_state_of_a_framework_goes_with_it() {
    check(
        "> 0ms level 2
         > 1ms f1 subscribes timeout=10
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 1ms f2 subscribes timeout=0
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 2ms state puts framework/f1 k1 value=1
           propose write framework/f1 k1=1
           answer done #4
         > 2ms state puts framework/f1 k2 value=2
           propose write framework/f1 k2=2
           answer done #5
         > 2ms state puts framework/f2 k1 value=3
           propose write framework/f2 k1=3
           answer done #6
         > 3ms w1 watches framework/f1
           read
           answer accepted
           w1 <- put k1=1 #4
           w1 <- put k2=2 #5
           w1 <- current
         > 3ms w2 watches framework/f1 prefix=k2
           read
           answer accepted
           w2 <- put k2=2 #5
           w2 <- current
         > 4ms f1 tears-down
           propose remove f1
           w1 <- deleted k1 #7
           w1 <- deleted k2 #7
           w2 <- deleted k2 #7
           close w1
           close w2
           answer accepted
           close f1
         > 5ms state gets framework/f1 k1
           answer rejected: `namespace` is \"framework/m1-F0001\", but no framework with this id is registered; accepted: `framework/` and the id of a registered framework, or a name that does not begin so
         > 5ms state puts framework/f1 k1 value=1
           answer rejected: `namespace` is \"framework/m1-F0001\", but no framework with this id is registered; accepted: `framework/` and the id of a registered framework, or a name that does not begin so
         > 5ms w3 watches framework/f1
           answer rejected: `namespace` is \"framework/m1-F0001\", but no framework with this id is registered; accepted: `framework/` and the id of a registered framework, or a name that does not begin so
         > 6ms f2 disconnects
           propose remove f2
         > 7ms state lists framework/f2
           answer rejected: `namespace` is \"framework/m1-F0002\", but no framework with this id is registered; accepted: `framework/` and the id of a registered framework, or a name that does not begin so",
    );
}

#[test]
fn what_was_on_its_way_for_a_removed_framework_is_nowhere() {
    check(
        "> manual
         > 0ms level 2
         > 1ms f1 subscribes timeout=10
           propose put f1
         > 1ms commit
           answer accepted
           f1 <- subscribed as m1-F0001
         > 2ms f1 tears-down
           propose remove f1
         > 3ms state puts framework/f1 k1 value=1
           propose write framework/f1 k1=1
         > 3ms state gets framework/f1 k1
           read
         > 3ms w1 watches framework/f1
         > 3ms state lists framework/f1
         > 4ms commit
           answer accepted
           close f1
         > 5ms commit
           answer rejected: `namespace` is \"framework/m1-F0001\", but no framework with this id is registered; accepted: `framework/` and the id of a registered framework, or a name that does not begin so
         > 6ms readable
           answer rejected: `namespace` is \"framework/m1-F0001\", but no framework with this id is registered; accepted: `framework/` and the id of a registered framework, or a name that does not begin so
           read
         > 7ms readable
           answer rejected: `namespace` is \"framework/m1-F0001\", but no framework with this id is registered; accepted: `framework/` and the id of a registered framework, or a name that does not begin so
           answer rejected: `namespace` is \"framework/m1-F0001\", but no framework with this id is registered; accepted: `framework/` and the id of a registered framework, or a name that does not begin so",
    );
}

#[test]
fn a_lost_leadership_answers_everyone_who_waits() {
    check(
        "> manual
         > 0ms level 2
         > 1ms state puts app k1 value=1
           propose write app k1=1
         > 1ms state gets app k1
           read
         > 1ms state gets app k2
         > 1ms w1 watches app
         > 2ms readable
           answer got nothing
           read
         > 2ms w2 watches app
         > 3ms readable
           answer got nothing
           answer accepted
           w1 <- current
           read
         > 3ms state lists app
         > 4ms leads m2
           answer not leader
           answer not leader
           answer not leader
           close w1
         > 5ms state gets app k1
           read
         > 6ms readable
           answer got nothing",
    );
}

#[test]
fn a_follower_sends_everyone_to_the_leader() {
    check(
        "> 0ms level 2
         > 0ms loses
         > 1ms state gets app k1
           answer not leader
         > 1ms state puts app k1 value=1
           answer not leader
         > 1ms w1 watches app
           answer not leader",
    );
}

#[test]
fn changes_of_the_group_leave_everything_else_alone() {
    check(
        "> 0ms member 1 joins
         > 1ms a1 registers cpus:1
           propose admit a1
           a1 <- registered as m1-A0001
         > 2ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
           f1 <- offers o1 a1 cpus:1
         > 3ms member 2 joins
         > 4ms member 2 leaves
         > 5ms member 2 joins
         > 6ms level 2
         > 7ms state puts app k1 value=1
           propose write app k1=1
           answer done #8
         > 8ms w1 watches app
           read
           answer accepted
           w1 <- put k1=1 #8
           w1 <- current
         > 9ms f1 declines o1
           answer accepted",
    );
}

#[test]
fn the_state_survives_a_restart() {
    check(
        "> 0ms level 2
         > 1ms f1 subscribes timeout=10
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 2ms state puts app k1 value=1
           propose write app k1=1
           answer done #3
         > 3ms state puts framework/f1 k2 value=2
           propose write framework/f1 k2=2
           answer done #4
         > 4ms restarts as m2
           propose away f1 until 60004ms
         > 5ms state lists app
           read
           answer listed [k1=1 #3]
         > 6ms state lists framework/f1
           read
           answer listed [k2=2 #4]
         > 7ms state puts app k3 value=3
           propose write app k3=3
           answer done #6
         > 20000ms tick",
    );
}

/// A follower that applied the same changes has the same state, members and level, and so has one that was restored.
#[test]
fn followers_and_snapshots_hold_the_same_state() {
    let mut world = World::new(Config::default());
    for line in [
        "0ms member 1 joins",
        "0ms member 2 joins",
        "0ms member 3 joins",
        "0ms level 2",
        "1ms f1 subscribes timeout=10",
        "1ms f2 subscribes timeout=10",
        "2ms state puts framework/f1 k1 value=1",
        "2ms state puts framework/f2 k1 size=5000",
        "3ms state puts app k1 value=1",
        "3ms state puts app k1 value=2 if=9",
        "3ms state puts app k2 value=2 if=0",
        "3ms state deletes app k1",
        "4ms member 2 leaves",
        "5ms member 2 joins",
        "6ms f1 tears-down",
        "7ms level 1",
    ] {
        world.line(line);
    }
    let master = &world.master;
    assert_eq!(master.members().keys().collect::<Vec<_>>(), [&1, &3]);
    assert_eq!(master.removed_members(), &[2]);
    assert_eq!(master.level(), 2);
    let leader = master.registry();
    let kept = leader.state.iter().map(|entry| (entry.key.as_str(), entry.version));
    assert_eq!(kept.collect::<Vec<_>>(), [("k2", 11), ("k1", 8)]);

    let mut follower = Master::new(Config::default());
    let mut effects = Effects::new();
    for (index, change) in world.committed.iter().enumerate() {
        let input = Input::Committed {
            index: index as u64 + 1,
            proposal: None,
            change: change.clone(),
        };
        follower.step(Timestamp(0), input, &mut effects);
    }
    assert!(effects.is_empty(), "a follower has no effects");
    assert_eq!(follower.registry(), leader);
    assert_eq!(crate::invariants::check(&follower), Ok(()));

    let mut restored = Master::new(Config::default());
    restored.restore(leader.clone());
    assert_eq!(restored.registry(), leader);
    assert_eq!(crate::invariants::check(&restored), Ok(()));
}

#[test]
fn a_registry_of_the_first_level_says_nothing_of_what_came_later() {
    let mut world = World::new(Config::default());
    world.line("1ms a1 registers cpus:1");
    let registry = world.master.registry();
    assert_eq!(world.master.level(), 1);
    assert_eq!(
        (registry.level, registry.members, registry.state),
        (None, vec![], vec![])
    );
}

#[test]
fn only_so_many_masters_that_left_are_remembered() {
    let mut world = World::new(Config::default());
    for id in 1..=crate::REMOVED_MEMBERS_MAX + 1 {
        world.line(&format!("0ms member {id} leaves"));
    }
    world.line("0ms member 1 leaves");
    assert_eq!(world.master.removed_members().len(), crate::REMOVED_MEMBERS_MAX);
    assert_eq!(world.master.removed_members().front(), Some(&3));
    world.line("0ms member 2 joins");
    world.line("0ms member 3 joins");
    assert_eq!(world.master.members().keys().collect::<Vec<_>>(), [&2]);
}
