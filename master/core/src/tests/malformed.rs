//! Calls that are wrong: each gets a rejection that names the field, and changes nothing.

use proffer_proto::v1::offer::{Operation, operation};
use proffer_proto::v1::scheduler::{Call, call};
use proffer_proto::v1::{self, FrameworkInfo, TaskInfo, master};

use super::{World, resources};
use crate::{Answer, Config, ConnectionId, Effect, Input, StreamId};

/// A framework `f1` with the offer `o1` on the agent `a1`.
pub(super) fn world() -> World {
    let mut world = World::new(Config::default());
    for line in [
        "0ms f1 subscribes timeout=10",
        "0ms a1 registers cpus:4;mem:1024;ports:[31000-31009]",
    ] {
        world.line(line);
    }
    world
}

/// The field that the answer to a call of `f1` names.
fn rejected(world: &mut World, call: Call) -> String {
    let before = world.master.registry();
    let request = world.request();
    let input = Input::SchedulerCall {
        request,
        stream: world.stream("f1"),
        call: Box::new(call.clone()),
    };
    let effects = world.step(input);
    assert_eq!(before, world.master.registry());
    match effects.as_slice() {
        [
            Effect::Answer {
                answer: Answer::Rejected(rejection),
                ..
            },
        ] => rejection.field.clone(),
        other => panic!("{call:?} had the effects {other:?}"),
    }
}

fn of(world: &World, kind: call::Type) -> Call {
    Call {
        framework_id: Some(world.id("f1").into()),
        r#type: Some(kind as i32),
        ..Call::default()
    }
}

#[test]
fn calls_without_what_every_call_needs() {
    let mut world = world();
    assert_eq!(rejected(&mut world, Call::default()), "framework_id");
    let unknown = Call {
        framework_id: Some("nobody".into()),
        ..Call::default()
    };
    assert_eq!(rejected(&mut world, unknown), "framework_id");
    let untyped = Call {
        r#type: None,
        ..of(&world, call::Type::Accept)
    };
    assert_eq!(rejected(&mut world, untyped), "type");
    let mistyped = Call {
        r#type: Some(99),
        ..of(&world, call::Type::Accept)
    };
    assert_eq!(rejected(&mut world, mistyped), "type");
    for kind in [call::Type::Unknown, call::Type::Subscribe] {
        let call = of(&world, kind);
        assert_eq!(rejected(&mut world, call), "type", "{kind:?}");
    }
    for kind in [
        call::Type::Accept,
        call::Type::AcceptInverseOffers,
        call::Type::DeclineInverseOffers,
        call::Type::Decline,
        call::Type::Kill,
        call::Type::Shutdown,
        call::Type::Acknowledge,
        call::Type::AcknowledgeOperationStatus,
        call::Type::Reconcile,
        call::Type::ReconcileOperations,
        call::Type::Message,
        call::Type::Request,
        call::Type::UpdateFramework,
    ] {
        let call = of(&world, kind);
        assert_eq!(rejected(&mut world, call), kind.as_str_name().to_lowercase());
    }
}

#[test]
fn a_call_needs_the_stream_id_of_the_present_subscription() {
    let mut world = world();
    for stream in [None, Some(StreamId(999))] {
        let request = world.request();
        let call = Box::new(of(&world, call::Type::Revive));
        let effects = world.step(Input::SchedulerCall { request, stream, call });
        let [
            Effect::Answer {
                answer: Answer::NotSubscribed(why),
                ..
            },
        ] = effects.as_slice()
        else {
            panic!("{effects:?}");
        };
        assert!(why.contains("mesos-stream-id"), "{why}");
    }
    let stream = world.stream("f1");
    world.line("1ms f1 disconnects");
    let request = world.request();
    let call = Box::new(of(&world, call::Type::Revive));
    let effects = world.step(Input::SchedulerCall { request, stream, call });
    assert!(matches!(
        effects.as_slice(),
        [Effect::Answer {
            answer: Answer::NotSubscribed(_),
            ..
        }]
    ));
}

