//! What survives the scheduler: its framework id, the versions of its services, and the tasks that it launched.
//!
//! A launch is kept before its ACCEPT is sent, so that no process launches an instance of which an earlier one has a task.
//! It is kept by the masters ([`Replicated`]), or in a directory of this host ([`Directory`]).

mod directory;
mod replicated;

use std::io;
use std::path::{Path, PathBuf};

use proffer_sdk::Masters;
use proffer_sdk::state::StateError;

use crate::leadership::Fence;
use crate::plan::Launch;
use crate::plan::homes::Home;
use crate::versions::Versions;

pub use directory::Directory;
pub use replicated::Replicated;

/// Where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a directory of this host.
    Directory(PathBuf),
    /// By the masters, under this namespace.
    Masters(String),
}

/// Why it cannot be kept, or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A step on the file system failed.
    #[error("{action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process uses the directory.
    #[error("another process uses the state directory {}", .0.display())]
    Locked(PathBuf),
    /// A file says something that cannot be understood.
    #[error("{} cannot be understood: {reason}", .path.display())]
    Corrupt {
        /// The file, or the key.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process wrote it.
    #[error("another scheduler is active now: it has changed `{0}` of the masters' state")]
    Overtaken(String),
    /// The masters did not do it.
    #[error("{action} `{key}` of the masters' state")]
    State {
        /// What was tried.
        action: &'static str,
        /// With which key.
        key: String,
        /// Why it failed.
        source: StateError,
    },
}

/// What an earlier process left.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The id of the framework, once it was registered.
    pub framework_id: Option<String>,
    /// The versions of the services.
    pub services: Vec<Versions>,
    /// Where persistent volumes lie.
    pub homes: Vec<Home>,
    /// The tasks that were not known to have ended, in the order of their launches.
    pub launches: Vec<Launch>,
}

/// What survives a running scheduler.
#[derive(Debug)]
pub enum Store {
    /// In a directory of this host.
    Directory(Directory),
    /// By the masters.
    Masters(Replicated),
}

impl Store {
    /// Opens a directory of this host, and tells what an earlier process left.
    pub(crate) fn directory(path: &Path) -> Result<(Self, Recovered), StoreError> {
        let (directory, recovered) = Directory::open(path)?;
        Ok((Self::Directory(directory), recovered))
    }

    /// Opens what the masters keep, for the active scheduler.
    pub(crate) async fn replicated(
        masters: &Masters,
        namespace: &str,
        fence: Fence,
    ) -> Result<(Self, Recovered), StoreError> {
        let (replicated, recovered) = Replicated::open(masters.clone(), namespace, fence).await?;
        Ok((Self::Masters(replicated), recovered))
    }

    /// Keeps the id of the framework.
    pub async fn keep_framework_id(&mut self, id: &str) -> Result<(), StoreError> {
        match self {
            Self::Directory(directory) => directory.keep_framework_id(id),
            Self::Masters(replicated) => replicated.keep_framework_id(id).await,
        }
    }

    /// Keeps the versions of a service.
    pub async fn keep_service(&mut self, versions: &Versions) -> Result<(), StoreError> {
        match self {
            Self::Directory(directory) => directory.keep_service(versions),
            Self::Masters(replicated) => replicated.keep_service(versions).await,
        }
    }

    /// Drops a service.
    pub async fn drop_service(&mut self, id: &str) -> Result<(), StoreError> {
        match self {
            Self::Directory(directory) => directory.drop_service(id),
            Self::Masters(replicated) => replicated.drop_service(id).await,
        }
    }

    /// Keeps launches; when it returns they survive.
    pub async fn launching(&mut self, launches: &[Launch]) -> Result<(), StoreError> {
        match self {
            Self::Directory(directory) => directory.launching(launches),
            Self::Masters(replicated) => replicated.launching(launches).await,
        }
    }

    /// Keeps where persistent volumes lie.
    pub async fn keep_home(&mut self, home: &Home) -> Result<(), StoreError> {
        match self {
            Self::Directory(directory) => directory.keep_home(home),
            Self::Masters(replicated) => replicated.keep_home(home).await,
        }
    }

    /// Drops what is known of persistent volumes that are no more.
    pub async fn drop_home(&mut self, id: &str) -> Result<(), StoreError> {
        match self {
            Self::Directory(directory) => directory.drop_home(id),
            Self::Masters(replicated) => replicated.drop_home(id).await,
        }
    }

    /// Drops a task that has ended. What is lost of this does no harm: reconciliation tells of the end again.
    pub fn forget(&mut self, task_id: &str) -> Result<(), StoreError> {
        match self {
            Self::Directory(directory) => directory.forget(task_id),
            Self::Masters(replicated) => {
                replicated.forget(task_id);
                Ok(())
            }
        }
    }

    /// Drops all, as the framework is no more. A directory stays as it is.
    pub async fn clear(&self) -> Result<(), StoreError> {
        match self {
            Self::Directory(_) => Ok(()),
            Self::Masters(replicated) => replicated.clear().await,
        }
    }
}
