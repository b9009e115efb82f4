//! The effects of a step as the lines of a transcript.

use std::collections::BTreeMap;

use bytes::Bytes;
use proffer_proto::link;
use proffer_proto::registry as wire;
use proffer_proto::registry::change::Body as Change;
use proffer_proto::resources::Scalar;
use proffer_proto::state;
use proffer_proto::v1::master::response::get_loans;
use proffer_proto::v1::{self, master, scheduler};

use super::{World, resources_text, uuid_text};
use crate::{Answer, Effect};

impl World {
    /// `None` for what a script does not want to see.
    pub(super) fn effect(&mut self, effect: &Effect) -> Option<String> {
        Some(match effect {
            Effect::Propose { change, .. } => format!("propose {}", self.change(change)),
            Effect::SendAgent { connection, message } => {
                let text = self.to_agent(message.body.as_ref().expect("a body"));
                format!("{} <- {text}", self.connections[connection])
            }
            Effect::CloseAgent { connection } => format!("close {}", self.connections[connection]),
            Effect::SendEvent { stream, event } => format!("{} <- {}", self.streams[stream], self.event(event)),
            Effect::Continue { stream } => format!("{} <- more when this is read", self.streams[stream]),
            Effect::CloseStream { stream } => format!("close {}", self.streams[stream]),
            Effect::Answer { answer, .. } => match answer {
                Answer::Accepted => "answer accepted".to_owned(),
                Answer::Response(response) => format!("answer {}", self.response(response)),
                Answer::Rejected(rejection) => format!("answer rejected: {rejection}"),
                Answer::NotSubscribed(why) => format!("answer not subscribed: {why}"),
                Answer::State(answer) => format!("answer {}", state_answer(answer)),
                Answer::Refused(why) => format!("answer refused: {why}"),
                Answer::Exhausted(why) => format!("answer exhausted: {why}"),
                Answer::NotLeader => "answer not leader".to_owned(),
            },
            Effect::Read { .. } => "read".to_owned(),
            Effect::SendState { stream, event } => format!("{} <- {}", self.streams[stream], state_event(event)),
            Effect::Wake { at } => {
                if !self.wakes {
                    return None;
                }
                format!("wake {at}")
            }
        })
    }

    fn learn(&mut self, name: &str, id: &str) {
        self.ids.insert(name.to_owned(), id.to_owned());
        self.names.insert(id.to_owned(), name.to_owned());
    }

