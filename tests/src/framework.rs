//! A framework that a test plays by hand: it sees every event and makes every call itself.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, bail};
use proffer_proto::resources::Resources;
use proffer_proto::v1::scheduler::{Event, event};
use proffer_proto::v1::{
    AgentId, Filters, FrameworkId, FrameworkInfo, InverseOffer, KillPolicy, Offer, OfferId, OperationStatus, TaskId,
    TaskInfo, TaskState, TaskStatus, offer::Operation,
};
use proffer_sdk::offers::{Matcher, Placement, launch};
use proffer_sdk::{Calls, Events, Masters, Task, connect};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// A subscribed framework.
#[derive(Debug)]
pub struct TestFramework {
    masters: Masters,
    info: FrameworkInfo,
    events: Events,
    calls: Calls,
    offers: VecDeque<Offer>,
    rescinded: Vec<OfferId>,
    inverse_offers: Vec<InverseOffer>,
    updates: Vec<TaskStatus>,
    operations: Vec<OperationStatus>,
    errors: Vec<String>,
    acknowledge: bool,
    /// Where acknowledgements go that nobody waits for.
    lane: Option<mpsc::UnboundedSender<(AgentId, TaskId, Vec<u8>)>>,
}

impl TestFramework {
    /// Subscribes; with an id in `info` it takes over from an earlier one.
    pub async fn subscribe(masters: Masters, mut info: FrameworkInfo) -> anyhow::Result<Self> {
        let connected = tokio::time::timeout(crate::DEADLINE, connect(&masters, info.clone())).await;
        let (events, calls) = connected.context("no subscription in time")??;
        info.id = Some(calls.framework_id().clone());
        Ok(TestFramework {
            masters,
            info,
            events,
            calls,
            offers: VecDeque::new(),
            rescinded: Vec::new(),
            inverse_offers: Vec::new(),
            updates: Vec::new(),
            operations: Vec::new(),
            errors: Vec::new(),
            acknowledge: true,
            lane: None,
        })
    }

    /// Subscribes again with the same id, as a new scheduler process would; nothing else is remembered.
    pub async fn fail_over(self) -> anyhow::Result<Self> {
        Self::subscribe(self.masters, self.info).await
    }

    /// The framework's id.
    pub fn id(&self) -> &FrameworkId {
        self.calls.framework_id()
    }

    /// What it says of itself.
    pub fn info(&self) -> &FrameworkInfo {
        &self.info
    }

    /// Makes calls.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Leaves updates unacknowledged, or acknowledges them again.
    pub fn set_acknowledge(&mut self, acknowledge: bool) {
        self.acknowledge = acknowledge;
    }

    /// Acknowledges from a task of its own, in order, as the driver of the SDK does: no event waits for an answer.
    pub fn acknowledge_beside(&mut self) {
        let (lane, mut queue) = mpsc::unbounded_channel();
        let calls = self.calls.clone();
        tokio::spawn(async move {
            while let Some((agent, task, uuid)) = queue.recv().await {
                if let Err(error) = calls.acknowledge(agent, task, uuid).await {
                    eprintln!("an acknowledgement failed: {error}");
                    return;
                }
            }
        });
        self.lane = Some(lane);
    }

    /// Every status update so far, repeated ones too.
    pub fn updates(&self) -> &[TaskStatus] {
        &self.updates
    }

    /// The offers taken back so far.
    pub fn rescinded(&self) -> &[OfferId] {
        &self.rescinded
    }

    /// Every inverse offer so far.
    pub fn inverse_offers(&self) -> &[InverseOffer] {
        &self.inverse_offers
    }

    /// The next offer that has not been taken back.
    pub async fn next_offer(&mut self) -> anyhow::Result<Offer> {
        self.until("an offer", |framework| framework.offers.pop_front()).await
    }

    /// An offer that is open and fits, if there is one.
    pub fn take_offer(&mut self, fits: impl Fn(&Offer) -> bool) -> Option<Offer> {
        let index = self.offers.iter().position(fits)?;
        self.offers.remove(index)
    }

