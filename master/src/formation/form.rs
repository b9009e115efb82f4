//! Carries out an [`Exchange`]: asks the other masters, hears them, writes.

use std::collections::BTreeMap;
use std::time::Duration;

use proffer_proto::raft::{Founded, Founding, Introduction};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::{Effect, Exchange, Input};
use crate::home::{self, WorkDirectory};
use crate::peers::{Dial, reason_of};

/// How often a master asks the others who they are.
const ASK_EVERY: Duration = Duration::from_millis(200);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How often people are reminded of what is waited for.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// What other masters ask of one that waits for its group.
#[derive(Debug)]
pub enum Asked {
    /// One says who it is.
    Introduced(Introduction),
    /// One says that the group is founded.
    Founded {
        /// With what.
        founding: Founding,
        /// Whether this master begins with it; dropped where it cannot.
        reply: oneshot::Sender<Founded>,
    },
}

/// How other masters, and pages, reach a master that waits.
#[derive(Debug, Clone)]
pub struct Forming {
    /// What it says of itself.
    pub introduction: Introduction,
    /// To the master, where it forms a group of `--peers`.
    pub asked: Option<mpsc::Sender<Asked>>,
    /// What it waits for, for people.
    pub waits_for: watch::Receiver<Vec<String>>,
}

/// Waits until the group is formed and durable here. Whether this master founded it, and with what, is returned.
///
/// # Errors
/// The work directory cannot be written.
pub async fn form(
    mut directory: WorkDirectory,
    mut exchange: Exchange,
    dial: Dial,
    mut asked: mpsc::Receiver<Asked>,
    waits_for: watch::Sender<Vec<String>>,
) -> Result<(WorkDirectory, Founding, bool), home::Error> {
    let (heard, mut inputs) = mpsc::channel(64);
    let mut asking = JoinSet::new();
    for peer in exchange.others() {
        let ask = ask(dial.clone(), peer.clone(), exchange.introduction(), heard.clone());
        asking.spawn(ask);
    }
    let mut replies = BTreeMap::new();
    let mut tickets = 0;
    let mut remind = tokio::time::interval(REMIND_EVERY);
    loop {
        let input = tokio::select! {
            biased;
            _ = remind.tick() => Input::Remind,
            Some(input) = inputs.recv() => input,
            Some(asked) = asked.recv() => match asked {
                Asked::Introduced(introduction) => Input::Heard { asked: None, introduction },
                Asked::Founded { founding, reply } => {
                    tickets += 1;
                    replies.insert(tickets, reply);
                    Input::Founding { founding, ticket: tickets }
                }
            },
        };
        let mut effects = Vec::new();
        let mut formed = None;
        exchange.step(input, &mut effects);
        while !effects.is_empty() {
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Effect::Write(founding) => {
                        directory = write(directory, founding).await?;
                        exchange.step(Input::Written, &mut effects);
                    }
                    Effect::Answer { ticket, refusal } => answer(replies.remove(&ticket), refusal),
                    Effect::Tell(obstacle) if obstacle.is_error() => tracing::error!("{obstacle}"),
                    Effect::Tell(obstacle) => tracing::info!("{obstacle}"),
                    Effect::Formed { founding, founder } => formed = Some((founding, founder)),
                }
            }
        }
        if let Some((founding, founder)) = formed {
            let (cluster_id, members) = (&founding.cluster_id, founding.members.len());
            tracing::info!(cluster_id, members, founder, "the group of masters is formed");
            return Ok((directory, founding, founder));
        }
        let texts = exchange.obstacles().iter().map(ToString::to_string).collect();
        waits_for.send_if_modified(|now| {
            let changed = *now != texts;
            *now = texts;
            changed
        });
    }
}

async fn write(mut directory: WorkDirectory, founding: Founding) -> Result<WorkDirectory, home::Error> {
    let writing = tokio::task::spawn_blocking(move || {
        directory.found(&founding.cluster_id, &founding.cluster, &founding.members)?;
        Ok(directory)
    });
    match writing.await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn answer(reply: Option<oneshot::Sender<Founded>>, refusal: Option<String>) {
    if let Some(refusal) = &refusal {
        tracing::error!(refusal, "another master's founding of the group is refused");
    }
    if let Some(reply) = reply {
        // Whoever asked asks again.
        let _ = reply.send(Founded { refusal });
    }
}

/// Asks one master who it is, again and again.
async fn ask(dial: Dial, peer: String, introduction: Introduction, heard: mpsc::Sender<Input>) {
    let mut client = None;
    loop {
        if client.is_none() {
            client = dial.connect(&peer).await.ok();
        }
        let asked = Some(peer.clone());
        let input = match &mut client {
            None => Input::Silent { peer: peer.clone() },
            Some(open) => match tokio::time::timeout(ANSWER_WITHIN, open.introduce(introduction.clone())).await {
                Ok(Ok(answer)) => Input::Heard {
                    asked,
                    introduction: answer.into_inner(),
                },
                Ok(Err(status)) if status.code() == tonic::Code::FailedPrecondition => Input::Foreign {
                    peer: peer.clone(),
                    answer: status.message().to_owned(),
                },
                failed => {
                    let problem = match failed {
                        Ok(Err(status)) => reason_of(&status),
                        _ => "it does not answer".to_owned(),
                    };
                    tracing::debug!(peer, problem, "a master cannot be asked who it is");
                    client = None;
                    Input::Silent { peer: peer.clone() }
                }
            },
        };
        if heard.send(input).await.is_err() {
            return;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Tells one master that the group is founded; once, because it asks again as long as it has not heard.
///
/// # Errors
/// It cannot be reached, or refuses.
pub async fn tell(dial: &Dial, address: &str, founding: Founding) -> Result<(), String> {
    let mut client = dial.connect(address).await?;
    let call = tokio::time::timeout(2 * ANSWER_WITHIN, client.found(founding));
    let answer = call.await.map_err(|_| "it does not answer".to_owned())?;
    let answer = answer.map_err(|status| reason_of(&status))?.into_inner();
    answer.refusal.map_or(Ok(()), Err)
}
