//! A small model of a cluster: random histories of it must never have two live tasks of one instance, and must end with
//! exactly what is wanted once nothing goes wrong any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// What happens in the cluster.
#[derive(Clone, Debug)]
enum Event {
    Scale(u32),
    Change,
    Remove,
    Offers {
        room: usize,
    },
    TaskEnds(usize),
    AgentLeaves(usize),
    AgentReturns(usize),
    /// The oldest update that is under way arrives, and this many more.
    Hear(usize),
    KillsArrive,
    SchedulerDies,
    Time(Millis),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0..5_u32).prop_map(Event::Scale),
        1 => Just(Event::Change),
        1 => Just(Event::Remove),
        8 => (0..4_usize).prop_map(|room| Event::Offers { room }),
        4 => any::<usize>().prop_map(Event::TaskEnds),
        2 => (0..3_usize).prop_map(Event::AgentLeaves),
        3 => (0..3_usize).prop_map(Event::AgentReturns),
        10 => (0..4_usize).prop_map(Event::Hear),
        4 => Just(Event::KillsArrive),
        1 => Just(Event::SchedulerDies),
        4 => (0..20_000_u64).prop_map(Event::Time),
    ]
}

#[derive(Clone, Debug)]
struct Task {
    agent: usize,
    alive: bool,
    /// Whether somebody asked for its end.
    doomed: bool,
    /// Whether the scheduler was told that its agent is away, and not yet that it is back.
    given_out: bool,
}

struct World {
    now: Millis,
    plan: Plan,
    /// What a store would have kept.
    kept: Vec<Launch>,
    wanted: Option<(u32, u64)>,
    version: u64,
    tasks: BTreeMap<String, Task>,
    away: BTreeSet<usize>,
    updates: VecDeque<(String, Observed)>,
    kills: VecDeque<String>,
    unique: u64,
}