    /// The next offer that has these amounts and a port; smaller ones are given back for long.
    pub async fn next_offer_of(&mut self, cpus: f64, mem_mib: f64) -> anyhow::Result<Offer> {
        loop {
            let offer = self.next_offer().await?;
            let resources = Resources::from_wire(&offer.resources)?;
            let enough = resources.cpus().as_f64() >= cpus && resources.mem().as_f64() >= mem_mib;
            if enough && !resources.ports().is_empty() {
                return Ok(offer);
            }
            self.decline(offer, 3600.0).await?;
        }
    }

    /// Launches one task on an offer, the rest of which is given back at once.
    pub async fn launch(&mut self, offer: Offer, task: Task) -> anyhow::Result<TaskInfo> {
        let placement = place(&offer, &task)?;
        let info = task.at(&placement);
        self.launch_infos(&offer, vec![info.clone()]).await?;
        Ok(info)
    }

    /// Launches tasks as they are, without any check of this side.
    pub async fn launch_infos(&mut self, offer: &Offer, infos: Vec<TaskInfo>) -> anyhow::Result<()> {
        let filters = Filters {
            refuse_seconds: Some(0.0),
        };
        self.calls
            .accept(vec![offer.id.clone()], vec![launch(infos)], Some(filters))
            .await?;
        Ok(())
    }

    /// Has operations done with an offer, the rest of which is given back at once.
    pub async fn accept(&mut self, offer: &Offer, operations: Vec<Operation>) -> anyhow::Result<()> {
        let filters = Filters {
            refuse_seconds: Some(0.0),
        };
        let offers = vec![offer.id.clone()];
        Ok(self.calls.accept(offers, operations, Some(filters)).await?)
    }

    /// Waits for the next word about an operation that was not looked at, and returns it.
    pub async fn wait_for_operation(&mut self, id: &str) -> anyhow::Result<OperationStatus> {
        let about = |status: &OperationStatus| status.operation_id.as_ref().is_some_and(|own| own.value == id);
        self.until(&format!("a status of {id}"), |framework| {
            let index = framework.operations.iter().position(about)?;
            Some(framework.operations.remove(index))
        })
        .await
    }

    /// Gives an offer back for that time.
    pub async fn decline(&mut self, offer: Offer, refuse_seconds: f64) -> anyhow::Result<()> {
        let filters = Filters {
            refuse_seconds: Some(refuse_seconds),
        };
        Ok(self.calls.decline(vec![offer.id], Some(filters)).await?)
    }

    /// Kills a task.
    pub async fn kill(&mut self, task: &TaskInfo, policy: Option<KillPolicy>) -> anyhow::Result<()> {
        Ok(self
            .calls
            .kill(task.task_id.clone(), Some(task.agent_id.clone()), policy)
            .await?)
    }

    /// Waits until an update tells that state, and returns it.
    ///
    /// # Errors
    /// The task ended in another way, or the deadline passed; the error tells what was seen.
    pub async fn wait_for(&mut self, task: &TaskInfo, state: TaskState) -> anyhow::Result<TaskStatus> {
        let id = task.task_id.clone();
        let found = self
            .until(&format!("{} of {id}", state.as_str_name()), |framework| {
                let mut of_task = framework.updates.iter().filter(|status| status.task_id == id);
                let wanted = of_task.clone().find(|status| status.state() == state);
                wanted
                    .or_else(|| of_task.find(|status| proffer_sdk::is_terminal(status.state())))
                    .cloned()
            })
            .await?;
        if found.state() != state {
            bail!(
                "task {id} is {:?} instead of {state:?}: {}",
                found.state(),
                found.message()
            );
        }
        Ok(found)
    }

