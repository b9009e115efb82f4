//! Changes of what is wanted, by users and by what became of an update: kept first, told to the plan then.

use proffer_proto::Rejection;
use proffer_sdk::Context;

use super::launching::Answer;
use super::{Accepted, ChangeError, Message, Request, Services};
use crate::plan::homes::Home;
use crate::plan::{Input, Launch, Put};
use crate::spec::{OnFailure, ServiceSpec};
use crate::store::StoreError;
use crate::versions::{Change, Versions};

/// What became of an update, and is to be kept.
#[derive(Debug)]
pub(super) enum Deferred {
    /// Another side of a service is to serve.
    Switch {
        service: String,
        base: u32,
    },
    /// What is known of persistent volumes.
    Home(Box<Home>),
    /// Persistent volumes are no more.
    NoHome(String),
    Settled {
        service: String,
        version: u64,
    },
    Stuck {
        service: String,
        reason: String,
        reverts: bool,
    },
}

impl Services {
    /// Keeps what the plan has found.
    pub(super) async fn finish(&mut self, context: &mut Context<Message>) {
        if self.deferred.is_empty() {
            return;
        }
        while let Some(deferred) = self.deferred.pop_front() {
            match deferred {
                Deferred::Switch { service, base } => self.switch(context, service, base).await,
                Deferred::Home(home) => self.keep_home(&home).await,
                Deferred::NoHome(id) => {
                    if let Err(error) = self.store.drop_home(&id).await {
                        tracing::warn!(
                            home = id,
                            error = &error as &dyn std::error::Error,
                            "end of volumes not kept"
                        );
                    }
                }
                Deferred::Settled { service, version } => self.settled(&service, version).await,
                Deferred::Stuck {
                    service,
                    reason,
                    reverts,
                } => self.stuck(context, service, reason, reverts).await,
            }
        }
        self.settle(context);
    }

    /// Keeps launches, and first where the volumes of their instances are going to lie.
    pub(super) async fn keep_launches(&mut self, answer: &Answer, launches: &[Launch]) -> Result<(), StoreError> {
        for home in answer.placed.iter().filter_map(|placed| placed.residence.as_ref()) {
            self.store.keep_home(&home.0).await?;
        }
        self.store.launching(launches).await
    }

    /// What is lost of this is found out again: that volumes are there, or are to be destroyed.
    async fn keep_home(&mut self, home: &Home) {
        if let Err(error) = self.store.keep_home(home).await {
            tracing::warn!(
                home = home.id,
                error = &error as &dyn std::error::Error,
                "place of volumes not kept"
            );
        }
    }

    /// All instances of a new version are ready, beside those of the old one: they serve from now on.
    async fn switch(&mut self, context: &mut Context<Message>, id: String, base: u32) {
        let Some(versions) = self.versions.get(&id).cloned() else {
            return;
        };
        let before = versions.base;
        let renewed = Versions { base, ..versions };
        match self.store.keep_service(&renewed).await {
            Ok(()) => {
                tracing::info!(service = id, "the new version serves");
                self.versions.insert(id.clone(), renewed);
                self.step(context, Input::Switched { service: id, base });
            }
            Err(error) if self.is_overtaken(context, &error) => {}
            Err(error) => {
                tracing::error!(
                    service = id,
                    error = &error as &dyn std::error::Error,
                    "new version does not serve"
                );
                let sender = context.sender();
                tokio::spawn(async move {
                    tokio::time::sleep(super::STORE_RETRY).await;
                    let _ = sender.send(Message::Unswitched {
                        service: id,
                        base: before,
                    });
                });
            }
        }
    }

    /// All instances of a service were ready: it may go back to this version.
    async fn settled(&mut self, id: &str, version: u64) {
        let Some(versions) = self.versions.get_mut(id) else {
            return;
        };
        tracing::info!(service = id, version, "all instances are ready");
        let renewed = Versions {
            stable: Some(version),
            ..versions.clone()
        };
        match self.store.keep_service(&renewed).await {
            Ok(()) => *versions = renewed,
            Err(error) => tracing::warn!(
                service = id,
                error = &error as &dyn std::error::Error,
                "version not kept"
            ),
        }
    }

