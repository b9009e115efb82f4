//! How many instances a second find their agents: 10,000 of one service on simulated agents, with what a decision takes from
//! the offers and what the plan does about it, as the scheduler does it. No figure is asserted.
//!
//! `cargo bench -p proffer-services --bench placement [-- --quick]`

use std::io::Write as _;
use std::time::Instant;

use proffer_sdk::offers::TaskShape;
use proffer_sdk::proto::v1::{Attribute, Offer, value};
use proffer_sdk::testing;
use proffer_services::ServiceSpec;
use proffer_services::placement::{Machine, Round};
use proffer_services::plan::{Effect, Gates, Input, InstanceId, Launch, News, Observed, Plan, Put, Verdicts};
use proffer_services::spec::{Constraint, Operator, PortSpec, Spread};

const INSTANCES: u32 = 10_000;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let rounds = if quick { 2 } else { 7 };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    eprintln!("load: {}", load.trim());
    for agents in [100, 1_000, 10_000] {
        for ruled in [false, true] {
            // The least disturbed of the rounds.
            let best = (0..rounds).map(|_| round(agents, ruled)).reduce(|a, b| Times {
                place: a.place.min(b.place),
                start: a.start.min(b.start),
            });
            let Some(best) = best else { continue };
            let rules = if ruled { "max_per,group_by,spread" } else { "none" };
            for (figure, seconds) in [
                ("decisions_per_s", best.place),
                ("started_per_s", best.place + best.start),
            ] {
                let value = f64::from(INSTANCES) / seconds;
                let line = serde_json::json!({
                    "bench": "services", "figure": figure, "agents": agents, "instances": INSTANCES, "rules": rules,
                    "value": value.round(), "unit": "1/s",
                });
                let _ = writeln!(std::io::stdout(), "{line}");
            }
        }
    }
}

/// Seconds.
struct Times {
    place: f64,
    start: f64,
}

fn round(agents: u32, ruled: bool) -> Times {
    let spec = spec(agents, ruled);
    let offers: Vec<Offer> = (0..agents).map(|number| offer(number, agents)).collect();
    let mut plan = Plan::new(1);
    let mut effects = Vec::new();
    let put = Put {
        spec: spec.clone(),
        version: 1,
        instance_version: 1,
        reverts: None,
        base: 0,
    };
    plan.step(0, Input::Put(Box::new(put)), &mut effects);

    let begun = Instant::now();
    let missing: Vec<u32> = plan.services()["web"].missing(0).collect();
    let shape = TaskShape::default().cpus(spec.cpus).mem(spec.mem).any_ports(1);
    let no_one = std::iter::empty::<&Machine>();
    let decisions = Round::new(&offers).decide(&spec, &shape, missing, no_one, |_, _| false);
    let launches: Vec<Launch> = decisions
        .into_iter()
        .map(|decision| {
            let instance = InstanceId {
                service: spec.id.clone(),
                index: decision.index,
            };
            Launch {
                task_id: instance.task_id("1"),
                instance,
                version: 1,
                machine: decision.machine,
                gates: Gates::of(&spec),
                ports: Vec::new(),
            }
        })
        .collect();
    let task_ids: Vec<String> = launches.iter().map(|launch| launch.task_id.clone()).collect();
    assert_eq!(task_ids.len(), INSTANCES as usize, "all find a place");
    plan.step(1, Input::Launched(launches), &mut effects);
    let place = begun.elapsed().as_secs_f64();

    let begun = Instant::now();
    for task_id in task_ids {
        let news = News {
            task_id,
            agent_id: None,
            state: Observed::Running,
            verdicts: Verdicts::default(),
            message: String::new(),
        };
        plan.step(2, Input::Task(news), &mut effects);
        plan.wake_at(2);
    }
    let start = begun.elapsed().as_secs_f64();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Settled { .. })));
    Times { place, start }
}

fn spec(agents: u32, ruled: bool) -> ServiceSpec {
    let mut spec = ServiceSpec::command("web", "serve");
    spec.instances = INSTANCES;
    spec.cpus = 0.1;
    spec.mem = 32.0;
    spec.ports = vec![PortSpec::any("http")];
    if ruled {
        let most = 2 * INSTANCES / agents + 1;
        spec.constraints = vec![
            Constraint::new("hostname", Operator::MaxPer(most)),
            Constraint::new("rack", Operator::GroupBy(Some(20))),
        ];
        spec.spread = vec![Spread {
            attribute: "zone".to_owned(),
            weight: 50,
        }];
    }
    spec
}

/// An offer with room for somewhat more than its part.
fn offer(number: u32, agents: u32) -> Offer {
    let part = f64::from(INSTANCES / agents + 1) * 1.5;
    let id = format!("a{number}");
    let mut offer = testing::offer(&format!("o{number}"), &id, 0.1 * part, 32.0 * part, 31_000..=31_499);
    for (name, count) in [("rack", 20), ("zone", 5)] {
        offer.attributes.push(Attribute {
            name: name.to_owned(),
            r#type: value::Type::Text.into(),
            text: Some(value::Text {
                value: format!("{name}{}", number % count),
            }),
            ..Default::default()
        });
    }
    offer
}
