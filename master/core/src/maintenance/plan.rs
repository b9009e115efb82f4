//! The plan of maintenance: what operators ask, what the registry then holds, and what they are told of it.

use proffer_proto::Rejection;
use proffer_proto::registry as wire;
use proffer_proto::registry::change::Body;
use proffer_proto::v1::maintenance::{ClusterStatus, Schedule, Window, cluster_status::DrainingMachine};
use proffer_proto::v1::{self, MachineId};

use super::{machines, replan};
use crate::effect::Answer;
use crate::input::RequestId;
use crate::inverse;
use crate::level;
use crate::master::{Leading, Step};
use crate::proposals::{Proposal, propose};

/// What an operator asks for.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    /// Replaces the whole schedule.
    Update(Schedule),
    /// Takes machines of the schedule down.
    Start(Vec<MachineId>),
    /// Ends the maintenance of machines that are down.
    Stop(Vec<MachineId>),
}

/// An operator's order.
pub(crate) fn order(leading: &mut Leading, step: &mut Step<'_>, order: Order, request: RequestId) {
    if let Err(why) = level::check(step, "maintenance is planned") {
        return step.effects.answer(request, Answer::Refused(why));
    }
    if leading.maintenance.in_flight {
        return leading.maintenance.queue.push_back((order, request));
    }
    match carry_out(&step.registry.maintenance, order) {
        Ok(plan) if plan == step.registry.maintenance => step.effects.answer(request, Answer::Accepted),
        Ok(maintenance) => {
            leading.maintenance.in_flight = true;
            let change = wire::SetMaintenance { maintenance };
            propose(leading, step, Body::SetMaintenance(change), Proposal::Maintain(request));
        }
        Err(rejection) => step.effects.answer(request, Answer::Rejected(rejection)),
    }
}

/// The plan after an order.
fn carry_out(plan: &wire::Maintenance, order: Order) -> Result<wire::Maintenance, Rejection> {
    let mut plan = plan.clone();
    match order {
        Order::Update(schedule) => {
            check(&schedule).map_err(|rejection| rejection.within("update_maintenance_schedule.schedule"))?;
            if let Some(down) = plan.down.iter().find(|down| !holds(&schedule, down)) {
                let problem = format!("lacks {}, which is down", machines::show(down));
                let accepted = "every machine that is down; STOP_MAINTENANCE ends its maintenance";
                let field = "update_maintenance_schedule.schedule";
                return Err(Rejection::new(field, problem, accepted));
            }
            plan.schedule = (!schedule.windows.is_empty()).then_some(schedule);
        }
        Order::Start(list) => {
            for_each(&list, "start_maintenance.machines", |machine, field| {
                let scheduled = plan.schedule.as_ref().is_some_and(|schedule| holds(schedule, machine));
                if !scheduled {
                    let problem = format!("is {}, which is not in the schedule", machines::show(machine));
                    return Err(Rejection::new(field, problem, "a machine of the maintenance schedule"));
                }
                Ok(())
            })?;
            for machine in list {
                if !plan.down.contains(&machine) {
                    plan.down.push(machine);
                }
            }
        }
        Order::Stop(list) => {
            for_each(&list, "stop_maintenance.machines", |machine, field| {
                if !plan.down.contains(machine) {
                    let problem = format!("is {}, which is not down", machines::show(machine));
                    return Err(Rejection::new(
                        field,
                        problem,
                        "a machine that START_MAINTENANCE took down",
                    ));
                }
                Ok(())
            })?;
            plan.down.retain(|down| !list.contains(down));
            let mut windows = plan.schedule.take().unwrap_or_default().windows;
            for window in &mut windows {
                window.machine_ids.retain(|machine| !list.contains(machine));
            }
            windows.retain(|window| !window.machine_ids.is_empty());
            plan.schedule = (!windows.is_empty()).then_some(Schedule { windows });
        }
    }
    Ok(plan)
}

fn for_each(
    list: &[MachineId],
    field: &str,
    check: impl Fn(&MachineId, String) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    if list.is_empty() {
        return Err(Rejection::new(field, "is empty", "one machine or more"));
    }
    let mut all = list.iter().enumerate();
    all.try_for_each(|(index, machine)| check(machine, format!("{field}[{index}]")))
}

fn holds(schedule: &Schedule, machine: &MachineId) -> bool {
    let mut windows = schedule.windows.iter();
    windows.any(|window| window.machine_ids.contains(machine))
}

fn check(schedule: &Schedule) -> Result<(), Rejection> {
    let mut seen = Vec::new();
    for (index, window) in schedule.windows.iter().enumerate() {
        check_window(window, &mut seen).map_err(|rejection| rejection.within(format!("windows[{index}]")))?;
    }
    Ok(())
}

fn check_window<'a>(window: &'a Window, seen: &mut Vec<&'a MachineId>) -> Result<(), Rejection> {
    if window.machine_ids.is_empty() {
        return Err(Rejection::new("machine_ids", "is empty", "one machine or more"));
    }
    for (index, machine) in window.machine_ids.iter().enumerate() {
        let field = format!("machine_ids[{index}]");
        machines::check(machine, &field)?;
        if seen.contains(&machine) {
            let problem = format!("is {}, which is in the schedule twice", machines::show(machine));
            return Err(Rejection::new(field, problem, "each machine once"));
        }
        seen.push(machine);
    }
    let duration = window.unavailability.duration.as_ref();
    if let Some(duration) = duration.filter(|duration| duration.nanoseconds < 0) {
        let problem = format!("is {}", duration.nanoseconds);
        return Err(Rejection::new(
            "unavailability.duration.nanoseconds",
            problem,
            "0 or more",
        ));
    }
    Ok(())
}

/// When an agent's machine will not be available.
pub(super) fn window_of(plan: &wire::Maintenance, hostname: &str, address: &str) -> Option<v1::Unavailability> {
    let mut windows = plan.schedule.as_ref()?.windows.iter();
    let window = windows.find(|window| {
        let mut all = window.machine_ids.iter();
        all.any(|machine| machines::matches(machine, hostname, address))
    });
    window.map(|window| window.unavailability)
}

/// The registry has the new plan.
pub(crate) fn committed(leading: &mut Leading, step: &mut Step<'_>, request: RequestId) {
    step.effects.answer(request, Answer::Accepted);
    leading.maintenance.in_flight = false;
    replan(leading, step);
    next(leading, step);
}

/// The log refused the new plan.
pub(crate) fn dropped(leading: &mut Leading, step: &mut Step<'_>) {
    leading.maintenance.in_flight = false;
    next(leading, step);
}

fn next(leading: &mut Leading, step: &mut Step<'_>) {
    while !leading.maintenance.in_flight
        && let Some((waiting, request)) = leading.maintenance.queue.pop_front()
    {
        order(leading, step, waiting, request);
    }
}

/// How far the machines of the plan are left, and by whom.
pub(crate) fn status(leading: &Leading, plan: &wire::Maintenance) -> ClusterStatus {
    let windows = plan.schedule.iter().flat_map(|schedule| &schedule.windows);
    let draining = windows
        .flat_map(|window| &window.machine_ids)
        .filter(|machine| !plan.down.contains(machine));
    let machine_of = |machine: &MachineId| {
        let on_it = |slot| {
            let agent = &leading.agents[slot];
            machines::matches(machine, &agent.info.hostname, &agent.address)
        };
        DrainingMachine {
            id: machine.clone(),
            statuses: inverse::statuses(leading, on_it),
        }
    };
    ClusterStatus {
        draining_machines: draining.map(machine_of).collect(),
        down_machines: plan.down.clone(),
    }
}