pub(super) fn accept(world: &World, change: impl FnOnce(&mut call::Accept)) -> Call {
    let mut accept = call::Accept {
        offer_ids: vec!["m1-O1".into()],
        ..call::Accept::default()
    };
    change(&mut accept);
    Call {
        accept: Some(accept),
        ..of(world, call::Type::Accept)
    }
}

pub(super) fn operation(kind: operation::Type) -> Operation {
    Operation {
        r#type: Some(kind as i32),
        ..Operation::default()
    }
}

#[test]
fn accepts_that_are_malformed_use_no_offer() {
    let mut world = world();
    let mut check = |field: &str, change: &dyn Fn(&mut call::Accept)| {
        let call = accept(&world, change);
        assert_eq!(rejected(&mut world, call), field);
    };
    check("accept.offer_ids", &|accept| accept.offer_ids.clear());
    check("accept.offer_ids[0]", &|accept| accept.offer_ids = vec!["".into()]);
    check("accept.offer_ids[1]", &|accept| accept.offer_ids.push("m1-O1".into()));
    check("accept.filters.refuse_seconds", &|accept| {
        accept.filters = Some(v1::Filters {
            refuse_seconds: Some(f64::NAN),
        });
    });
    check("accept.operations[0].type", &|accept| {
        accept.operations = vec![Operation::default()]
    });
    check("accept.operations[0].type", &|accept| {
        accept.operations = vec![Operation {
            r#type: Some(77),
            ..Operation::default()
        }];
    });
    check("accept.operations[0].launch", &|accept| {
        accept.operations = vec![operation(operation::Type::Launch)];
    });
    check("accept.operations[0].launch_group", &|accept| {
        accept.operations = vec![operation(operation::Type::LaunchGroup)];
    });
    check("accept.operations[0].launch_group.task_group.tasks", &|accept| {
        accept.operations = vec![Operation {
            launch_group: Some(Box::new(operation::LaunchGroup::default())),
            ..operation(operation::Type::LaunchGroup)
        }];
    });
    check("accept.operations[1].id", &|accept| {
        let launch = Operation {
            launch: Some(operation::Launch::default()),
            ..operation(operation::Type::Launch)
        };
        let named = Operation {
            id: Some("op".into()),
            ..launch.clone()
        };
        accept.operations = vec![launch, named];
    });
    for kind in [
        operation::Type::Unknown,
        operation::Type::CreateDisk,
        operation::Type::DestroyDisk,
    ] {
        check("accept.operations[0].type", &|accept| {
            accept.operations = vec![operation(kind)]
        });
    }
    for (kind, field) in [
        (operation::Type::Reserve, "reserve"),
        (operation::Type::Unreserve, "unreserve"),
        (operation::Type::Create, "create"),
        (operation::Type::Destroy, "destroy"),
        (operation::Type::GrowVolume, "grow_volume"),
        (operation::Type::ShrinkVolume, "shrink_volume"),
    ] {
        check(&format!("accept.operations[0].{field}"), &|accept| {
            accept.operations = vec![operation(kind)]
        });
    }
    world.line("9ms f1 accepts o1 launch=t1:cpus,4;mem,1024");
    assert!(
        world.out.ends_with("a1 <- launch f1/t1 cpus:4;mem:1024\n"),
        "{}",
        world.out
    );
}

/// A task that could be launched on `o1`.
pub(super) fn task(world: &World) -> TaskInfo {
    TaskInfo {
        name: "task".to_owned(),
        task_id: "t1".into(),
        agent_id: world.id("a1").into(),
        resources: resources("cpus:1;mem:32"),
        command: Some(v1::CommandInfo {
            value: Some("true".to_owned()),
            ..v1::CommandInfo::default()
        }),
        ..TaskInfo::default()
    }
}

