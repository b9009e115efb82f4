//! This master introduces itself to whoever leads, who keeps addresses and versions in the registry.

use std::sync::Arc;
use std::time::Duration;

use proffer_proto::raft::Introduction;
use tokio::sync::watch;

use super::pause::Pause;
use super::{Me, Shared, dial};
use crate::formation::PROTOCOL;

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

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
pub(super) async fn to_leaders(shared: Arc<Shared>, mut leader: watch::Receiver<Option<u64>>) {
    loop {
        let id = *leader.borrow_and_update();
        let introduced = async {
            if let Some(id) = id.filter(|id| *id != shared.me.member) {
                to(&shared, id).await;
            }
            std::future::pending().await
        };
        let changed = tokio::select! {
            changed = leader.changed() => changed,
            changed = introduced => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

async fn to(shared: &Shared, id: u64) {
    let mut pause = Pause::new(PAUSE_FIRST, PAUSE_LAST, shared.me.member ^ id);
    while let Err(reason) = attempt(shared, id).await {
        tracing::debug!(member = id, reason, "the leader did not hear who this master is");
        tokio::time::sleep(pause.next()).await;
    }
}

async fn attempt(shared: &Shared, id: u64) -> Result<(), String> {
    let address = shared.book.address(id).ok_or("its address is not known yet")?;
    let mut client = shared.dial.connect(&address).await?;
    let call = client.introduce(shared.me.introduction(None));
    let answer = tokio::time::timeout(ANSWER_WITHIN, call).await;
    let answer = answer.map_err(|_| "it does not answer")?;
    let answer = answer.map_err(|status| dial::reason(&status))?.into_inner();
    if answer.member != id {
        return Err(format!("member {} is there", answer.member));
    }
    Ok(())
}
