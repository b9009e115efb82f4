//! The operator API: what people and their programs ask the leader.

use proffer_proto::Rejection;
use proffer_proto::resources::Resources;
use proffer_proto::v1::master::call::Type;
use proffer_proto::v1::master::response::{self, get_agents, get_executors, get_frameworks};
use proffer_proto::v1::master::{Call, Response};
use proffer_proto::v1::{self, TaskState, TimeInfo};

use crate::agents::{self, Agent, Phase};
use crate::drain::{self, Order};
use crate::effect::Answer;
use crate::executors;
use crate::explain;
use crate::frameworks::{self, Framework};
use crate::input::RequestId;
use crate::kill;
use crate::maintenance;
use crate::master::{Leading, Step};
use crate::offers;
use crate::operations::{self, feedback};
use crate::proposals::Removal;
use crate::revocable;
use crate::roles;
use crate::slots::AgentSlot;
use crate::time::Timestamp;

/// Any operator call.
pub(crate) fn call(leading: &mut Leading, step: &mut Step<'_>, request: RequestId, call: Call) {
    if let Err(rejection) = dispatch(leading, step, request, call) {
        step.effects.answer(request, Answer::Rejected(rejection));
    }
}

fn dispatch(leading: &mut Leading, step: &mut Step<'_>, request: RequestId, call: Call) -> Result<(), Rejection> {
    let Some(number) = call.r#type else {
        return Err(Rejection::missing("type"));
    };
    let Ok(kind) = Type::try_from(number) else {
        let problem = format!("is {number}, which is no type of call");
        return Err(Rejection::new("type", problem, "a type of the operator API"));
    };
    if let Some((agent, order)) = operations::order(&call, request)? {
        order.give(leading, step, &agent);
        return Ok(());
    }
    match kind {
        Type::Teardown => {
            let payload = call.teardown.ok_or_else(|| Rejection::missing("teardown"))?;
            let slot = frameworks::find(leading, step, &payload.framework_id);
            let slot = slot.map_err(|rejection| rejection.within("teardown"))?;
            frameworks::remove(leading, step, slot, Removal::Operator(request));
            return Ok(());
        }
        Type::MarkAgentGone => {
            let payload = call
                .mark_agent_gone
                .ok_or_else(|| Rejection::missing("mark_agent_gone"))?;
            agents::mark_gone(leading, step, &payload.agent_id, Some(request));
            return Ok(());
        }
        Type::DrainAgent => {
            let payload = call.drain_agent.ok_or_else(|| Rejection::missing("drain_agent"))?;
            let config = drain::config(&payload).map_err(|rejection| rejection.within("drain_agent"))?;
            drain::order(leading, step, &payload.agent_id, Order::Drain(config), request);
            return Ok(());
        }
        Type::DeactivateAgent => {
            let payload = call
                .deactivate_agent
                .ok_or_else(|| Rejection::missing("deactivate_agent"))?;
            drain::order(leading, step, &payload.agent_id, Order::Deactivate, request);
            return Ok(());
        }
        Type::ReactivateAgent => {
            let payload = call
                .reactivate_agent
                .ok_or_else(|| Rejection::missing("reactivate_agent"))?;
            drain::order(leading, step, &payload.agent_id, Order::Reactivate, request);
            return Ok(());
        }
        Type::KillTask => {
            let payload = call.kill_task.ok_or_else(|| Rejection::missing("kill_task"))?;
            kill::by_operator(leading, step, request, payload);
            return Ok(());
        }
        Type::UpdateMaintenanceSchedule => {
            let payload = call.update_maintenance_schedule;
            let payload = payload.ok_or_else(|| Rejection::missing("update_maintenance_schedule"))?;
            maintenance::order(leading, step, maintenance::Order::Update(payload.schedule), request);
            return Ok(());
        }
        Type::StartMaintenance => {
            let payload = call
                .start_maintenance
                .ok_or_else(|| Rejection::missing("start_maintenance"))?;
            maintenance::order(leading, step, maintenance::Order::Start(payload.machines), request);
            return Ok(());
        }
        Type::StopMaintenance => {
            let payload = call
                .stop_maintenance
                .ok_or_else(|| Rejection::missing("stop_maintenance"))?;
            maintenance::order(leading, step, maintenance::Order::Stop(payload.machines), request);
            return Ok(());
        }
        _ => {}
    }
    if kind == Type::Explain {
        let payload = call.explain.ok_or_else(|| Rejection::missing("explain"))?;
        let response = Response {
            r#type: Some(response::Type::Explain as i32),
            explain: Some(explain::explain(leading, step, &payload)?),
            ..Response::default()
        };
        step.effects.answer(request, Answer::Response(Box::new(response)));
        return Ok(());
    }
    if let Some(order) = order_about_roles(kind, &call)? {
        roles::order(leading, step, order, request);
        return Ok(());
    }
    let response = read(leading, step, kind)?;
    step.effects.answer(request, Answer::Response(Box::new(response)));
    Ok(())
}

