//! A leader ends between the steps of a change of the group.

use anyhow::{Context, ensure};
use proffer_faults::Place;
use proffer_master::faults::*;
use proffer_proto::masters::master::Role;
use proffer_proto::masters::{Master, MastersList};
use proffer_sdk::Masters;
use proffer_sdk::operator::GroupClient;
use proffer_tests::{Cluster, faults};

use super::writes::Writes;
use crate::until;

pub(super) const PLACES: &[Place] = &[
    JOIN_RECORDED,
    JOIN_BEFORE_ANSWER,
    ADD_BEFORE_CHANGE,
    GROUP_JOINT,
    REPLACED_BEFORE_FORGOTTEN,
    REMOVED_BEFORE_FORGOTTEN,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_group_outlives_the_leader_that_began_it() -> anyhow::Result<()> {
    let mut cluster = Cluster::builder("faults-group")
        .masters(3)
        .agents(0)
        .faults()
        .start()
        .await?;
    let first = cluster.local().master_addresses().to_vec();
    let writes = Writes::begin(cluster.masters());
    let join = [format!("--join={}", first.join(","))];
    let mut group = Group {
        masters: cluster.masters(),
        first: first.clone(),
    };

    // Each newcomer comes to a leader that ends, and then to another.
    let mut newcomers = Vec::new();
    for (place, name) in [(JOIN_RECORDED, "newcomer"), (JOIN_BEFORE_ANSWER, "another")] {
        let leader = group.armed_leader(&mut cluster, place, &[]).await?;
        newcomers.push(cluster.newcomer(name, &join).await?);
        ended(&mut cluster, leader, place).await?;
        let address = newcomers.last().expect("it is there").1.clone();
        group
            .until("the newcomer learns", |group| has(group, &address, Role::Learner))
            .await?;
        writes.are_there().await?;
    }
    let (newcomer, another) = (newcomers[0].1.clone(), newcomers[1].1.clone());
    let all = [first.clone(), vec![newcomer.clone(), another.clone()]].concat();
    group.masters = all.join(",").parse()?;

    // One takes the place of another, in spite of leaders that end before, amid and after that.
    for place in [ADD_BEFORE_CHANGE, GROUP_JOINT] {
        let leader = group.armed_leader(&mut cluster, place, &[&first[2]]).await?;
        let lost = group.client().add(&newcomer, Some(&first[2])).await;
        ensure!(lost.is_err(), "its leader has ended: {lost:?}");
        ended(&mut cluster, leader, place).await?;
    }
    // Whoever leads then ends the joint configuration by itself. Asked for again, the rest is done.
    group
        .until("the newcomer votes", |group| has(group, &newcomer, Role::Voter))
        .await?;
    group.lead_by(&[&first[2], &newcomer]).await?;
    group.client().add(&newcomer, Some(&first[2])).await?;
    ensure!(!group.addresses().await?.contains(&first[2]), "its record is left");
    writes.are_there().await?;

    let leader = group
        .armed_leader(&mut cluster, REPLACED_BEFORE_FORGOTTEN, &[&newcomer])
        .await?;
    let lost = group.client().add(&another, Some(&newcomer)).await;
    ensure!(lost.is_err(), "its leader has ended: {lost:?}");
    ended(&mut cluster, leader, REPLACED_BEFORE_FORGOTTEN).await?;
    group.lead_by(&[&another]).await?;
    group.client().add(&another, Some(&newcomer)).await?;
    ensure!(!group.addresses().await?.contains(&newcomer), "its record is left");
    writes.are_there().await?;

    let leader = group
        .armed_leader(&mut cluster, REMOVED_BEFORE_FORGOTTEN, &[&another])
        .await?;
    let lost = group.client().remove(&another).await;
    ensure!(lost.is_err(), "its leader has ended: {lost:?}");
    ended(&mut cluster, leader, REMOVED_BEFORE_FORGOTTEN).await?;
    group.client().remove(&another).await?;
    ensure!(group.addresses().await? == first[..2], "{:?}", group.addresses().await?);
    writes.are_there().await?;
    cluster.expect_error("was removed from the group");
    drop(newcomers);
    cluster.stop().await
}

/// The group, whoever is in it.
struct Group {
    masters: Masters,
    /// Those that can be made to fail.
    first: Vec<String>,
}

impl Group {
    fn client(&self) -> GroupClient {
        GroupClient::new(self.masters.clone())
    }

    async fn until(&self, what: &str, holds: impl Fn(&MastersList) -> bool) -> anyhow::Result<()> {
        until(what, async || {
            Ok(self.client().list().await.is_ok_and(|group| holds(&group)))
        })
        .await
    }

    async fn addresses(&self) -> anyhow::Result<Vec<String>> {
        let group = self.client().list().await?;
        let mut addresses: Vec<String> = group.masters.into_iter().map(|master| master.address).collect();
        addresses.sort_by_key(|address| self.first.iter().position(|first| first == address));
        Ok(addresses)
    }

    /// Sees to it that one of the first masters leads which is none of these; returns its index.
    async fn lead_by(&self, but: &[&str]) -> anyhow::Result<usize> {
        let fit = |address: &str| !but.contains(&address) && self.first.iter().any(|first| first == address);
        let mut leader = None;
        until("another master to lead", async || {
            let Ok(group) = self.client().list().await else {
                return Ok(false);
            };
            let leads = group.masters.iter().find(|master| master.leads);
            leader = leads
                .map(|master| master.address.clone())
                .filter(|address| fit(address));
            if leader.is_some() {
                return Ok(true);
            }
            let mut voters = group.masters.iter().filter(|master| master.role() == Role::Voter);
            if let Some(next) = voters.find(|master| master.reachable() && fit(&master.address)) {
                // Looked at again in any case.
                let _ = self.client().transfer(Some(&next.address)).await;
            }
            Ok(false)
        })
        .await?;
        let index = self.first.iter().position(|first| leader.as_ref() == Some(first));
        index.context("one of the first leads")
    }

    /// The same, once all have caught up; it is to end at that place.
    async fn armed_leader(&self, cluster: &mut Cluster, place: Place, but: &[&str]) -> anyhow::Result<usize> {
        let caught_up = |group: &MastersList| {
            let up = |master: &Master| master.leads || (master.reachable() && master.behind_entries() <= 100);
            group.masters.iter().all(up)
        };
        self.until("all masters to have caught up", caught_up).await?;
        let leader = self.lead_by(but).await?;
        faults::arm(cluster.local().master_at(leader), &faults::end_at(place))?;
        Ok(leader)
    }
}

/// Waits until it has ended, and starts it again.
async fn ended(cluster: &mut Cluster, leader: usize, place: Place) -> anyhow::Result<()> {
    faults::ended_at(cluster.local().master_at(leader), place, 0).await?;
    cluster.local().restart_master(leader).await?;
    Ok(())
}

fn has(group: &MastersList, address: &str, role: Role) -> bool {
    let mut masters = group.masters.iter();
    masters.any(|master| master.address == address && master.role() == role)
}
