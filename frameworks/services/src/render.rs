//! Files that follow the directory: the configuration of a proxy, or whatever else a template makes.
//!
//! [`Template`] makes a text of what `GET /v1/discovery` says; [`Output`] puts it in its place, checks it before it
//! counts, and tells who reads it. A text that is the same changes nothing and runs nothing.

mod output;
mod template;

pub use output::{Installed, Output, OutputError};
pub use template::{BUILT_IN, Template, TemplateError};
