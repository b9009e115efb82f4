//! An error and what lies behind it, on one line.

use std::error::Error;

/// The error's text, and after it the text of each cause.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