    fn change(&mut self, change: &wire::Change) -> String {
        match change.body.as_ref().expect("a body") {
            Change::AdmitAgent(admit) => {
                let name = admit.agent.hostname.clone();
                self.learn(&name, admit.agent.id.as_ref().expect("an id").as_str());
                format!("admit {name}")
            }
            Change::UpdateAgent(update) => {
                format!(
                    "update {} {}",
                    update.agent.hostname,
                    resources_text(&update.agent.resources)
                )
            }
            Change::MarkUnreachable(mark) => format!("unreachable {}", self.name(mark.agent_id.as_str())),
            Change::MarkReachable(mark) => format!("reachable {}", self.name(mark.agent_id.as_str())),
            Change::MarkGone(mark) => format!("gone {}", self.name(mark.agent_id.as_str())),
            Change::SetStanding(set) => {
                format!("stand {}{}", self.name(set.agent_id.as_str()), standing(&set.standing))
            }
            Change::SetMaintenance(set) => {
                let windows = set.maintenance.schedule.iter().flat_map(|schedule| &schedule.windows);
                let machines = windows.flat_map(|window| &window.machine_ids);
                let list: Vec<_> = machines
                    .map(|machine| match set.maintenance.down.contains(machine) {
                        true => format!("{} down", machine.hostname()),
                        false => machine.hostname().to_owned(),
                    })
                    .collect();
                format!("maintain [{}]", list.join(", "))
            }
            Change::SetQuotas(set) => {
                let amounts = |amounts: &BTreeMap<String, u64>| {
                    let amounts = amounts.iter();
                    let parts = amounts.map(|(name, amount)| format!("{name}:{}", Scalar::from_thousandths(*amount)));
                    parts.collect::<Vec<_>>().join(";")
                };
                let one = |quota: &wire::Quota| {
                    let (guarantees, limits) = (amounts(&quota.guarantees), amounts(&quota.limits));
                    format!("{} [{guarantees}] to [{limits}]", quota.role)
                };
                format!("quotas {}", set.quotas.iter().map(one).collect::<Vec<_>>().join(", "))
            }
            Change::SetWeights(set) => {
                let one = |weight: &wire::Weight| format!("{} {}", weight.role, weight.thousandths);
                format!("weights {}", set.weights.iter().map(one).collect::<Vec<_>>().join(", "))
            }
            Change::SetLayout(set) => {
                let layout = &set.layout;
                let operations = layout
                    .operations
                    .iter()
                    .filter_map(|operation| operation.info.id.as_ref());
                let operations: Vec<_> = operations.map(|id| format!(" {id}")).collect();
                format!(
                    "lay out {} #{} [{}]{}{}",
                    self.name(set.agent_id.as_str()),
                    layout.version,
                    resources_text(&layout.resources),
                    destroyed(layout.destroyed.iter().map(|destroyed| &destroyed.volume)),
                    if operations.is_empty() {
                        String::new()
                    } else {
                        format!(" by{}", operations.concat())
                    },
                )
            }
            Change::RemoveAgent(remove) => format!("remove {}", self.name(remove.agent_id.as_str())),
            Change::PutFramework(put) => {
                let name = put.framework.name.clone();
                self.learn(&name, put.framework.id.as_ref().expect("an id").as_str());
                format!("put {name}")
            }
            Change::FrameworkDisconnected(away) => {
                format!(
                    "away {} until {}ms",
                    self.name(away.framework_id.as_str()),
                    away.deadline_ms
                )
            }
            Change::FrameworkConnected(back) => format!("back {}", self.name(back.framework_id.as_str())),
            Change::RemoveFramework(remove) => format!("remove {}", self.name(remove.framework_id.as_str())),
            Change::ForgetCompleted(forget) => {
                let frameworks = forget.framework_ids.iter().map(|id| self.name(id.as_str()));
                let agents = forget.gone_agent_ids.iter().map(|id| self.name(id.as_str()));
                format!("forget {}", frameworks.chain(agents).collect::<Vec<_>>().join(" "))
            }
            Change::WriteState(write) => {
                let value = write.value.as_ref().map(value_text);
                let expected = write.expected_version.map(|version| format!(" if #{version}"));
                format!(
                    "write {} {}{}{}",
                    self.namespace_name(&write.namespace),
                    write.key,
                    value.map_or(String::new(), |value| format!("={value}")),
                    expected.unwrap_or_default()
                )
            }
            Change::PutMember(_) | Change::RemoveMember(_) | Change::RaiseLevel(_) => {
                panic!("the driver proposes changes of the group")
            }
        }
    }

    fn namespace_name(&self, namespace: &str) -> String {
        match namespace.strip_prefix("framework/") {
            Some(id) => format!("framework/{}", self.name(id)),
            None => namespace.to_owned(),
        }
    }

