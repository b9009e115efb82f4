//! Turns the volumes of a task into what its container mounts. Pure: the operator's rules are an argument.

use std::path::{Component, Path, PathBuf};

use proffer_proto::secrets;
use proffer_proto::v1;
use proffer_proto::v1::volume::source::{Type, sandbox_path};

use crate::containerizer::{Policy, SecretBytes, Volume, VolumeSource};
use crate::core::{FailureKind, LaunchFailure};

/// The most volumes of a task.
const COUNT_MAX: usize = 32;
/// Where the container has files of its own that a volume must not cover.
const COVERED: [&str; 3] = ["/proc", "/sys", "/dev"];

/// What the container of a task, which may be one of a group, mounts.
///
/// # Errors
/// What makes no sense, cannot be had, or is not allowed by the operator.
pub(crate) fn of(task: &v1::TaskInfo, policy: &Policy, in_pod: bool) -> Result<Vec<Volume>, LaunchFailure> {
    let wanted = task.container.as_ref().map_or(&[][..], |container| &container.volumes);
    if wanted.len() > COUNT_MAX {
        return Err(invalid(format!(
            "container.volumes: there are {}; up to {COUNT_MAX} are accepted",
            wanted.len()
        )));
    }
    let mut volumes: Vec<Volume> = Vec::new();
    for (index, volume) in wanted.iter().enumerate() {
        let volume = one(volume, policy, in_pod).map_err(|mut failure| {
            failure.message = format!("container.volumes[{index}].{}", failure.message);
            failure
        })?;
        if volumes.iter().any(|other| other.target == volume.target) {
            return Err(invalid(format!(
                "container.volumes[{index}].container_path: another volume is mounted there"
            )));
        }
        volumes.push(volume);
    }
    Ok(volumes)
}

fn one(volume: &v1::Volume, policy: &Policy, in_pod: bool) -> Result<Volume, LaunchFailure> {
    if volume.image.is_some() {
        return Err(invalid("image: images are not supported yet; leave it unset".into()));
    }
    let source = source(volume, policy, in_pod)?;
    // Nobody else has the file.
    let read_only = volume.mode() == v1::volume::Mode::Ro || matches!(source, VolumeSource::Secret(_));
    Ok(Volume {
        source,
        target: target(&volume.container_path)?,
        read_only,
    })
}

/// Where in the container a volume goes.
pub(crate) fn target(path: &str) -> Result<PathBuf, LaunchFailure> {
    let refused = |problem: &str| Err(invalid(format!("container_path: `{}` {problem}", path.escape_debug())));
    let place = Path::new(path);
    if path.contains('\0') || !is_plain(place) {
        return refused("must be a path without `..`, relative to the sandbox or absolute");
    }
    let plain: PathBuf = place.components().filter(|part| *part != Component::CurDir).collect();
    if plain.file_name().is_none() {
        return refused("must name a file or directory");
    }
    if COVERED.iter().any(|covered| place.starts_with(covered)) {
        return refused("lies in /proc, /sys or /dev, which are the container's own");
    }
    Ok(plain)
}

