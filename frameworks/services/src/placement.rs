//! Which agent an instance goes to: constraints, spread and affinity, without any input or output.
//!
//! A [`Machine`] is what rules see of an agent. A [`Chooser`] holds the rules of one service and what lies where; it
//! names the best agent for one instance after the other. A [`Round`] joins this with what is offered: it decides for
//! all that is missing at once.

mod chooser;
mod field;
mod machine;
pub mod residence;
mod round;
mod wishes;

pub use chooser::Chooser;
pub use machine::Machine;
pub use round::{Decision, Round};
pub use wishes::{constraints, demand};

#[cfg(test)]
mod tests;
