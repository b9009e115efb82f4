//! Places task shapes on offers.
//!
//! A matcher holds what is left of some offers while it places one task after the other. Offers of one agent for the same
//! role are used together. Reserved resources are used before unreserved ones; persistent volumes and shared resources are
//! left alone.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use proffer_proto::resources::{Ranges, Scalar};
use proffer_proto::v1::scheduler::Call;
use proffer_proto::v1::{
    AgentId, Attribute, Filters, Offer, OfferId, Resource, TaskInfo, TaskStatus, TimeInfo, offer, task_status, value,
};

use crate::calls::build;

/// Until when an offer may be answered, by the master's clock; unset where it is held without end.
pub fn deadline(offer: &Offer) -> Option<SystemTime> {
    offer.deadline.map(time)
}

/// From when on an offer is rescinded as soon as another framework waits for it, by the master's clock.
pub fn patient_until(offer: &Offer) -> Option<SystemTime> {
    offer.patient_until.map(time)
}

/// Whether a task was not launched because another framework had accepted first what it was to run on; launched on another offer
/// it may do well.
pub fn is_conflict(status: &TaskStatus) -> bool {
    status.reason() == task_status::Reason::OfferConflict
}

fn time(time: TimeInfo) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(time.nanoseconds.try_into().unwrap_or_default())
}

/// A port that a task needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedPort {
    /// Any free one.
    Any,
    /// This very one.
    Fixed(u16),
}

/// What an agent must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constraint {
    /// An attribute, or the host name where the attribute is called `hostname`, has this value.
    Equals(String, String),
    /// It is absent, or has another value.
    NotEquals(String, String),
}

impl Constraint {
    /// The attribute has this value; the attribute `hostname` is the host name.
    pub fn equals(attribute: impl Into<String>, value: impl Into<String>) -> Self {
        Constraint::Equals(attribute.into(), value.into())
    }

    /// The attribute is absent or has another value.
    pub fn not_equals(attribute: impl Into<String>, value: impl Into<String>) -> Self {
        Constraint::NotEquals(attribute.into(), value.into())
    }

    fn holds(&self, hostname: &str, attributes: &[Attribute]) -> bool {
        let value_of = |name: &str| match name {
            "hostname" => Some(hostname.to_owned()),
            _ => attributes
                .iter()
                .find(|attribute| attribute.name == name)
                .and_then(text_of),
        };
        match self {
            Constraint::Equals(name, value) => value_of(name).as_deref() == Some(value),
            Constraint::NotEquals(name, value) => value_of(name).as_deref() != Some(value),
        }
    }
}

/// An attribute that is a text or a number, as text.
fn text_of(attribute: &Attribute) -> Option<String> {
    let number = || attribute.scalar.as_ref().map(|scalar| scalar.value.to_string());
    attribute.text.as_ref().map(|text| text.value.clone()).or_else(number)
}

/// How the tasks of a group are placed relative to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// On as few agents as possible.
    #[default]
    Pack,
    /// Evenly over the agents.
    Spread,
    /// At most one on each agent.
    Unique,
}

/// What a task needs.
///
/// ```
/// use proffer_sdk::offers::{Constraint, Strategy, TaskShape};
///
/// let shape = TaskShape::default()
///     .cpus(0.5)
///     .mem(128.0)
///     .any_ports(2)
///     .constraint(Constraint::equals("rack", "r1"))
///     .strategy("web", Strategy::Spread);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TaskShape {
    /// Scalar resources by name: `cpus`, `mem` and `disk` (MiB), `gpus`, or any other.
    pub scalars: BTreeMap<String, f64>,
    /// Ports, in the order in which the task knows them.
    pub ports: Vec<WantedPort>,
    /// What the agent must be like; all must hold.
    pub constraints: Vec<Constraint>,
    /// Takes only resources offered to this role.
    pub role: Option<String>,
    /// Prefers resources that may be taken back; of each name it takes one or the other.
    pub revocable: bool,
    /// The tasks among which the strategy decides.
    pub group: String,
    /// How to choose among the agents that fit.
    pub strategy: Strategy,
}

impl TaskShape {
    /// Processors.
    pub fn cpus(self, cpus: f64) -> Self {
        self.scalar("cpus", cpus)
    }

    /// Memory in MiB.
    pub fn mem(self, mem_mib: f64) -> Self {
        self.scalar("mem", mem_mib)
    }

    /// Disk in MiB.
    pub fn disk(self, disk_mib: f64) -> Self {
        self.scalar("disk", disk_mib)
    }

    /// Any scalar resource.
    pub fn scalar(mut self, name: impl Into<String>, amount: f64) -> Self {
        self.scalars.insert(name.into(), amount);
        self
    }