fn source(volume: &v1::Volume, policy: &Policy, in_pod: bool) -> Result<VolumeSource, LaunchFailure> {
    let Some(source) = &volume.source else {
        let path = volume.host_path.as_deref();
        let path = path.ok_or_else(|| invalid("source: must be set, or `host_path`".into()))?;
        // As Mesos has it.
        return match path.starts_with('/') {
            true => host("host_path", path, policy),
            false => sandbox("host_path", path),
        };
    };
    if volume.host_path.is_some() {
        return Err(invalid("host_path: must be unset where `source` is set".into()));
    }
    let missing = |field: &str| invalid(format!("source.{field}: must be set"));
    match source.r#type() {
        Type::HostPath => {
            let own = source.host_path.as_ref().ok_or_else(|| missing("host_path"))?;
            let mode = own.mount_propagation.as_ref().map(|propagation| propagation.mode());
            if mode == Some(v1::mount_propagation::Mode::Bidirectional) {
                let text = "source.host_path.mount_propagation: what a task mounts stays in its container; HOST_TO_CONTAINER is accepted";
                return Err(invalid(text.into()));
            }
            host("source.host_path.path", &own.path, policy)
        }
        Type::SandboxPath => {
            let own = source.sandbox_path.as_ref().ok_or_else(|| missing("sandbox_path"))?;
            let inner = sandbox("source.sandbox_path.path", &own.path)?;
            match inner {
                VolumeSource::Sandbox { path } if own.r#type() == sandbox_path::Type::Parent && in_pod => {
                    Ok(VolumeSource::Pod { path })
                }
                _ if own.r#type() == sandbox_path::Type::Parent => {
                    let text = "source.sandbox_path.type: PARENT is for tasks of a group; SELF is accepted";
                    Err(invalid(text.into()))
                }
                inner => Ok(inner),
            }
        }
        Type::Secret => {
            let secret = source.secret.as_ref().ok_or_else(|| missing("secret"))?;
            let bytes = secrets::value(secret).map_err(|problem| invalid(format!("source.secret{problem}")))?;
            Ok(VolumeSource::Secret(SecretBytes::new(bytes.to_vec())))
        }
        Type::DockerVolume => Err(invalid(
            "source.type: DOCKER_VOLUME is not supported; HOST_PATH, SANDBOX_PATH and SECRET are".into(),
        )),
        Type::Unknown => Err(invalid("source.type: must be HOST_PATH, SANDBOX_PATH or SECRET".into())),
    }
}

fn sandbox(field: &str, path: &str) -> Result<VolumeSource, LaunchFailure> {
    let inner = Path::new(path);
    if path.is_empty() || path.contains('\0') || inner.is_absolute() || !is_plain(inner) {
        let problem = "must be a path in the sandbox, without `..`";
        return Err(invalid(format!("{field}: `{}` {problem}", path.escape_debug())));
    }
    let path = inner.components().filter(|part| *part != Component::CurDir).collect();
    Ok(VolumeSource::Sandbox { path })
}

fn host(field: &str, path: &str, policy: &Policy) -> Result<VolumeSource, LaunchFailure> {
    let place = Path::new(path);
    if path.contains('\0') || !place.is_absolute() || !is_plain(place) {
        let problem = "must be an absolute path without `..`";
        return Err(invalid(format!("{field}: `{}` {problem}", path.escape_debug())));
    }
    let allowed = policy.host_volumes.iter().filter(|allowed| place.starts_with(allowed));
    let allowed = allowed.max_by_key(|allowed| allowed.components().count());
    let Some(allowed) = allowed else {
        let shown: Vec<_> = policy
            .host_volumes
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let shown = if shown.is_empty() {
            "none".into()
        } else {
            shown.join(", ")
        };
        return Err(LaunchFailure {
            kind: FailureKind::Unauthorized,
            message: format!(
                "{field}: tasks of this agent may not have `{}`, but what lies below: {shown} (--host-volumes)",
                path.escape_debug()
            ),
        });
    };
    let inner = place.strip_prefix(allowed).unwrap_or(place);
    Ok(VolumeSource::Host {
        allowed: allowed.clone(),
        path: inner.to_owned(),
    })
}

/// Without `..`.
fn is_plain(path: &Path) -> bool {
    !path.components().any(|part| part == Component::ParentDir)
}

fn invalid(message: String) -> LaunchFailure {
    LaunchFailure {
        kind: FailureKind::Invalid,
        message,
    }
}

#[cfg(test)]
mod tests {
    use proffer_proto::v1::volume::{Mode, Source};

    use super::*;

    fn check(volume: v1::Volume) -> Result<Volume, String> {
        let policy = Policy {
            host_volumes: vec!["/srv/data".into(), "/srv/data/deep".into()],
            ..Policy::default()
        };
        let task = v1::TaskInfo {
            container: Some(Box::new(v1::ContainerInfo {
                volumes: vec![volume],
                ..Default::default()
            })),
            ..Default::default()
        };
        let volumes = of(&task, &policy, false).map_err(|failure| format!("{:?} {}", failure.kind, failure.message))?;
        Ok(volumes.into_iter().next().unwrap())
    }

    fn volume(container_path: &str, host_path: &str) -> v1::Volume {
        v1::Volume {
            container_path: container_path.into(),
            mode: Mode::Rw.into(),
            host_path: Some(host_path.into()),
            ..Default::default()
        }
    }

