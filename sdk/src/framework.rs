//! What a framework says of itself when it subscribes.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use proffer_proto::Rejection;
use proffer_proto::resources::Resources;
use proffer_proto::v1::framework_info::{Capability, capability};
use proffer_proto::v1::offer_filters::{MinAllocatableResources, ResourceQuantities};
use proffer_proto::v1::value::Scalar;
use proffer_proto::v1::{FrameworkId, FrameworkInfo, OfferFilters};

/// Builds a [`FrameworkInfo`].
///
/// Unless told otherwise the framework runs its tasks as the user of this process, in the role `*`, checkpointed, with the
/// capabilities `MULTI_ROLE`, `PARTITION_AWARE`, `TASK_KILLING_STATE` and `RESERVATION_REFINEMENT`, and its tasks survive its
/// scheduler for a week.
///
/// ```
/// use std::time::Duration;
/// use proffer_sdk::Framework;
///
/// let info = Framework::new("sleeper").role("batch").failover_timeout(Duration::from_secs(60)).build();
/// assert_eq!(info.roles, ["batch"]);
/// assert_eq!(info.failover_timeout, Some(60.0));
/// ```
#[derive(Debug, Clone)]
pub struct Framework {
    info: FrameworkInfo,
}

/// How long the tasks of a framework outlive its scheduler unless it says otherwise.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 3600);

impl Framework {
    /// A framework of this name.
    pub fn new(name: impl Into<String>) -> Self {
        use capability::Type;
        let capabilities = [
            Type::MultiRole,
            Type::PartitionAware,
            Type::TaskKillingState,
            Type::ReservationRefinement,
        ];
        Framework {
            info: FrameworkInfo {
                name: name.into(),
                user: process_user(),
                failover_timeout: Some(FAILOVER_TIMEOUT.as_secs_f64()),
                checkpoint: Some(true),
                roles: vec!["*".into()],
                capabilities: capabilities.map(capability).into(),
                ..Default::default()
            },
        }
    }

    /// The user as whom its tasks run.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.info.user = user.into();
        self
    }

    /// Its only role.
    pub fn role(self, role: impl Into<String>) -> Self {
        self.roles([role])
    }

    /// Its roles.
    pub fn roles(mut self, roles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.info.roles = roles.into_iter().map(Into::into).collect();
        self
    }

    /// The principal as whom it reserves resources.
    pub fn principal(mut self, principal: impl Into<String>) -> Self {
        self.info.principal = Some(principal.into());
        self
    }

    /// How long its tasks outlive its scheduler.
    pub fn failover_timeout(mut self, timeout: Duration) -> Self {
        self.info.failover_timeout = Some(timeout.as_secs_f64());
        self
    }

    /// Where its own web page is.
    pub fn web_page(mut self, url: impl Into<String>) -> Self {
        self.info.webui_url = Some(url.into());
        self
    }

    /// Offers to that role hold at least one of these amounts, each as `cpus:1;mem:512`; without it the master's minimum counts.
    ///
    /// # Errors
    /// What cannot be read, by the name of the resource.
    pub fn minimum(mut self, role: impl Into<String>, any_of: &[&str]) -> Result<Self, Rejection> {
        let quantities = |text: &&str| {
            let resources = Resources::parse(text)?;
            let amounts = resources.scalars().into_iter().map(|(name, amount)| {
                let value = amount.as_f64();
                (name.to_owned(), Scalar { value })
            });
            Ok(ResourceQuantities {
                quantities: amounts.collect(),
            })
        };
        let quantities = any_of.iter().map(quantities).collect::<Result<_, Rejection>>()?;
        let filters = OfferFilters {
            min_allocatable_resources: Some(MinAllocatableResources { quantities }),
        };
        self.info.offer_filters.insert(role.into(), filters);
        Ok(self)
    }

    /// Lets it be shown what others of this kind are shown, too: who accepts first has it. Who comes later hears `TASK_DROPPED`
    /// with [`is_conflict`](crate::offers::is_conflict), and is offered what there is instead.
    pub fn optimistic(self) -> Self {
        self.capability(capability::Type::OptimisticOffers)
    }

    /// Is offered revocable resources, too: what others have no use for now. Tasks on them are killed when they are wanted back,
    /// after [`inverse_offers`](crate::Scheduler::inverse_offers) asked for them. A [`Shape`](crate::offers::Shape) takes
    /// them where it says so.
    pub fn revocable(self) -> Self {
        self.capability(capability::Type::RevocableResources)
    }

    /// Adds a capability.
    pub fn capability(mut self, kind: capability::Type) -> Self {
        if !self.info.capabilities.iter().any(|known| known.r#type() == kind) {
            self.info.capabilities.push(capability(kind));
        }
        self
    }

    /// Is offered what gangs hold while they wait, for tasks that end in time: see [`is_lent`](crate::gang::is_lent).
    pub fn backfill(self) -> Self {
        self.capability(capability::Type::Backfill)
    }

    /// The id that a master gave it earlier.
    pub fn id(mut self, id: FrameworkId) -> Self {
        self.info.id = Some(id);
        self
    }

    /// The message.
    pub fn build(self) -> FrameworkInfo {
        self.info
    }
}

impl From<Framework> for FrameworkInfo {
    fn from(framework: Framework) -> Self {
        framework.build()
    }
}

fn capability(kind: capability::Type) -> Capability {
    Capability {
        r#type: Some(kind.into()),
    }
}

/// The name of the user of this process, or the number where it has no name.
fn process_user() -> String {
    let uid = std::fs::metadata("/proc/self").map_or(0, |process| process.uid());
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}
