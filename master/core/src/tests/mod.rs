//! Scripts of inputs and transcripts of their effects, as one text: lines that begin with `>` are what happens, the lines
//! below each are what the master does about it.
//!
//! Only this file touches the API of the core; its language is explained at [`World::input`]. Agents, frameworks and tasks
//! are called by short names (`a1`, `f1`, `t1`), offers by their numbers (`o1`). Registry changes are committed at once,
//! and reads answered, unless a script begins with `> manual`; wakes are shown after `> wakes`.

mod accept;
mod agents;
mod allocate;
mod city;
mod demand;
mod drain;
mod executors;
mod explain;
mod failover;
mod frameworks;
mod gangs;
mod gangs_random;
mod hoarding;
mod maintenance;
mod malformed;
mod operations;
mod operator;
mod optimistic;
mod random;
mod reconcile;
mod registry;
mod remnants;
mod revocable;
mod roles;
mod scale;
mod state;
mod transcript;
mod twin;
mod updates;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use proffer_proto::resources::Resources;
use proffer_proto::v1::executor_info::Type;
use proffer_proto::v1::scheduler::{self, call};
use proffer_proto::v1::{self, TaskState, master};
use proffer_proto::{domain, link, registry as wire};

use crate::{Config, ConnectionId, Effect, Effects, Input, Master, ProposalId, ReadId, RequestId, StreamId, Timestamp};

/// Runs the inputs of a transcript and compares what comes out with it.
#[track_caller]
pub(crate) fn check(transcript: &str) {
    let expected: Vec<&str> = transcript
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let inputs: Vec<&str> = expected.iter().filter_map(|line| line.strip_prefix("> ")).collect();
    let actual = run(&inputs);
    assert_eq!(actual, run(&inputs), "the same inputs had other effects");
    let lines: Vec<&str> = actual.lines().map(str::trim).collect();
    assert!(lines == expected, "the transcript is:\n--8<--\n{actual}-->8--");
}

fn run(inputs: &[&str]) -> String {
    let mut world = World::new(Config::default());
    for line in inputs {
        world.line(line);
    }
    world.out
}

/// The names of what a script speaks of, and what it is that they name.
pub(crate) struct World {
    pub(crate) master: Master,
    pub(crate) out: String,
    effects: Effects,
    now: u64,
    manual: bool,
    wakes: bool,
    pending: VecDeque<(ProposalId, wire::Change)>,
    /// Reads that the group has not answered.
    reads: VecDeque<ReadId>,
    /// The effects of all steps that nobody has looked at.
    pub(crate) last: Vec<Effect>,
    /// Every request that was made.
    pub(crate) requests: Vec<RequestId>,
    /// Those about the frameworks' state.
    pub(crate) calls: BTreeMap<RequestId, proffer_proto::state::Call>,
    /// Every watch that was asked for.
    pub(crate) watches: BTreeMap<StreamId, proffer_proto::state::Watch>,
    /// Every change that was committed, in order.
    pub(crate) committed: Vec<wire::Change>,
    index: u64,
    incarnation: String,
    numbers: u64,
    connections: BTreeMap<ConnectionId, String>,
    agents: BTreeMap<String, (Option<ConnectionId>, String)>,
    streams: BTreeMap<StreamId, String>,
    frameworks: BTreeMap<String, Option<StreamId>>,
    /// Wire ids by names, and the other way round.
    ids: BTreeMap<String, String>,
    names: BTreeMap<String, String>,
}

/// The 16 bytes of an update's uuid, by its number.
fn uuid(number: &str) -> Vec<u8> {
    vec![number.parse().expect("a number"); 16]
}

fn uuid_text(uuid: Option<&Vec<u8>>) -> String {
    uuid.map(|uuid| format!(" #{}", uuid[0])).unwrap_or_default()
}

use words::resources;

fn resources_text(list: &[v1::Resource]) -> String {
    // The role of everybody goes without saying.
    Resources::from_wire(list)
        .expect("resources")
        .to_string()
        .replace("{allocated to *}", "")
}