    /// More ports, whichever are free.
    pub fn any_ports(mut self, count: usize) -> Self {
        self.ports.extend(std::iter::repeat_n(WantedPort::Any, count));
        self
    }

    /// One more port, this very one.
    pub fn fixed_port(mut self, port: u16) -> Self {
        self.ports.push(WantedPort::Fixed(port));
        self
    }

    /// One more constraint.
    pub fn constraint(mut self, constraint: Constraint) -> Self {
        self.constraints.push(constraint);
        self
    }

    /// Takes only resources offered to this role.
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.role = Some(role.into());
        self
    }

    /// How to place it relative to the other tasks of a group.
    pub fn strategy(mut self, group: impl Into<String>, strategy: Strategy) -> Self {
        self.group = group.into();
        self.strategy = strategy;
        self
    }
}

/// Where a task goes, and with what.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// The offers that are used, all of one agent and role.
    pub offer_ids: Vec<OfferId>,
    /// The agent.
    pub agent_id: AgentId,
    /// Its host name.
    pub hostname: String,
    /// The resources, as the task's message names them.
    pub resources: Vec<Resource>,
    /// The ports, in the order of the shape.
    pub ports: Vec<u16>,
}

/// Places one task after the other on what is left of some offers.
///
/// ```
/// use proffer_sdk::offers::{Matcher, TaskShape};
/// use proffer_sdk::testing;
///
/// let offers = [testing::offer("o1", "agent1", 1.0, 256.0, 31000..=31000)];
/// let mut matcher = Matcher::new(&offers);
/// let shape = TaskShape::default().cpus(0.4).mem(32.0);
/// assert!(matcher.place(&shape).is_some());
/// assert!(matcher.place(&shape.clone().any_ports(1)).is_some());
/// assert!(matcher.place(&shape).is_none(), "0.2 of the cpus are left");
/// ```
#[derive(Debug, Clone)]
pub struct Matcher {
    agents: Vec<Agent>,
    /// How many tasks of a group are on an agent.
    counts: HashMap<(String, String), usize>,
}

/// The offers of one agent for one role.
#[derive(Debug, Clone)]
struct Agent {
    agent_id: AgentId,
    hostname: String,
    role: Option<String>,
    attributes: Vec<Attribute>,
    offer_ids: Vec<OfferId>,
    pieces: Vec<Piece>,
    placed: usize,
}

/// One offered resource and what is left of it.
#[derive(Debug, Clone)]
struct Piece {
    offer: usize,
    resource: Resource,
    left: Left,
}

#[derive(Debug, Clone)]
enum Left {
    Scalar(Scalar),
    Ports(Ranges),
}

/// A part of a piece that a task takes.
#[derive(Debug)]
enum Part {
    Scalar(Scalar),
    Ports(Ranges),
}

impl Matcher {
    /// Begins with these offers.
    pub fn new<'a>(offers: impl IntoIterator<Item = &'a Offer>) -> Self {
        let mut agents: Vec<Agent> = Vec::new();
        for offer in offers {
            let role = offer.allocation_info.as_ref().and_then(|info| info.role.clone());
            let known = agents
                .iter()
                .position(|agent| agent.agent_id == offer.agent_id && agent.role == role);
            let index = known.unwrap_or_else(|| {
                agents.push(Agent {
                    agent_id: offer.agent_id.clone(),
                    hostname: offer.hostname.clone(),
                    role,
                    attributes: offer.attributes.clone(),
                    offer_ids: Vec::new(),
                    pieces: Vec::new(),
                    placed: 0,
                });
                agents.len() - 1
            });
            agents[index].add(offer);
        }
        Matcher {
            agents,
            counts: HashMap::new(),
        }
    }

    /// Tells of a task of a group that runs on an agent already.
    pub fn running(&mut self, group: impl Into<String>, agent_id: &AgentId) {
        *self.counts.entry((group.into(), agent_id.value.clone())).or_default() += 1;
    }

    /// Places a task, where it fits anywhere, and takes what it needs from the offers.
    pub fn place(&mut self, shape: &TaskShape) -> Option<Placement> {
        let chosen = self
            .agents
            .iter()
            .enumerate()
            .filter_map(|(index, agent)| {
                let count = self.count(&shape.group, &agent.agent_id);
                let allowed = shape.strategy != Strategy::Unique || count == 0;
                let parts = allowed.then(|| agent.parts(shape)).flatten()?;
                let rank = match shape.strategy {
                    Strategy::Pack => (usize::MAX - agent.placed, agent.cpus_left()),
                    Strategy::Spread | Strategy::Unique => (count, u64::MAX - agent.cpus_left()),
                };
                Some((rank, index, parts))
            })
            .min_by_key(|(rank, index, _)| (*rank, *index));
        let (_, index, parts) = chosen?;
        let placement = self.agents[index].take(parts, shape);
        self.running(shape.group.clone(), &placement.agent_id);
        Some(placement)
    }

    fn count(&self, group: &str, agent_id: &AgentId) -> usize {
        let key = (group.to_owned(), agent_id.value.clone());
        self.counts.get(&key).copied().unwrap_or_default()
    }
}

