//! The container of an application, as far as it needs no image.

use proffer_proto::Rejection;

use super::super::ServiceSpec;
use super::super::volumes::{Mode, VolumeSource, VolumeSpec};
use super::{Fields, LeftOut};

pub(super) fn convert(fields: &mut Fields, spec: &mut ServiceSpec, left: &mut LeftOut) -> Result<(), Rejection> {
    let Some(value) = fields.nullable("container", "a map")? else {
        return Ok(());
    };
    let within = |rejection: Rejection| rejection.within("container");
    let mut container = Fields::of(value).map_err(within)?;
    let kind: Option<String> = container.nullable("type", "MESOS").map_err(within)?;
    if kind.is_some_and(|kind| kind != "MESOS") {
        left.out("container.type", "is not there yet", "MESOS without an image");
    }
    for (index, value) in container.values("volumes").map_err(within)?.into_iter().enumerate() {
        let at = |rejection: Rejection| rejection.at(index).within("container.volumes");
        let mut volume = Fields::of(value).map_err(at)?;
        let host: Option<String> = volume.nullable("hostPath", "a path on the host").map_err(at)?;
        let path: Option<String> = volume.nullable("containerPath", "a path").map_err(at)?;
        let mode: Option<String> = volume.nullable("mode", "RO or RW").map_err(at)?;
        let (Some(host), Some(path)) = (host, path) else {
            let field = format!("container.volumes[{index}]");
            left.out(field, "is no path of the host", "`hostPath` and `containerPath`");
            continue;
        };
        let mode = match mode.as_deref() {
            Some("RO") => Mode::Ro,
            Some("RW") | None => Mode::Rw,
            Some(other) => return Err(at(Rejection::new("mode", format!("is {other:?}"), "RO or RW"))),
        };
        spec.volumes.push(VolumeSpec {
            source: VolumeSource::Host(host),
            path,
            mode,
        });
        left.rest(&format!("container.volumes[{index}]"), volume);
    }
    for (name, value) in container.rest() {
        let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        if !empty {
            left.out(
                format!("container.{name}"),
                "is not there yet",
                "`cmd` or `args`, run on the agent's files",
            );
        }
    }
    Ok(())
}
