//! Asks about the group of masters, and changes it.

use std::time::Duration;

use proffer_proto::api::masters_client::MastersClient;
use proffer_proto::masters::{AddMaster, GroupChanged, ListMasters, MastersList, RemoveMaster, TransferLeadership};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Code, Response, Status};

use crate::finder::Failed;
use crate::leader::{Connection, Leader};
use crate::line::Line;
use crate::masters::{Masters, leader_of};

/// How long one master may take to say what it knows of the group.
const LIST_TIMEOUT: Duration = Duration::from_secs(1);

/// Lists, adds and removes masters, and moves the leadership.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use proffer_sdk::operator::GroupClient;
///
/// let mut group = GroupClient::new("10.0.0.1:5050,10.0.0.2:5050,10.0.0.3:5050".parse()?);
/// for master in group.list().await?.masters {
///     println!("{} at {} leads: {}", master.id, master.address, master.leads);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct GroupClient {
    masters: Masters,
    leader: Leader,
    timeout: Duration,
    patience: Duration,
}

/// Why the group was not listed or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The call is wrong: the text says what would be accepted.
    #[error("rejected: {0}")]
    Rejected(String),
    /// The call is right, but the group does not grant it as things are.
    #[error("refused: {0}")]
    Refused(String),
    /// The change may have been made, or may yet be; [`GroupClient::list`] tells.
    #[error("the group may have changed, or may yet: {0}")]
    Uncertain(String),
    /// No master, or no leading one, answered. Nothing was changed.
    #[error("no master answered: {0}")]
    Unavailable(String),
}

/// A change that only the leader makes.
#[derive(Debug, Clone)]
enum Change {
    Add(AddMaster),
    Remove(RemoveMaster),
    Transfer(TransferLeadership),
}

impl GroupClient {
    /// Gives up looking for the leader after this time unless told otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(10);
    /// Gives up waiting for a change after this time unless told otherwise.
    pub const PATIENCE: Duration = Duration::from_secs(120);

    /// Connects when it is asked.
    pub fn new(masters: Masters) -> Self {
        GroupClient {
            leader: Leader::new(masters.clone()),
            masters,
            timeout: Self::TIMEOUT,
            patience: Self::PATIENCE,
        }
    }

    /// Gives up looking for a master that answers after this time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Gives up waiting for a change that a leader has begun after this time.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The group as the leader knows it; as a follower does, where no leader answers.
    pub async fn list(&mut self) -> Result<MastersList, GroupError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let (best, why) = ask_all(&self.masters, self.masters.addresses()).await;
            let Some(mut best) = best else {
                if Instant::now() >= deadline {
                    return Err(GroupError::Unavailable(why));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let leader = best
                .leader
                .and_then(|id| best.masters.iter().find(|master| master.id == id));
            // Only the leader knows how the others are; it may not be one of the masters that were named.
            if let Some(leader) = leader
                && best.masters.iter().all(|master| master.reachable.is_none())
            {
                let addresses = [leader.address.clone()];
                let told = ask_all(&self.masters, &addresses)
                    .await
                    .0
                    .filter(|told| told.term >= best.term);
                best = told.unwrap_or(best);
            }
            return Ok(best);
        }
    }

    /// Makes a learner a voter, perhaps in the place of another member; `host:port` or ids. Answered when that is committed.
    ///
    /// ```no_run
    /// # async fn example(mut group: proffer_sdk::operator::GroupClient) -> anyhow::Result<()> {
    /// group.add("10.0.0.4:5050", Some("10.0.0.1:5050")).await?;
    /// # Ok(()) }
    /// ```
    pub async fn add(&mut self, master: &str, replaces: Option<&str>) -> Result<MastersList, GroupError> {
        let add = AddMaster {
            master: master.to_owned(),
            replaces: replaces.map(str::to_owned),
        };
        self.change(Change::Add(add)).await
    }

    /// Takes a member out of the group; `host:port` or id. Answered when that is committed.
    ///
    /// ```no_run
    /// # async fn example(mut group: proffer_sdk::operator::GroupClient) -> anyhow::Result<()> {
    /// group.remove("10.0.0.1:5050").await?;
    /// # Ok(()) }
    /// ```
    pub async fn remove(&mut self, master: &str) -> Result<MastersList, GroupError> {
        let master = master.to_owned();
        self.change(Change::Remove(RemoveMaster { master })).await
    }