impl World {
    fn new() -> Self {
        Self {
            now: 0,
            plan: Plan::new(11),
            kept: Vec::new(),
            wanted: None,
            version: 1,
            tasks: BTreeMap::new(),
            away: BTreeSet::new(),
            updates: VecDeque::new(),
            kills: VecDeque::new(),
            unique: 0,
        }
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.plan.step(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Kill { task_id, .. } => {
                    if let Some(task) = self.tasks.get_mut(&task_id) {
                        task.doomed = true;
                    }
                    self.kills.push_back(task_id);
                }
                Effect::Forget(task_id) => self.kept.retain(|launch| launch.task_id != task_id),
                Effect::Revive | Effect::Suppress | Effect::Removed(_) => {}
                Effect::Settled { .. }
                | Effect::Stuck { .. }
                | Effect::Switch { .. }
                | Effect::KeepHome(_)
                | Effect::DropHome(_) => {}
            }
        }
    }

    fn put(&mut self) {
        if let Some((instances, version)) = self.wanted {
            self.step(put(spec("web", instances), version));
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Scale(instances) => {
                self.wanted = Some((*instances, self.version));
                self.put();
            }
            Event::Change => {
                self.version += 1;
                self.wanted = self.wanted.map(|(instances, _)| (instances, self.version));
                self.put();
            }
            Event::Remove => {
                self.wanted = None;
                self.version += 1;
                self.step(Input::Remove("web".to_owned()));
            }
            Event::Offers { room } => self.launch(*room),
            Event::TaskEnds(which) => self.end(*which),
            Event::AgentLeaves(agent) => self.leave(*agent),
            Event::AgentReturns(agent) => self.come_back(*agent),
            Event::Hear(more) => {
                for (task_id, state) in self
                    .updates
                    .drain(..self.updates.len().min(more + 1))
                    .collect::<Vec<_>>()
                {
                    if let Some(task) = self.tasks.get_mut(&task_id) {
                        task.given_out =
                            (task.given_out || state == Observed::Unreachable) && state != Observed::Running;
                    }
                    self.step(Input::Task(news(&task_id, state)));
                }
            }
            Event::KillsArrive => self.carry_out_kills(),
            Event::SchedulerDies => self.restart(),
            Event::Time(passed) => {
                self.now += passed;
                self.step(Input::Tick);
            }
        }
    }

    fn launch(&mut self, room: usize) {
        for instance in self.plan.wanted(self.now).take(room).collect::<Vec<_>>() {
            self.unique += 1;
            let version = self.plan.services()[&instance.service].instance_version;
            let launch = Launch::unknown(&instance.task_id(&self.unique.to_string()), instance, version, None);
            self.kept.push(launch.clone());
            let agent = self.unique as usize % 3;
            let task_id = launch.task_id.clone();
            self.step(Input::Launched(vec![launch]));
            if self.away.contains(&agent) {
                self.updates.push_back((task_id, Observed::Vanished));
            } else {
                self.tasks.insert(
                    task_id.clone(),
                    Task {
                        agent,
                        alive: true,
                        doomed: false,
                        given_out: false,
                    },
                );
                self.updates.push_back((task_id, Observed::Running));
            }
        }
    }

    fn end(&mut self, which: usize) {
        let reachable = self
            .tasks
            .iter_mut()
            .filter(|(_, task)| task.alive && !self.away.contains(&task.agent));
        let mut reachable: Vec<_> = reachable.collect();
        if !reachable.is_empty() {
            let count = reachable.len();
            let (task_id, task) = &mut reachable[which % count];
            task.alive = false;
            self.updates.push_back((task_id.clone(), Observed::Ended));
        }
    }

    fn leave(&mut self, agent: usize) {
        if self.away.insert(agent) {
            for (task_id, task) in self
                .tasks
                .iter_mut()
                .filter(|(_, task)| task.alive && task.agent == agent)
            {
                task.given_out = true;
                self.updates.push_back((task_id.clone(), Observed::Unreachable));
            }
        }
    }

    fn come_back(&mut self, agent: usize) {
        if self.away.remove(&agent) {
            for (task_id, _) in self.tasks.iter().filter(|(_, task)| task.alive && task.agent == agent) {
                self.updates.push_back((task_id.clone(), Observed::Running));
            }
        }
    }

    /// A kill reaches its task, or stays under way while the agent is away.
    fn carry_out_kills(&mut self) {
        for task_id in std::mem::take(&mut self.kills) {
            match self.tasks.get_mut(&task_id) {
                Some(task) if task.alive && self.away.contains(&task.agent) => self.kills.push_back(task_id),
                Some(task) if task.alive => {
                    task.alive = false;
                    self.updates.push_back((task_id, Observed::Ended));
                }
                Some(_) => {}
                None => self.updates.push_back((task_id, Observed::Vanished)),
            }
        }
    }

    /// A new scheduler with what was kept; reconciliation tells it of every task, and nobody else asked for kills.
    fn restart(&mut self) {
        self.plan = Plan::new(self.now);
        self.kills.clear();
        for task in self.tasks.values_mut() {
            task.doomed = false;
        }
        self.put();
        for launch in self.kept.clone().into_iter().rev() {
            self.step(Input::Recovered(launch));
        }
        self.step(Input::Tick);
        self.updates.clear();
        for launch in &self.kept {
            let state = match self.tasks.get(&launch.task_id) {
                Some(task) if task.alive && self.away.contains(&task.agent) => Observed::Unreachable,
                Some(task) if task.alive => Observed::Running,
                Some(_) => Observed::Ended,
                None => Observed::Vanished,
            };
            self.updates.push_back((launch.task_id.clone(), state));
        }
    }

    /// Nobody has two tasks of one instance, save for tasks whose end was asked for or whose agent was away.
    fn check(&self) {
        let mut seen = BTreeMap::new();
        for (task_id, _) in self
            .tasks
            .iter()
            .filter(|(_, task)| task.alive && !task.doomed && !task.given_out)
        {
            let instance = InstanceId::of_task(task_id).unwrap();
            if let Some(other) = seen.insert(instance, task_id) {
                panic!("two tasks of one instance: {other} and {task_id}");
            }
        }
    }

    fn live(&self) -> Vec<InstanceId> {
        let live = self.tasks.iter().filter(|(_, task)| task.alive);
        live.map(|(task_id, _)| InstanceId::of_task(task_id).unwrap()).collect()
    }

    /// All agents come back, all messages arrive, time passes.
    fn heal(&mut self) {
        for agent in 0..3 {
            self.apply(&Event::AgentReturns(agent));
        }
        for _ in 0..60 {
            for event in [
                Event::Hear(usize::MAX - 1),
                Event::KillsArrive,
                Event::Time(50),
                Event::Offers { room: 9 },
            ] {
                self.apply(&event);
                self.check();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn instances_are_never_doubled_and_end_as_wanted(events in proptest::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        for event in &events {
            world.apply(event);
            world.check();
        }
        world.heal();
        let wanted = world.wanted.map_or(0, |(instances, _)| instances);
        let mut live = world.live();
        live.sort();
        let expected: Vec<_> =
            (0..wanted).map(|index| InstanceId { service: "web".to_owned(), index }).collect();
        prop_assert_eq!(live, expected);
        let versions: BTreeSet<_> = world.kept.iter().map(|launch| launch.version).collect();
        prop_assert!(versions.iter().all(|version| Some(*version) == world.wanted.map(|(_, version)| version)));
        prop_assert_eq!(world.kept.len(), wanted as usize);
    }
}
