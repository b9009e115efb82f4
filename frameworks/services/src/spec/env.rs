//! The environment of an instance.

use std::collections::BTreeMap;

use proffer_proto::Rejection;

use super::values::{TEXT_BYTES_MAX, text};

pub(super) fn validate(env: &BTreeMap<String, String>) -> Result<(), Rejection> {
    for (name, value) in env {
        let field = format!("env.{name}");
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Rejection::new(
                field,
                "has no valid name",
                "a name without = and zero bytes",
            ));
        }
        if is_reserved(name) {
            let accepted =
                "a name other than SERVICE, INSTANCE, INSTANCE_INDEX, HOST, PORT, PORTS, PORT0... and PORT_...";
            return Err(Rejection::new(field, "is set by Proffer", accepted));
        }
        text(&field, value, 0, TEXT_BYTES_MAX)?;
    }
    Ok(())
}

/// Whether an instance's environment has this from Proffer.
pub(super) fn is_reserved(name: &str) -> bool {
    let port = name.strip_prefix("PORT").unwrap_or("other");
    let numbered = port.bytes().all(|byte| byte.is_ascii_digit());
    matches!(name, "SERVICE" | "INSTANCE" | "INSTANCE_INDEX" | "HOST" | "PORTS") || numbered || port.starts_with('_')
}
