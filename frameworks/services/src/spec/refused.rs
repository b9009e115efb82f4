//! What a specification may be expected to have and cannot have yet, by name.

use proffer_proto::Rejection;

use super::fields::Fields;

/// The fields that are known and not there yet, and what there is instead.
pub(super) const NOT_THERE_YET: &[(&str, &str)] = &[
    (
        "image",
        "`command` or `argv`, run on the agent's files with `artifacts`",
    ),
    ("sidecars", "a service of its own, with an `affinity` to this one"),
];

pub(super) fn check(fields: &Fields) -> Result<(), Rejection> {
    match NOT_THERE_YET.iter().find(|(name, _)| fields.has(name)) {
        Some((name, instead)) => Err(Rejection::new(*name, "is not there yet", *instead)),
        None => Ok(()),
    }
}
