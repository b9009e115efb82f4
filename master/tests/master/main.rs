//! Whole masters: in this process where their insides must be set, as programs where they must be killed.

mod agent_link;
mod common;
mod durability;
mod formation;
mod group;
mod pages;
mod program;
mod scheduler_api;
mod slow_reader;
mod state_calls;
