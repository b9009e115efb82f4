//! What the masters of a group hold in common, and how members leave it.

use std::path::Path;

use proffer_master::applied::AppliedRegistry;
use proffer_master::config::Begin;
use proffer_proto::api::scheduler_client::SchedulerClient;
use proffer_proto::masters::master::Role;
use proffer_proto::masters::{AddMaster, RemoveMaster, TransferLeadership};
use proffer_proto::registry::Registry;
use proffer_proto::v1::FrameworkId;
use tonic::Code;

use crate::common::{PATIENCE, framework, subscribed};
use crate::formation::{Group, Place, role, voters};

impl Group {
    /// Subscribes a framework at the leader, which takes changes of the registry.
    async fn subscribe(&self, name: &str, id: Option<&FrameworkId>) -> anyhow::Result<FrameworkId> {
        let leader = self.leader().await?;
        let mut info = framework(name, 3600.0);
        info.id = id.cloned();
        let mut client = SchedulerClient::new(self.0[leader].channel().await?);
        Ok(subscribed(&mut client, info).await?.id)
    }

    /// Waits until the leader knows that all of them have its whole log.
    async fn even(&self) -> anyhow::Result<()> {
        let leader = self.leader().await?;
        let all_have_it = |list: &proffer_proto::masters::MastersList| {
            let mut masters = list.masters.iter();
            masters.all(|master| master.behind_entries == Some(0))
        };
        self.0[leader].wait_for("even", all_have_it).await.map(drop)
    }
}

impl Place {
    /// Waits until the master ends by itself, and returns why.
    async fn failure(&mut self) -> anyhow::Result<String> {
        let mut server = self.server.take().ok_or_else(|| anyhow::anyhow!("it does not run"))?;
        let failed = tokio::time::timeout(PATIENCE, server.failed()).await?;
        let _ = server.stop().await;
        Ok(format!(
            "{:#}",
            failed.err().ok_or_else(|| anyhow::anyhow!("it did not fail"))?
        ))
    }

