//! Three masters end, each at every step of forming their group.

use std::path::Path;

use anyhow::ensure;
use proffer::local::{LocalProcess, ProcessSpec};
use proffer_faults::Place;
use proffer_master::faults::*;
use proffer_sdk::Masters;
use proffer_sdk::state::State;
use proffer_tests::cluster::{built, group_at};
use proffer_tests::{DEADLINE, faults};
use tokio::net::TcpSocket;

use crate::until;

pub(super) const PLACES: &[Place] = &[MEMBER_NAMED, BEGIN_BEFORE_LOG, BEGIN_BEFORE_IDENTITY, BEGUN];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_forms_though_every_master_ends_at_every_step() -> anyhow::Result<()> {
    let directory = format!("/var/tmp/proffer-test-{}-faults-formation", std::process::id());
    let directory = Path::new(&directory);
    // Bound and not listened on: nobody else gets these ports.
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind("127.0.0.1:0".parse()?)?;
        sockets.push(socket);
    }
    let addresses = sockets.iter().map(|socket| Ok(socket.local_addr()?.to_string()));
    let addresses = addresses.collect::<anyhow::Result<Vec<_>>>()?;
    let spec = |index: usize| ProcessSpec {
        name: format!("master-{index}"),
        program: built("proffer-under-test").expect("it is built with this test"),
        args: vec![
            "master".to_owned(),
            format!("--listen={}", addresses[index]),
            format!(
                "--work-dir={}",
                directory.join(format!("master-{index}/work")).display()
            ),
            format!("--peers={}", addresses.join(",")),
        ],
        environment: vec![("PROFFER_FAULTS".to_owned(), faults::end_at(PLACES[0]))],
        directory: directory.join(format!("master-{index}")),
    };
    let mut masters = (0..3)
        .map(|index| LocalProcess::start(spec(index)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut next = [0; 3];
    until("all to have ended at every step", async || {
        for (master, next) in masters.iter_mut().zip(&mut next) {
            if *next < PLACES.len() && !master.is_running() {
                ensure!(faults::ends_at(master, PLACES[*next]) == 1, "{}", master.log_tail());
                *next += 1;
                faults::arm_next(
                    master,
                    &PLACES.get(*next).map_or(String::new(), |place| faults::end_at(*place)),
                );
                master.restart()?;
            }
        }
        Ok(next == [PLACES.len(); 3])
    })
    .await?;

    let list: Masters = addresses.join(",").parse()?;
    let state = State::of(list, "formation").timeout(DEADLINE);
    let version = state.put("key", "value").await?;
    ensure!(state.get("key").await?.is_some_and(|entry| entry.version == version));
    let mut ids = Vec::new();
    for address in &addresses {
        let group = group_at(address).await?;
        ensure!(group.masters.len() == 3, "{group:?}");
        ids.push(group.cluster_id);
    }
    ensure!(ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
    for master in &mut masters {
        master.kill();
    }
    Ok(std::fs::remove_dir_all(directory)?)
}
