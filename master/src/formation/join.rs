//! How a master joins a group that is there: it asks for the leader, and becomes a learner.

use std::collections::VecDeque;
use std::time::Duration;

use proffer_proto::raft::{Introduction, JoinAnswer, JoinRequest, Joined, join_answer};
use tokio::sync::watch;

use super::PROTOCOL;
use crate::home::{self, WorkDirectory};
use crate::peers::{Dial, Pause, reason_of};

const ANSWER_WITHIN: Duration = Duration::from_secs(15);
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_LAST: Duration = Duration::from_secs(5);

/// Waits until a group takes this master in, and that is durable here.
///
/// # Errors
/// The work directory cannot be written.
pub async fn join(
    mut directory: WorkDirectory,
    me: Introduction,
    addresses: Vec<String>,
    dial: Dial,
    waits_for: watch::Sender<Vec<String>>,
) -> Result<WorkDirectory, home::Error> {
    let mut pause = Pause::new(PAUSE_FIRST, PAUSE_LAST, me.member);
    let others: Vec<String> = addresses.into_iter().filter(|address| *address != me.address).collect();
    let mut search = Search::new(others);
    let joined = loop {
        let address = search.next();
        let problem = match ask(&dial, &address, &me).await {
            Ok(join_answer::Body::Joined(joined)) => break joined,
            Ok(join_answer::Body::Leader(leader)) => {
                if search.follow(&leader) {
                    continue;
                }
                format!("the master at {address} says that {leader} leads, which does not take this one in yet")
            }
            Ok(join_answer::Body::Refusal(refusal)) => format!("the master at {address} refuses: {refusal}"),
            Err(problem) => format!("the master at {address} cannot be asked: {problem}"),
        };
        let news = waits_for.send_if_modified(|now| {
            let news = !now.contains(&problem);
            if news {
                *now = vec![problem.clone()];
            }
            news
        });
        if news {
            tracing::warn!(problem, "this master has not joined yet, and tries again");
        }
        tokio::time::sleep(pause.next()).await;
    };
    let Joined {
        cluster_id, cluster, ..
    } = joined;
    tracing::info!(
        cluster_id,
        member = me.member,
        "joined as a learner, which gets the log and does not vote; `proffer masters add {}` lets it vote once it has caught up",
        me.address
    );
    let writing = tokio::task::spawn_blocking(move || {
        directory.join(&cluster_id, &cluster)?;
        Ok(directory)
    });
    match writing.await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

async fn ask(dial: &Dial, address: &str, me: &Introduction) -> Result<join_answer::Body, String> {
    let mut client = dial.connect(address).await?;
    let request = JoinRequest { newcomer: me.clone() };
    let answer = tokio::time::timeout(ANSWER_WITHIN, client.join(request)).await;
    let answer = answer.map_err(|_| "it does not answer".to_owned())?;
    let JoinAnswer { body } = answer.map_err(|status| reason_of(&status))?.into_inner();
    body.ok_or_else(|| "its answer is empty".to_owned())
}

/// Whom to ask next.
#[derive(Debug)]
struct Search {
    addresses: VecDeque<String>,
    /// Named as the leader, one by another, since the list's last was asked.
    leaders: Vec<String>,
    next: Option<String>,
}

impl Search {
    /// One is asked for ever after the other.
    fn new(addresses: Vec<String>) -> Self {
        Self {
            addresses: addresses.into(),
            leaders: Vec::new(),
            next: None,
        }
    }

    fn next(&mut self) -> String {
        if let Some(leader) = self.next.take() {
            return leader;
        }
        self.leaders.clear();
        self.addresses.rotate_left(1);
        self.addresses.back().cloned().unwrap_or_default()
    }

    /// Asks the named leader next; false where that was asked just before, so that waiting is better.
    fn follow(&mut self, leader: &str) -> bool {
        let is_new = !self.leaders.iter().any(|named| named == leader);
        if is_new {
            self.leaders.push(leader.to_owned());
            self.next = Some(leader.to_owned());
        }
        is_new
    }
}

/// What a newcomer says of itself.
pub(crate) fn introduction(me: &proffer_proto::registry::Member) -> Introduction {
    Introduction {
        protocol: PROTOCOL,
        member: me.id,
        address: me.address.clone(),
        level: me.level,
        version: me.version.clone(),
        cluster_id: None,
        cluster: None,
        leader: None,
        peers: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_asked_in_turn_and_leaders_that_are_named_in_between() {
        let mut search = Search::new(vec!["a:1".to_owned(), "b:1".to_owned()]);
        assert_eq!(search.next(), "a:1");
        assert_eq!(search.next(), "b:1");
        assert!(search.follow("c:1"));
        assert_eq!(search.next(), "c:1");
        assert!(search.follow("d:1"));
        assert_eq!(search.next(), "d:1");
        assert!(
            !search.follow("c:1"),
            "two that name each other are not asked without a pause"
        );
        assert_eq!(search.next(), "a:1");
        assert!(search.follow("c:1"));
    }
}