/// The field that the TASK_ERROR of a task names.
fn turned_away(change: impl FnOnce(&mut TaskInfo)) -> String {
    let mut world = world();
    let mut info = task(&world);
    change(&mut info);
    let call = accept(&world, |accept| {
        accept.operations = vec![Operation {
            launch: Some(operation::Launch {
                task_infos: vec![info.clone()],
            }),
            ..operation(operation::Type::Launch)
        }];
    });
    let input = Input::SchedulerCall {
        request: world.request(),
        stream: world.stream("f1"),
        call: Box::new(call),
    };
    let effects = world.step(input);
    let Effect::SendEvent { event, .. } = &effects[1] else {
        panic!("{info:?} had the effects {effects:?}");
    };
    let status = &event.update.as_ref().expect("an update").status;
    assert_eq!(status.state(), v1::TaskState::TaskError);
    assert_eq!(status.reason(), v1::task_status::Reason::TaskInvalid);
    assert_eq!(status.uuid, None);
    let message = status.message();
    let prefix = "`accept.operations[0].launch.task_infos[0].";
    let rest = message.strip_prefix(prefix).unwrap_or_else(|| panic!("{message}"));
    rest.split('`').next().expect("a field").to_owned()
}

pub(super) fn scalar(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value }),
        ..v1::Resource::default()
    }
}

#[test]
fn tasks_that_are_wrong_name_their_field() {
    for id in ["", ".", "..", "a/b", "a\\b", "a\nb"] {
        assert_eq!(turned_away(|info| info.task_id = id.into()), "task_id.value", "{id:?}");
    }
    assert_eq!(
        turned_away(|info| info.task_id = "x".repeat(300).into()),
        "task_id.value"
    );
    assert_eq!(turned_away(|info| info.agent_id = "a9".into()), "agent_id.value");
    assert_eq!(turned_away(|info| info.command = None), "command");
    assert_eq!(
        turned_away(|info| info.executor = Some(Box::new(v1::ExecutorInfo::default()))),
        "executor"
    );
    assert_eq!(
        turned_away(|info| info.command = Some(v1::CommandInfo::default())),
        "command.value"
    );
    let environment = |name: &str| {
        turned_away(|info| {
            let variable = v1::environment::Variable {
                name: name.to_owned(),
                ..v1::environment::Variable::default()
            };
            let command = info.command.as_mut().expect("a command");
            command.environment = Some(v1::Environment {
                variables: vec![variable],
            });
        })
    };
    assert_eq!(environment(""), "command.environment.variables[0].name");
    assert_eq!(environment("A=B"), "command.environment.variables[0].name");
    let grace = |nanoseconds: i64| {
        turned_away(|info| {
            info.kill_policy = Some(v1::KillPolicy {
                grace_period: Some(v1::DurationInfo { nanoseconds }),
            });
        })
    };
    assert_eq!(grace(-1), "kill_policy.grace_period.nanoseconds");
    assert_eq!(
        turned_away(|info| info.max_completion_time = Some(v1::DurationInfo { nanoseconds: -1 })),
        "max_completion_time.nanoseconds"
    );
    assert_eq!(
        turned_away(|info| {
            info.health_check = Some(Box::new(v1::HealthCheck {
                interval_seconds: Some(f64::NAN),
                ..v1::HealthCheck::default()
            }));
        }),
        "health_check.interval_seconds"
    );
    assert_eq!(
        turned_away(|info| {
            info.container = Some(Box::new(v1::ContainerInfo {
                r#type: v1::container_info::Type::Docker as i32,
                ..v1::ContainerInfo::default()
            }));
        }),
        "container.type"
    );
}

