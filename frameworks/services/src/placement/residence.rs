//! Places instances that have persistent volumes: each where its volumes lie, a new one where there is disk for them.
//!
//! Of the offers of one agent at most one such instance is placed at a time, and takes all of them: what it leaves is
//! offered again at once.

use proffer_proto::v1::offer::Operation;
use proffer_proto::v1::{Offer, OfferId, Resource};
use proffer_sdk::offers::{Matcher, Placement, TaskShape};
use proffer_sdk::operations;

use crate::plan::InstanceId;
use crate::plan::homes::{Home, HomeVolume};
use crate::spec::{Mode, ServiceSpec, VolumeSpec};

use super::Machine;

/// Where an instance with persistent volumes goes.
#[derive(Clone, Debug)]
pub struct Residence {
    /// Its home as it is then.
    pub home: Home,
    /// What is to be done before the launch: reservations, and volumes that are not there yet.
    pub operations: Vec<Operation>,
    /// What the task takes, with its volumes.
    pub placement: Placement,
}

/// What an instance needs beside volumes that are there: its own share, and disk for volumes that are to be made.
pub fn shape_with(shape: &TaskShape, own_disk: Option<f64>, volumes_mib: f64) -> TaskShape {
    let disk = own_disk.unwrap_or_default() + volumes_mib;
    match disk > 0.0 {
        true => shape.clone().disk(disk),
        false => shape.clone(),
    }
}

/// The offers without reserved disk, of which no volumes are made.
pub fn without_reserved_disk(offers: &[&Offer]) -> Vec<Offer> {
    let plain = |resource: &Resource| resource.name != "disk" || resource.reservations.is_empty();
    let stripped = offers.iter().map(|offer| Offer {
        resources: offer.resources.iter().filter(|one| plain(one)).cloned().collect(),
        ..(*offer).clone()
    });
    stripped.collect()
}

/// Places an instance on the agent of these offers, where it has room there. `home` is where its volumes are, or may be; it is
/// of this agent.
pub fn reside(
    offers: &[&Offer],
    spec: &ServiceSpec,
    shape: &TaskShape,
    instance: &InstanceId,
    home: Option<&Home>,
    role: &str,
) -> Option<Residence> {
    let mut home = home.cloned().unwrap_or_else(|| Home {
        id: uuid::Uuid::new_v4().simple().to_string()[..12].to_owned(),
        instance: instance.clone(),
        machine: Machine::of(offers[0]),
        volumes: Vec::new(),
        made: false,
        doomed: false,
    });
    let mut taken = Vec::new();
    let mut missing: Vec<(&VolumeSpec, HomeVolume)> = Vec::new();
    for (number, (wanted, size)) in persistent(spec).enumerate() {
        let known = home.volumes.iter().find(|known| known.path == wanted.path);
        match known.map(|known| (known, offered(offers, &known.id))) {
            Some((_, Some(volume))) => taken.push(mounted(volume.clone(), wanted)),
            // It is there, and in use, or on its way here.
            Some(_) if home.made => return None,
            Some((known, None)) => missing.push((wanted, known.clone())),
            None => {
                let id = format!("{instance}.{}.{number}", home.id);
                let path = wanted.path.clone();
                missing.push((wanted, HomeVolume { id, path, size }));
            }
        }
    }
    let volumes_mib = missing.iter().map(|(_, volume)| volume.size).sum();
    let stripped = without_reserved_disk(offers);
    let shape = shape_with(shape, spec.disk, volumes_mib);
    let mut placement = Matcher::new(&stripped).place(&shape)?;
    let mut operations = Vec::new();
    for (wanted, volume) in missing {
        let space = carve(&mut placement.resources, "disk", volume.size)?;
        let space: Vec<Resource> = space
            .into_iter()
            .map(|piece| operations::reserved(piece, role))
            .collect();
        let whole = whole(&space)?;
        let made = operations::volume(whole, &volume.id, &wanted.path);
        operations.push(operations::reserve(space));
        operations.push(operations::create(vec![made.clone()]));
        taken.push(mounted(made, wanted));
        if home.volumes.iter().all(|known| known.id != volume.id) {
            home.volumes.push(volume);
        }
    }
    placement.resources.extend(taken);
    placement.offer_ids = ids(offers);
    Some(Residence {
        home,
        operations,
        placement,
    })
}

/// What destroys the volumes of a home that these offers hold.
pub fn destruction(offers: &[&Offer], home: &Home) -> Vec<Operation> {
    let volumes = home.volumes.iter().filter_map(|known| offered(offers, &known.id));
    let operations = volumes.flat_map(|volume| {
        let mut space = volume.clone();
        space.disk = None;
        let is_ours = |resource: &Resource| resource.reservations.len() == 1;
        let unreserve = is_ours(&space).then(|| operations::unreserve(vec![space]));
        [Some(operations::destroy(vec![volume.clone()])), unreserve]
            .into_iter()
            .flatten()
    });
    operations.collect()
}

/// The offers of an agent, as an ACCEPT names them.
pub fn ids(offers: &[&Offer]) -> Vec<OfferId> {
    offers.iter().map(|offer| offer.id.clone()).collect()
}

/// The persistent volumes of a specification with their sizes in MiB.
fn persistent(spec: &ServiceSpec) -> impl Iterator<Item = (&VolumeSpec, f64)> {
    spec.volumes
        .iter()
        .filter_map(|volume| Some((volume, volume.persistent_mib()?)))
}

fn offered<'a>(offers: &[&'a Offer], id: &str) -> Option<&'a Resource> {
    let mut resources = offers.iter().flat_map(|offer| &offer.resources);
    resources.find(|resource| operations::volume_id(resource) == Some(id))
}

/// The volume as the specification wants it to be seen.
fn mounted(mut volume: Resource, wanted: &VolumeSpec) -> Resource {
    if let Some(mount) = volume.disk.as_mut().and_then(|disk| disk.volume.as_mut()) {
        mount.container_path.clone_from(&wanted.path);
    }
    match wanted.mode {
        Mode::Ro => operations::read_only(volume),
        Mode::Rw => volume,
    }
}

/// Takes so much of a resource out of some resources, in pieces as they are.
pub fn carve(resources: &mut Vec<Resource>, name: &str, amount: f64) -> Option<Vec<Resource>> {
    let thousandths = |amount: f64| (amount * 1_000.0).round() as u64;
    let mut wanted = thousandths(amount);
    let mut pieces = Vec::new();
    for resource in resources.iter_mut().filter(|resource| resource.name == name) {
        let Some(scalar) = resource.scalar.as_mut() else {
            continue;
        };
        let part = thousandths(scalar.value).min(wanted);
        if part == 0 {
            continue;
        }
        wanted -= part;
        scalar.value = (thousandths(scalar.value) - part) as f64 / 1_000.0;
        let mut piece = resource.clone();
        piece.scalar = Some(proffer_proto::v1::value::Scalar {
            value: part as f64 / 1_000.0,
        });
        pieces.push(piece);
    }
    resources.retain(|resource| resource.scalar.as_ref().is_none_or(|scalar| scalar.value > 0.0));
    (wanted == 0).then_some(pieces)
}

/// Pieces that are alike as one.
fn whole(pieces: &[Resource]) -> Option<Resource> {
    let mut whole = pieces.first()?.clone();
    let value = pieces
        .iter()
        .filter_map(|piece| Some(piece.scalar.as_ref()?.value))
        .sum();
    whole.scalar = Some(proffer_proto::v1::value::Scalar { value });
    Some(whole)
}
