//! The replicated state as masters keep it, without masters.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use proffer_proto::state::{
    Answer, Call, Conflict, Current, Deleted, Done, Entry, Event, Got, List, Listed, Watch, answer, call, event,
};
use tokio::sync::mpsc;
use tonic::Status;

const NAMESPACE_BYTES_MAX: usize = 256;
const KEY_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 1 << 20;
const LIST_DEFAULT: usize = 1000;
const LIST_BYTES_MAX: usize = (4 << 20) - 1024;

type EventSender = mpsc::UnboundedSender<Result<Event, Status>>;

/// Shared by the masters of one cluster.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeState(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    /// By namespace and key.
    entries: BTreeMap<(String, String), (Bytes, u64)>,
    version: u64,
    watchers: Vec<Watcher>,
    /// What happens to the next calls.
    mishaps: VecDeque<Mishap>,
}

#[derive(Debug)]
struct Watcher {
    watch: Watch,
    events: EventSender,
}

/// What goes wrong with a call.
#[derive(Debug)]
pub(super) enum Mishap {
    /// It is not carried out.
    Refused(Status),
    /// A write is carried out, and its answer is lost.
    AnswerLost,
}

impl FakeState {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn plan(&self, mishap: Mishap) {
        self.lock().mishaps.push_back(mishap);
    }

    /// Ends every watch.
    pub(super) fn break_watches(&self) {
        self.lock().watchers.clear();
    }

    pub(super) fn submit(&self, call: Call) -> Result<Answer, Status> {
        let mut inside = self.lock();
        check_namespace(&call.namespace)?;
        let body = call.body.ok_or_else(|| Status::invalid_argument("`body` is missing"))?;
        let writes = matches!(body, call::Body::Put(_) | call::Body::Delete(_));
        let mishap = match inside.mishaps.front() {
            Some(Mishap::AnswerLost) if !writes => None,
            _ => inside.mishaps.pop_front(),
        };
        if let Some(Mishap::Refused(status)) = mishap {
            return Err(status);
        }
        let answer = inside.carry_out(call.namespace, body)?;
        match mishap {
            Some(Mishap::AnswerLost) => Err(Status::unavailable("the test lost the answer")),
            _ => Ok(Answer { body: Some(answer) }),
        }
    }

    pub(super) fn watch(&self, watch: Watch) -> Result<mpsc::UnboundedReceiver<Result<Event, Status>>, Status> {
        check_namespace(&watch.namespace)?;
        let mut inside = self.lock();
        let (events, receiver) = mpsc::unbounded_channel();
        let watcher = Watcher { watch, events };
        let entries = inside.range(&watcher.watch.namespace, watcher.watch.prefix());
        for entry in entries {
            watcher.tell(event::Body::Put(entry));
        }
        watcher.tell(event::Body::Current(Current {}));
        inside.watchers.push(watcher);
        Ok(receiver)
    }
}

impl Inside {
    fn carry_out(&mut self, namespace: String, body: call::Body) -> Result<answer::Body, Status> {
        match body {
            call::Body::Get(get) => {
                check_key(&get.key)?;
                let entry = self.entry(&namespace, &get.key);
                Ok(answer::Body::Got(Got { entry }))
            }
            call::Body::List(list) => Ok(answer::Body::Listed(self.list(&namespace, &list))),
            call::Body::Put(put) => {
                check_key(&put.key)?;
                if put.value.len() > VALUE_BYTES_MAX {
                    let text = format!(
                        "`put.value` is {} bytes long; accepted: at most {VALUE_BYTES_MAX}",
                        put.value.len()
                    );
                    return Err(Status::invalid_argument(text));
                }
                Ok(self.write(namespace, put.key, Some(put.value), put.expected_version))
            }
            call::Body::Delete(delete) => {
                check_key(&delete.key)?;
                Ok(self.write(namespace, delete.key, None, delete.expected_version))
            }
        }
    }

    fn write(&mut self, namespace: String, key: String, value: Option<Bytes>, expected: Option<u64>) -> answer::Body {
        let present = self.entry(&namespace, &key);
        let version = present.as_ref().map_or(0, |entry| entry.version);
        if expected.is_some_and(|expected| expected != version) {
            return answer::Body::Conflict(Conflict { entry: present });
        }
        self.version += 1;
        let version = self.version;
        let body = match value {
            Some(value) => {
                self.entries.insert((namespace.clone(), key.clone()), (value, version));
                self.entry(&namespace, &key).map(event::Body::Put)
            }
            None => {
                let removed = self.entries.remove(&(namespace.clone(), key.clone()));
                let key = key.clone();
                removed.map(|_| event::Body::Deleted(Deleted { key, version }))
            }
        };
        if let Some(body) = body {
            let concerned =
                |watcher: &&Watcher| watcher.watch.namespace == namespace && key.starts_with(watcher.watch.prefix());
            for watcher in self.watchers.iter().filter(concerned) {
                watcher.tell(body.clone());
            }
        }
        answer::Body::Done(Done { version })
    }

    fn entry(&self, namespace: &str, key: &str) -> Option<Entry> {
        let (value, version) = self.entries.get(&(namespace.to_owned(), key.to_owned()))?;
        Some(Entry {
            key: key.to_owned(),
            value: Some(value.clone()),
            version: *version,
        })
    }

    fn range(&self, namespace: &str, prefix: &str) -> Vec<Entry> {
        let entries = self.entries.iter();
        let wanted = entries.filter(|((of, key), _)| of == namespace && key.starts_with(prefix));
        let entry = |((_, key), (value, version)): (&(String, String), &(Bytes, u64))| Entry {
            key: key.clone(),
            value: Some(value.clone()),
            version: *version,
        };
        wanted.map(entry).collect()
    }

    fn list(&self, namespace: &str, list: &List) -> Listed {
        let limit = list.limit.map_or(LIST_DEFAULT, |limit| limit as usize);
        let (mut listed, mut bytes) = (Listed::default(), 0);
        for mut entry in self.range(namespace, list.prefix()) {
            if list.after.as_ref().is_some_and(|after| entry.key <= *after) {
                continue;
            }
            entry.value.take_if(|_| list.keys_only());
            bytes += entry.key.len() + entry.value.as_ref().map_or(0, Bytes::len) + 32;
            if listed.entries.len() == limit || bytes > LIST_BYTES_MAX {
                listed.more = true;
                break;
            }
            listed.entries.push(entry);
        }
        listed
    }
}

impl Watcher {
    fn tell(&self, body: event::Body) {
        // Whoever watched may be gone, which is not the master's concern.
        let _ = self.events.send(Ok(Event { body: Some(body) }));
    }
}

fn check_namespace(namespace: &str) -> Result<(), Status> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    if (1..=NAMESPACE_BYTES_MAX).contains(&namespace.len()) && namespace.bytes().all(good) {
        return Ok(());
    }
    let text =
        format!("`namespace` is {namespace:?}; accepted: 1 to {NAMESPACE_BYTES_MAX} bytes of `A-Z a-z 0-9 . _ - /`");
    Err(Status::invalid_argument(text))
}

fn check_key(key: &str) -> Result<(), Status> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) && !key.chars().any(char::is_control) {
        return Ok(());
    }
    let text = format!("`key` is {key:?}; accepted: 1 to {KEY_BYTES_MAX} bytes of UTF-8 without control characters");
    Err(Status::invalid_argument(text))
}