    fn to_agent(&self, body: &link::master_message::Body) -> String {
        use link::master_message::Body;
        let task = |framework: &v1::FrameworkId, task: &v1::TaskId| format!("{}/{task}", self.name(framework.as_str()));
        match body {
            Body::Registered(registered) => format!("registered as {}", registered.agent_id),
            Body::Rejected(rejected) => {
                format!(
                    "rejected{}: {}",
                    if rejected.gone() { " as gone" } else { "" },
                    rejected.message
                )
            }
            Body::Launch(launch) => {
                let id = launch.framework.id.as_ref().expect("an id");
                let one =
                    |info: &v1::TaskInfo| format!("{} {}", task(id, &info.task_id), resources_text(&info.resources));
                let tasks = launch.tasks.iter().map(one).collect::<Vec<_>>().join(", ");
                let group = if launch.group() { "group " } else { "" };
                let executor = launch.executor.as_ref().map(|executor| {
                    let held = resources_text(&executor.resources);
                    let start = if launch.start_executor() { "new " } else { "" };
                    format!(" on {start}{}[{held}]", executor.executor_id)
                });
                format!("launch {group}{tasks}{}", executor.unwrap_or_default())
            }
            Body::Layout(layout) => {
                format!(
                    "layout #{} [{}]{}",
                    layout.version,
                    resources_text(&layout.resources),
                    destroyed(layout.destroyed.iter().map(|destroyed| &destroyed.volume)),
                )
            }
            Body::Kill(kill) => {
                let why = if kill.drain.is_some() { " to drain" } else { "" };
                format!("kill {}{why}", task(&kill.framework_id, &kill.task_id))
            }
            Body::Acknowledge(ack) => {
                format!(
                    "acknowledge {}{}",
                    task(&ack.framework_id, &ack.task_id),
                    uuid_text(Some(&ack.uuid))
                )
            }
            Body::ShutdownFramework(shutdown) => format!("shut down {}", self.name(shutdown.framework_id.as_str())),
            Body::FrameworkMessage(message) => {
                format!(
                    "message for {}: {}",
                    message.executor_id,
                    String::from_utf8_lossy(&message.data)
                )
            }
            Body::ShutdownExecutor(shutdown) => format!("shut down executor {}", shutdown.executor_id),
            Body::Ping(ping) => format!("ping {}", ping.sequence),
            Body::UpdateFramework(update) => format!("update {}", update.framework.name),
        }
    }

