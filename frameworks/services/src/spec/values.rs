//! Checks that values of many fields share.

use proffer_proto::Rejection;

/// The longest id of a service or name of a port: that of a DNS label.
const LABEL_BYTES_MAX: usize = 63;

const LABEL_ACCEPTED: &str = "1 to 63 of a-z, 0-9 and -, neither beginning nor ending with -";

/// The longest text of a command, an argument or a variable.
pub(super) const TEXT_BYTES_MAX: usize = 128 * 1024;

/// Checks an id of a service or a name of a port.
pub(crate) fn label(field: &str, label: &str) -> Result<(), Rejection> {
    let characters = label
        .bytes()
        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    let ends = label.starts_with('-') || label.ends_with('-');
    if label.is_empty() || label.len() > LABEL_BYTES_MAX || !characters || ends {
        return Err(Rejection::new(field, format!("is {label:?}"), LABEL_ACCEPTED));
    }
    Ok(())
}

/// Checks the length of a text.
pub(super) fn text(field: &str, text: &str, bytes_min: usize, bytes_max: usize) -> Result<(), Rejection> {
    if text.contains('\0') {
        return Err(Rejection::new(field, "contains a zero byte", "text without zero bytes"));
    }
    if text.len() < bytes_min || text.len() > bytes_max {
        let problem = format!("has {} bytes", text.len());
        return Err(Rejection::new(
            field,
            problem,
            format!("{bytes_min} to {bytes_max} bytes"),
        ));
    }
    Ok(())
}

/// Checks a number.
pub(super) fn within(field: &str, value: f64, min: f64, max: f64) -> Result<(), Rejection> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Rejection::new(field, format!("is {value}"), format!("{min} to {max}")))
}

/// Checks the length of a list.
pub(super) fn at_most(field: &str, len: usize, max: usize) -> Result<(), Rejection> {
    if len <= max {
        return Ok(());
    }
    Err(Rejection::new(
        field,
        format!("has {len} elements"),
        format!("up to {max}"),
    ))
}

/// Checks a path within the sandbox.
pub(super) fn sandbox_path(field: &str, path: &str) -> Result<(), Rejection> {
    text(field, path, 1, 4096)?;
    let inside = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if inside {
        return Ok(());
    }
    let accepted = "a path below the sandbox such as `conf/app.conf`, without `.`, `..` and empty parts";
    Err(Rejection::new(field, format!("is {path:?}"), accepted))
}