/// The calls that set quotas and weights.
#[allow(deprecated)]
fn order_about_roles(kind: Type, call: &Call) -> Result<Option<roles::Order>, Rejection> {
    let missing = |field: &str| Rejection::missing(field);
    let order = match kind {
        Type::UpdateQuota => {
            let payload = call.update_quota.as_ref().ok_or_else(|| missing("update_quota"))?;
            roles::of_update(payload)?
        }
        Type::SetQuota => {
            let payload = call.set_quota.as_ref().ok_or_else(|| missing("set_quota"))?;
            roles::of_request(&payload.quota_request)?
        }
        Type::RemoveQuota => {
            let payload = call.remove_quota.as_ref().ok_or_else(|| missing("remove_quota"))?;
            roles::of_removal(&payload.role)?
        }
        Type::UpdateWeights => {
            let payload = call.update_weights.as_ref().ok_or_else(|| missing("update_weights"))?;
            roles::weights(&payload.weight_infos)?
        }
        _ => return Ok(None),
    };
    Ok(Some(order))
}

/// The calls that change nothing.
fn read(leading: &Leading, step: &Step<'_>, kind: Type) -> Result<Response, Rejection> {
    let of = |kind: response::Type| Response {
        r#type: Some(kind as i32),
        ..Response::default()
    };
    Ok(match kind {
        Type::GetHealth => Response {
            get_health: Some(response::GetHealth { healthy: true }),
            ..of(response::Type::GetHealth)
        },
        Type::GetVersion => Response {
            get_version: Some(response::GetVersion {
                version_info: v1::VersionInfo {
                    version: step.config.version.clone(),
                    ..v1::VersionInfo::default()
                },
            }),
            ..of(response::Type::GetVersion)
        },
        Type::GetMaster => Response {
            get_master: Some(response::GetMaster {
                master_info: step.config.master_info.clone(),
                start_time: None,
                elected_time: Some(leading.elected.as_secs_f64()),
            }),
            ..of(response::Type::GetMaster)
        },
        Type::GetState => Response {
            get_state: Some(response::GetState {
                get_tasks: Some(get_tasks(leading)),
                get_executors: Some(get_executors(leading)),
                get_frameworks: Some(get_frameworks(leading, step)),
                get_agents: Some(get_agents(leading)),
            }),
            ..of(response::Type::GetState)
        },
        Type::GetAgents => Response {
            get_agents: Some(get_agents(leading)),
            ..of(response::Type::GetAgents)
        },
        Type::GetFrameworks => Response {
            get_frameworks: Some(get_frameworks(leading, step)),
            ..of(response::Type::GetFrameworks)
        },
        Type::GetExecutors => Response {
            get_executors: Some(get_executors(leading)),
            ..of(response::Type::GetExecutors)
        },
        Type::GetTasks => Response {
            get_tasks: Some(get_tasks(leading)),
            ..of(response::Type::GetTasks)
        },
        Type::GetOperations => Response {
            get_operations: Some(response::GetOperations {
                operations: feedback::list(leading),
            }),
            ..of(response::Type::GetOperations)
        },
        Type::GetRoles => Response {
            get_roles: Some(roles::get_roles(leading, step)),
            ..of(response::Type::GetRoles)
        },
        Type::GetQuota => Response {
            get_quota: Some(roles::get_quota(leading, step)),
            ..of(response::Type::GetQuota)
        },
        Type::GetWeights => Response {
            get_weights: Some(roles::get_weights(step)),
            ..of(response::Type::GetWeights)
        },
        Type::GetLoans => Response {
            get_loans: Some(revocable::status(leading)),
            ..of(response::Type::GetLoans)
        },
        Type::GetMaintenanceSchedule => Response {
            get_maintenance_schedule: Some(response::GetMaintenanceSchedule {
                schedule: step.registry.maintenance.schedule.clone().unwrap_or_default(),
            }),
            ..of(response::Type::GetMaintenanceSchedule)
        },
        Type::GetMaintenanceStatus => Response {
            get_maintenance_status: Some(response::GetMaintenanceStatus {
                status: maintenance::status(leading, &step.registry.maintenance),
            }),
            ..of(response::Type::GetMaintenanceStatus)
        },
        Type::Unknown => {
            return Err(Rejection::new("type", "is UNKNOWN", "a type of the operator API"));
        }
        other => {
            let problem = format!("is {}, which is not there yet", other.as_str_name());
            let accepted = "GET_HEALTH, GET_VERSION, GET_MASTER, GET_STATE, GET_AGENTS, GET_FRAMEWORKS, GET_EXECUTORS, \
                            GET_TASKS, GET_ROLES, GET_OPERATIONS, GET_QUOTA, GET_WEIGHTS, UPDATE_QUOTA, SET_QUOTA, REMOVE_QUOTA, \
                            UPDATE_WEIGHTS, TEARDOWN, MARK_AGENT_GONE, DRAIN_AGENT, DEACTIVATE_AGENT, \
                            REACTIVATE_AGENT, GET_MAINTENANCE_SCHEDULE, GET_MAINTENANCE_STATUS, \
                            UPDATE_MAINTENANCE_SCHEDULE, START_MAINTENANCE, STOP_MAINTENANCE, KILL_TASK, EXPLAIN, GET_LOANS, \
                            RESERVE_RESOURCES, UNRESERVE_RESOURCES, CREATE_VOLUMES, DESTROY_VOLUMES, GROW_VOLUME or \
                            SHRINK_VOLUME";
            return Err(Rejection::new("type", problem, accepted));
        }
    })
}