/// `key=value` words are options; the rest is what the verb is about.
struct Words<'a> {
    words: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Self {
        let (mut words, mut options) = (Vec::new(), BTreeMap::new());
        for word in text.split_whitespace() {
            match word.split_once('=') {
                Some((key, value)) => {
                    options.insert(key, value);
                }
                None => words.push(word),
            }
        }
        Words { words, options }
    }

    fn list(&self, key: &str) -> Vec<String> {
        let list = self.options.get(key).map(|list| list.split(',').map(str::to_owned));
        list.map(Iterator::collect).unwrap_or_default()
    }

    /// The parts of an option that are joined by `+`.
    fn list_of(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.options.get(key).into_iter().flat_map(|list| list.split('+'))
    }

    fn filters(&self) -> Option<v1::Filters> {
        self.options.get("refuse").map(|seconds| v1::Filters {
            refuse_seconds: Some(seconds.parse().expect("seconds")),
        })
    }
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        let mut world = World {
            master: Master::new(config),
            out: String::new(),
            effects: Effects::new(),
            now: 0,
            manual: false,
            wakes: false,
            pending: VecDeque::new(),
            reads: VecDeque::new(),
            last: Vec::new(),
            requests: Vec::new(),
            calls: BTreeMap::new(),
            watches: BTreeMap::new(),
            committed: Vec::new(),
            index: 0,
            incarnation: "m1".to_owned(),
            numbers: 0,
            connections: BTreeMap::new(),
            agents: BTreeMap::new(),
            streams: BTreeMap::new(),
            frameworks: BTreeMap::new(),
            ids: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        let incarnation = world.incarnation.clone();
        world.step(Input::BecameLeader { incarnation });
        world
    }

    /// `5ms a1 registers cpus:4;mem:1024`: a time, who, what.
    pub(crate) fn line(&mut self, line: &str) {
        writeln!(self.out, "> {line}").expect("a string");
        match line {
            "manual" => return self.manual = true,
            "wakes" => return self.wakes = true,
            _ => {}
        }
        if let Some(setting) = line.strip_prefix("config ") {
            return self.configure(setting);
        }
        let (time, rest) = line.split_once("ms ").expect("a time in ms");
        self.now = time.parse().expect("a time in ms");
        if let Some(input) = self.input(rest) {
            self.step(input);
        }
    }

    fn configure(&mut self, setting: &str) {
        let (key, value) = setting.split_once('=').expect("key=value");
        let mut config = self.master.config().clone();
        let number = value.parse::<u64>().unwrap_or_default();
        match key {
            "offer_patience" => config.offer_patience = (number > 0).then(|| Duration::from_millis(number)),
            "revocable_grace" => config.revocable_grace = Duration::from_millis(number),
            "idle_after" => config.idle_after = Duration::from_millis(number),
            "offer_timeout" => config.offer_timeout = (number > 0).then(|| Duration::from_millis(number)),
            "completed_frameworks_max" => config.completed_frameworks_max = number as usize,
            "completed_tasks_max" => config.completed_tasks_max = number as usize,
            "told_at_once" => config.told_at_once = number as usize,
            "state_bytes_max" => config.state_bytes_max = number,
            "level" => config.level = number as u32,
            "domain" => {
                config.master_info = Some(v1::MasterInfo {
                    domain: domain::parse(value).ok(),
                    ..v1::MasterInfo::default()
                });
            }
            "gone_agents_max" => config.gone_agents_max = number as usize,
            _ => panic!("unknown setting {key}"),
        }
        self.master = Master::new(config);
        let incarnation = self.incarnation.clone();
        self.step(Input::BecameLeader { incarnation });
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn request(&mut self) -> RequestId {
        let request = RequestId(self.number());
        self.requests.push(request);
        request
    }

    /// The open stream of a framework.
    pub(crate) fn stream(&self, framework: &str) -> Option<StreamId> {
        self.frameworks.get(framework).copied().flatten()
    }

    /// Whether the master leads.
    pub(crate) fn leads(&self) -> bool {
        self.master.leading.is_some()
    }

    pub(crate) fn is_attached(&self, agent: &str) -> bool {
        self.agents.get(agent).is_some_and(|agent| agent.0.is_some())
    }

    /// The open offers to a framework, with their agents.
    pub(crate) fn open_offers(&self, framework: &str) -> Vec<(String, String)> {
        let Some(leading) = &self.master.leading else {
            return Vec::new();
        };
        let id = self.id(framework);
        let of = |offer: &crate::offers::Offer| leading.frameworks[offer.framework].id.value == id;
        let offers = leading.offers.iter().filter(|(_, offer)| of(offer));
        offers
            .map(|(number, offer)| {
                (
                    format!("o{}", number.0),
                    self.name(leading.agents[offer.agent].id.as_str()),
                )
            })
            .collect()
    }

    /// The role that an open offer is made to.
    pub(crate) fn offered_role(&self, offer: &str) -> Option<&str> {
        let leading = self.master.leading.as_ref()?;
        let number: u64 = offer.strip_prefix('o')?.parse().ok()?;
        let mut offers = leading.offers.iter();
        let (_, offer) = offers.find(|(known, _)| known.0 == number)?;
        Some(&leading.claims[offer.claim].role)
    }

    /// A persistent volume that an open offer holds, and its size.
    pub(crate) fn offered_volume(&self, offer: &str) -> Option<(String, u64)> {
        let leading = self.master.leading.as_ref()?;
        let number: u64 = offer.strip_prefix('o')?.parse().ok()?;
        let mut offers = leading.offers.iter();
        let (_, offer) = offers.find(|(known, _)| known.0 == number)?;
        let mut volumes = offer.resources.iter();
        volumes.find_map(|entry| Some((entry.key().volume_id()?.to_owned(), entry.thousandths() / 1000)))
    }

    /// The tasks of a framework and what is left of them, with their agents.
    pub(crate) fn tasks(&self, framework: &str) -> Vec<(String, String)> {
        let Some(leading) = &self.master.leading else {
            return Vec::new();
        };
        let id = self.id(framework);
        let tasks = leading
            .tasks
            .iter()
            .filter(|(_, task)| leading.frameworks[task.framework].id.value == id);
        let remnants = leading.agents.iter().flat_map(|(_, agent)| {
            let of = agent.remnants.keys().filter(|key| key.0.value == id);
            of.map(|key| (key.1.value.clone(), self.name(agent.id.as_str())))
        });
        tasks
            .map(|(_, task)| {
                (
                    task.record.id().value,
                    self.name(leading.agents[task.agent].id.as_str()),
                )
            })
            .chain(remnants)
            .collect()
    }

    /// The tasks on an agent and what is left there, with their frameworks.
    pub(crate) fn tasks_on(&self, agent: &str) -> Vec<String> {
        let Some(leading) = &self.master.leading else {
            return Vec::new();
        };
        let id = self.id(agent);
        let tasks = leading
            .tasks
            .iter()
            .filter(|(_, task)| leading.agents[task.agent].id.value == id);
        let tasks = tasks.map(|(_, task)| (leading.frameworks[task.framework].id.clone(), task.record.id()));
        let agent = leading.agent_ids.get(&v1::AgentId::from(id.as_str()));
        let remnants = agent
            .into_iter()
            .flat_map(|agent| leading.agents[*agent].remnants.keys());
        tasks
            .chain(remnants.cloned())
            .map(|(framework, task)| format!("{}/{task}", self.name(framework.as_str())))
            .collect()
    }

    /// How many changes wait to be committed.
    pub(crate) fn proposals(&self) -> usize {
        self.pending.len()
    }

    /// How many reads wait to be answered.
    pub(crate) fn reads_waiting(&self) -> usize {
        self.reads.len()
    }

    /// A new stream of an agent.
    pub(crate) fn connect(&mut self, agent: &str) -> ConnectionId {
        let connection = ConnectionId(self.number());
        self.connections.insert(connection, agent.to_owned());
        connection
    }

    /// The wire id of a name; a name that stands for none is its own id.
    pub(crate) fn id(&self, name: &str) -> String {
        self.ids.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    fn name(&self, id: &str) -> String {
        self.names.get(id).cloned().unwrap_or_else(|| id.to_owned())
    }

    fn offer_id(&self, name: &str) -> v1::OfferId {
        let number = name.strip_prefix('o').filter(|number| number.parse::<u64>().is_ok());
        v1::OfferId::from(number.map_or(name.to_owned(), |number| format!("{}-O{number}", self.incarnation)))
    }

    fn inverse_offer_id(&self, name: &str) -> v1::OfferId {
        let number = name.strip_prefix('i').filter(|number| number.parse::<u64>().is_ok());
        v1::OfferId::from(number.map_or(name.to_owned(), |number| format!("{}-I{number}", self.incarnation)))
    }

    fn inverse_offer_name(&self, id: &v1::OfferId) -> String {
        let prefix = format!("{}-I", self.incarnation);
        id.value
            .strip_prefix(&prefix)
            .map_or(id.value.clone(), |number| format!("i{number}"))
    }

    fn offer_name(&self, id: &v1::OfferId) -> String {
        let prefix = format!("{}-O", self.incarnation);
        id.value
            .strip_prefix(&prefix)
            .map_or(id.value.clone(), |number| format!("o{number}"))
    }

    /// Understands one line without its time:
    /// - `tick`, `commit`, `drop`, `commit-dropped` (the oldest proposal), `leads m2`, `loses`, `restarts as m2` (from a snapshot)
    /// - `a1 registers cpus:4 [tasks=f1/t1:RUNNING:cpus,1;mem,32+f1/t2:...] [executors=f1/e1:cpus,1] [old=yes]`,
    ///   `a1 disconnects|leaves|pongs`, `a1 applies [fail=web/v1+...]` (the layout that it was sent last),
    ///   `a1 resizes cpus:2`, `a1 updates f1/t1 RUNNING #1 [latest=FINISHED]`
    /// - `f1 subscribes [timeout=10] [roles=a,b] [suppressed=a] [can=PARTITION_AWARE] [user=root]`, `f1 updates` with the same,
    ///   `f1 disconnects`, `f1 accepts o1 [o2] [launch=t1:cpus,1;mem,32+t2:...] [refuse=5] [on=a1]`,
    ///   where `executor=e1:cpus,1;mem,32` launches on a custom executor, and `group=` instead of `launch=` a task group,
    ///   on the agent's own executor unless `custom=yes`, `do=reserve@op1:cpus(web!),1+launch:t1:cpus(web!),1` any operations,
    ///   `f1 acknowledges-operation op1`, `f1 reconciles-operations [op1 op2@a1]`,
    ///   `f1 declines o1 [refuse=5]`, `f1 revives|suppresses [role]`, `f1 kills t1 [a1]`, `f1 acknowledges a1 t1 #1`,
    ///   `f1 reconciles [t1 t2@a1]`, `f1 continues` (what it was sent is read), `f1 tears-down`
    /// - `f1 gangs g1 t1:cpus,1 t2:cpus,2;ports,1@a1 [min=1] [wait=5000] [offers=o1,o2] [together=yes] [role=a] [refuse=5]`: see
    ///   [`World::gang`]; `max=5000` of `launch=` is the longest time of the tasks, in ms
    /// - `member 2 joins|leaves`, `level 2`: changes that the driver proposes
    /// - `state gets|deletes|puts|lists ...`, `w1 watches ...`, `w1 ends`: see [`World::state`] and [`World::watch`]
    /// - `readable`, `unreadable`: the group answers the oldest read
    /// - `operator drains a1 [gone] [grace=5]`, `operator deactivates|reactivates a1`
    /// - `operator schedules a1 a2 [from=1000]`, `operator takes-down|brings-up a1`, `f1 yields|keeps i1 [refuse=5]`
    /// - `operator quotas a=cpus,1/cpus,2;ports,3 a/b=/ [force=yes] [dry-run=yes]` (guarantees, then limits), `operator weights a=2`
    /// - `only=a:rack~r1` and `min=cpus,2` of a SUBSCRIBE or UPDATE_FRAMEWORK, `attributes=rack:r1` and `domain=eu/a` of an agent
    /// - `f1 requests [cpus,4] [count=2] [on=a1] [role=a]`, `operator explains f1 [role=a]`, `operator explains role=a`
    /// - `operator has a1 reserve:cpus(web!),1`: any operation, see [`words`]
    /// - `operator gone a1`, `operator teardown f1`, `operator kills f1/t1`, `operator gets GET_AGENTS`
    fn input(&mut self, line: &str) -> Option<Input> {
        let (who, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match who {
            "tick" => return Some(Input::Tick),
            "commit" => return self.commit(),
            "commit-dropped" => {
                let (_, change) = self.pending.pop_front().expect("a proposal");
                self.index += 1;
                self.committed.push(change.clone());
                return Some(Input::Committed {
                    index: self.index,
                    proposal: None,
                    change,
                });
            }
            "drop" => {
                let (proposal, _) = self.pending.pop_front().expect("a proposal");
                return Some(Input::ProposalDropped { proposal });
            }
            "readable" => {
                let read = self.reads.pop_front().expect("a read");
                return Some(Input::Readable { read });
            }
            "unreadable" => {
                let read = self.reads.pop_front().expect("a read");
                return Some(Input::Unreadable { read });
            }
            "member" | "level" => return Some(self.of_driver(line)),
            "state" => return Some(self.state(verb, rest)),
            "loses" => {
                self.reads.clear();
                return Some(Input::LostLeadership);
            }
            "leads" | "restarts" => {
                self.pending.clear();
                self.reads.clear();
                if who == "restarts" {
                    let mut next = Master::new(self.master.config().clone());
                    next.restore(self.master.registry());
                    self.master = next;
                }
                self.incarnation = line.rsplit(' ').next().expect("a word").to_owned();
                let incarnation = self.incarnation.clone();
                return Some(Input::BecameLeader { incarnation });
            }
            "operator" => return Some(self.operator(verb, rest)),
            _ => {}
        }
        match who.as_bytes()[0] {
            b'a' => Some(self.agent(who, verb, rest)),
            b'w' => Some(self.watch(who, verb, rest)),
            _ => Some(self.framework(who, verb, rest)),
        }
    }

    fn commit(&mut self) -> Option<Input> {
        let (proposal, change) = self.pending.pop_front().expect("a proposal");
        self.index += 1;
        self.committed.push(change.clone());
        Some(Input::Committed {
            index: self.index,
            proposal: Some(proposal),
            change,
        })
    }

    fn agent(&mut self, who: &str, verb: &str, rest: &str) -> Input {
        let words = Words::of(rest);
        if verb == "registers" {
            return self.register(who, &words);
        }
        let connection = self.agents.get(who).and_then(|agent| agent.0).expect("a connection");
        let body = match verb {
            "disconnects" => {
                if let Some(agent) = self.agents.get_mut(who) {
                    agent.0 = None;
                }
                return Input::AgentDisconnected { connection };
            }
            "registers-again" => link::agent_message::Body::Register(link::Register::default()),
            "leaves" => link::agent_message::Body::Unregister(link::Unregister {}),
            "pongs" => link::agent_message::Body::Pong(link::Pong { sequence: 1 }),
            "applies" => {
                let failed: Vec<String> = words.list_of("fail").map(str::to_owned).collect();
                link::agent_message::Body::LayoutApplied(self.applied(who, &failed))
            }
            "resizes" => link::agent_message::Body::Resources(link::Resources {
                total: resources(words.words[0]),
            }),
            "updates" => {
                let (framework, task) = words.words[0].split_once('/').expect("f1/t1");
                let state = state(words.words[1]);
                let number = words.words.get(2).and_then(|word| word.strip_prefix('#'));
                link::agent_message::Body::StatusUpdate(link::StatusUpdate {
                    framework_id: self.id(framework).into(),
                    status: v1::TaskStatus {
                        task_id: task.into(),
                        state: state as i32,
                        uuid: number.map(uuid),
                        source: Some(v1::task_status::Source::Executor as i32),
                        ..v1::TaskStatus::default()
                    },
                    latest_state: words.options.get("latest").map_or(state, |latest| self::state(latest)) as i32,
                })
            }
            "frees" => {
                let (framework, task) = words.words[0].split_once('/').expect("f1/t1");
                link::agent_message::Body::Freed(link::Freed {
                    framework_id: self.id(framework).into(),
                    task_id: task.into(),
                })
            }
            "exits" => link::agent_message::Body::ExecutorExited(link::ExecutorExited {
                framework_id: self.id(words.words[0]).into(),
                executor_id: words.words[1].into(),
                status: 9,
            }),
            "says" => link::agent_message::Body::ExecutorMessage(link::ExecutorMessage {
                framework_id: self.id(words.words[0]).into(),
                executor_id: words.words[1].into(),
                data: words.words[2].into(),
            }),
            _ => panic!("agents do not know {verb}"),
        };
        let message = Box::new(link::AgentMessage { body: Some(body) });
        Input::AgentMessage { connection, message }
    }

    fn register(&mut self, who: &str, words: &Words<'_>) -> Input {
        let connection = ConnectionId(self.number());
        let known = self.agents.get(who).map(|agent| agent.1.clone()).unwrap_or_default();
        let text = words.words.first().map_or(known, |text| (*text).to_owned());
        self.agents.insert(who.to_owned(), (Some(connection), text.clone()));
        self.connections.insert(connection, who.to_owned());
        let id = self.ids.get(who).cloned();
        let tasks = words
            .options
            .get("tasks")
            .map(|list| list.split('+'))
            .into_iter()
            .flatten();
        let register = link::Register {
            protocol: 1,
            agent: v1::AgentInfo {
                hostname: who.to_owned(),
                resources: resources(&text),
                id: id.map(v1::AgentId::from),
                attributes: words
                    .options
                    .get("attributes")
                    .map_or(Vec::new(), |text| vec![attribute(text)]),
                domain: words.options.get("domain").and_then(|text| domain::parse(text).ok()),
                ..v1::AgentInfo::default()
            },
            version: "1".to_owned(),
            capabilities: Vec::from_iter(
                (!words.options.contains_key("old")).then_some(v1::agent_info::Capability {
                    r#type: Some(v1::agent_info::capability::Type::AgentOperationFeedback as i32),
                }),
            ),
            tasks: tasks.map(|task| self.listed(who, task)).collect(),
            executors: words
                .list_of("executors")
                .map(|executor| self.running(executor))
                .collect(),
            ..link::Register::default()
        };
        Input::AgentRegister {
            connection,
            register: Box::new(register),
            address: format!("{who}:5051"),
        }
    }

    /// `f1/t1:RUNNING:cpus,1;mem,32[:#1]`, or with the id of the agent that it was launched on, `f1/t1:RUNNING:cpus,1:@a9`
    fn listed(&self, agent: &str, text: &str) -> v1::Task {
        let parts: Vec<&str> = text.split(':').collect();
        let (framework, task) = parts[0].split_once('/').expect("f1/t1");
        let number = parts.get(3).and_then(|number| number.strip_prefix('#'));
        let launched_on = parts.get(3).and_then(|agent| agent.strip_prefix('@'));
        let agent_id = launched_on.map(str::to_owned).or_else(|| self.ids.get(agent).cloned());
        v1::Task {
            name: task.to_owned(),
            task_id: task.into(),
            framework_id: self.id(framework).into(),
            agent_id: agent_id.unwrap_or_default().into(),
            state: state(parts[1]) as i32,
            resources: resources(&parts[2].replace(',', ":")),
            status_update_state: number.map(|_| state(parts[1]) as i32),
            status_update_uuid: number.map(uuid),
            ..v1::Task::default()
        }
    }

    /// `f1/e1:cpus,1;mem,32`
    fn running(&self, text: &str) -> v1::ExecutorInfo {
        let (framework, executor) = text.split_once('/').expect("f1/e1");
        v1::ExecutorInfo {
            framework_id: Some(self.id(framework).into()),
            ..executor_info(executor)
        }
    }

    fn description(&self, who: &str, words: &Words<'_>) -> v1::FrameworkInfo {
        let option = |key: &str| words.options.get(key).map(|value| (*value).to_owned());
        let mut capabilities = words.list("can");
        let roles = words.list("roles");
        if !roles.is_empty() {
            capabilities.push("MULTI_ROLE".to_owned());
        }
        let capability = |name: String| v1::framework_info::Capability {
            r#type: v1::framework_info::capability::Type::from_str_name(&name).map(|kind| kind as i32),
        };
        v1::FrameworkInfo {
            user: option("user").unwrap_or_else(|| "user".to_owned()),
            name: who.to_owned(),
            id: self.ids.get(who).map(|id| v1::FrameworkId::from(id.as_str())),
            failover_timeout: option("timeout").map(|seconds| seconds.parse().expect("seconds")),
            principal: option("principal"),
            offer_filters: words.options.get("min").map_or(BTreeMap::new(), |text| {
                roles.iter().map(|role| (role.clone(), minimum(text))).collect()
            }),
            roles,
            capabilities: capabilities.into_iter().map(capability).collect(),
            ..v1::FrameworkInfo::default()
        }
    }

    fn framework(&mut self, who: &str, verb: &str, rest: &str) -> Input {
        let words = Words::of(rest);
        if verb == "subscribes" {
            let request = self.request();
            let stream = StreamId(self.number());
            self.streams.insert(stream, who.to_owned());
            let info = self.description(who, &words);
            let call = scheduler::Call {
                framework_id: info.id.clone(),
                r#type: Some(call::Type::Subscribe as i32),
                subscribe: Some(Box::new(call::Subscribe {
                    framework_info: info,
                    suppressed_roles: words.list("suppressed"),
                    offer_constraints: words.options.get("only").map(|text| constraints(text)),
                })),
                ..scheduler::Call::default()
            };
            self.frameworks.insert(who.to_owned(), Some(stream));
            return Input::Subscribe {
                request,
                stream,
                call: Box::new(call),
            };
        }
        let stream = self.frameworks.get(who).copied().flatten();
        if verb == "continues" {
            let stream = stream.expect("a stream");
            return Input::Continue { stream };
        }
        if verb == "disconnects" {
            self.frameworks.insert(who.to_owned(), None);
            let stream = stream.expect("a stream");
            return Input::SchedulerDisconnected { stream };
        }
        Input::SchedulerCall {
            request: self.request(),
            stream,
            call: Box::new(self.call(who, verb, &words)),
        }
    }

    fn call(&self, who: &str, verb: &str, words: &Words<'_>) -> scheduler::Call {
        let base = |kind: call::Type| scheduler::Call {
            framework_id: Some(self.id(who).into()),
            r#type: Some(kind as i32),
            ..scheduler::Call::default()
        };
        let offers = || words.words.iter().map(|name| self.offer_id(name)).collect();
        let roles = || words.words.iter().map(|role| (*role).to_owned()).collect();
        match verb {
            "gangs" => scheduler::Call {
                accept: Some(self.gang(words)),
                ..base(call::Type::Accept)
            },
            "accepts" => scheduler::Call {
                accept: Some(call::Accept {
                    offer_ids: offers(),
                    operations: self.launches(words),
                    filters: words.filters(),
                    ..call::Accept::default()
                }),
                ..base(call::Type::Accept)
            },
            "declines" => scheduler::Call {
                decline: Some(call::Decline {
                    offer_ids: offers(),
                    filters: words.filters(),
                }),
                ..base(call::Type::Decline)
            },
            "revives" => scheduler::Call {
                revive: Some(call::Revive { roles: roles() }),
                ..base(call::Type::Revive)
            },
            "suppresses" => scheduler::Call {
                suppress: Some(call::Suppress { roles: roles() }),
                ..base(call::Type::Suppress)
            },
            "kills" => scheduler::Call {
                kill: Some(call::Kill {
                    task_id: words.words[0].into(),
                    agent_id: words.words.get(1).map(|agent| self.id(agent).into()),
                    kill_policy: None,
                }),
                ..base(call::Type::Kill)
            },
            "acknowledges" => scheduler::Call {
                acknowledge: Some(call::Acknowledge {
                    agent_id: self.id(words.words[0]).into(),
                    task_id: words.words[1].into(),
                    uuid: uuid(words.words[2].trim_start_matches('#')),
                }),
                ..base(call::Type::Acknowledge)
            },
            "yields" => scheduler::Call {
                accept_inverse_offers: Some(call::AcceptInverseOffers {
                    inverse_offer_ids: words.words.iter().map(|name| self.inverse_offer_id(name)).collect(),
                    filters: words.filters(),
                }),
                ..base(call::Type::AcceptInverseOffers)
            },
            "keeps" => scheduler::Call {
                decline_inverse_offers: Some(call::DeclineInverseOffers {
                    inverse_offer_ids: words.words.iter().map(|name| self.inverse_offer_id(name)).collect(),
                    filters: words.filters(),
                }),
                ..base(call::Type::DeclineInverseOffers)
            },
            "reconciles" => scheduler::Call {
                reconcile: Some(call::Reconcile {
                    tasks: words.words.iter().map(|task| self.asked(task)).collect(),
                }),
                ..base(call::Type::Reconcile)
            },
            "updates" => scheduler::Call {
                update_framework: Some(Box::new(call::UpdateFramework {
                    framework_info: self.description(who, words),
                    suppressed_roles: words.list("suppressed"),
                    offer_constraints: words.options.get("only").map(|text| constraints(text)),
                })),
                ..base(call::Type::UpdateFramework)
            },
            "says" => scheduler::Call {
                message: Some(call::Message {
                    agent_id: self.id(words.words[0]).into(),
                    executor_id: words.words[1].into(),
                    data: words.words[2].into(),
                }),
                ..base(call::Type::Message)
            },
            "shuts-down" => scheduler::Call {
                shutdown: Some(call::Shutdown {
                    agent_id: self.id(words.words[0]).into(),
                    executor_id: words.words[1].into(),
                }),
                ..base(call::Type::Shutdown)
            },
            "requests" => scheduler::Call {
                request: Some(call::Request {
                    requests: words.words.iter().map(|text| self.wanted(text, words)).collect(),
                }),
                ..base(call::Type::Request)
            },
            "acknowledges-operation" => {
                self.about_operations(verb, &words.words, base(call::Type::AcknowledgeOperationStatus))
            }
            "reconciles-operations" => self.about_operations(verb, &words.words, base(call::Type::ReconcileOperations)),
            "tears-down" => base(call::Type::Teardown),
            _ => panic!("frameworks do not know {verb}"),
        }
    }

    /// `cpus,4;mem,100`, with the options `count`, `on` and `role`
    fn wanted(&self, text: &str, words: &Words<'_>) -> v1::Request {
        let option = |key: &str| words.options.get(key);
        let resources = Resources::parse(&text.replace(',', ":")).expect("resources");
        let resources = match option("role") {
            Some(role) => resources.allocate(role),
            None => resources,
        };
        v1::Request {
            agent_id: option("on").map(|agent| self.id(agent).into()),
            resources: resources.to_wire(),
            count: option("count").map(|count| count.parse().expect("a number")),
        }
    }

    fn asked(&self, text: &str) -> call::reconcile::Task {
        let (task, agent) = text
            .split_once('@')
            .map_or((text, None), |(task, agent)| (task, Some(agent)));
        call::reconcile::Task {
            task_id: task.into(),
            agent_id: agent.map(|agent| self.id(agent).into()),
        }
    }

    /// `launch=t1:cpus,1;mem,32+t2:...`, on the agent `on=`, or else the agent of the first offer.
    fn launches(&self, words: &Words<'_>) -> Vec<v1::offer::Operation> {
        let agent = words.options.get("on").map_or("a1", |agent| *agent);
        if let Some(list) = words.options.get("do") {
            return self.operations(list, agent);
        }
        let (Some(list), grouped) = (match words.options.get("group") {
            Some(group) => (Some(group), true),
            None => (words.options.get("launch"), false),
        }) else {
            return Vec::new();
        };
        let executor = words.options.get("executor").map(|text| executor_info(text));
        let custom = !grouped || words.options.contains_key("custom");
        let executor = executor.map(|executor| v1::ExecutorInfo {
            command: custom.then(command),
            r#type: Some(if custom { Type::Custom } else { Type::Default } as i32),
            ..executor
        });
        let task_infos = list.split('+').map(|text| {
            let (task, wanted) = text.split_once(':').expect("t1:resources");
            v1::TaskInfo {
                name: task.to_owned(),
                task_id: task.into(),
                agent_id: self.id(agent).into(),
                resources: resources(&wanted.replace(',', ":")),
                command: (grouped || executor.is_none()).then(command),
                executor: executor.clone().filter(|_| !grouped).map(Box::new),
                max_completion_time: words.options.get("max").map(|millis| nanoseconds(millis)),
                ..v1::TaskInfo::default()
            }
        });
        if grouped {
            let launch_group = v1::offer::operation::LaunchGroup {
                task_group: v1::TaskGroupInfo {
                    tasks: task_infos.collect(),
                },
                executor: executor.expect("an executor"),
            };
            return vec![v1::offer::Operation {
                r#type: Some(v1::offer::operation::Type::LaunchGroup as i32),
                launch_group: Some(Box::new(launch_group)),
                ..v1::offer::Operation::default()
            }];
        }
        vec![v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch as i32),
            launch: Some(v1::offer::operation::Launch {
                task_infos: task_infos.collect(),
            }),
            ..v1::offer::Operation::default()
        }]
    }

    fn operator(&mut self, verb: &str, rest: &str) -> Input {
        let base = |kind: master::call::Type| master::Call {
            r#type: Some(kind as i32),
            ..master::Call::default()
        };
        let call = match verb {
            "gone" => master::Call {
                mark_agent_gone: Some(master::call::MarkAgentGone {
                    agent_id: self.id(rest).into(),
                }),
                ..base(master::call::Type::MarkAgentGone)
            },
            "drains" => {
                let words = Words::of(rest);
                let seconds = words
                    .options
                    .get("grace")
                    .map(|seconds| seconds.parse().expect("seconds"));
                master::Call {
                    drain_agent: Some(master::call::DrainAgent {
                        agent_id: self.id(words.words[0]).into(),
                        max_grace_period: seconds.map(|seconds: i64| {
                            let mut grace = v1::master::call::DrainAgent::default()
                                .max_grace_period
                                .unwrap_or_default();
                            grace.seconds = seconds;
                            grace
                        }),
                        mark_gone: words.words.get(1).map(|word| *word == "gone"),
                    }),
                    ..base(master::call::Type::DrainAgent)
                }
            }
            "schedules" => {
                let words = Words::of(rest);
                let start = words.options.get("from").map_or(1000, |from| from.parse().expect("ms"));
                let window = v1::maintenance::Window {
                    machine_ids: words.words.iter().map(|name| machine(name)).collect(),
                    unavailability: v1::Unavailability {
                        start: v1::TimeInfo {
                            nanoseconds: start * 1_000_000,
                        },
                        duration: None,
                    },
                };
                let windows = Vec::from_iter((!words.words.is_empty()).then_some(window));
                master::Call {
                    update_maintenance_schedule: Some(master::call::UpdateMaintenanceSchedule {
                        schedule: v1::maintenance::Schedule { windows },
                    }),
                    ..base(master::call::Type::UpdateMaintenanceSchedule)
                }
            }
            "takes-down" => master::Call {
                start_maintenance: Some(master::call::StartMaintenance {
                    machines: rest.split_whitespace().map(machine).collect(),
                }),
                ..base(master::call::Type::StartMaintenance)
            },
            "brings-up" => master::Call {
                stop_maintenance: Some(master::call::StopMaintenance {
                    machines: rest.split_whitespace().map(machine).collect(),
                }),
                ..base(master::call::Type::StopMaintenance)
            },
            "has" => {
                let (agent, operation) = rest.split_once(' ').expect("an agent and an operation");
                self.ordered(agent, operation)
            }
            "deactivates" => master::Call {
                deactivate_agent: Some(master::call::DeactivateAgent {
                    agent_id: self.id(rest).into(),
                }),
                ..base(master::call::Type::DeactivateAgent)
            },
            "reactivates" => master::Call {
                reactivate_agent: Some(master::call::ReactivateAgent {
                    agent_id: self.id(rest).into(),
                }),
                ..base(master::call::Type::ReactivateAgent)
            },
            "quotas" => {
                let mut words = Words::of(rest);
                let force = words.options.remove("force").map(|_| true);
                let dry_run = words.options.remove("dry-run").map(|_| true);
                let quota_configs = words.options.into_iter().map(quota_config).collect();
                master::Call {
                    update_quota: Some(master::call::UpdateQuota {
                        force,
                        quota_configs,
                        dry_run,
                    }),
                    ..base(master::call::Type::UpdateQuota)
                }
            }
            "sets-quota" | "removes-quota" => older_quota(verb, rest),
            "explains" => {
                let words = Words::of(rest);
                master::Call {
                    explain: Some(master::call::Explain {
                        framework_id: words.words.first().map(|name| self.id(name).into()),
                        role: words.options.get("role").map(|role| (*role).to_owned()),
                    }),
                    ..base(master::call::Type::Explain)
                }
            }
            "weights" => {
                let info = |(role, weight): (&str, &str)| v1::WeightInfo {
                    role: Some(role.to_owned()),
                    weight: weight.parse().expect("a number"),
                };
                master::Call {
                    update_weights: Some(master::call::UpdateWeights {
                        weight_infos: Words::of(rest).options.into_iter().map(info).collect(),
                    }),
                    ..base(master::call::Type::UpdateWeights)
                }
            }
            "teardown" => master::Call {
                teardown: Some(master::call::Teardown {
                    framework_id: self.id(rest).into(),
                }),
                ..base(master::call::Type::Teardown)
            },
            "kills" => {
                let (framework, task) = rest.split_once('/').expect("f1/t1");
                master::Call {
                    kill_task: Some(master::call::KillTask {
                        framework_id: self.id(framework).into(),
                        task_id: task.into(),
                        kill_policy: None,
                    }),
                    ..base(master::call::Type::KillTask)
                }
            }
            _ => base(master::call::Type::from_str_name(rest).expect("a type of call")),
        };
        Input::Operator {
            request: self.request(),
            call: Box::new(call),
        }
    }

    /// Steps, checks the invariants, and writes the effects down.
    pub(crate) fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.effects);
        self.master.step(Timestamp(self.now), input, &mut effects);
        if let Err(broken) = crate::invariants::check(&self.master) {
            panic!("{broken}, after:\n{}", self.out);
        }
        let done: Vec<Effect> = effects.drain().collect();
        self.effects = effects;
        self.last.extend(done.iter().cloned());
        for effect in &done {
            if let Effect::Propose { id, change } = effect {
                self.pending.push_back((*id, (**change).clone()));
            }
            if let Effect::Read { read } = effect {
                self.reads.push_back(*read);
            }
            if let Some(line) = self.effect(effect) {
                writeln!(self.out, "  {line}").expect("a string");
            }
        }
        while !self.manual && !self.pending.is_empty() {
            if let Some(input) = self.commit() {
                self.step(input);
            }
        }
        while !self.manual
            && let Some(read) = self.reads.pop_front()
        {
            self.step(Input::Readable { read });
        }
        done
    }
}

