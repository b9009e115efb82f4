//! What becomes of persistent volumes when instances and agents come and go.

use super::*;
use crate::plan::{Gates, Input, Launch, News, Observed, Plan, Put, Verdicts};
use crate::spec::{Partition, Persistence};

/// A plan of one service, and the homes that its effects would have had kept.
struct Bench {
    plan: Plan,
    kept: BTreeMap<String, Home>,
    effects: Vec<Effect>,
    version: u64,
}

impl Bench {
    fn new(instances: u32, persistence: Persistence) -> Self {
        let mut bench = Self {
            plan: Plan::new(3),
            kept: BTreeMap::new(),
            effects: Vec::new(),
            version: 0,
        };
        bench.put(0, instances, persistence);
        bench
    }

    fn put(&mut self, now: Millis, instances: u32, persistence: Persistence) {
        self.version += 1;
        let put = Put {
            spec: ServiceSpec {
                instances,
                persistence,
                partition: Partition::default(),
                ..ServiceSpec::command("db", "x")
            },
            version: self.version,
            instance_version: 1,
            reverts: None,
            base: 0,
        };
        self.step(now, Input::Put(Box::new(put)));
    }

    fn step(&mut self, now: Millis, input: Input) {
        let mut effects = Vec::new();
        self.plan.step(now, input, &mut effects);
        for effect in &effects {
            match effect {
                Effect::KeepHome(home) => drop(self.kept.insert(home.id.clone(), (**home).clone())),
                Effect::DropHome(id) => drop(self.kept.remove(id)),
                _ => {}
            }
        }
        self.effects = effects;
    }

    /// An instance is launched, for the first time or once more, and runs.
    fn run(&mut self, now: Millis, index: u32, task: &str, agent: &str, home: Option<&str>) {
        let instance = instance(index);
        let machine = Machine {
            agent_id: agent.to_owned(),
            ..Machine::default()
        };
        if let Some(id) = home {
            let home = Home {
                id: id.to_owned(),
                instance: instance.clone(),
                machine: machine.clone(),
                volumes: Vec::new(),
                made: false,
                doomed: false,
            };
            self.kept.insert(id.to_owned(), home.clone());
            self.step(now, Input::Home(Box::new(home)));
        }
        let launch = Launch {
            task_id: instance.task_id(task),
            instance,
            version: 1,
            machine,
            gates: Gates::default(),
            ports: Vec::new(),
        };
        self.step(now, Input::Launched(vec![launch]));
        self.tell(now, index, task, Observed::Running);
    }

    fn tell(&mut self, now: Millis, index: u32, task: &str, state: Observed) {
        let news = News {
            task_id: instance(index).task_id(task),
            agent_id: None,
            state,
            verdicts: Verdicts::default(),
            message: String::new(),
        };
        self.step(now, Input::Task(news));
    }

    fn home(&self, index: u32) -> Option<&str> {
        Some(self.plan.homes().of(&instance(index))?.id.as_str())
    }

    /// The kept homes, with whether they are made and doomed.
    fn kept(&self) -> Vec<(&str, bool, bool)> {
        let kept = self.kept.values();
        kept.map(|home| (home.id.as_str(), home.made, home.doomed)).collect()
    }
}

fn instance(index: u32) -> InstanceId {
    InstanceId {
        service: "db".to_owned(),
        index,
    }
}

fn policy(scale_down: ScaleDown, replace_after_seconds: Option<f64>) -> Persistence {
    Persistence {
        scale_down,
        replace_after_seconds,
    }
}

#[test]
fn an_instance_has_its_home_for_ever_unless_it_is_said_otherwise() {
    let mut bench = Bench::new(1, Persistence::default());
    bench.run(1, 0, "t1", "a1", Some("h1"));
    assert_eq!(bench.kept(), [("h1", true, false)]);
    bench.tell(2, 0, "t1", Observed::Unreachable);
    bench.step(1_000_000_000, Input::Tick);
    assert_eq!(bench.home(0), Some("h1"));
    assert_eq!(
        bench.plan.wake_at(1_000_000_000),
        None,
        "there is nothing to wait for but the agent"
    );
    bench.run(1_000_000_001, 0, "t2", "a1", None);
    assert_eq!((bench.home(0), bench.kept()), (Some("h1"), vec![("h1", true, false)]));
}

#[test]
fn after_the_time_that_is_said_volumes_are_doomed_and_the_instance_is_free() {
    let mut bench = Bench::new(1, policy(ScaleDown::Keep, Some(30.0)));
    bench.run(1, 0, "t1", "a1", Some("h1"));
    bench.tell(1_000, 0, "t1", Observed::Unreachable);
    assert_eq!(bench.plan.wake_at(1_000), Some(31_000));
    bench.step(30_999, Input::Tick);
    assert_eq!(bench.home(0), Some("h1"));
    bench.step(31_000, Input::Tick);
    assert_eq!((bench.home(0), bench.kept()), (None, vec![("h1", true, true)]));
    assert!(bench.effects.contains(&Effect::Revive));
    bench.run(32_000, 0, "t2", "a2", Some("h2"));
    assert_eq!(bench.kept(), [("h1", true, true), ("h2", true, false)]);

    // It asks for offers to destroy them, not for ever, and then they are gone.
    assert!(!bench.effects.contains(&Effect::Suppress));
    bench.step(92_000, Input::Tick);
    assert!(bench.effects.contains(&Effect::Suppress));
    bench.step(93_000, Input::Destroyed("h1".to_owned()));
    assert_eq!(bench.kept(), [("h2", true, false)]);
}

#[test]
fn fewer_instances_keep_their_volumes_or_do_not() {
    for (scale_down, doomed) in [(ScaleDown::Keep, false), (ScaleDown::Delete, true)] {
        let mut bench = Bench::new(2, policy(scale_down, None));
        bench.run(1, 0, "t0", "a1", Some("h0"));
        bench.run(1, 1, "t1", "a2", Some("h1"));
        bench.put(2, 1, policy(scale_down, None));
        assert_eq!(bench.home(1), Some("h1"), "its task has not ended yet");
        bench.tell(3, 1, "t1", Observed::Ended);
        assert_eq!(bench.home(1), (!doomed).then_some("h1"));
        assert_eq!(bench.kept(), [("h0", true, false), ("h1", true, doomed)]);
        bench.step(4, Input::Remove("db".to_owned()));
        bench.tell(5, 0, "t0", Observed::Ended);
        assert!(bench.plan.services().is_empty());
        assert_eq!(bench.kept(), [("h0", true, doomed), ("h1", true, doomed)]);
    }
}

#[test]
fn a_place_that_was_only_chosen_may_be_left_for_another() {
    let mut bench = Bench::new(1, Persistence::default());
    let home = |id: &str| Home {
        id: id.to_owned(),
        instance: instance(0),
        machine: Machine::default(),
        volumes: Vec::new(),
        made: false,
        doomed: false,
    };
    bench.step(1, Input::Home(Box::new(home("h1"))));
    bench.step(2, Input::Home(Box::new(home("h2"))));
    assert_eq!((bench.home(0), bench.kept()), (Some("h2"), vec![("h1", false, true)]));
}