#[test]
fn checks_that_are_wrong_name_their_field() {
    use v1::health_check::{GrpcCheckInfo, HttpCheckInfo, Type};
    let health = |kind: Type, change: fn(&mut v1::HealthCheck)| {
        turned_away(|info| {
            let mut check = v1::HealthCheck {
                r#type: Some(kind.into()),
                http: Some(HttpCheckInfo {
                    port: 80,
                    ..HttpCheckInfo::default()
                }),
                ..v1::HealthCheck::default()
            };
            change(&mut check);
            info.health_check = Some(Box::new(check));
        })
    };
    assert_eq!(health(Type::Unknown, |_| ()), "health_check.type");
    assert_eq!(health(Type::Tcp, |_| ()), "health_check.tcp");
    assert_eq!(health(Type::Command, |_| ()), "health_check.command");
    let command = |check: &mut v1::HealthCheck| check.command = Some(v1::CommandInfo::default());
    assert_eq!(health(Type::Command, command), "health_check.command.value");
    let port = |check: &mut v1::HealthCheck| check.http.as_mut().expect("set").port = 65_536;
    assert_eq!(health(Type::Http, port), "health_check.http.port");
    let path = |check: &mut v1::HealthCheck| check.http.as_mut().expect("set").path = Some("a".into());
    assert_eq!(health(Type::Http, path), "health_check.http.path");
    let status = |check: &mut v1::HealthCheck| check.http.as_mut().expect("set").statuses = vec![200, 1000];
    assert_eq!(health(Type::Http, status), "health_check.http.statuses[1]");
    let grpc = |check: &mut v1::HealthCheck| check.grpc = Some(GrpcCheckInfo::default());
    assert_eq!(health(Type::Grpc, grpc), "health_check.grpc.port");
    let grace = |check: &mut v1::HealthCheck| check.grace_period_seconds = Some(f64::INFINITY);
    assert_eq!(health(Type::Http, grace), "health_check.grace_period_seconds");
    let check = turned_away(|info| {
        info.check = Some(Box::new(v1::CheckInfo {
            r#type: Some(v1::check_info::Type::Command.into()),
            command: Some(v1::check_info::Command {
                command: v1::CommandInfo {
                    value: Some("true".into()),
                    user: Some("root".into()),
                    ..v1::CommandInfo::default()
                },
            }),
            ..v1::CheckInfo::default()
        }));
    });
    assert_eq!(check, "check.command.command.user");
}

#[test]
fn resources_that_are_wrong_name_their_field() {
    assert_eq!(turned_away(|info| info.resources.clear()), "resources");
    for value in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
        let field = turned_away(|info| info.resources = vec![scalar("mem", 32.0), scalar("cpus", value)]);
        assert!(field.starts_with("resources[1]"), "{value}: {field}");
    }
    assert_eq!(
        turned_away(|info| info.resources = resources("cpus:0;mem:0")),
        "resources"
    );
    assert_eq!(
        turned_away(|info| info.resources = resources("cpus:5;mem:32")),
        "resources"
    );
    assert_eq!(
        turned_away(|info| info.resources = resources("cpus:1;mem:32;unheard:1")),
        "resources"
    );
    for ports in ["[80-80]", "[31009-31010]", "[30999-31000]"] {
        let text = format!("cpus:1;mem:32;ports:{ports}");
        assert_eq!(
            turned_away(|info| info.resources = resources(&text)),
            "resources",
            "{ports}"
        );
    }
    let backwards = v1::Resource {
        name: "ports".to_owned(),
        r#type: v1::value::Type::Ranges as i32,
        ranges: Some(v1::value::Ranges {
            range: vec![v1::value::Range {
                begin: 31005,
                end: 31001,
            }],
        }),
        ..v1::Resource::default()
    };
    let field = turned_away(|info| info.resources.push(backwards.clone()));
    assert!(field.starts_with("resources[2]"), "{field}");
    let foreign = |role: &str| {
        turned_away(|info| {
            for resource in &mut info.resources {
                resource.allocation_info = Some(v1::resource::AllocationInfo {
                    role: Some(role.to_owned()),
                });
            }
        })
    };
    assert_eq!(foreign("other"), "resources");
    let limit = |name: &str, value: f64| {
        turned_away(|info| {
            info.limits.insert(name.to_owned(), v1::value::Scalar { value });
        })
    };
    assert_eq!(limit("disk", 1.0), "limits[\"disk\"]");
    assert_eq!(limit("cpus", 0.5), "limits[\"cpus\"]");
    assert_eq!(limit("mem", f64::NAN), "limits[\"mem\"].value");
    assert_eq!(limit("mem", f64::NEG_INFINITY), "limits[\"mem\"].value");
}

