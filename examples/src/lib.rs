//! Complete small programs: a web service and frameworks on the SDK.

pub mod load;
pub mod sleeper;
pub mod web;
