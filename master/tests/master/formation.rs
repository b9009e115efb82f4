//! Groups of masters: formed, joined, with members that are lost, wiped and replaced.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proffer_master::config::Begin;
use proffer_master::home::{Standing, Way, WorkDirectory};
use proffer_master::{Config, Server};
use proffer_proto::api::agent_link_client::AgentLinkClient;
use proffer_proto::api::masters_client::MastersClient;
use proffer_proto::api::scheduler_client::SchedulerClient;
use proffer_proto::link::AgentMessage;
use proffer_proto::masters::master::Role;
use proffer_proto::masters::{AddMaster, ListMasters, Master, MastersList, TransferLeadership};
use proffer_proto::registry::Member;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tonic::Code;
use tonic::transport::Channel;

use crate::common::{PATIENCE, framework, subscribe, subscribed};

/// Where one master is, whether it runs or not.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) server: Option<Server>,
    /// Bound without being listened on, so that nobody else gets the port while the master is down.
    port: TcpSocket,
}

impl Place {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let (port, address) = reserved()?;
        Ok(Self {
            directory: tempfile::tempdir()?,
            address,
            server: None,
            port,
        })
    }

    pub(crate) fn work_dir(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    pub(crate) async fn start(&mut self, begin: Begin) -> anyhow::Result<()> {
        let config = Config {
            listen: self.address,
            begin,
            ..Config::in_directory(&self.work_dir())
        };
        self.server = Some(Server::start(config).await?);
        Ok(())
    }

    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        match self.server.take() {
            Some(server) => server.stop().await,
            None => Ok(()),
        }
    }

    /// Takes another port.
    fn move_away(&mut self) -> anyhow::Result<()> {
        (self.port, self.address) = reserved()?;
        Ok(())
    }

    pub(crate) fn wipe(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_dir_all(self.work_dir())?)
    }

    pub(crate) async fn channel(&self) -> anyhow::Result<Channel> {
        Ok(Channel::from_shared(format!("http://{}", self.address))?
            .connect()
            .await?)
    }

    pub(crate) async fn masters(&self) -> anyhow::Result<MastersClient<Channel>> {
        Ok(MastersClient::new(self.channel().await?))
    }

    /// The group as this master knows it.
    pub(crate) async fn list(&self) -> anyhow::Result<MastersList> {
        Ok(self.masters().await?.list(ListMasters {}).await?.into_inner())
    }

    /// Waits until the group is as it should be to this master.
    pub(crate) async fn wait_for(&self, what: &str, is: impl Fn(&MastersList) -> bool) -> anyhow::Result<MastersList> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let list = self.list().await;
            match list {
                Ok(list) if is(&list) => return Ok(list),
                list if Instant::now() > deadline => anyhow::bail!("not {what} in time: {list:?}"),
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Waits until this master leads, with everything applied that was committed before.
    pub(crate) async fn leads(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, _, health) = self.get("/health").await?;
            if health["leading"] == true {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "{health}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Hands the leadership over to another, which may need more than one attempt on a busy machine; then waits until that leads.
    async fn transfer_to(&self, other: &Place) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // An attempt that was given up may still have succeeded.
            let (_, _, health) = other.get("/health").await?;
            if health["leading"] == true {
                return Ok(());
            }
            let to = Some(other.address.to_string());
            match self.masters().await?.transfer(TransferLeadership { to }).await {
                Ok(_) => return other.leads().await,
                Err(refused) => anyhow::ensure!(Instant::now() < deadline, "{refused:?}"),
            }
        }
    }

    /// What is answered to a request of plain HTTP: the status, the head and the body.
    async fn get(&self, path: &str) -> anyhow::Result<(u16, String, serde_json::Value)> {
        let mut stream = TcpStream::connect(self.address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: master\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        let (head, body) = response.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split(' ').nth(1).unwrap_or_default().parse()?;
        Ok((status, head.to_owned(), serde_json::from_str(body)?))
    }

    /// Waits until the master says that it waits for something that has this in it.
    async fn waits_for(&self, text: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, _, health) = self.get("/health").await?;
            if status == 503 && health["waits_for"].to_string().contains(text) {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "{status} {health}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A port of the kernel's choice that nobody else gets.
fn reserved() -> anyhow::Result<(TcpSocket, SocketAddr)> {
    let port = TcpSocket::new_v4()?;
    port.set_reuseaddr(true)?;
    port.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = port.local_addr()?;
    Ok((port, address))
}

pub(crate) struct Group(pub(crate) Vec<Place>);

impl Group {
    fn new(size: usize) -> anyhow::Result<Self> {
        let places: anyhow::Result<Vec<Place>> = (0..size).map(|_| Place::new()).collect();
        let mut places = places?;
        places.sort_by_key(|place| place.address.to_string());
        Ok(Self(places))
    }

    pub(crate) fn peers(&self) -> Begin {
        Begin::Peers(self.0.iter().map(|place| place.address.to_string()).collect())
    }

    pub(crate) fn join(&self) -> Begin {
        Begin::Join(self.0.iter().map(|place| place.address.to_string()).collect())
    }

    /// Starts all of them and waits until every one knows the leader.
    pub(crate) async fn formed(size: usize) -> anyhow::Result<Self> {
        let mut group = Self::new(size)?;
        let peers = group.peers();
        for place in &mut group.0 {
            place.start(peers.clone()).await?;
        }
        for place in &group.0 {
            let all_vote = |list: &MastersList| list.leader.is_some() && voters(list).len() == size;
            place.wait_for("formed", all_vote).await?;
        }
        Ok(group)
    }

    /// The place of the leader, once all that run agree.
    pub(crate) async fn leader(&self) -> anyhow::Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut leaders = Vec::new();
            for place in self.0.iter().filter(|place| place.server.is_some()) {
                leaders.push(place.list().await.ok().and_then(|list| leader(&list)));
            }
            let first = leaders.first().cloned().flatten();
            let at = |address: &String| self.0.iter().position(|place| place.address.to_string() == *address);
            if let Some(place) = first.as_ref().and_then(at)
                && self.0[place].server.is_some()
                && leaders.iter().all(|leader| *leader == first)
            {
                self.0[place].leads().await?;
                return Ok(place);
            }
            anyhow::ensure!(Instant::now() < deadline, "they do not agree on a leader: {leaders:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the registry of every master that runs says where this one is.
    async fn registered(&self, place: usize) -> anyhow::Result<()> {
        let address = self.0[place].address;
        for place in &self.0 {
            let is_there = |list: &MastersList| role(list, address) == [Role::Voter];
            place.wait_for(&format!("at {address}"), is_there).await?;
        }
        Ok(())
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for place in &mut self.0 {
            place.stop().await?;
        }
        Ok(())
    }
}

pub(crate) fn voters(list: &MastersList) -> Vec<&Master> {
    let masters = list.masters.iter();
    masters.filter(|master| master.role() == Role::Voter).collect()
}

fn leader(list: &MastersList) -> Option<String> {
    let mut masters = list.masters.iter();
    let leader = masters.find(|master| master.leads).map(|master| master.address.clone());
    leader.filter(|address| !address.is_empty())
}

pub(crate) fn role(list: &MastersList, address: SocketAddr) -> Vec<Role> {
    let at = list
        .masters
        .iter()
        .filter(|master| master.address == address.to_string());
    at.map(Master::role).collect()
}

#[tokio::test]
async fn three_masters_form_a_group_that_outlives_its_leader() -> anyhow::Result<()> {
    let mut group = Group::formed(3).await?;
    let first = group.leader().await?;
    let info = framework("lasting", 3600.0);
    let mut client = SchedulerClient::new(group.0[first].channel().await?);
    let framework = subscribed(&mut client, info.clone()).await?;
    let before = group.0[first].list().await?;
    assert_eq!((before.level, voters(&before).len()), (proffer_master_core::LEVEL, 3));

    group.0[first].stop().await?;
    let second = group.leader().await?;
    assert_ne!(first, second);
    let mut info = info;
    info.id = Some(framework.id.clone());
    let mut client = SchedulerClient::new(group.0[second].channel().await?);
    assert_eq!(subscribed(&mut client, info).await?.id, framework.id);

    // It comes back as the member that it was; where it was told to find its group matters no more.
    group.0[first].start(Begin::Alone).await?;
    let back = group.0[second].wait_for("whole again", |list| {
        voters(list)
            .iter()
            .all(|master| master.reachable == Some(true) && master.behind_entries == Some(0))
    });
    let after = back.await?;
    let ids = |list: &MastersList| list.masters.iter().map(|master| master.id).collect::<Vec<_>>();
    assert_eq!(ids(&before), ids(&after));
    assert_eq!(before.cluster_id, after.cluster_id);
    group.stop().await
}

#[tokio::test]
async fn a_wiped_master_cannot_vote_under_its_old_id_and_comes_back_as_another() -> anyhow::Result<()> {
    let mut group = Group::formed(3).await?;
    let leader = group.leader().await?;
    let wiped = (leader + 1) % 3;
    let old = group.0[leader].list().await?;
    group.0[wiped].stop().await?;
    group.0[wiped].wipe()?;
    let peers = group.peers();
    group.0[wiped].start(peers).await?;
    group.0[wiped].waits_for("start it with --join=").await?;
    // The other two do without it; to them the member that it was is only unreachable.
    let now = group.0[leader].wait_for("without it", |list| {
        list.masters
            .iter()
            .filter(|master| master.reachable == Some(false))
            .count()
            == 1
    });
    assert_eq!(voters(&now.await?).len(), voters(&old).len());

    group.0[wiped].stop().await?;
    let join = group.join();
    group.0[wiped].start(join).await?;
    let address = group.0[wiped].address;
    let learns = |list: &MastersList| role(list, address).contains(&Role::Learner);
    group.0[leader].wait_for("joined", learns).await?;
    let lost = voters(&old)
        .into_iter()
        .find(|master| master.address == address.to_string());
    let add = AddMaster {
        master: address.to_string(),
        replaces: lost.map(|master| master.id.to_string()),
    };
    let leads = group.leader().await?;
    let changed = group.0[leads].masters().await?.add(add).await?.into_inner().masters;
    assert_eq!(role(&changed, address), [Role::Voter], "{changed:?}");
    let votes = |list: &MastersList| role(list, address) == [Role::Voter] && list.masters.len() == 3;
    group.0[wiped].wait_for("a voter to itself", votes).await?;

    // Its vote counts: with one of the others gone, it takes part in electing a leader.
    let other = (0..3).find(|index| *index != wiped && *index != leads);
    group.0[other.unwrap_or_default()].stop().await?;
    group.0[leads].transfer_to(&group.0[wiped]).await?;
    group.stop().await
}

#[tokio::test]
async fn a_founder_that_stopped_before_it_told_anyone_goes_on() -> anyhow::Result<()> {
    let mut group = Group::new(3)?;
    let mut members = Vec::new();
    let mut directories = Vec::new();
    for place in &group.0 {
        let mut directory = WorkDirectory::open(&place.work_dir())?;
        members.push(Member {
            id: directory.member(Way::Peers)?,
            address: place.address.to_string(),
            level: 2,
            version: "test".to_owned(),
        });
        directories.push(directory);
    }
    directories[0].found("the-cluster", "proffer", &members)?;
    drop(directories);
    let peers = group.peers();
    for index in [1, 2, 0] {
        group.0[index].start(peers.clone()).await?;
    }
    for place in &group.0 {
        let list = place.wait_for("formed", |list| list.leader.is_some()).await?;
        assert_eq!(list.cluster_id, "the-cluster");
        let ids: Vec<u64> = voters(&list).iter().map(|master| master.id).collect();
        assert!(
            members.iter().all(|member| ids.contains(&member.id)),
            "{ids:?} {members:?}"
        );
    }
    group.stop().await
}

#[tokio::test]
async fn a_group_of_one_grows_by_masters_that_join() -> anyhow::Result<()> {
    let first = Group::formed(1).await?;
    let mut client = SchedulerClient::new(first.0[0].channel().await?);
    let framework = subscribed(&mut client, framework("early", 3600.0)).await?;
    let mut second = Place::new()?;
    // The first address is nobody's: the next one is asked.
    let nobody = Place::new()?;
    let join = Begin::Join(vec![nobody.address.to_string(), first.0[0].address.to_string()]);
    second.start(join).await?;
    let address = second.address;
    let learns = |list: &MastersList| role(list, address) == [Role::Learner];
    first.0[0].wait_for("joined", learns).await?;
    let list = second.wait_for("joined to itself", learns).await?;
    assert_eq!(list.cluster_id, first.0[0].list().await?.cluster_id);
    let (_, _, health) = second.get("/health").await?;
    assert_eq!(health["role"], "learner");

    let add = AddMaster {
        master: address.to_string(),
        replaces: None,
    };
    first.0[0].masters().await?.add(add).await?;
    first.0[0].transfer_to(&second).await?;
    // What was there before it joined is there.
    let mut info = crate::common::framework("early", 3600.0);
    info.id = Some(framework.id.clone());
    let mut client = SchedulerClient::new(second.channel().await?);
    assert_eq!(subscribed(&mut client, info).await?.id, framework.id);
    second.stop().await?;
    first.stop().await
}

#[tokio::test]
async fn a_master_that_waits_says_so_and_stops_at_once() -> anyhow::Result<()> {
    let mut group = Group::new(3)?;
    let peers = group.peers();
    group.0[1].start(peers).await?;
    group.0[1]
        .waits_for(&format!("the master at {} does not answer yet", group.0[0].address))
        .await?;
    let mut client = SchedulerClient::new(group.0[1].channel().await?);
    let refused = client.submit(subscribe(framework("early", 1.0))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let refused = group.0[1].masters().await?.list(ListMasters {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let (status, _, _) = group.0[1].get("/version").await?;
    assert_eq!(status, 200);
    let (status, _, _) = group.0[1].get("/api/v1").await?;
    assert_eq!(status, 503);

    // Another that means another group is named, with both lists.
    let pair = Begin::Peers(vec![group.0[0].address.to_string(), group.0[1].address.to_string()]);
    group.0[0].start(pair).await?;
    group.0[1].waits_for("was started with --peers").await?;
    group.0[0].waits_for("was started with --peers").await?;
    let id = |place: &Place| match WorkDirectory::open(&place.work_dir()).map(|open| open.standing().cloned()) {
        Ok(Some(Standing::Apart(apart))) => Ok(apart.member),
        other => Err(anyhow::anyhow!("{other:?}")),
    };
    group.0[0].stop().await?;
    group.0[1].stop().await?;
    let waited = id(&group.0[1])?;
    // It keeps its id, and does not begin alone what it was to begin with others.
    let refused = group.0[1].start(Begin::Alone).await.unwrap_err().to_string();
    assert!(refused.contains("start it with --peers or --join"), "{refused}");
    let alone = Begin::Peers(vec![group.0[0].address.to_string()]);
    let refused = group.0[1].start(alone).await.unwrap_err().to_string();
    assert!(
        refused.contains(&format!("this master's own address {}", group.0[1].address)),
        "{refused}"
    );
    assert_eq!(id(&group.0[1])?, waited);
    Ok(())
}

#[tokio::test]
async fn masters_that_moved_find_each_other() -> anyhow::Result<()> {
    let mut group = Group::formed(3).await?;
    let moved = (group.leader().await? + 1) % 3;
    // One alone is heard by the others, who are where it knows them.
    group.0[moved].stop().await?;
    group.0[moved].move_away()?;
    group.0[moved].start(Begin::Alone).await?;
    group.registered(moved).await?;
    // All of them: where to look is told by the flag.
    for place in &mut group.0 {
        place.stop().await?;
        place.move_away()?;
    }
    let peers = group.peers();
    for place in &mut group.0 {
        place.start(peers.clone()).await?;
    }
    for index in 0..3 {
        group.registered(index).await?;
    }
    group.stop().await
}

#[tokio::test]
async fn followers_say_where_the_leader_is() -> anyhow::Result<()> {
    let group = Group::formed(3).await?;
    let leader = group.leader().await?;
    let follower = &group.0[(leader + 1) % 3];
    let leader = &group.0[leader];
    let (status, head, _) = follower.get("/api/v1/scheduler?x=1").await?;
    let location = format!("location: //{}/api/v1/scheduler?x=1", leader.address);
    assert!(status == 307 && head.contains(&location), "{head}");
    assert_eq!(leader.get("/api/v1").await?.0, 501);
    let (_, _, health) = follower.get("/health").await?;
    assert_eq!(health["leader"], leader.address.to_string());
    assert_eq!(
        (&health["role"], &health["leading"]),
        (&"follower".into(), &false.into())
    );
    assert!(health["term"].as_u64().is_some_and(|term| term > 0), "{health}");
    let (_, _, health) = leader.get("/health").await?;
    assert_eq!((&health["role"], &health["leading"]), (&"leader".into(), &true.into()));

    let names_leader = |refused: &tonic::Status| {
        let named = refused
            .metadata()
            .get("proffer-leader")
            .and_then(|leader| leader.to_str().ok());
        refused.code() == Code::Unavailable && named == Some(leader.address.to_string().as_str())
    };
    let mut client = SchedulerClient::new(follower.channel().await?);
    let refused = client.subscribe(subscribe(framework("lost", 1.0))).await.unwrap_err();
    assert!(names_leader(&refused), "{refused:?}");
    let transfer = TransferLeadership { to: None };
    let refused = follower.masters().await?.transfer(transfer).await.unwrap_err();
    assert!(names_leader(&refused), "{refused:?}");

    let mut link = AgentLinkClient::new(follower.channel().await?);
    let register = proffer_proto::link::Register {
        agent: proffer_proto::v1::AgentInfo {
            hostname: "here".to_owned(),
            ..Default::default()
        },
        ..Default::default()
    };
    let register = AgentMessage {
        body: Some(proffer_proto::link::agent_message::Body::Register(register)),
    };
    let refused = async {
        let mut stream = link.attach(tokio_stream::iter([register])).await?.into_inner();
        while stream.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await?.unwrap_err();
    assert!(names_leader(&refused), "{refused:?}");
    group.stop().await
}
