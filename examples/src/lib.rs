//! Complete small programs: a web service, frameworks and an executor on the SDK.

pub mod load;
pub mod primes;
pub mod sleeper;
pub mod web;