    fn event(&self, event: &scheduler::Event) -> String {
        use scheduler::event::Type;
        match event.r#type() {
            Type::Subscribed => {
                let subscribed = event.subscribed.as_ref().expect("a payload");
                format!("subscribed as {}", subscribed.framework_id)
            }
            Type::Offers => {
                let offers = &event.offers.as_ref().expect("a payload").offers;
                let one = |offer: &v1::Offer| {
                    let resources = resources_text(&offer.resources);
                    let until = offer.unavailability.map(|window| window.start.nanoseconds / 1_000_000);
                    let until = until.map(|until| format!(" until {until}ms")).unwrap_or_default();
                    let lent = offer.lent_until.map(|until| until.nanoseconds / 1_000_000);
                    let lent = lent.map(|until| format!(" lent until {until}ms")).unwrap_or_default();
                    format!(
                        "{} {} {resources}{until}{lent}",
                        self.offer_name(&offer.id),
                        offer.hostname
                    )
                };
                format!("offers {}", offers.iter().map(one).collect::<Vec<_>>().join(", "))
            }
            Type::InverseOffers => {
                let offers = &event.inverse_offers.as_ref().expect("a payload").inverse_offers;
                let one = |offer: &v1::InverseOffer| {
                    let agent = self.name(offer.agent_id.as_ref().expect("an agent").as_str());
                    let from = offer.unavailability.start.nanoseconds / 1_000_000;
                    let back = match offer.resources.is_empty() {
                        true => String::new(),
                        false => format!(" for {}", resources_text(&offer.resources)),
                    };
                    format!("{} {agent} from {from}ms{back}", self.inverse_offer_name(&offer.id))
                };
                format!(
                    "inverse offers {}",
                    offers.iter().map(one).collect::<Vec<_>>().join(", ")
                )
            }
            Type::RescindInverseOffer => {
                let rescinded = event.rescind_inverse_offer.as_ref().expect("a payload");
                format!("rescind {}", self.inverse_offer_name(&rescinded.inverse_offer_id))
            }
            Type::Rescind => {
                format!(
                    "rescind {}",
                    self.offer_name(&event.rescind.as_ref().expect("a payload").offer_id)
                )
            }
            Type::UpdateOperationStatus => {
                self.operation_status(&event.update_operation_status.as_ref().expect("a payload").status)
            }
            Type::Update => self.status(&event.update.as_ref().expect("a payload").status),
            Type::Message => {
                let message = event.message.as_ref().expect("a payload");
                format!(
                    "message of {}: {}",
                    message.executor_id,
                    String::from_utf8_lossy(&message.data)
                )
            }
            Type::Failure => {
                let failure = event.failure.as_ref().expect("a payload");
                let agent = failure
                    .agent_id
                    .as_ref()
                    .map(|id| self.name(id.as_str()))
                    .unwrap_or_default();
                let executor = failure.executor_id.as_ref().map(|id| format!(" executor {id}"));
                format!("failure {agent}{}", executor.unwrap_or_default())
            }
            Type::Error => format!("error: {}", event.error.as_ref().expect("a payload").message),
            Type::Heartbeat => "heartbeat".to_owned(),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn operation_status(&self, status: &v1::OperationStatus) -> String {
        let id = status.operation_id.as_ref().expect("an id");
        let state = status.state().as_str_name().trim_start_matches("OPERATION_");
        let agent = status
            .agent_id
            .as_ref()
            .map(|id| format!(" on {}", self.name(id.as_str())));
        let message = status.message.as_ref().map(|message| format!(": {message}"));
        format!(
            "operation {id} {state}{}{}{}",
            agent.unwrap_or_default(),
            if status.uuid.is_some() { " !" } else { "" },
            message.unwrap_or_default()
        )
    }

    fn status(&self, status: &v1::TaskStatus) -> String {
        let state = status.state().as_str_name().trim_start_matches("TASK_");
        let agent = status
            .agent_id
            .as_ref()
            .map(|id| format!(" on {}", self.name(id.as_str())));
        let reason = status.reason.map(|_| {
            status
                .reason()
                .as_str_name()
                .trim_start_matches("REASON_")
                .to_lowercase()
        });
        let since = status
            .unreachable_time
            .as_ref()
            .map(|time| format!(" since {}ms", time.nanoseconds / 1_000_000));
        let message = status.message.as_ref().map(|message| format!(": {message}"));
        format!(
            "update {} {state}{}{}{}{}{}",
            status.task_id,
            agent.unwrap_or_default(),
            uuid_text(status.uuid.as_ref()),
            reason.map(|reason| format!(" ({reason})")).unwrap_or_default(),
            since.unwrap_or_default(),
            message.unwrap_or_default(),
        )
    }

    fn reason(&self, reason: &master::response::explain::Reason) -> String {
        let mut text = format!("{} {}", reason.kind().as_str_name(), reason.agents);
        if let Some(agent) = &reason.largest_agent_id {
            text += &format!(" {} [{}]", self.name(agent.as_str()), resources_text(&reason.largest));
        }
        if let Some(until) = &reason.until {
            text += &format!(" until {}ms", until.nanoseconds / 1_000_000);
        }
        if let (Some(role), Some(resource)) = (&reason.role, &reason.resource) {
            text += &format!(" of {role} for {resource}");
        }
        let at = |word: &str, time: Option<v1::TimeInfo>| {
            time.map_or(String::new(), |time| {
                format!(" {word} {}ms", time.nanoseconds / 1_000_000)
            })
        };
        for holder in &reason.holders {
            let resources = resources_text(&holder.resources);
            text += &format!(
                " by {} {} {} [{resources}]{}{}",
                holder.framework_name,
                holder.role,
                holder.offers,
                at("since", holder.since),
                at("until", holder.until)
            );
        }
        text
    }

    /// A response as lines of its main facts.
    fn loans(&self, loans: &master::response::GetLoans) -> Vec<String> {
        let agent = |agent: &get_loans::Agent| {
            let loan = |loan: &get_loans::Loan| {
                let task = loan.task_id.as_ref().map_or("offered".to_owned(), ToString::to_string);
                format!("{} {task} {}", loan.framework_name, resources_text(&loan.resources))
            };
            let wanted =
                |wanted: &get_loans::Wanted| format!("{} {}", wanted.framework_name, resources_text(&wanted.resources));
            let recall = agent.recall.as_ref().map(|recall| {
                let wanted: Vec<_> = recall.wanted.iter().map(wanted).collect();
                let killed = if recall.killed { " killed" } else { "" };
                let until = recall.deadline.nanoseconds / 1_000_000;
                format!(" back for {} at {until}ms{killed}", wanted.join(", "))
            });
            let loans: Vec<_> = agent.loans.iter().map(loan).collect();
            let (backing, recall) = (resources_text(&agent.backing), recall.unwrap_or_default());
            format!("{} [{backing}] to [{}]{recall}", agent.hostname, loans.join(", "))
        };
        let totals = format!(
            "{} offers, {} recalled, {} returned, {} killed",
            loans.offers, loans.tasks_recalled, loans.tasks_returned, loans.tasks_killed
        );
        loans.agents.iter().map(agent).chain([totals]).collect()
    }

    fn response(&self, response: &master::Response) -> String {
        let mut parts = vec![response.r#type().as_str_name().to_owned()];
        parts.extend(response.get_loans.iter().flat_map(|loans| self.loans(loans)));
        let state = response.get_state.clone().unwrap_or_default();
        let agents = response.get_agents.clone().or(state.get_agents).unwrap_or_default();
        for agent in &agents.agents {
            parts.push(format!(
                "{} active={}{} total [{}] allocated [{}] offered [{}]",
                agent.agent_info.hostname,
                agent.active,
                agent
                    .drain_info
                    .as_ref()
                    .map(|drain| format!(" {}", drain.state().as_str_name()))
                    .unwrap_or_default(),
                resources_text(&agent.total_resources),
                resources_text(&agent.allocated_resources),
                resources_text(&agent.offered_resources),
            ));
        }
        parts.extend(
            agents
                .recovered_agents
                .iter()
                .map(|agent| format!("{} recovered", agent.hostname)),
        );
        let frameworks = response
            .get_frameworks
            .clone()
            .or(state.get_frameworks)
            .unwrap_or_default();
        for framework in &frameworks.frameworks {
            let offers: Vec<_> = framework
                .offers
                .iter()
                .map(|offer| self.offer_name(&offer.id))
                .collect();
            parts.push(format!(
                "{} active={} connected={} recovered={} offers [{}]",
                framework.framework_info.name,
                framework.active,
                framework.connected,
                framework.recovered,
                offers.join(" "),
            ));
        }
        let completed = frameworks.completed_frameworks.iter();
        parts.extend(completed.map(|framework| format!("{} completed", framework.framework_info.name)));
        let executors = response
            .get_executors
            .clone()
            .or(state.get_executors)
            .unwrap_or_default();
        for executor in &executors.executors {
            let info = &executor.executor_info;
            let on = self.name(executor.agent_id.as_str());
            parts.push(format!(
                "{} on {on} [{}]",
                info.executor_id,
                resources_text(&info.resources)
            ));
        }
        let tasks = response.get_tasks.clone().or(state.get_tasks).unwrap_or_default();
        let all = [
            ("", tasks.tasks),
            ("unreachable ", tasks.unreachable_tasks),
            ("completed ", tasks.completed_tasks),
        ];
        for (kind, list) in all {
            parts.extend(list.iter().map(|task| {
                let state = task.state().as_str_name();
                format!(
                    "{kind}{} {state} on {}",
                    task.task_id,
                    self.name(task.agent_id.as_str())
                )
            }));
        }
        for role in response.get_roles.clone().unwrap_or_default().roles {
            let names: Vec<_> = role.frameworks.iter().map(|id| self.name(id.as_str())).collect();
            let weight = if role.weight == 1.0 {
                String::new()
            } else {
                format!(" by {}", role.weight)
            };
            parts.push(format!(
                "{}{weight} of {} [{}]",
                role.name,
                names.join(" "),
                resources_text(&role.resources)
            ));
        }
        let status = response.get_quota.clone().unwrap_or_default().status;
        for (config, usage) in status.configs.iter().zip(&status.usage) {
            assert_eq!(config.role, usage.role);
            parts.push(format!(
                "{} [{}] to [{}] allocated [{}] offered [{}] reserved [{}]",
                config.role,
                amounts_text(&config.guarantees),
                amounts_text(&config.limits),
                amounts_text(&usage.allocated),
                amounts_text(&usage.offered),
                amounts_text(&usage.reserved),
            ));
        }
        for claim in response.explain.clone().unwrap_or_default().claims {
            let reasons: Vec<String> = claim.reasons.iter().map(|reason| self.reason(reason)).collect();
            let last = claim.last_until.map(|until| until.nanoseconds / 1_000_000);
            let last = last.map(|until| format!(" (last until {until}ms)"));
            parts.push(format!(
                "{} {}{}: {}",
                claim.framework_name,
                claim.role,
                last.unwrap_or_default(),
                reasons.join(", ")
            ));
        }
        for info in response.get_weights.clone().unwrap_or_default().weight_infos {
            parts.push(format!("{} {}", info.role(), info.weight));
        }
        for violation in response.update_quota.clone().unwrap_or_default().violations {
            parts.push(format!(
                "{}{}: {} {}; accepted: {}",
                violation.role,
                if violation.forcible { " forcible" } else { "" },
                violation.field,
                violation.problem,
                violation.accepted,
            ));
        }
        for operation in response.get_operations.clone().unwrap_or_default().operations {
            parts.push(self.operation_status(&operation.latest_status));
        }
        if let Some(maintenance) = &response.get_maintenance_status {
            for machine in &maintenance.status.draining_machines {
                let said = |status: &v1::allocator::InverseOfferStatus| {
                    let framework = self.name(status.framework_id.as_str());
                    format!("{framework} {}", status.status().as_str_name())
                };
                let said: Vec<_> = machine.statuses.iter().map(said).collect();
                parts.push(format!("{} draining [{}]", machine.id.hostname(), said.join(", ")));
            }
            let down = maintenance.status.down_machines.iter();
            parts.extend(down.map(|machine| format!("{} down", machine.hostname())));
        }
        if let Some(schedule) = &response.get_maintenance_schedule {
            parts.push(format!("{} windows", schedule.schedule.windows.len()));
        }
        if let Some(health) = &response.get_health {
            parts.push(format!("healthy={}", health.healthy));
        }
        if let Some(version) = &response.get_version {
            parts.push(version.version_info.version.clone());
        }
        parts.join("; ")
    }
}

fn amounts_text(amounts: &BTreeMap<String, v1::value::Scalar>) -> String {
    let parts = amounts.iter().map(|(name, amount)| format!("{name}:{}", amount.value));
    parts.collect::<Vec<_>>().join(";")
}

/// Volumes that are no more.
fn destroyed<'a>(volumes: impl Iterator<Item = &'a v1::Resource>) -> String {
    // One may have been made and destroyed twice.
    let volumes: Vec<String> = volumes
        .map(|volume| resources_text(std::slice::from_ref(volume)))
        .collect();
    if volumes.is_empty() {
        return String::new();
    }
    format!(" without [{}]", volumes.join(";"))
}

/// Says what operators want of an agent.
fn standing(standing: &wire::Standing) -> String {
    let drain = standing.drain.as_ref().map(|drain| match drain.drained() {
        true => " drained",
        false => " draining",
    });
    let offered = if standing.deactivated() { " off" } else { " on" };
    format!("{offered}{}", drain.unwrap_or_default())
}

/// A long value by its length.
fn value_text(value: &Bytes) -> String {
    match value.len() {
        0..=32 => String::from_utf8_lossy(value).into_owned(),
        length => format!("<{length} bytes>"),
    }
}

fn entry_text(entry: &state::Entry) -> String {
    let value = entry.value.as_ref().map(|value| format!("={}", value_text(value)));
    format!("{}{} #{}", entry.key, value.unwrap_or_default(), entry.version)
}

fn state_answer(answer: &state::Answer) -> String {
    use state::answer::Body;
    let or_nothing = |entry: &Option<state::Entry>| entry.as_ref().map_or("nothing".to_owned(), entry_text);
    match answer.body.as_ref().expect("a body") {
        Body::Got(got) => format!("got {}", or_nothing(&got.entry)),
        Body::Done(done) => format!("done #{}", done.version),
        Body::Conflict(conflict) => format!("conflict: {}", or_nothing(&conflict.entry)),
        Body::Listed(listed) => {
            let entries: Vec<_> = listed.entries.iter().map(entry_text).collect();
            let more = if listed.more { ", and more" } else { "" };
            format!("listed [{}]{more}", entries.join(", "))
        }
    }
}

fn state_event(event: &state::Event) -> String {
    use state::event::Body;
    match event.body.as_ref().expect("a body") {
        Body::Put(entry) => format!("put {}", entry_text(entry)),
        Body::Deleted(deleted) => format!("deleted {} #{}", deleted.key, deleted.version),
        Body::Current(_) => "current".to_owned(),
    }
}
