//! The place of a scheduler: its control port, at which it stands by until it is the active one.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt as _;
use proffer_sdk::state::StateError;
use proffer_sdk::{Driver, Framework, Options, RunError};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use crate::discovery::Known;
use crate::leadership::{Candidate, Leader, Lease};
use crate::scheduler::Services;
use crate::store::{Recovered, Store, StoreError};
use crate::{Catalogue, Config, Error, Handle, Place, Remote, control, discovery, dns};

/// How long whoever asks waits until it is known which scheduler is active.
const OPENING_TIMEOUT: Duration = Duration::from_secs(15);

/// A scheduler that may become the active one. Its control port tells who is so meanwhile.
#[derive(Debug)]
pub struct Seat {
    config: Config,
    control: SocketAddr,
    door: watch::Sender<Door>,
    server: JoinHandle<()>,
    /// What finders of instances are told here; by another scheduler while that is the active one.
    known: watch::Sender<Known>,
    dns: Option<dns::Server>,
    /// What repeats for the DNS server what the active scheduler tells, and where that is.
    echo: Mutex<Option<(String, JoinHandle<()>)>>,
}

/// Who answers at the control port.
#[derive(Clone, Debug)]
enum Door {
    /// It is not known yet: whoever asks waits.
    Closed,
    /// Nobody here: another scheduler is active, at this address.
    Standby(String),
    /// This scheduler.
    Active(Router),
}

/// Begins to listen; [`Seat::lead`] makes a scheduler of it.
pub async fn listen(config: Config) -> Result<Seat, Error> {
    let failed = |source| Error::Listen {
        address: config.control,
        source,
    };
    let listener = TcpListener::bind(config.control).await.map_err(failed)?;
    let control = listener.local_addr().map_err(failed)?;
    let (door, entered) = watch::channel(Door::Closed);
    let router = Router::new().fallback(enter).with_state(entered);
    let server = tokio::spawn(async move {
        let listener = listener.tap_io(|stream| {
            // Who takes nothing of an answer for so long is left by the kernel.
            let stall_ms = u32::try_from(discovery::http::STALL.as_millis()).unwrap_or(u32::MAX);
            if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, stall_ms) {
                tracing::debug!(%error, "time limit of a connection not set");
            }
        });
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "control port failed");
        }
    });
    let (known, told) = watch::channel(None);
    let names = config
        .dns
        .as_ref()
        .map(|dns| dns::Server::start(dns, &config.role, told));
    let dns = names.transpose()?;
    Ok(Seat {
        config,
        control,
        door,
        server,
        known,
        dns,
        echo: Mutex::default(),
    })
}

impl Seat {
    /// Where the control port listens.
    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// Where the DNS server listens, where there is one.
    pub fn dns(&self) -> Option<SocketAddr> {
        self.dns.as_ref().map(dns::Server::address)
    }

    /// Waits until this scheduler is the active one, and starts it. Where a directory keeps what survives there is nothing
    /// to wait for.
    pub async fn lead(self) -> Result<Handle, Error> {
        let (store, recovered, lease) = self.open().await?;
        let config = self.config.clone();
        let framework_id = recovered.framework_id.clone();
        let mut framework = Framework::new(&config.name)
            .role(&config.role)
            .failover_timeout(config.failover_timeout)
            .web_page(format!("http://{}", reachable(self.control)));
        if let Some(user) = &config.user {
            framework = framework.user(user);
        }
        let (published, catalogue) = watch::channel(Catalogue::default());
        let seed = uuid::Uuid::new_v4().as_u64_pair().0;
        let (services, known) = Services::new(store, recovered, published, config.role.clone(), seed);
        let options = Options::new(config.masters.clone(), framework)
            .framework_id(framework_id.map(Into::into))
            .known_tasks(known);
        let driver = Driver::new(services, options);
        self.listen_to(None);
        let directory = self.known.subscribe();
        let follower = tokio::spawn(discovery::follow(catalogue.clone(), self.known.clone()));
        let remote = Remote {
            sender: driver.sender(),
            catalogue,
            directory,
            masters: config.masters,
            role: config.role,
        };
        self.door.send_replace(Door::Active(control::router(remote.clone())));
        let scheduler = tokio::spawn(drive(driver, lease));
        Ok(Handle {
            remote,
            seat: Some(self),
            scheduler,
            follower,
        })
    }

