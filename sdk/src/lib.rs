//! Writes frameworks for Proffer.
//!
//! A framework's scheduler is offered the free resources of agents, and decides what to run on them. There are two levels:
//!
//! * [`connect`] gives the event stream of one subscription, [`Events`], and typed calls, [`Calls`].
//! * [`run`] runs a [`Scheduler`]. It finds the leading master among the configured [`Masters`], subscribes again with the
//!   same id after a break, acknowledges updates once the scheduler has handled them, tells none twice, asks for the state
//!   of every known task after each subscription until it is answered, repeats kills until they are done, and declines
//!   the offers that the scheduler does not use.
//!
//! [`offers::Matcher`] places [`Task`]s on offers; [`State`] keeps a framework's facts at the masters; [`operator`] has the clients
//! of the operator APIs; a framework is tested without a cluster by [`testing::FakeMaster`]. A framework whose tasks are not just
//! commands brings an [`executor`] along.
//!
//! # A complete framework
//!
//! It keeps three web servers running, on three different agents and on whatever ports these have free. Killing it and
//! starting it again with the id that it logged changes nothing for the tasks.
//!
//! ```no_run
//! use std::collections::HashMap;
//! use std::time::Duration;
//!
//! use proffer_sdk::offers::{Matcher, Strategy};
//! use proffer_sdk::proto::v1::{AgentId, FrameworkId, TaskId, TaskStatus};
//! use proffer_sdk::{Context, Framework, Offers, Options, Scheduler, Task, is_terminal, run};
//!
//! const INSTANCES: usize = 3;
//!
//! #[derive(Default)]
//! struct Web {
//!     running: HashMap<TaskId, AgentId>,
//! }
//!
//! impl Scheduler for Web {
//!     type Message = ();
//!
//!     async fn registered(&mut self, _: &mut Context<()>, framework_id: &FrameworkId) {
//!         tracing::info!(framework_id = framework_id.value, "registered");
//!     }
//!
//!     async fn offers(&mut self, context: &mut Context<()>, offers: Offers) {
//!         let mut matcher = Matcher::new(&offers);
//!         for agent_id in self.running.values() {
//!             matcher.running("web", agent_id);
//!         }
//!         while self.running.len() < INSTANCES {
//!             let task = Task::command("web", "exec python3 -m http.server $PORT_HTTP")
//!                 .cpus(0.5)
//!                 .mem(64.0)
//!                 .port("http")
//!                 .strategy("web", Strategy::Unique)
//!                 .kill_grace(Duration::from_secs(3));
//!             let Some(place) = matcher.place(task.shape()) else { return };
//!             let agent_id = place.agent_id.clone();
//!             self.running.insert(context.launch(place, task), agent_id);
//!         }
//!         context.suppress();
//!     }
//!
//!     async fn update(&mut self, context: &mut Context<()>, status: TaskStatus) {
//!         if is_terminal(status.state()) {
//!             self.running.remove(&status.task_id);
//!             context.revive();
//!         } else if let Some(agent_id) = status.agent_id {
//!             // Perhaps a task of an earlier process.
//!             self.running.insert(status.task_id, agent_id);
//!         }
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> anyhow::Result<()> {
//!     let earlier = std::env::args().nth(1).map(|value| FrameworkId { value });
//!     let framework = Framework::new("web").failover_timeout(Duration::from_secs(3600));
//!     let masters = "10.0.0.1:5050,10.0.0.2:5050,10.0.0.3:5050".parse()?;
//!     run(Web::default(), Options::new(masters, framework).framework_id(earlier)).await?;
//!     Ok(())
//! }
//! ```

mod backoff;
mod calls;
mod connection;
mod driver;
pub mod executor;
mod finder;
mod framework;
pub mod gang;
mod group;
mod lanes;
mod leader;
mod line;
mod many;
mod masters;
pub mod offers;
pub mod operations;
pub mod operator;
mod reconcile;
mod scheduler;
pub mod state;
pub mod task;
mod tasks;
pub mod testing;
pub mod wishes;

pub use calls::{CallError, Calls, STREAM_ID_METADATA};
pub use connection::{Disconnected, Events, SubscribeRejected, connect, connect_with};
pub use driver::{Driver, RunError, run};
pub use framework::Framework;
pub use gang::Gang;
pub use masters::{DEFAULT_PORT, InvalidMasters, LEADER_METADATA, Masters};
pub use proffer_proto as proto;
pub use scheduler::{Context, Offers, Options, Scheduler, Sender};
pub use state::State;
pub use task::Task;
pub use tasks::{KnownTask, TaskTable, is_terminal};