    /// An update made no progress: the version before comes back, where the specification wants that.
    async fn stuck(&mut self, context: &mut Context<Message>, id: String, reason: String, reverts: bool) {
        tracing::warn!(service = id, reason, "update failed");
        let versions = self.versions.get(&id);
        let policy = versions.map(|versions| versions.current.spec.update.on_failure);
        if reverts || policy != Some(OnFailure::Revert) {
            return;
        }
        let request = Request {
            id: id.clone(),
            change: Change::Revert(reason),
            expected: None,
        };
        match self.change(context, request).await {
            Ok(accepted) => tracing::info!(service = id, version = accepted.version, "update reverted"),
            Err(ChangeError::Rejected(_)) => tracing::info!(service = id, "there is no version to go back to"),
            Err(error) => tracing::error!(
                service = id,
                error = &error as &dyn std::error::Error,
                "update not reverted"
            ),
        }
    }

    pub(super) async fn change(
        &mut self,
        context: &mut Context<Message>,
        request: Request,
    ) -> Result<Accepted, ChangeError> {
        let Request { id, change, expected } = request;
        let known = self.versions.get(&id);
        let found = known.map_or(0, |versions| versions.current.version);
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(ChangeError::Conflict { id, expected, found });
        }
        let (version, now) = (self.version_next, self.clock.now());
        let versions = match (known, change) {
            (None, Change::Spec(spec)) => Versions::first(*spec, version, now),
            (None, _) => return Err(ChangeError::Unknown(id)),
            (Some(known), change) => {
                let after = known.after(change, version, now);
                after.ok_or_else(|| {
                    let numbers: Vec<_> = known.numbers().iter().map(ToString::to_string).collect();
                    let accepted = format!("one that is remembered: {}", numbers.join(", "));
                    Rejection::new("version", "is none to go back to", accepted)
                })?
            }
        };
        versions.current.spec.validate()?;
        validate_role(&versions.current.spec, &self.role)?;
        if let Err(error) = self.store.keep_service(&versions).await {
            self.is_overtaken(context, &error);
            return Err(error.into());
        }
        self.version_next += 1;
        let accepted = Accepted {
            version,
            instance_version: versions.current.instance_version,
            created: known.is_none(),
        };
        tracing::info!(
            service = id,
            instances = versions.current.spec.instances,
            version,
            instance_version = accepted.instance_version,
            "service wanted"
        );
        let put = put_of(&versions);
        self.versions.insert(id, versions);
        self.step(context, Input::Put(Box::new(put)));
        Ok(accepted)
    }

    pub(super) async fn remove(&mut self, context: &mut Context<Message>, id: String) -> Result<bool, StoreError> {
        if self.plan.services().get(&id).is_none_or(|service| service.removed) {
            return Ok(false);
        }
        if let Err(error) = self.store.drop_service(&id).await {
            self.is_overtaken(context, &error);
            return Err(error);
        }
        self.versions.remove(&id);
        tracing::info!(service = id, "service not wanted any more");
        self.step(context, Input::Remove(id));
        Ok(true)
    }
}

/// Whether the role of the framework does for a specification: nothing can be reserved for the default role.
pub(crate) fn validate_role(spec: &ServiceSpec, role: &str) -> Result<(), Rejection> {
    let persistent = spec.volumes.iter().position(|volume| volume.persistent_mib().is_some());
    match persistent {
        Some(index) if role == "*" => Err(Rejection::new(
            format!("volumes[{index}].persistent"),
            "needs a role for which disk can be reserved",
            "a scheduler that was started with --role and a name",
        )),
        _ => Ok(()),
    }
}

/// What the plan is told of a service.
pub(super) fn put_of(versions: &Versions) -> Put {
    let current = &versions.current;
    Put {
        spec: current.spec.clone(),
        version: current.version,
        instance_version: current.instance_version,
        reverts: current.reverts.clone(),
        base: versions.base,
    }
}