    /// Opens what survives; where the masters keep it, when this is the active scheduler.
    async fn open(&self) -> Result<(Store, Recovered, Option<Lease>), Error> {
        let namespace = match &self.config.state {
            Place::Directory(path) => {
                let (store, recovered) = Store::directory(path)?;
                return Ok((store, recovered, None));
            }
            Place::Masters(namespace) => namespace,
        };
        let masters = &self.config.masters;
        let me = Leader::new(self.control, reachable(self.control));
        let candidate = Candidate::new(masters.clone(), namespace, me);
        let lease = candidate.lead(|leader| self.stand_by(leader)).await?;
        loop {
            match Store::replicated(masters, namespace, lease.fence()).await {
                Err(StoreError::State {
                    source: StateError::Unavailable(why),
                    ..
                }) => tracing::warn!(why, masters = %masters, "no master leads yet"),
                other => {
                    let (store, recovered) = other?;
                    tracing::info!("this scheduler is the active one");
                    return Ok((store, recovered, Some(lease)));
                }
            }
        }
    }

    fn stand_by(&self, leader: Option<&Leader>) {
        let active = leader.map(|leader| leader.control.clone());
        if active.is_some() {
            self.listen_to(active.as_deref());
        }
        self.door.send_if_modified(|door| {
            let known = match door {
                Door::Standby(known) => Some(&*known),
                Door::Closed | Door::Active(_) => None,
            };
            if known == active.as_ref() && !matches!(door, Door::Active(_)) {
                return false;
            }
            tracing::info!(active, "standing by");
            *door = active.map_or(Door::Closed, Door::Standby);
            true
        });
    }

    /// Begins to repeat what an active scheduler tells of instances, where somebody asks for them here.
    fn listen_to(&self, active: Option<&str>) {
        let mut echo = self.echo.lock().unwrap_or_else(PoisonError::into_inner);
        let known = echo.as_ref().map(|(known, _)| known.as_str());
        if known == active {
            return;
        }
        if let Some((_, repeating)) = echo.take() {
            repeating.abort();
        }
        if let Some(active) = active.filter(|_| self.dns.is_some()) {
            let repeating = tokio::spawn(discovery::echo(active.to_owned(), self.known.clone()));
            *echo = Some((active.to_owned(), repeating));
        }
    }

    /// Whoever asks waits until it is known again which scheduler is active.
    pub(crate) fn close(&self) {
        self.door.send_replace(Door::Closed);
        self.known.send_replace(None);
    }

    pub(crate) fn abort(&self) {
        self.listen_to(None);
        self.server.abort();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Runs a scheduler for as long as it is the active one.
async fn drive(driver: Driver<Services>, mut lease: Option<Lease>) -> Result<(), Error> {
    let kept = async {
        match &mut lease {
            Some(lease) => lease.keep().await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = driver.run() => ended,
        () = kept => return Err(Error::Replaced),
    };
    let services = match ended {
        Ok(services) => services,
        // The master tells the older of two schedulers that it was replaced. Where it was not, it is named still, and begins anew.
        Err(RunError::Ended(why)) if lease.is_some() => {
            tracing::warn!(why, "the subscription is another scheduler's");
            return Err(Error::Replaced);
        }
        Err(error) => return Err(Error::Run(error)),
    };
    if services.is_replaced() {
        return Err(Error::Replaced);
    }
    services.ended().await?;
    if let Some(lease) = lease
        && let Err(error) = lease.release().await
    {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "others will wait until they may take over"
        );
    }
    Ok(())
}

/// Whoever asks one that stands by is sent to the active one.
async fn enter(State(mut door): State<watch::Receiver<Door>>, request: Request) -> Response {
    let opened = tokio::time::timeout(OPENING_TIMEOUT, door.wait_for(|door| !matches!(door, Door::Closed)));
    let opened = opened.await.ok().and_then(|opened| Some(opened.ok()?.clone()));
    let active = match opened {
        Some(Door::Active(router)) => return router.oneshot(request).await.into_response(),
        Some(Door::Standby(active)) => active,
        Some(Door::Closed) | None => {
            let body = json!({ "error": "no master says yet which scheduler is the active one" });
            return (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response();
        }
    };
    let body = json!({ "error": format!("this scheduler stands by; the active one is at {active}"), "active": active });
    if request.uri().path() == "/health" {
        return (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response();
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let location = format!("http://{active}{path}");
    (
        StatusCode::TEMPORARY_REDIRECT,
        [(header::LOCATION, location)],
        axum::Json(body),
    )
        .into_response()
}

/// How others reach an address at which this host listens.
fn reachable(address: SocketAddr) -> String {
    if !address.ip().is_unspecified() {
        return address.to_string();
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", name.trim(), address.port())
}
