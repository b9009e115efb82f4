//! The bundled framework for long-running services: keeps a number of instances of a command running.
//!
//! [`run`] starts the scheduler within a process and gives a [`Handle`]; [`main_with`] is the program around it. What is
//! decided is pure: time and chance are arguments, and nothing is read or written. The shell around it is an ordinary
//! scheduler on the SDK, which carries out what was decided.
//!
//! | module | what it holds |
//! |---|---|
//! | [`spec`] | pure: what users write, a file for each part, and its JSON schema |
//! | [`template`] | pure: what an instance is told of itself and of the others |
//! | [`versions`] | pure: what was wanted when, and what may be gone back to |
//! | [`plan`] | pure: which instances are missing, which tasks have to end, when to look again |
//! | [`placement`] | pure: which agent an instance goes to, and what the master is told so that it offers that |
//! | [`preview`] | pure: what a change would do, and where new instances would go |
//! | `scheduler` | shell: the loop on the SDK, the message of a task, what an update means |
//! | [`store`] | shell: what survives the process |
//! | [`catalogue`] | what runs where, as others see it |
//! | [`dns`] | how they are found by name: the pure `dns::zone` and `dns::message`, and their shell |
//! | [`discovery`] | shell: how instances are found, with the pure `discovery::directory` |
//! | [`render`] | for clients: files, as of proxies, that follow the directory |
//! | `control` | shell: the HTTP API |
//! | `leadership`, `seat` | shell: which of several schedulers is the active one, and what the others answer |
//! | `program` | shell: arguments, signals, logs |

pub mod catalogue;
mod control;
pub mod discovery;
pub mod dns;
mod leadership;
pub mod placement;
pub mod plan;
pub mod preview;
mod program;
pub mod render;
mod scheduler;
mod seat;
pub mod spec;
pub mod store;
pub mod template;
pub mod versions;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proffer_proto::Rejection;
use proffer_sdk::operator::OperatorClient;
use proffer_sdk::{CallError, Masters, RunError, Sender};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub use catalogue::{Catalogue, Endpoint, ServiceStatus};
pub use discovery::Directory;
pub use dns::DnsConfig;
pub use preview::Preview;
pub use program::{Args, main_with};
pub use scheduler::{Accepted, ChangeError};
pub use seat::{Seat, listen};
pub use spec::ServiceSpec;
pub use store::{Place, StoreError};

use scheduler::{Message, Request};
use versions::{Change, Versions};

/// What a scheduler of services needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The masters of the cluster.
    pub masters: Masters,
    /// Where the scheduler keeps what is to survive it.
    pub state: Place,
    /// The name of the framework.
    pub name: String,
    /// Its role.
    pub role: String,
    /// The user as whom instances run unless their service names one; the user of this process where absent.
    pub user: Option<String>,
    /// How long instances outlive their scheduler.
    pub failover_timeout: Duration,
    /// Where the control port listens.
    pub control: SocketAddr,
    /// The DNS server, where there is to be one.
    pub dns: Option<DnsConfig>,
}

impl Config {
    /// The defaults, with what survives in a directory: a control port that the kernel chooses, on this host alone.
    pub fn new(masters: Masters, state_dir: impl Into<PathBuf>) -> Self {
        Self::kept(masters, Place::Directory(state_dir.into()))
    }

    /// The same with what survives kept by the masters, under the framework's name.
    pub fn replicated(masters: Masters, name: &str) -> Self {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        };
        let namespace = format!("services/{}", name.chars().map(plain).collect::<String>());
        Self {
            name: name.to_owned(),
            ..Self::kept(masters, Place::Masters(namespace))
        }
    }

    fn kept(masters: Masters, state: Place) -> Self {
        Self {
            masters,
            state,
            name: "services".to_owned(),
            role: "*".to_owned(),
            user: None,
            failover_timeout: Duration::from_secs(7 * 24 * 3600),
            control: SocketAddr::from(([127, 0, 0, 1], 0)),
            dns: None,
        }
    }
}

/// Why a scheduler did not start, or ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What survives cannot be kept, or found.
    #[error("open what an earlier scheduler kept")]
    Store(#[from] StoreError),
    /// Something in the configuration is not accepted.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A port cannot be had.
    #[error("listen at {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The master does not want it.
    #[error("run the scheduler")]
    Run(#[source] RunError),
    /// Another scheduler of the same name is the active one now.
    #[error("another scheduler of this name has taken over")]
    Replaced,
    /// A part of the scheduler panicked.
    #[error("the scheduler failed")]
    Failed(#[source] tokio::task::JoinError),
}

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It asks for something invalid.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The change was not made.
    #[error(transparent)]
    Change(ChangeError),
    /// What it asks for could not be kept.
    #[error("keep the request")]
    Store(#[from] StoreError),
    /// The masters were asked and did not answer.
    #[error("ask the masters")]
    Masters(#[from] CallError),
    /// The scheduler has ended.
    #[error("the scheduler has ended")]
    Ended,
}

impl From<ChangeError> for RequestError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Rejected(rejection) => Self::Rejected(rejection),
            other => Self::Change(other),
        }
    }
}

/// Makes requests of a running scheduler. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Remote {
    sender: Sender<Message>,
    catalogue: watch::Receiver<Catalogue>,
    directory: watch::Receiver<discovery::Known>,
    masters: Masters,
    role: String,
}

impl Remote {
    /// Makes or changes a service.
    pub async fn put(&self, spec: ServiceSpec) -> Result<Accepted, RequestError> {
        let id = spec.id.clone();
        self.change(&id, Change::Spec(Box::new(spec)), None).await
    }

