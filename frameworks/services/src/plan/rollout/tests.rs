//! Updates: what the bounds mean, and random histories in which no bound is ever broken and every update ends.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::plan::{Effect, Gates, Input, InstanceId, Launch, News, Observed, Plan, Put, Verdicts};
use crate::plan::{SIDE, Service};
use crate::spec::{Backoff, CanaryPolicy, CanarySize, Operator, Strategy as Order, UpdatePolicy};

fn policy(minimum_healthy: Option<f64>, over_capacity: Option<f64>) -> UpdatePolicy {
    UpdatePolicy {
        minimum_healthy,
        over_capacity,
        progress_deadline_seconds: 60.0,
        ..UpdatePolicy::default()
    }
}

/// The first so many are watched.
fn canary(count: u32, watch_seconds: f64, max_failures: u32) -> UpdatePolicy {
    UpdatePolicy {
        canary: Some(CanaryPolicy {
            size: CanarySize::Count(count),
            watch_seconds,
            max_failures,
        }),
        ..policy(None, None)
    }
}

/// Versions run side by side.
fn blue_green(retire_after_seconds: Option<f64>) -> UpdatePolicy {
    UpdatePolicy {
        strategy: Order::BlueGreen,
        retire_after_seconds,
        ..policy(None, None)
    }
}

fn spec(instances: u32, update: UpdatePolicy) -> ServiceSpec {
    ServiceSpec {
        instances,
        update,
        backoff: Backoff {
            initial_ms: 1,
            max_ms: 1,
            ..Backoff::default()
        },
        ..ServiceSpec::command("web", "serve")
    }
}

#[test]
fn bounds_are_shares_rounded_up_and_always_let_something_change() {
    for (instances, minimum, over, least, extra) in [
        (10, None, None, 10, 3),
        (1, None, None, 1, 1),
        (0, None, None, 0, 0),
        (10, Some(0.5), Some(0.0), 5, 0),
        (3, Some(0.5), Some(0.1), 2, 1),
        (3, None, Some(0.0), 2, 0),
        (1, Some(0.9), Some(0.0), 0, 0),
        (10, Some(0.7), Some(1.0), 7, 10),
    ] {
        let bounds = Bounds::of(&spec(instances, policy(minimum, over)));
        assert_eq!(bounds, Bounds { least, extra }, "{instances} {minimum:?} {over:?}");
    }
    let mut exclusive = spec(4, UpdatePolicy::default());
    exclusive.constraints = vec![crate::spec::Constraint::new("hostname", Operator::Unique)];
    assert_eq!(Bounds::of(&exclusive), Bounds { least: 3, extra: 0 });
}

/// How the instances of a version behave.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Good,
    /// They run and are never ready.
    Deaf,
    /// They end as soon as they run.
    Crashing,
}

/// What happens.
#[derive(Clone, Debug)]
enum Event {
    Change(Kind),
    Scale(u32),
    Offers(usize),
    /// So many messages arrive, in some order.
    Hear(usize, usize),
    Time(Millis),
    SchedulerDies,
}

fn event() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![3 => Just(Kind::Good), 1 => Just(Kind::Deaf), 1 => Just(Kind::Crashing)];
    prop_oneof![
        2 => kind.prop_map(Event::Change),
        1 => (0..6_u32).prop_map(Event::Scale),
        8 => (1..4_usize).prop_map(Event::Offers),
        12 => (1..4_usize, any::<usize>()).prop_map(|(count, which)| Event::Hear(count, which)),
        3 => (0..40_000_u64).prop_map(Event::Time),
        1 => Just(Event::SchedulerDies),
    ]
}

#[derive(Clone, Debug, PartialEq)]
enum Life {
    Starting,
    Running,
    Ready,
    /// It runs, and never will be ready.
    Useless,
}

/// A cluster with one service, whose scheduler keeps versions as the shell does.
struct World {
    now: Millis,
    plan: Plan,
    spec: ServiceSpec,
    kinds: BTreeMap<u64, Kind>,
    version: u64,
    stable: Option<u64>,
    reverts: Option<String>,
    base: u32,
    next: u64,
    tasks: BTreeMap<String, (u64, Life)>,
    doomed: BTreeSet<String>,
    /// Whether instances that were ready were ended on purpose since the last look.
    ended_ready: bool,
}

impl World {
    fn new(spec: ServiceSpec) -> Self {
        let mut world = Self {
            now: 0,
            plan: Plan::new(1),
            spec,
            kinds: [(1, Kind::Good)].into(),
            version: 1,
            stable: None,
            reverts: None,
            base: 0,
            next: 2,
            tasks: BTreeMap::new(),
            doomed: BTreeSet::new(),
            ended_ready: false,
        };
        world.put();
        world
    }