    /// Waits for an update that answers a reconciliation (it has no uuid) and returns it.
    pub async fn wait_for_reconciliation(&mut self, id: &TaskId) -> anyhow::Result<TaskStatus> {
        let seen = self.updates.len();
        self.until("a reconciliation update", |framework| {
            framework.updates[seen..]
                .iter()
                .find(|s| s.task_id == *id && s.uuid.is_none())
                .cloned()
        })
        .await
    }

    /// Waits until that offer is taken back.
    pub async fn wait_for_rescind(&mut self, offer: &OfferId) -> anyhow::Result<()> {
        self.until("a rescind", |framework| {
            framework.rescinded.contains(offer).then_some(())
        })
        .await
    }

    /// Waits for an ERROR event.
    pub async fn wait_for_error(&mut self) -> anyhow::Result<String> {
        self.until("an error", |framework| framework.errors.pop()).await
    }

    /// Handles events for that long, whatever they are.
    pub async fn listen_for(&mut self, duration: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + duration;
        while let Ok(event) = timeout_at(deadline, self.events.next()).await {
            self.handle(event?).await?;
        }
        Ok(())
    }

    /// Handles events until `find` finds something.
    pub async fn until<T>(&mut self, what: &str, mut find: impl FnMut(&mut Self) -> Option<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + crate::DEADLINE;
        loop {
            if let Some(found) = find(self) {
                return Ok(found);
            }
            let Ok(event) = timeout_at(deadline, self.events.next()).await else {
                bail!("{what} did not come; the updates so far: {}", self.history());
            };
            self.handle(event.with_context(|| format!("while waiting for {what}"))?)
                .await?;
        }
    }

    fn history(&self) -> String {
        let lines: Vec<String> = self
            .updates
            .iter()
            .map(|status| format!("{} {:?} {}", status.task_id, status.state(), status.message()))
            .collect();
        lines.join("; ")
    }

    async fn handle(&mut self, event: Event) -> anyhow::Result<()> {
        match event.r#type() {
            event::Type::Offers => self
                .offers
                .extend(event.offers.into_iter().flat_map(|offers| offers.offers)),
            event::Type::Rescind => {
                let id = event.rescind.context("a RESCIND names its offer")?.offer_id;
                self.offers.retain(|offer| offer.id != id);
                self.rescinded.push(id);
            }
            event::Type::InverseOffers => {
                let offers = event.inverse_offers.context("INVERSE_OFFERS has offers")?;
                self.inverse_offers.extend(offers.inverse_offers);
            }
            event::Type::Update => {
                let status = event.update.context("an UPDATE has a status")?.status;
                if let (Some(uuid), Some(agent), true) = (&status.uuid, &status.agent_id, self.acknowledge) {
                    let (agent, task, uuid) = (agent.clone(), status.task_id.clone(), uuid.clone());
                    match &self.lane {
                        Some(lane) => lane
                            .send((agent, task, uuid))
                            .ok()
                            .context("an acknowledgement failed")?,
                        None => self.calls.acknowledge(agent, task, uuid).await?,
                    }
                }
                self.updates.push(status);
            }
            event::Type::UpdateOperationStatus => {
                let status = event.update_operation_status.context("it has a status")?.status;
                if let (Some(uuid), Some(id), true) = (&status.uuid, &status.operation_id, self.acknowledge) {
                    let (agent, id, uuid) = (status.agent_id.clone(), id.clone(), uuid.value.clone());
                    self.calls.acknowledge_operation(agent, id, uuid).await?;
                }
                self.operations.push(status);
            }
            event::Type::Error => self
                .errors
                .push(event.error.map(|error| error.message).unwrap_or_default()),
            _ => {}
        }
        Ok(())
    }
}

/// Where a task goes on one offer.
///
/// # Errors
/// It does not fit.
pub fn place(offer: &Offer, task: &Task) -> anyhow::Result<Placement> {
    Matcher::new([offer])
        .place(task.shape())
        .with_context(|| format!("{:?} does not fit on {:?}", task.shape(), offer.resources))
}