/// SET_QUOTA of `web=cpus,1`, or REMOVE_QUOTA of `web`.
#[allow(deprecated)]
fn older_quota(verb: &str, rest: &str) -> master::Call {
    let (role, amounts) = rest.split_once('=').unwrap_or((rest, ""));
    let quota_request = v1::quota::QuotaRequest {
        role: Some(role.to_owned()),
        guarantee: resources(&amounts.replace(',', ":")),
        force: None,
    };
    match verb {
        "sets-quota" => master::Call {
            r#type: Some(master::call::Type::SetQuota as i32),
            set_quota: Some(master::call::SetQuota { quota_request }),
            ..master::Call::default()
        },
        _ => master::Call {
            r#type: Some(master::call::Type::RemoveQuota as i32),
            remove_quota: Some(master::call::RemoveQuota { role: role.to_owned() }),
            ..master::Call::default()
        },
    }
}

fn command() -> v1::CommandInfo {
    v1::CommandInfo {
        value: Some("sleep 1".to_owned()),
        ..v1::CommandInfo::default()
    }
}

/// `e1:cpus,1;mem,32`, or `e1` alone
fn executor_info(text: &str) -> v1::ExecutorInfo {
    let (id, held) = text.split_once(':').unwrap_or((text, ""));
    let held = if held.is_empty() {
        Vec::new()
    } else {
        resources(&held.replace(',', ":"))
    };
    v1::ExecutorInfo {
        executor_id: id.into(),
        resources: held,
        ..v1::ExecutorInfo::default()
    }
}

