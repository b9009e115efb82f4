//! The SDK against scripted masters and made-up offers; one binary, as linking takes longer than the tests.

mod calls;
mod driver;
mod executor;
mod group;
mod matcher;
mod operator;
mod state;