    fn applied(&self) -> anyhow::Result<Registry> {
        let (_, registry, _) = AppliedRegistry::open(&self.work_dir().join("registry"))?;
        Ok(registry)
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_group_that_was_stopped_goes_on_with_what_it_knew() -> anyhow::Result<()> {
    let mut group = Group::formed(3).await?;
    let id = group.subscribe("lasting", None).await?;
    group.even().await?;
    for place in &mut group.0 {
        place.stop().await?;
    }
    for place in &group.0 {
        let ids: Vec<_> = place.applied()?.frameworks.into_iter().map(|f| f.info.id).collect();
        assert_eq!(ids, [Some(id.clone())]);
        assert_eq!(place.applied()?.members.len(), 3);
    }
    for place in &mut group.0 {
        place.start(Begin::Alone).await?;
    }
    assert_eq!(group.subscribe("lasting", Some(&id)).await?, id);
    group.stop().await
}

#[tokio::test]
async fn a_leader_that_stops_hands_over_first() -> anyhow::Result<()> {
    let mut group = Group::formed(3).await?;
    group.even().await?;
    let leader = group.leader().await?;
    let before = group.0[leader].list().await?.leader;
    group.0[leader].stop().await?;
    // Not after an election timeout: it has stopped because another leads.
    let mut leaders = Vec::new();
    for place in group.0.iter().filter(|place| place.server.is_some()) {
        leaders.push(place.list().await?.leader);
    }
    assert!(leaders.iter().any(|now| now.is_some() && *now != before), "{leaders:?}");
    group.stop().await
}

#[tokio::test]
async fn a_removed_master_stops_and_comes_back_as_another() -> anyhow::Result<()> {
    let mut group = Group::formed(3).await?;
    let leader = group.leader().await?;
    let leaving = (leader + 1) % 3;
    let master = group.0[leaving].address.to_string();
    let remove = RemoveMaster { master: master.clone() };
    let changed = group.0[leader].masters().await?.remove(remove.clone()).await?;
    let list = changed.into_inner().masters;
    assert_eq!(voters(&list).len(), 2, "{list:?}");
    assert!(role(&list, group.0[leaving].address).is_empty(), "{list:?}");
    let reason = group.0[leaving].failure().await?;
    assert!(reason.contains("was removed from the group"), "{reason}");
    let leader = group.leader().await?;
    let refused = group.0[leader].masters().await?.remove(remove).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");

    // With its work directory it does not come back, without it does.
    group.0[leaving].start(Begin::Alone).await.ok();
    if group.0[leaving].server.is_some() {
        let reason = group.0[leaving].failure().await?;
        assert!(reason.contains("was removed from the group"), "{reason}");
    }
    group.0[leaving].wipe()?;
    let join = group.join();
    group.0[leaving].start(join).await?;
    let address = group.0[leaving].address;
    let learns = |list: &proffer_proto::masters::MastersList| role(list, address) == [Role::Learner];
    group.0[leader].wait_for("joined", learns).await?;
    let leader = group.leader().await?;
    let replaces = None;
    let add = AddMaster { master, replaces };
    let list = group.0[leader].masters().await?.add(add).await?.into_inner().masters;
    assert_eq!(voters(&list).len(), 3, "{list:?}");
    group.stop().await
}

#[tokio::test]
async fn a_leader_asked_to_remove_itself_names_the_one_that_can() -> anyhow::Result<()> {
    let mut group = Group::formed(3).await?;
    group.even().await?;
    let leader = group.leader().await?;
    let master = group.0[leader].address.to_string();
    let remove = RemoveMaster { master };
    let refused = group.0[leader]
        .masters()
        .await?
        .remove(remove.clone())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let named = refused
        .metadata()
        .get("proffer-leader")
        .and_then(|leader| leader.to_str().ok());
    let next = group
        .0
        .iter()
        .position(|place| Some(place.address.to_string().as_str()) == named);
    let next = next.ok_or_else(|| anyhow::anyhow!("{refused:?}"))?;
    assert_ne!(next, leader);
    group.0[next].leads().await?;
    group.0[next].masters().await?.remove(remove).await?;
    let reason = group.0[leader].failure().await?;
    assert!(reason.contains("was removed from the group"), "{reason}");
    group.stop().await
}

#[tokio::test]
async fn the_leadership_goes_to_the_master_that_is_named_and_to_no_learner() -> anyhow::Result<()> {
    let group = Group::formed(3).await?;
    group.even().await?;
    let leader = group.leader().await?;
    let next = &group.0[(leader + 1) % 3];
    let to = |to: &str| TransferLeadership {
        to: Some(to.to_owned()),
    };
    let mut masters = group.0[leader].masters().await?;
    let refused = masters.transfer(to("nowhere:1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    let refused = masters
        .transfer(to(&group.0[leader].address.to_string()))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let list = masters
        .transfer(to(&next.address.to_string()))
        .await?
        .into_inner()
        .masters;
    let leads = list.masters.iter().find(|master| master.leads);
    assert_eq!(
        leads.map(|master| master.address.clone()),
        Some(next.address.to_string())
    );
    group.stop().await
}

#[tokio::test]
async fn a_member_whose_log_lost_its_end_stops_and_says_how_to_rejoin() -> anyhow::Result<()> {
    let mut group = Group::formed(3).await?;
    let leader = group.leader().await?;
    let damaged = (leader + 1) % 3;
    group.0[damaged].stop().await?;
    let log = group.0[damaged].work_dir().join("log");
    let before = group.0[damaged].directory.path().join("log-before");
    copy(&log, &before)?;
    group.0[damaged].start(Begin::Alone).await?;
    group.subscribe("acknowledged", None).await?;
    group.even().await?;
    group.0[damaged].stop().await?;
    std::fs::remove_dir_all(&log)?;
    std::fs::rename(&before, &log)?;
    // The applied registry would tell at once; without it only the leader can.
    std::fs::remove_dir_all(group.0[damaged].work_dir().join("registry"))?;
    group.0[damaged].start(Begin::Alone).await?;
    let reason = group.0[damaged].failure().await?;
    assert!(
        reason.contains("its end is lost") && reason.contains("join again as a new one"),
        "{reason}"
    );
    group.stop().await
}