/// `rack:r1`
fn attribute(text: &str) -> v1::Attribute {
    let (name, value) = text.split_once(':').expect("name:value");
    v1::Attribute {
        name: name.to_owned(),
        r#type: v1::value::Type::Text as i32,
        text: Some(v1::value::Text {
            value: value.to_owned(),
        }),
        ..v1::Attribute::default()
    }
}

/// `a:rack~r1`: for the role `a`, agents on which the attribute `rack` matches `r1`
fn constraints(text: &str) -> scheduler::OfferConstraints {
    use scheduler::attribute_constraint::{Predicate, Selector, predicate, selector};
    use scheduler::offer_constraints::{RoleConstraints, role_constraints::Group};
    let (role, rest) = text.split_once(':').expect("role:attribute~value");
    let (name, regex) = rest.split_once('~').expect("role:attribute~value");
    let constraint = scheduler::AttributeConstraint {
        selector: Selector {
            selector: Some(selector::Selector::AttributeName(name.to_owned())),
        },
        predicate: Predicate {
            predicate: Some(predicate::Predicate::TextMatches(predicate::TextMatches {
                regex: regex.to_owned(),
            })),
        },
    };
    let groups = vec![Group {
        attribute_constraints: vec![constraint],
    }];
    scheduler::OfferConstraints {
        role_constraints: BTreeMap::from([(role.to_owned(), RoleConstraints { groups })]),
    }
}