    /// Changes a service; where a version is expected, only if it has that one. 0 is the version of a service that is not
    /// there.
    pub async fn change(&self, id: &str, change: Change, expected: Option<u64>) -> Result<Accepted, RequestError> {
        if let Change::Spec(spec) = &change {
            spec.validate()?;
        }
        let (answer, answered) = oneshot::channel();
        let request = Request {
            id: id.to_owned(),
            change,
            expected,
        };
        self.sender
            .send(Message::Change(request, answer))
            .map_err(|_| RequestError::Ended)?;
        Ok(answered.await.map_err(|_| RequestError::Ended)??)
    }

    /// Says what a specification would do, and where new instances would go as things are now.
    pub async fn preview(&self, spec: &ServiceSpec) -> Result<Preview, RequestError> {
        spec.validate()?;
        scheduler::validate_role(spec, &self.role)?;
        let versions = self.versions(&spec.id).await?;
        let mut operator = OperatorClient::new(self.masters.clone());
        let cluster = preview::Cluster {
            agents: operator.get_agents().await?.agents,
            quota: operator.get_quota().await?,
            // Masters of older versions do not know of loans.
            loans: operator.get_loans().await.map(|loans| loans.agents).unwrap_or_default(),
        };
        let catalogue = self.catalogue.borrow();
        Ok(preview::preview(
            versions.as_ref(),
            spec,
            &catalogue,
            &cluster,
            &self.role,
        ))
    }

    /// What is remembered of a service.
    pub async fn versions(&self, id: &str) -> Result<Option<Versions>, RequestError> {
        let (answer, answered) = oneshot::channel();
        self.sender
            .send(Message::Versions(id.to_owned(), answer))
            .map_err(|_| RequestError::Ended)?;
        answered.await.map_err(|_| RequestError::Ended)
    }

    /// Ends a service. Tells whether it was there; its instances take their time to end.
    pub async fn remove(&self, id: &str) -> Result<bool, RequestError> {
        let (answer, answered) = oneshot::channel();
        self.sender
            .send(Message::Remove(id.to_owned(), answer))
            .map_err(|_| RequestError::Ended)?;
        Ok(answered.await.map_err(|_| RequestError::Ended)??)
    }

    /// The catalogue as it is now.
    pub fn catalogue(&self) -> Catalogue {
        self.catalogue.borrow().clone()
    }

    /// The catalogue as it changes.
    pub fn watch(&self) -> watch::Receiver<Catalogue> {
        self.catalogue.clone()
    }

    /// What finders of instances are told, as it changes; nothing before it is known.
    pub fn directory(&self) -> watch::Receiver<Option<Arc<Directory>>> {
        self.directory.clone()
    }

    /// Waits until the catalogue is as wanted; fails when the scheduler ends before.
    pub async fn wait_for(&self, wanted: impl FnMut(&Catalogue) -> bool) -> Result<Catalogue, RequestError> {
        let mut catalogue = self.catalogue.clone();
        let found = catalogue.wait_for(wanted).await.map_err(|_| RequestError::Ended)?;
        Ok(found.clone())
    }
}

/// A running scheduler. Dropping it ends the scheduler like `kill -9` does: its instances go on.
#[derive(Debug)]
pub struct Handle {
    remote: Remote,
    /// Present until [`Handle::ended`] gives it away.
    seat: Option<Seat>,
    scheduler: JoinHandle<Result<(), Error>>,
    follower: JoinHandle<()>,
}

impl Handle {
    /// What requests are made with.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Where the control port listens.
    pub fn control(&self) -> SocketAddr {
        self.seat.as_ref().map_or(([0; 4], 0).into(), Seat::control)
    }

    /// Where the DNS server listens, where there is one.
    pub fn dns(&self) -> Option<SocketAddr> {
        self.seat.as_ref().and_then(Seat::dns)
    }

    /// Ends the scheduler; its instances go on, and another process may take over from the state directory.
    pub async fn stop(self) -> Result<(), Error> {
        self.ask_to_stop(false);
        self.wait().await
    }

    /// Ends the framework with all its instances. The state directory is of no use afterwards.
    pub async fn teardown(self) -> Result<(), Error> {
        self.ask_to_stop(true);
        self.wait().await
    }

    /// Ends the scheduler at once and without a word, as `kill -9` does; its instances go on.
    pub fn abort(&self) {
        self.scheduler.abort();
        self.follower.abort();
        self.seat.iter().for_each(Seat::abort);
    }

    /// Waits for the end of the scheduler.
    pub async fn wait(mut self) -> Result<(), Error> {
        self.ended().await.0
    }

    /// The same; also gives back its seat, which can stand by when another scheduler has taken over.
    pub(crate) async fn ended(&mut self) -> (Result<(), Error>, Option<Seat>) {
        let ended = (&mut self.scheduler).await.map_err(Error::Failed);
        self.follower.abort();
        let _ = (&mut self.follower).await;
        self.seat.iter().for_each(Seat::close);
        (ended.and_then(std::convert::identity), self.seat.take())
    }

    fn ask_to_stop(&self, teardown: bool) {
        let _ = self.remote.sender.send(Message::Stop { teardown });
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Starts a scheduler. It looks for the leading master from then on; requests may be made at once. Where the masters keep
/// what survives, it first waits until one leads, and until no other scheduler of its name is the active one.
pub async fn run(config: Config) -> Result<Handle, Error> {
    listen(config).await?.lead().await
}