    /// Hands the leadership to this voter, or to one that the leader chooses. Answered when another one leads.
    ///
    /// ```no_run
    /// # async fn example(mut group: proffer_sdk::operator::GroupClient) -> anyhow::Result<()> {
    /// group.transfer(None).await?;
    /// # Ok(()) }
    /// ```
    pub async fn transfer(&mut self, to: Option<&str>) -> Result<MastersList, GroupError> {
        let to = to.map(str::to_owned);
        self.change(Change::Transfer(TransferLeadership { to })).await
    }

    /// A refusal by a master that does not lead changes nothing, so the change is asked for again at the next one. Once a leader
    /// has it, a lost answer leaves it uncertain.
    async fn change(&mut self, change: Change) -> Result<MastersList, GroupError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let Ok(connection) = timeout_at(deadline, self.leader.connection()).await else {
                return Err(GroupError::Unavailable(self.leader.why().await));
            };
            // A master that ends takes connections and answers nothing: what it never had is not uncertain.
            if let Err(why) = list(&connection.address, connection.line.clone()).await {
                self.leader.failed(&connection, Failed::NotLeading(None), why).await;
                continue;
            }
            let Ok(answered) = timeout(self.patience, submit(&connection, change.clone())).await else {
                let text = format!("no answer within {} s", self.patience.as_secs());
                return Err(GroupError::Uncertain(text));
            };
            let status = match answered {
                Ok(changed) => {
                    self.leader.confirm(&connection).await;
                    return Ok(changed.into_inner().masters);
                }
                Err(status) => status,
            };
            let text = status.message().to_owned();
            match status.code() {
                Code::Unavailable if std::error::Error::source(&status).is_none() => {
                    let failed = Failed::NotLeading(leader_of(&status));
                    self.leader.failed(&connection, failed, text).await;
                }
                Code::InvalidArgument => return Err(GroupError::Rejected(text)),
                Code::FailedPrecondition => return Err(GroupError::Refused(text)),
                Code::Unimplemented => {
                    return Err(GroupError::Refused("these masters cannot change their group".into()));
                }
                _ => return Err(GroupError::Uncertain(text)),
            }
        }
    }
}

async fn submit(connection: &Connection, change: Change) -> Result<Response<GroupChanged>, Status> {
    let mut client = MastersClient::new(connection.line.clone());
    match change {
        Change::Add(add) => client.add(add).await,
        Change::Remove(remove) => client.remove(remove).await,
        Change::Transfer(transfer) => client.transfer(transfer).await,
    }
}

/// What the masters at these addresses know of their group, the newest of it; or why none of them said anything.
async fn ask_all(masters: &Masters, addresses: &[String]) -> (Option<MastersList>, String) {
    let mut asked: JoinSet<_> = addresses
        .iter()
        .map(|address| ask(masters.clone(), address.clone()))
        .collect();
    let (mut best, mut why) = (None, "no master answered in time".to_owned());
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(list)) => best = Some(newer(best, list)),
            Ok(Err(text)) => why = text,
            Err(_) => {}
        }
    }
    (best, why)
}

async fn ask(masters: Masters, address: String) -> Result<MastersList, String> {
    let line = masters.line(&address, LIST_TIMEOUT).await?;
    list(&address, line).await
}

async fn list(address: &str, line: Line) -> Result<MastersList, String> {
    let mut client = MastersClient::new(line);
    match timeout(LIST_TIMEOUT, client.list(ListMasters {})).await {
        Ok(Ok(listed)) => Ok(listed.into_inner()),
        Ok(Err(status)) => Err(format!("{address}: {}", status.message())),
        Err(_) => Err(format!("{address} does not answer")),
    }
}

/// The later term knows better, and in one term the leader does.
fn newer(best: Option<MastersList>, other: MastersList) -> MastersList {
    let knows = |list: &MastersList| {
        let leads = list.masters.iter().any(|master| master.reachable.is_some());
        (list.term, leads, list.leader.is_some())
    };
    match best {
        Some(best) if knows(&best) >= knows(&other) => best,
        _ => other,
    }
}