/// `cpus,2;mem,64`
fn minimum(text: &str) -> v1::OfferFilters {
    let parts = text.split(';').filter_map(|part| part.split_once(','));
    let scalar = |value: &str| v1::value::Scalar {
        value: value.parse().expect("a number"),
    };
    let quantities = parts.map(|(name, value)| (name.to_owned(), scalar(value))).collect();
    v1::OfferFilters {
        min_allocatable_resources: Some(v1::offer_filters::MinAllocatableResources {
            quantities: vec![v1::offer_filters::ResourceQuantities { quantities }],
        }),
    }
}

/// `cpus,1/cpus,2;ports,3`
fn quota_config((role, text): (&str, &str)) -> v1::quota::QuotaConfig {
    let amounts = |text: &str| -> BTreeMap<String, v1::value::Scalar> {
        let parts = text.split(';').filter_map(|part| part.split_once(','));
        let scalar = |value: &str| v1::value::Scalar {
            value: value.parse().expect("a number"),
        };
        parts.map(|(name, value)| (name.to_owned(), scalar(value))).collect()
    };
    let (guarantees, limits) = text.split_once('/').expect("guarantees/limits");
    v1::quota::QuotaConfig {
        role: role.to_owned(),
        guarantees: amounts(guarantees),
        limits: amounts(limits),
    }
}

/// Of so many milliseconds.
fn nanoseconds(millis: &str) -> v1::DurationInfo {
    let millis: i64 = millis.parse().expect("milliseconds");
    v1::DurationInfo {
        nanoseconds: millis * 1_000_000,
    }
}

fn machine(name: &str) -> v1::MachineId {
    v1::MachineId {
        hostname: Some(name.to_owned()),
        ip: None,
    }
}

fn state(text: &str) -> TaskState {
    TaskState::from_str_name(&format!("TASK_{text}")).expect("a state")
}