    fn put(&mut self) {
        let put = Put {
            spec: self.spec.clone(),
            version: self.version,
            instance_version: self.version,
            reverts: self.reverts.clone(),
            base: self.base,
        };
        self.step(Input::Put(Box::new(put)));
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.plan.step(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Kill { task_id, .. } => {
                    if let Some((_, life)) = self.tasks.get(&task_id) {
                        // Those beyond all that may be are ended whatever they are: somebody wants fewer.
                        let aside = self.spec.update.strategy == Order::BlueGreen;
                        let extra = if aside { 0 } else { Bounds::of(&self.spec).extra };
                        let most = self.spec.instances + extra;
                        let index = InstanceId::of_task(&task_id).unwrap().index;
                        let surplus = Service::number(index) >= most || !Service::same_side(index, self.base);
                        self.ended_ready |= *life == Life::Ready && !surplus;
                        self.doomed.insert(task_id);
                    }
                }
                Effect::Switch { base, .. } => {
                    let ready = self.tasks.iter().filter(|(id, (version, life))| {
                        let index = InstanceId::of_task(id).unwrap().index;
                        let wanted = Service::same_side(index, base) && Service::number(index) < self.spec.instances;
                        wanted && *version == self.version && *life == Life::Ready
                    });
                    assert_eq!(
                        ready.count(),
                        self.spec.instances as usize,
                        "all of the new side are ready"
                    );
                    self.base = base;
                    self.step(Input::Switched {
                        service: "web".to_owned(),
                        base,
                    });
                }
                Effect::Settled { .. } => self.stable = Some(self.version),
                Effect::Stuck { reason, reverts, .. } if !reverts => {
                    if let Some(stable) = self.stable.filter(|stable| *stable != self.version) {
                        (self.version, self.reverts) = (stable, Some(reason));
                        self.put();
                    }
                }
                _ => {}
            }
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Change(kind) => {
                (self.version, self.reverts) = (self.next, None);
                self.next += 1;
                self.kinds.insert(self.version, *kind);
                self.put();
            }
            Event::Scale(instances) => {
                self.spec.instances = *instances;
                self.put();
            }
            Event::Offers(room) => self.launch(*room),
            Event::Hear(count, which) => (0..*count).for_each(|number| self.hear(which.wrapping_add(number))),
            Event::Time(passed) => {
                self.now += passed;
                self.step(Input::Tick);
            }
            Event::SchedulerDies => self.restart(),
        }
    }

    fn launch(&mut self, room: usize) {
        let missing: Vec<InstanceId> = self.plan.wanted(self.now).take(room).collect();
        let version = self.plan.services()["web"].instance_version;
        let launches: Vec<_> = missing
            .into_iter()
            .map(|instance| {
                self.next += 1;
                let task_id = instance.task_id(&self.next.to_string());
                self.tasks.insert(task_id, (version, Life::Starting));
                self.of(self
                    .tasks
                    .keys()
                    .find(|id| id.ends_with(&format!(".{}", self.next)))
                    .unwrap())
            })
            .collect();
        self.step(Input::Launched(launches));
    }

    fn of(&self, task_id: &str) -> Launch {
        Launch {
            gates: Gates {
                health: false,
                readiness: true,
            },
            ..Launch::unknown(
                task_id,
                InstanceId::of_task(task_id).unwrap(),
                self.tasks[task_id].0,
                None,
            )
        }
    }

    /// A task goes one step on, and the scheduler hears of it.
    fn hear(&mut self, which: usize) {
        if self.tasks.is_empty() {
            return;
        }
        let (task_id, (version, life)) = self.tasks.iter().nth(which % self.tasks.len()).unwrap();
        let (task_id, version) = (task_id.clone(), *version);
        if self.doomed.remove(&task_id) {
            self.tasks.remove(&task_id);
            return self.tell(&task_id, Observed::Ended, None);
        }
        match (life, self.kinds[&version]) {
            (Life::Starting, _) => {
                self.tasks.insert(task_id.clone(), (version, Life::Running));
                self.tell(&task_id, Observed::Running, None);
            }
            (Life::Running, Kind::Good) => {
                self.tasks.insert(task_id.clone(), (version, Life::Ready));
                self.tell(&task_id, Observed::Running, Some(true));
            }
            (Life::Running, Kind::Deaf) => {
                self.tasks.insert(task_id.clone(), (version, Life::Useless));
                self.tell(&task_id, Observed::Running, Some(false));
            }
            (Life::Running, Kind::Crashing) => {
                self.tasks.remove(&task_id);
                self.tell(&task_id, Observed::Ended, None);
            }
            (Life::Ready | Life::Useless, _) => {}
        }
    }

    fn tell(&mut self, task_id: &str, state: Observed, ready: Option<bool>) {
        let verdicts = Verdicts { healthy: None, ready };
        self.step(Input::Task(News {
            task_id: task_id.to_owned(),
            agent_id: None,
            state,
            verdicts,
            message: String::new(),
        }));
    }

    fn restart(&mut self) {
        self.plan = Plan::new(self.now);
        self.put();
        self.doomed.clear();
        let tasks: Vec<String> = self.tasks.keys().cloned().collect();
        for task_id in &tasks {
            self.step(Input::Recovered(self.of(task_id)));
        }
        for task_id in tasks {
            match self.tasks[&task_id].1 {
                Life::Starting => {}
                Life::Running => self.tell(&task_id, Observed::Running, None),
                Life::Ready => self.tell(&task_id, Observed::Running, Some(true)),
                Life::Useless => self.tell(&task_id, Observed::Running, Some(false)),
            }
        }
    }

    /// Offers and messages come; now and then so much time passes.
    fn heal(&mut self, passes: Millis) {
        for round in 0..400 {
            let time = Event::Time(if round % 50 == 49 { passes } else { 10 });
            for event in [Event::Offers(9), Event::Hear(6, round), time] {
                self.apply(&event);
                self.check(&event);
            }
        }
    }

    /// Whether a task is of a version that served before.
    fn retires(&self, task_id: &str) -> bool {
        let index = InstanceId::of_task(task_id).unwrap().index;
        !Service::same_side(index, self.base) && self.tasks[task_id].0 != self.version
    }

    /// The versions of what requests reach.
    fn serving(&self) -> Vec<u64> {
        let service = &self.plan.services()["web"];
        let serving = service
            .slots
            .iter()
            .filter(|(index, slot)| service.serves(**index, slot));
        serving
            .filter_map(|(_, slot)| Some(slot.task.as_ref()?.version))
            .collect()
    }

    /// Offers and messages come, and little time passes.
    fn go_on(&mut self) {
        for round in 0..200 {
            for event in [Event::Offers(9), Event::Hear(6, round), Event::Time(1)] {
                self.apply(&event);
                self.check(&event);
            }
        }
    }

    fn versions(&self) -> Vec<u64> {
        let mut versions: Vec<u64> = self.tasks.values().map(|(version, _)| *version).collect();
        versions.sort_unstable();
        versions
    }

    fn ready(&self) -> usize {
        let ready = self
            .tasks
            .iter()
            .filter(|(id, (_, life))| *life == Life::Ready && !self.doomed.contains(*id));
        ready.count()
    }

    /// Never more than allowed, and nothing ready was ended below what is to be left.
    fn check(&mut self, event: &Event) {
        let indices: Vec<_> = self.tasks.keys().map(|id| InstanceId::of_task(id).unwrap()).collect();
        let distinct: BTreeSet<_> = indices.iter().collect();
        assert_eq!(distinct.len(), indices.len(), "an index has two tasks");
        let bounds = Bounds::of(&self.spec);
        let by_update = self.ended_ready && !matches!(event, Event::Scale(_));
        if by_update && self.plan.services()["web"].rollout.is_rolling() {
            assert!(self.ready() >= bounds.least as usize, "too few are left: {bounds:?}");
        }
        self.ended_ready = false;
        let live = self.tasks.keys().filter(|id| !self.doomed.contains(*id)).count();
        let aside = self.spec.update.strategy == Order::BlueGreen;
        let most = self.spec.instances + if aside { self.spec.instances } else { bounds.extra };
        // What serves no more may be there for as long as it is said, and more of it than is wanted now.
        if !self.tasks.keys().any(|id| self.retires(id)) {
            assert!(live <= most as usize, "{live} of {most}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_bound_is_broken_and_every_update_ends(
        instances in 0..6_u32,
        policy in proptest::sample::select(vec![
            policy(None, None), policy(Some(0.5), Some(0.0)), policy(Some(0.0), Some(1.0)), policy(Some(0.6), Some(0.3)),
            canary(1, 1.0, 0), canary(2, 1.0, 1), blue_green(None), blue_green(Some(1.0)),
        ]),
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let mut world = World::new(spec(instances, policy));
        for event in &events {
            world.apply(event);
            world.check(event);
        }
        world.heal(61_000);
        let service = &world.plan.services()["web"];
        prop_assert!(!service.rollout.is_rolling(), "{:?}", service.rollout);
        if world.kinds[&world.version] != Kind::Good && world.spec.instances > 0 {
            prop_assert!(world.stable.is_none() || world.stable == Some(world.version), "a bad version stays");
        }
        world.apply(&Event::Change(Kind::Good));
        world.heal(10);
        let service = &world.plan.services()["web"];
        prop_assert_eq!(&service.rollout.state, &RolloutState::Done);
        let versions: Vec<u64> = world.tasks.values().map(|(version, _)| *version).collect();
        prop_assert_eq!(versions, vec![world.version; world.spec.instances as usize]);
        prop_assert_eq!(world.ready(), world.spec.instances as usize);
    }
}

#[test]
fn a_canary_is_watched_and_the_others_follow_when_it_did_well() {
    let mut world = World::new(spec(4, canary(1, 30.0, 0)));
    world.go_on();
    assert_eq!(
        world.plan.services()["web"].rollout.state,
        RolloutState::Done,
        "the first has nothing to be held against"
    );
    world.apply(&Event::Change(Kind::Good));
    let (old, new) = (1, world.version);
    world.go_on();
    assert_eq!(world.versions().iter().filter(|version| **version == new).count(), 1);
    assert_eq!(
        world.serving().iter().filter(|version| **version == old).count(),
        4,
        "one more runs meanwhile"
    );
    world.apply(&Event::Time(30_000));
    world.go_on();
    assert_eq!(world.versions(), [new; 4]);
}

#[test]
fn a_canary_that_fails_is_taken_back_and_no_other_instance_notices() {
    for (failures_max, reverted) in [(0, true), (1, false)] {
        let mut world = World::new(spec(4, canary(1, 30.0, failures_max)));
        world.go_on();
        let before: BTreeSet<String> = world.tasks.keys().cloned().collect();
        world.apply(&Event::Change(Kind::Good));
        let new = world.version;
        world.go_on();
        let first = world
            .tasks
            .iter()
            .find(|(_, (version, _))| *version == new)
            .unwrap()
            .0
            .clone();
        world.tasks.remove(&first);
        world.tell(&first, Observed::Ended, None);
        world.go_on();
        assert_eq!(
            world.reverts.is_some(),
            reverted,
            "{:?}",
            world.plan.services()["web"].rollout
        );
        let now: BTreeSet<String> = world.tasks.keys().cloned().collect();
        assert_eq!(now == before, reverted, "{now:?}");
        world.apply(&Event::Time(31_000));
        world.go_on();
        assert_eq!(world.versions(), [if reverted { 1 } else { new }; 4]);
    }
}

#[test]
fn instances_of_an_agent_that_goes_are_replaced_first() {
    for update in [policy(None, None), canary(1, 1_000.0, 0), blue_green(None)] {
        let mut world = World::new(spec(3, update));
        world.go_on();
        // Which agent a task is on is told with its state.
        let tasks: Vec<String> = world.tasks.keys().cloned().collect();
        for (number, task_id) in tasks.iter().enumerate() {
            world.step(Input::Task(News {
                task_id: task_id.clone(),
                agent_id: Some(format!("a{number}")),
                state: Observed::Running,
                verdicts: Verdicts::default(),
                message: String::new(),
            }));
        }
        world.step(Input::Leave("a1".to_owned()));
        let wanted: Vec<_> = world.plan.wanted(world.now).collect();
        assert_eq!(wanted.len(), 1, "{wanted:?}");
        assert!(world.doomed.is_empty(), "the replacement comes first");
        world.go_on();
        assert_eq!(world.versions(), [1; 3]);
        assert!(!world.tasks.contains_key(&tasks[1]) && world.tasks.contains_key(&tasks[0]));
        world.step(Input::Stay("a1".to_owned()));
        assert_eq!(world.plan.services()["web"].rollout.state, RolloutState::Done);
    }
}

#[test]
fn side_by_side_all_of_the_new_version_take_over_at_once() {
    let mut world = World::new(spec(3, blue_green(Some(5.0))));
    world.go_on();
    for _ in 0..3 {
        let old = world.version;
        world.apply(&Event::Change(Kind::Good));
        let new = world.version;
        let mut seen = BTreeSet::new();
        for round in 0..200 {
            for event in [Event::Offers(1), Event::Hear(1, round), Event::Time(1)] {
                world.apply(&event);
                seen.insert(world.serving());
            }
        }
        assert_eq!(seen, [vec![old; 3], vec![new; 3]].into());
        assert_eq!(world.versions().len(), 6, "the old ones are there for a while");
        world.apply(&Event::Time(5_000));
        world.go_on();
        assert_eq!(world.versions(), [new; 3]);
        assert_eq!(world.plan.services()["web"].rollout.state, RolloutState::Done);
    }
    assert_eq!(world.base, SIDE);

    // What is never ready never serves.
    let good = world.version;
    world.apply(&Event::Change(Kind::Deaf));
    world.go_on();
    assert_eq!(world.serving(), [good; 3]);
    world.apply(&Event::Time(60_000));
    world.go_on();
    assert_eq!((world.versions(), world.version), (vec![good; 3], good));
}