/// The field that the answer to a SUBSCRIBE names.
fn not_subscribed(change: impl FnOnce(&mut Call, &mut FrameworkInfo)) -> String {
    let mut world = world();
    let mut info = FrameworkInfo {
        user: "user".to_owned(),
        name: "f2".to_owned(),
        ..FrameworkInfo::default()
    };
    let mut call = Call {
        r#type: Some(call::Type::Subscribe as i32),
        subscribe: Some(Box::new(call::Subscribe::default())),
        ..Call::default()
    };
    change(&mut call, &mut info);
    if let Some(subscribe) = &mut call.subscribe {
        subscribe.framework_info = info;
    }
    let input = Input::Subscribe {
        request: world.request(),
        stream: StreamId(1000),
        call: Box::new(call),
    };
    let effects = world.step(input);
    match effects.as_slice() {
        [
            Effect::Answer {
                answer: Answer::Rejected(rejection),
                ..
            },
        ] => rejection.field.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn subscriptions_that_are_wrong_name_their_field() {
    assert_eq!(not_subscribed(|call, _| call.r#type = None), "type");
    assert_eq!(not_subscribed(|call, _| call.subscribe = None), "subscribe");
    assert_eq!(not_subscribed(|_, info| info.id = Some("x".into())), "framework_id");
    assert_eq!(
        not_subscribed(|call, _| call.framework_id = Some("x".into())),
        "subscribe.framework_info.id"
    );
    let different = |call: &mut Call, info: &mut FrameworkInfo| {
        call.framework_id = Some("x".into());
        info.id = Some("y".into());
    };
    assert_eq!(not_subscribed(different), "framework_id");
    let unknown = |call: &mut Call, info: &mut FrameworkInfo| {
        call.framework_id = Some("x".into());
        info.id = Some("x".into());
    };
    assert_eq!(not_subscribed(unknown), "framework_id");
    for timeout in [f64::NAN, -1.0, f64::NEG_INFINITY] {
        let field = not_subscribed(|_, info| info.failover_timeout = Some(timeout));
        assert_eq!(field, "subscribe.framework_info.failover_timeout");
    }
    #[allow(deprecated)]
    for role in ["", "/", "a//b", "..", "-a", "a b", "a/"] {
        let field = not_subscribed(|_, info| info.role = Some(role.to_owned()));
        assert_eq!(field, "subscribe.framework_info.role", "{role:?}");
    }
    let roles = |multi_role: bool, roles: &[&str]| {
        not_subscribed(|_, info| {
            info.roles = roles.iter().map(|role| (*role).to_owned()).collect();
            if multi_role {
                info.capabilities.push(v1::framework_info::Capability {
                    r#type: Some(v1::framework_info::capability::Type::MultiRole as i32),
                });
            }
        })
    };
    assert_eq!(roles(false, &["a"]), "subscribe.framework_info.roles");
    assert_eq!(roles(true, &["a", "a"]), "subscribe.framework_info.roles[1]");
    assert_eq!(roles(true, &["a", "b c"]), "subscribe.framework_info.roles[1]");
    let suppressed = |call: &mut Call, _: &mut FrameworkInfo| {
        let subscribe = call.subscribe.as_mut().expect("a payload");
        subscribe.suppressed_roles.push("b".to_owned());
    };
    assert_eq!(not_subscribed(suppressed), "subscribe.suppressed_roles[0]");
    let minimum = |_: &mut Call, info: &mut FrameworkInfo| {
        let quantities = [("cpus".to_owned(), v1::value::Scalar { value: -1.0 })];
        let filters = v1::OfferFilters {
            min_allocatable_resources: Some(v1::offer_filters::MinAllocatableResources {
                quantities: vec![v1::offer_filters::ResourceQuantities {
                    quantities: quantities.into(),
                }],
            }),
        };
        info.offer_filters.insert("*".to_owned(), filters);
    };
    assert_eq!(
        not_subscribed(minimum),
        "subscribe.framework_info.offer_filters[\"*\"].min_allocatable_resources.quantities[0][\"cpus\"].value"
    );
}

#[test]
fn other_calls_that_are_wrong_name_their_field() {
    let mut world = world();
    let decline = Call {
        decline: Some(call::Decline::default()),
        ..of(&world, call::Type::Decline)
    };
    assert_eq!(rejected(&mut world, decline), "decline.offer_ids");
    let nan = Call {
        decline: Some(call::Decline {
            offer_ids: vec!["m1-O1".into()],
            filters: Some(v1::Filters {
                refuse_seconds: Some(f64::NAN),
            }),
        }),
        ..of(&world, call::Type::Decline)
    };
    assert_eq!(rejected(&mut world, nan), "decline.filters.refuse_seconds");
    let revive = Call {
        revive: Some(call::Revive {
            roles: vec!["*".to_owned(), "other".to_owned()],
        }),
        ..of(&world, call::Type::Revive)
    };
    assert_eq!(rejected(&mut world, revive), "revive.roles[1]");
    let suppress = Call {
        suppress: Some(call::Suppress {
            roles: vec!["other".to_owned()],
        }),
        ..of(&world, call::Type::Suppress)
    };
    assert_eq!(rejected(&mut world, suppress), "suppress.roles[0]");
    let kill = Call {
        kill: Some(call::Kill {
            kill_policy: Some(v1::KillPolicy {
                grace_period: Some(v1::DurationInfo { nanoseconds: -5 }),
            }),
            ..call::Kill::default()
        }),
        ..of(&world, call::Type::Kill)
    };
    assert_eq!(rejected(&mut world, kill), "kill.kill_policy.grace_period.nanoseconds");
    let acknowledge = Call {
        acknowledge: Some(call::Acknowledge::default()),
        ..of(&world, call::Type::Acknowledge)
    };
    assert_eq!(rejected(&mut world, acknowledge), "acknowledge.uuid");
    let update = Call {
        update_framework: Some(Box::new(call::UpdateFramework::default())),
        ..of(&world, call::Type::UpdateFramework)
    };
    assert_eq!(rejected(&mut world, update), "update_framework.framework_info.id");
    let operator = Input::Operator {
        request: world.request(),
        call: Box::new(master::Call::default()),
    };
    let effects = world.step(operator);
    assert!(matches!(
        effects.as_slice(),
        [Effect::Answer { answer: Answer::Rejected(rejection), .. }] if rejection.field == "type"
    ));
}

#[test]
fn registrations_that_are_wrong_are_refused() {
    let register = |change: &dyn Fn(&mut proffer_proto::link::Register)| {
        let mut world = world();
        let mut register = proffer_proto::link::Register {
            protocol: 1,
            agent: v1::AgentInfo {
                hostname: "a2".to_owned(),
                resources: resources("cpus:1"),
                ..v1::AgentInfo::default()
            },
            ..proffer_proto::link::Register::default()
        };
        change(&mut register);
        let connection = world.connect("a2");
        world.step(Input::AgentRegister {
            connection,
            register: Box::new(register),
            address: String::new(),
        });
        assert!(world.out.ends_with("close a2\n"), "{}", world.out);
        let refusal = world.out.lines().rev().nth(1).expect("a line").to_owned();
        refusal.split('`').nth(1).expect("a field").to_owned()
    };
    assert_eq!(register(&|register| register.protocol = 2), "register.protocol");
    assert_eq!(
        register(&|register| register.agent.hostname.clear()),
        "register.agent.hostname"
    );
    assert_eq!(
        register(&|register| register.agent.id = Some("a/b".into())),
        "register.agent.id.value"
    );
    let field = register(&|register| register.agent.resources.push(scalar("mem", f64::NAN)));
    assert!(field.starts_with("register.agent.resources[1]"), "{field}");
    // A message on a stream that never registered goes nowhere.
    let effects = world().step(Input::AgentMessage {
        connection: ConnectionId(999),
        message: Box::default(),
    });
    assert!(effects.is_empty());
}