impl Agent {
    fn add(&mut self, offer: &Offer) {
        let index = self.offer_ids.len();
        self.offer_ids.push(offer.id.clone());
        for resource in &offer.resources {
            let is_plain_disk =
                |disk: &proffer_proto::v1::resource::DiskInfo| disk.persistence.is_none() && disk.source.is_none();
            if resource.shared.is_some() || !resource.disk.as_deref().is_none_or(is_plain_disk) {
                continue;
            }
            let left = match (resource.name.as_str(), &resource.scalar, &resource.ranges) {
                ("ports", _, Some(ranges)) => Left::Ports(ports_of(ranges)),
                // What is no amount is nothing.
                (_, Some(scalar), _) => Left::Scalar(Scalar::from_f64(scalar.value).unwrap_or_default()),
                _ => continue,
            };
            self.pieces.push(Piece {
                offer: index,
                resource: resource.clone(),
                left,
            });
        }
        self.pieces.sort_by_key(|piece| !is_reserved(&piece.resource));
    }

    /// In thousandths.
    fn cpus_left(&self) -> u64 {
        let cpus = self.pieces.iter().filter(|piece| piece.resource.name == "cpus");
        let left = cpus.filter_map(|piece| match piece.left {
            Left::Scalar(left) => Some(left),
            Left::Ports(_) => None,
        });
        left.sum::<Scalar>().thousandths()
    }

    /// What the task would take of which piece, where it fits.
    fn parts(&self, shape: &TaskShape) -> Option<Vec<(usize, Part)>> {
        if shape.role.is_some() && shape.role != self.role {
            return None;
        }
        if !shape
            .constraints
            .iter()
            .all(|constraint| constraint.holds(&self.hostname, &self.attributes))
        {
            return None;
        }
        let mut parts = Vec::new();
        for (name, amount) in &shape.scalars {
            let wanted = rounded_up(*amount)?;
            let revocable = || shape.revocable.then(|| self.scalar_parts(name, wanted, true)).flatten();
            parts.extend(revocable().or_else(|| self.scalar_parts(name, wanted, false))?);
        }
        let revocable = || shape.revocable.then(|| self.port_parts(&shape.ports, true)).flatten();
        parts.extend(revocable().or_else(|| self.port_parts(&shape.ports, false))?);
        Some(parts)
    }

    fn scalar_parts(&self, name: &str, wanted: Scalar, revocable: bool) -> Option<Vec<(usize, Part)>> {
        let mut missing = wanted;
        let mut parts = Vec::new();
        for (index, piece) in self.pieces.iter().enumerate() {
            if missing.is_zero() {
                break;
            }
            let Left::Scalar(left) = piece.left else { continue };
            if piece.resource.name == name && piece.resource.revocable.is_some() == revocable && !left.is_zero() {
                let part = left.min(missing);
                missing = missing.saturating_sub(part);
                parts.push((index, Part::Scalar(part)));
            }
        }
        missing.is_zero().then_some(parts)
    }

    fn port_parts(&self, wanted: &[WantedPort], revocable: bool) -> Option<Vec<(usize, Part)>> {
        let fixed = fixed_ports(wanted)?;
        let mut any_missing = wanted.len() - fixed.len();
        let mut fixed_missing = fixed.clone();
        let mut parts = Vec::new();
        for (index, piece) in self.pieces.iter().enumerate() {
            let Left::Ports(free) = &piece.left else { continue };
            if piece.resource.revocable.is_some() != revocable {
                continue;
            }
            // A port that the task names is not one of those that it leaves open.
            let candidates = free.values().filter(|port| !fixed.contains(port));
            let mut taken: Vec<u64> = candidates.take(any_missing).collect();
            any_missing -= taken.len();
            taken.extend(fixed_missing.extract_if(.., |port| free.contains_value(*port)));
            if !taken.is_empty() {
                let taken = Ranges::from_intervals(taken.into_iter().map(|port| (port, port)));
                parts.push((index, Part::Ports(taken.unwrap_or_default())));
            }
        }
        (any_missing == 0 && fixed_missing.is_empty()).then_some(parts)
    }