fn time(at: Timestamp) -> TimeInfo {
    TimeInfo {
        nanoseconds: at.as_nanos_i64(),
    }
}

/// What is offered and what is allocated, each with its role.
#[derive(Default)]
struct Sums {
    offered: Resources,
    allocated: Resources,
}

impl Sums {
    fn of_agent(leading: &Leading, agent: &Agent) -> Self {
        let tasks = agent.tasks.iter().map(|task| &leading.tasks[*task]);
        let mut sums = Sums::of(leading, agent.offers.iter().map(|offer| &leading.offers[offer]), tasks);
        let parked = agent.parked.iter().filter_map(|number| leading.parked.get(number));
        for (resources, owner) in parked.map(|parked| (parked.resources.clone(), parked.owner)) {
            sums.offered += match owner {
                Some((_, claim)) => resources.allocate(&leading.claims[claim].role),
                None => resources,
            };
        }
        for executor in agent.executors.values() {
            sums.allocated += executor.resources.clone().allocate(&executor.role);
        }
        for remnant in agent.remnants.values() {
            sums.allocated += remnant.resources.clone().allocate(&remnant.role);
        }
        sums
    }

    fn of_framework(leading: &Leading, framework: &Framework) -> Self {
        let tasks = framework.tasks.values().map(|task| &leading.tasks[*task]);
        let offers = framework.offers.iter().map(|offer| &leading.offers[offer]);
        let mut sums = Sums::of(leading, offers, tasks);
        for executor in executors::of(leading, &framework.id) {
            sums.allocated += executor.resources.clone().allocate(&executor.role);
        }
        sums
    }

    fn of<'a>(
        leading: &Leading,
        offers: impl Iterator<Item = &'a offers::Offer>,
        tasks: impl Iterator<Item = &'a crate::tasks::Task>,
    ) -> Self {
        let mut sums = Sums::default();
        for offer in offers {
            sums.offered += offer.resources.clone().allocate(&leading.claims[offer.claim].role);
        }
        for task in tasks.filter(|task| task.held) {
            sums.allocated += task.resources.clone().allocate(&leading.claims[task.claim].role);
        }
        sums
    }
}

