//! What tells one kind of resource from another: name, reservations, and the rest that is no quantity.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use prost::Message;

use super::Scalar;
use crate::v1::resource::DiskInfo;
use crate::v1::resource::disk_info::source;

/// Quantities add up where their keys are equal, and only there.
///
/// Cheap to clone: the parts are shared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub(super) name: Arc<str>,
    pub(super) kind: Kind,
    /// `None` for the common case: unreserved, not revocable, not shared, no disk.
    pub(super) traits: Option<Arc<Traits>>,
    pub(super) allocation_role: Option<Arc<str>>,
}

/// The type of a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An amount.
    Scalar,
    /// A set of numbers.
    Ranges,
    /// A set of strings.
    Set,
}

/// A name that can be shared: the usual ones are had once.
pub(super) fn shared(name: &str) -> Arc<str> {
    static USUAL: LazyLock<[Arc<str>; 5]> = LazyLock::new(|| ["cpus", "mem", "disk", "ports", "gpus"].map(Arc::from));
    let usual = USUAL.iter().find(|usual| ***usual == *name);
    usual.cloned().unwrap_or_else(|| Arc::from(name))
}

/// What most resources have none of.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Traits {
    pub(super) reservations: Vec<Reservation>,
    pub(super) revocable: bool,
    pub(super) shared: bool,
    pub(super) disk: Option<Disk>,
    /// The size of a disk that cannot be split (a persistent volume, a mount, a raw device): it is there whole or not at all.
    pub(super) whole: Option<Scalar>,
}

/// One layer of a reservation; each layer refines the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reservation {
    /// For whom the resource is kept.
    pub role: String,
    /// Whether it was made while the agent was running, by a framework or operator, and not by the agent's configuration.
    pub dynamic: bool,
    /// Who made it.
    pub principal: Option<String>,
    /// Free labels, sorted.
    pub labels: Vec<(String, Option<String>)>,
    /// How who made it calls it.
    pub id: Option<String>,
}

/// What makes a disk more than space.
///
/// Two disks are the same if they agree in all but how they are mounted and who made them, as in the v1 API.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) info: DiskInfo,
    identity: Vec<u8>,
}

impl Key {
    /// The name of the resource: `cpus`, `mem`, `ports`...
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of its quantities.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The layers of its reservation, outermost first; empty where it is unreserved.
    pub fn reservations(&self) -> &[Reservation] {
        self.traits.as_ref().map_or(&[], |traits| &traits.reservations)
    }

    /// The role for which it is reserved, if it is.
    pub fn reservation_role(&self) -> Option<&str> {
        self.reservations().last().map(|reservation| reservation.role.as_str())
    }

    /// Whether an operation made it what it is: it is reserved dynamically, or a persistent volume.
    pub fn is_converted(&self) -> bool {
        let dynamic = self
            .reservations()
            .last()
            .is_some_and(|reservation| reservation.dynamic);
        dynamic || self.volume_id().is_some()
    }

    /// Whether it may be taken back.
    pub fn is_revocable(&self) -> bool {
        self.traits.as_ref().is_some_and(|traits| traits.revocable)
    }

    /// Whether several tasks may use it at once.
    pub fn is_shared(&self) -> bool {
        self.traits.as_ref().is_some_and(|traits| traits.shared)
    }

    /// What makes the disk more than space.
    pub fn disk(&self) -> Option<&DiskInfo> {
        self.traits.as_ref()?.disk.as_ref().map(|disk| &disk.info)
    }

    /// The id of the persistent volume, if it is one.
    pub fn volume_id(&self) -> Option<&str> {
        self.disk()?
            .persistence
            .as_ref()
            .map(|persistence| persistence.id.as_str())
    }

    /// The role to which it is allocated, if it is.
    pub fn allocation_role(&self) -> Option<&str> {
        self.allocation_role.as_deref()
    }

    pub(super) fn whole(&self) -> Option<Scalar> {
        self.traits.as_ref()?.whole
    }

    pub(super) fn with_traits(mut self, traits: Traits) -> Self {
        self.traits = (traits != Traits::default()).then(|| Arc::new(traits));
        self
    }
}

impl Traits {
    /// What is left of a persistent volume without it: the reserved disk.
    pub(super) fn lose_volume(&mut self) {
        let Some(disk) = self.disk.as_ref().filter(|disk| disk.info.persistence.is_some()) else {
            return;
        };
        self.disk = disk.without_volume();
        self.shared = false;
        if self.disk.as_ref().is_none_or(|disk| !disk.is_whole()) {
            self.whole = None;
        }
    }
}

impl Disk {
    pub(super) fn new(info: DiskInfo) -> Self {
        let mut bare = info.clone();
        bare.volume = None;
        if let Some(persistence) = &mut bare.persistence {
            persistence.principal = None;
        }
        Self {
            identity: bare.encode_to_vec(),
            info,
        }
    }

    /// The disk on which the volume is; `None` where that is plain space.
    pub(super) fn without_volume(&self) -> Option<Self> {
        let source = self.info.source.clone()?;
        Some(Self::new(DiskInfo {
            source: Some(source),
            ..DiskInfo::default()
        }))
    }

    pub(super) fn is_whole(&self) -> bool {
        use source::Type::{Block, Mount, Raw};
        let source = self.info.source.as_ref().map(|source| source.r#type());
        self.info.persistence.is_some() || matches!(source, Some(Mount | Block | Raw))
    }
}

impl PartialEq for Disk {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Disk {}

impl PartialOrd for Disk {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Disk {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identity.cmp(&other.identity)
    }
}

impl Hash for Disk {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity.hash(state);
    }
}