    fn sourced(source: Source) -> v1::Volume {
        v1::Volume {
            host_path: None,
            source: Some(source),
            ..volume("a", "")
        }
    }

    #[test]
    fn paths_are_those_that_the_operator_allows() {
        let host = check(volume("./in/./side", "/srv/data/deep/x")).unwrap();
        assert_eq!(host.target, Path::new("in/side"));
        let source = VolumeSource::Host {
            allowed: "/srv/data/deep".into(),
            path: "x".into(),
        };
        assert_eq!(host.source, source);
        assert!(!host.read_only);
        let own = check(volume("/opt/x", "cache")).unwrap();
        assert_eq!(own.source, VolumeSource::Sandbox { path: "cache".into() });
        for (container_path, host_path, problem) in [
            (
                "a",
                "/srv/database",
                "Unauthorized container.volumes[0].host_path: tasks of this agent may not",
            ),
            ("a", "/", "Unauthorized"),
            ("a", "/srv/data/../../etc", "Invalid container.volumes[0].host_path"),
            ("a", "../other", "Invalid container.volumes[0].host_path"),
            ("a", "", "Invalid container.volumes[0].host_path"),
            ("a", "x\0y", "Invalid container.volumes[0].host_path"),
            ("", "x", "Invalid container.volumes[0].container_path"),
            ("/", "x", "Invalid container.volumes[0].container_path"),
            (".", "x", "Invalid container.volumes[0].container_path"),
            ("../a", "x", "Invalid container.volumes[0].container_path"),
            ("/opt/../etc", "x", "Invalid container.volumes[0].container_path"),
            ("/proc/self", "x", "Invalid container.volumes[0].container_path"),
        ] {
            let error = check(volume(container_path, host_path)).unwrap_err();
            assert!(error.starts_with(problem), "{container_path:?} {host_path:?}: {error}");
        }
    }

    #[test]
    fn tasks_of_a_group_share_what_is_their_pod_s() {
        let shared = sourced(Source {
            r#type: Some(Type::SandboxPath.into()),
            sandbox_path: Some(v1::volume::source::SandboxPath {
                r#type: Some(sandbox_path::Type::Parent.into()),
                path: "shared".into(),
            }),
            ..Default::default()
        });
        let task = v1::TaskInfo {
            container: Some(Box::new(v1::ContainerInfo {
                volumes: vec![shared],
                ..Default::default()
            })),
            ..Default::default()
        };
        let volumes = of(&task, &Policy::default(), true).unwrap();
        assert_eq!(volumes[0].source, VolumeSource::Pod { path: "shared".into() });
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        let secret = |secret: v1::Secret| {
            sourced(Source {
                r#type: Some(Type::Secret.into()),
                secret: Some(secret),
                ..Default::default()
            })
        };
        let value = check(secret(secrets::of(b"s3cret"))).unwrap();
        assert!(value.read_only, "though it asks for more");
        assert!(!format!("{value:?}").contains("s3cret"));
        let reference = v1::Secret {
            r#type: Some(v1::secret::Type::Reference.into()),
            reference: Some(v1::secret::Reference {
                name: "vault".into(),
                key: None,
            }),
            value: None,
        };
        for (volume, problem) in [
            (secret(reference), "source.secret.type: REFERENCE"),
            (secret(v1::Secret::default()), "source.secret.type"),
            (sourced(Source::default()), "source.type"),
            (
                sourced(Source {
                    r#type: Some(Type::DockerVolume.into()),
                    ..Default::default()
                }),
                "source.type: DOCKER_VOLUME",
            ),
            (
                sourced(Source {
                    r#type: Some(Type::SandboxPath.into()),
                    sandbox_path: Some(v1::volume::source::SandboxPath {
                        r#type: Some(sandbox_path::Type::Parent.into()),
                        path: "x".into(),
                    }),
                    ..Default::default()
                }),
                "source.sandbox_path.type",
            ),
        ] {
            let error = check(volume).unwrap_err();
            assert!(
                error.starts_with(&format!("Invalid container.volumes[0].{problem}")),
                "{error}"
            );
        }
    }
}
