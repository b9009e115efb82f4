//! A connection to the leading master, shared by calls at the same time, and opened anew where it turns out not to lead.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::finder::{Failed, Finder};
use crate::line::Line;
use crate::many::CallStream;
use crate::masters::Masters;
use crate::state::StateCalls;

/// How long a master that is known to lead may take to answer. One that stands still is noticed sooner, by the keep-alive.
const PATIENCE_WITH_LEADER: Duration = Duration::from_secs(15);

/// Cheap to clone; the clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct Leader(Arc<Mutex<Search>>);

#[derive(Debug)]
struct Search {
    finder: Finder,
    present: Option<Connection>,
    /// Connections so far.
    opened: u64,
    /// Nobody is asked before.
    not_before: Instant,
    /// Why the last attempt failed.
    why: String,
}

/// A connection to a master that leads, for all that is known.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    number: u64,
    pub(crate) address: String,
    pub(crate) line: Line,
    /// For calls about the frameworks' state.
    pub(crate) calls: Arc<CallStream<StateCalls>>,
    /// It has answered as the leader.
    pub(crate) confirmed: bool,
    /// How long it may take to answer.
    pub(crate) answer_timeout: Duration,
}

impl Leader {
    /// Connects when it is needed.
    pub(crate) fn new(masters: Masters) -> Self {
        Leader(Arc::new(Mutex::new(Search {
            finder: Finder::new(masters),
            present: None,
            opened: 0,
            not_before: Instant::now(),
            why: "no master answered in time".to_owned(),
        })))
    }

    /// The present connection, or one to the next candidate, waiting for one for as long as it takes. Safe to cancel.
    pub(crate) async fn connection(&self) -> Connection {
        let mut search = self.0.lock().await;
        if let Some(present) = &search.present {
            return present.clone();
        }
        loop {
            tokio::time::sleep_until(search.not_before).await;
            let address = search.finder.candidate();
            match search.finder.line(&address).await {
                Ok(line) => {
                    search.opened += 1;
                    let connection = Connection {
                        number: search.opened,
                        address,
                        calls: Arc::new(CallStream::new(StateCalls(line.clone()))),
                        line,
                        confirmed: false,
                        answer_timeout: search.finder.answer_timeout(),
                    };
                    search.present = Some(connection.clone());
                    return connection;
                }
                Err(why) => search.failed(Failed::Unreachable, why),
            }
        }
    }

    /// The master has answered as the leader.
    pub(crate) async fn confirm(&self, connection: &Connection) {
        if connection.confirmed {
            return;
        }
        let mut search = self.0.lock().await;
        search.finder.found(&connection.address);
        if let Some(present) = &mut search.present
            && present.number == connection.number
        {
            present.confirmed = true;
            present.answer_timeout = PATIENCE_WITH_LEADER;
        }
    }

    /// The connection is of no use any more. Of those who share it only the first to say so is heard.
    pub(crate) async fn failed(&self, connection: &Connection, failed: Failed, why: String) {
        let mut search = self.0.lock().await;
        if search
            .present
            .take_if(|present| present.number == connection.number)
            .is_some()
        {
            tracing::debug!(master = connection.address, ?failed, why, "leaving a master");
            search.failed(failed, why);
        }
    }

    /// Why the last attempt failed.
    pub(crate) async fn why(&self) -> String {
        self.0.lock().await.why.clone()
    }
}

impl Search {
    fn failed(&mut self, failed: Failed, why: String) {
        self.not_before = Instant::now() + self.finder.failed(failed);
        self.why = why;
    }
}
