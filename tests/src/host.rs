//! What this host can do, so that tests say why they are skipped.

/// True where containers can be isolated; prints `skipped: <reason>` where not.
pub fn can_isolate() -> bool {
    let missing = proffer::preflight::check();
    if missing.is_empty() {
        return true;
    }
    println!("skipped: {}", proffer::preflight::describe(&missing));
    false
}

/// Prints a reason and skips the rest of the test where containers cannot be isolated.
#[macro_export]
macro_rules! require_isolation {
    () => {
        if !$crate::host::can_isolate() {
            return Ok(());
        }
    };
}