fn get_agents(leading: &Leading) -> response::GetAgents {
    let recovered = leading
        .agents
        .iter()
        .filter(|(_, agent)| agent.phase == Phase::Recovered);
    response::GetAgents {
        recovered_agents: recovered.map(|(_, agent)| agent.info.clone()).collect(),
        agents: leading
            .agents
            .iter()
            .filter(|(_, agent)| matches!(agent.phase, Phase::Attached(_) | Phase::Disconnected))
            .map(|(_, agent)| agent_of(leading, agent))
            .collect(),
    }
}

fn agent_of(leading: &Leading, agent: &Agent) -> get_agents::Agent {
    let sums = Sums::of_agent(leading, agent);
    let drain = drain::info(&agent.standing);
    get_agents::Agent {
        agent_info: agent.info.clone(),
        active: agent.connection().is_some() && agent.is_offered(),
        deactivated: Some(agent.standing.deactivated()),
        drain_info: drain.as_ref().map(|(info, _)| *info),
        estimated_drain_start_time: drain.map(|(_, started)| time(started)),
        version: agent.version.clone(),
        pid: (!agent.address.is_empty()).then(|| agent.address.clone()),
        registered_time: Some(time(agent.registered)),
        reregistered_time: agent.reregistered.map(time),
        total_resources: agent.total.to_wire(),
        allocated_resources: sums.allocated.to_wire(),
        offered_resources: sums.offered.to_wire(),
        capabilities: agent.capabilities.clone(),
    }
}

#[allow(deprecated)]
fn get_frameworks(leading: &Leading, step: &Step<'_>) -> response::GetFrameworks {
    let completed = step.registry.completed().map(|completed| get_frameworks::Framework {
        framework_info: completed.info.clone(),
        unregistered_time: Some(time(Timestamp::from_millis_i64(completed.removed_ms))),
        ..get_frameworks::Framework::default()
    });
    response::GetFrameworks {
        frameworks: leading
            .frameworks
            .iter()
            .map(|(_, framework)| framework_of(leading, framework))
            .collect(),
        completed_frameworks: completed.collect(),
        ..response::GetFrameworks::default()
    }
}

fn framework_of(leading: &Leading, framework: &Framework) -> get_frameworks::Framework {
    let sums = Sums::of_framework(leading, framework);
    let connected = framework.stream().is_some();
    get_frameworks::Framework {
        framework_info: framework.info.clone(),
        active: connected && !framework.removing,
        connected,
        recovered: framework.phase == frameworks::Phase::Away { recovered: true },
        registered_time: Some(time(framework.registered)),
        reregistered_time: framework.reregistered.map(time),
        offers: framework
            .offers
            .iter()
            .map(|number| offers::wire(leading, *number, &leading.offers[number]))
            .collect(),
        allocated_resources: sums.allocated.to_wire(),
        offered_resources: sums.offered.to_wire(),
        offer_constraints: framework.constraints().cloned(),
        ..get_frameworks::Framework::default()
    }
}

#[allow(deprecated)]
fn get_executors(leading: &Leading) -> response::GetExecutors {
    let of = |(_, agent): (AgentSlot, &Agent)| {
        let executors = agent.executors.values().map(|executor| get_executors::Executor {
            executor_info: executor.info.clone(),
            agent_id: agent.id.clone(),
        });
        executors.collect::<Vec<_>>()
    };
    response::GetExecutors {
        executors: leading.agents.iter().flat_map(of).collect(),
        ..response::GetExecutors::default()
    }
}

#[allow(deprecated)]
fn get_tasks(leading: &Leading) -> response::GetTasks {
    let mut tasks = response::GetTasks::default();
    for (_, framework) in leading.frameworks.iter() {
        for task in framework.tasks.values() {
            let wire = leading.tasks[*task].record.task();
            match wire.state() {
                TaskState::TaskUnreachable => tasks.unreachable_tasks.push(wire),
                _ => tasks.tasks.push(wire),
            }
        }
        tasks.completed_tasks.extend(framework.completed.iter());
    }
    tasks
}
