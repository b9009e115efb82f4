//! Linearizable reads. All reads that come while a question to the group is under way share the next one: a question that
//! was asked before a read came proves nothing for it.

use proffer_proto::state as wire;
use proffer_proto::state::answer::Body;

use super::{answer, limits, to_wire, watch};
use crate::effect::{Answer, Effect};
use crate::input::{ReadId, RequestId, StreamId};
use crate::master::{Leading, Step};

/// Something that waits for the group's word.
#[derive(Debug)]
pub(super) enum Read {
    Get(RequestId, String, wire::Get),
    List(RequestId, String, wire::List),
    Watch(RequestId, StreamId),
}

/// The reads that wait.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// The question that is under way, and who asked it.
    asked: Option<(ReadId, Vec<Read>)>,
    /// Who came after it was asked.
    next: Vec<Read>,
}

impl Read {
    fn request(&self) -> RequestId {
        match self {
            Read::Get(request, ..) | Read::List(request, ..) | Read::Watch(request, _) => *request,
        }
    }
}

impl Reads {
    pub(super) fn requests(&self) -> impl Iterator<Item = RequestId> {
        let asked = self.asked.iter().flat_map(|(_, reads)| reads);
        asked.chain(&self.next).map(Read::request)
    }

    /// Takes the reads that asked this question.
    fn take(&mut self, read: ReadId) -> Vec<Read> {
        match self.asked.take_if(|(asked, _)| *asked == read) {
            Some((_, reads)) => reads,
            None => Vec::new(),
        }
    }
}

/// Lets a read wait.
pub(super) fn ask(leading: &mut Leading, step: &mut Step<'_>, read: Read) {
    leading.state.reads.next.push(read);
    ask_next(leading, step);
}

fn ask_next(leading: &mut Leading, step: &mut Step<'_>) {
    let reads = &mut leading.state.reads;
    if reads.asked.is_some() || reads.next.is_empty() {
        return;
    }
    *step.asked += 1;
    let read = ReadId(*step.asked);
    reads.asked = Some((read, std::mem::take(&mut reads.next)));
    step.effects.push(Effect::Read { read });
}

/// The group says that this master led when it was asked: the registry has all that whoever asked may expect.
pub(crate) fn readable(leading: &mut Leading, step: &mut Step<'_>, read: ReadId) {
    for read in leading.state.reads.take(read) {
        match read {
            Read::Get(request, namespace, get) => self::get(step, request, &namespace, &get),
            Read::List(request, namespace, list) => self::list(step, request, &namespace, &list),
            Read::Watch(request, stream) => watch::begin(leading, step, request, stream),
        }
    }
    ask_next(leading, step);
}

/// The group has no answer.
pub(crate) fn unreadable(leading: &mut Leading, step: &mut Step<'_>, read: ReadId) {
    for read in leading.state.reads.take(read) {
        if let Read::Watch(_, stream) = read {
            leading.state.watches.remove(stream);
        }
        step.effects.answer(read.request(), Answer::NotLeader);
    }
    ask_next(leading, step);
}

fn get(step: &mut Step<'_>, request: RequestId, namespace: &str, get: &wire::Get) {
    if let Err(rejection) = limits::namespace(step.registry, namespace) {
        return step.effects.answer(request, Answer::Rejected(rejection));
    }
    let entry = step.registry.state.get(namespace, &get.key);
    let entry = entry.map(|entry| to_wire(&get.key, entry));
    answer(step, request, Body::Got(wire::Got { entry }));
}

fn list(step: &mut Step<'_>, request: RequestId, namespace: &str, list: &wire::List) {
    if let Err(rejection) = limits::namespace(step.registry, namespace) {
        return step.effects.answer(request, Answer::Rejected(rejection));
    }
    let limit = list.limit.map_or(limits::LIST_DEFAULT, |limit| limit as usize);
    let (mut listed, mut bytes) = (wire::Listed::default(), 0);
    let state = &step.registry.state;
    for (key, entry) in state.range(namespace, list.prefix(), list.after.as_deref()) {
        let mut entry = to_wire(key, entry);
        entry.value.take_if(|_| list.keys_only());
        bytes += limits::ENTRY_BYTES + key.len() + entry.value.as_ref().map_or(0, bytes::Bytes::len);
        if listed.entries.len() == limit || bytes > limits::LIST_BYTES_MAX {
            listed.more = true;
            break;
        }
        listed.entries.push(entry);
    }
    answer(step, request, Body::Listed(listed));
}
