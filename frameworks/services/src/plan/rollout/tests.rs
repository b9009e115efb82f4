//! Updates: what the bounds mean, and random histories in which no bound is ever broken and every update ends.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::plan::{Effect, Gates, Input, InstanceId, Launch, News, Observed, Plan, Put, Verdicts};
use crate::spec::{Backoff, OnFailure, Operator, UpdatePolicy};

fn policy(minimum_healthy: Option<f64>, over_capacity: Option<f64>) -> UpdatePolicy {
    UpdatePolicy {
        minimum_healthy,
        over_capacity,
        progress_deadline_seconds: 60.0,
        on_failure: OnFailure::Revert,
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
                        let most = self.spec.instances + Bounds::of(&self.spec).extra;
                        let surplus = InstanceId::of_task(&task_id).unwrap().index >= most;
                        self.ended_ready |= *life == Life::Ready && !surplus;
                        self.doomed.insert(task_id);
                    }
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
        let most = self.spec.instances + bounds.extra;
        assert!(live <= most as usize, "{live} of {most}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn no_bound_is_broken_and_every_update_ends(
        instances in 0..6_u32,
        shares in proptest::sample::select(vec![(None, None), (Some(0.5), Some(0.0)), (Some(0.0), Some(1.0)), (Some(0.6), Some(0.3))]),
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let mut world = World::new(spec(instances, policy(shares.0, shares.1)));
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
