//! This master introduces itself to whoever leads, who keeps addresses and versions in the registry.

use std::sync::Arc;
use std::time::Duration;

use proffer_proto::raft::Introduction;

use super::pause::Pause;
use super::{Me, Shared, dial};
use crate::formation::PROTOCOL;

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const AGAIN_AFTER: Duration = Duration::from_secs(10);

impl Me {
    /// What this master says of itself.
    pub fn introduction(&self, leader: Option<String>) -> Introduction {
        Introduction {
            protocol: PROTOCOL,
            member: self.member,
            address: self.address.clone(),
            level: self.level,
            version: self.version.clone(),
            cluster_id: Some(self.cluster_id.clone()),
            cluster: Some(self.cluster.clone()),
            leader,
            peers: Vec::new(),
        }
    }
}

/// Introduces this master to each new leader for as long as this is polled.
pub(super) async fn to_leaders(shared: Arc<Shared>) {
    let mut leader = shared.leader.subscribe();
    loop {
        let id = *leader.borrow_and_update();
        let introduce = async {
            match id.filter(|id| *id != shared.me.member) {
                Some(id) => to(&shared, id).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = leader.changed() => {}
            () = introduce => {}
        }
    }
}

/// Introduces this master at addresses where others may be, until the leader is known: where every master has
/// another address than the registry says, none would find another.
pub(super) async fn at_addresses(shared: Arc<Shared>, addresses: Vec<String>) {
    let mut leader = shared.leader.subscribe();
    let ask_all = async {
        let mut pause = Pause::new(PAUSE_FIRST, PAUSE_LAST, shared.me.member);
        loop {
            for address in &addresses {
                match ask(&shared, address).await {
                    Ok(there) if there.member != shared.me.member => drop(shared.book.heard(there.member, address)),
                    Ok(_) => {}
                    Err(reason) => tracing::debug!(address, reason, "nobody of the group is known to be there"),
                }
            }
            tokio::time::sleep(pause.next()).await;
        }
    };
    tokio::select! {
        // An error means that the master stops.
        _ = leader.wait_for(Option::is_some) => {}
        () = shared.events.closed() => {}
        () = ask_all => {}
    }
}

/// Again and again: a leader that lost its leadership and won it again has forgotten what it had not yet written down.
async fn to(shared: &Shared, id: u64) {
    let mut pause = Pause::new(PAUSE_FIRST, PAUSE_LAST, shared.me.member ^ id);
    loop {
        let wait = match attempt(shared, id).await {
            Ok(()) => AGAIN_AFTER,
            Err(reason) => {
                tracing::debug!(member = id, reason, "the leader did not hear who this master is");
                pause.next()
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn attempt(shared: &Shared, id: u64) -> Result<(), String> {
    let address = shared.book.address(id).ok_or("its address is not known yet")?;
    let there = ask(shared, &address).await?;
    if there.member != id {
        return Err(format!("member {} is there", there.member));
    }
    // Until it has committed something in its term it takes note of nothing.
    if there.leader.as_ref() != Some(&there.address) {
        return Err("it does not lead yet".to_owned());
    }
    Ok(())
}

/// Introduces this master, and returns who is there.
async fn ask(shared: &Shared, address: &str) -> Result<Introduction, String> {
    let mut client = shared.dial.connect(address).await?;
    let call = client.introduce(shared.me.introduction(None));
    let answer = tokio::time::timeout(ANSWER_WITHIN, call).await;
    let answer = answer.map_err(|_| "it does not answer")?;
    let answer = answer.map_err(|status| dial::reason_of(&status))?.into_inner();
    if answer.cluster_id.as_ref() != Some(&shared.me.cluster_id) {
        return Err("a master that is not of this cluster is there".to_owned());
    }
    Ok(answer)
}