    fn take(&mut self, parts: Vec<(usize, Part)>, shape: &TaskShape) -> Placement {
        self.placed += 1;
        let mut offers = Vec::new();
        let mut resources = Vec::new();
        let mut ports = Ranges::new();
        for (index, part) in parts {
            let piece = &mut self.pieces[index];
            offers.push(piece.offer);
            resources.push(piece.resource_of(&part));
            piece.subtract(&part);
            if let Part::Ports(taken) = part {
                ports = ports.union(&taken);
            }
        }
        if offers.is_empty() {
            offers.push(0);
        }
        offers.sort_unstable();
        offers.dedup();
        Placement {
            offer_ids: offers.iter().map(|index| self.offer_ids[*index].clone()).collect(),
            agent_id: self.agent_id.clone(),
            hostname: self.hostname.clone(),
            resources,
            ports: in_order_of(&shape.ports, &ports),
        }
    }
}

impl Piece {
    /// The part as a resource of the same kind: reservation, role and all.
    fn resource_of(&self, part: &Part) -> Resource {
        let mut resource = self.resource.clone();
        match part {
            Part::Scalar(amount) => resource.scalar = Some((*amount).into()),
            Part::Ports(ports) => resource.ranges = Some(ports.into()),
        }
        resource
    }

    fn subtract(&mut self, part: &Part) {
        match (&mut self.left, part) {
            (Left::Scalar(left), Part::Scalar(amount)) => *left = left.saturating_sub(*amount),
            (Left::Ports(free), Part::Ports(ports)) => *free = free.difference(ports),
            _ => unreachable!("a part is of the kind of its piece"),
        }
    }
}

/// Groups launches into one ACCEPT for each agent and role.
pub(crate) fn accepts(launches: Vec<(Placement, TaskInfo)>, filters: Option<Filters>) -> Vec<Call> {
    let mut grouped: Vec<(Vec<OfferId>, Vec<TaskInfo>)> = Vec::new();
    for (placement, info) in launches {
        let shares = |ids: &Vec<OfferId>| ids.iter().any(|id| placement.offer_ids.contains(id));
        let (mut sharing, others): (Vec<_>, Vec<_>) = grouped.into_iter().partition(|(ids, _)| shares(ids));
        grouped = others;
        let (mut ids, mut infos) = (placement.offer_ids, Vec::new());
        for (more_ids, more_infos) in sharing.drain(..) {
            ids.extend(more_ids);
            infos.extend(more_infos);
        }
        infos.push(info);
        ids.sort_by(|a, b| a.value.cmp(&b.value));
        ids.dedup();
        grouped.push((ids, infos));
    }
    grouped
        .into_iter()
        .map(|(ids, infos)| build::accept(ids, vec![launch(infos)], filters))
        .collect()
}

/// The operation that launches tasks.
///
/// ```
/// let operation = proffer_sdk::offers::launch(vec![]);
/// assert!(operation.launch.is_some());
/// ```
pub fn launch(task_infos: Vec<TaskInfo>) -> offer::Operation {
    offer::Operation {
        r#type: Some(offer::operation::Type::Launch.into()),
        launch: Some(offer::operation::Launch { task_infos }),
        ..Default::default()
    }
}

fn is_reserved(resource: &Resource) -> bool {
    !resource.reservations.is_empty() || resource.reservation.is_some()
}

/// A wanted amount, where it is one; a part of a thousandth counts as a whole one.
fn rounded_up(amount: f64) -> Option<Scalar> {
    let nearest = Scalar::from_f64(amount).ok()?;
    // What a float adds by itself is far below this.
    let is_more = amount * 1000.0 - nearest.thousandths() as f64 > 1e-6;
    Some(nearest + Scalar::from_thousandths(u64::from(is_more)))
}

/// The offered ports, as far as there are such ports.
fn ports_of(offered: &value::Ranges) -> Ranges {
    let last = u64::from(u16::MAX);
    let ports = offered.range.iter().map(|range| (range.begin, range.end.min(last)));
    Ranges::from_intervals(ports.filter(|(begin, end)| begin <= end)).unwrap_or_default()
}

/// The ports that a task names; `None` where it names one twice.
fn fixed_ports(wanted: &[WantedPort]) -> Option<Vec<u64>> {
    let mut fixed = Vec::new();
    for port in wanted {
        if let WantedPort::Fixed(port) = port {
            let port = u64::from(*port);
            if fixed.contains(&port) {
                return None;
            }
            fixed.push(port);
        }
    }
    Some(fixed)
}

/// Puts the fixed ports where they were asked for, and the others in between.
fn in_order_of(wanted: &[WantedPort], taken: &Ranges) -> Vec<u16> {
    let taken = taken.values().filter_map(|port| u16::try_from(port).ok());
    let mut any = taken.filter(|port| !wanted.contains(&WantedPort::Fixed(*port)));
    wanted
        .iter()
        .filter_map(|port| match port {
            WantedPort::Fixed(port) => Some(*port),
            WantedPort::Any => any.next(),
        })
        .collect()
}
