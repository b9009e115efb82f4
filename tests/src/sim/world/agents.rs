//! What happens between the world and its model agents.

use proffer_master_core::{ConnectionId, Input};
use proffer_proto::link::{AgentMessage, MasterMessage, Register};

use super::brief::brief;
use super::{Event, LinkEnd, Step, World};
use crate::sim::agent::AgentAction;

impl World {
    pub(super) fn agent_connect(&mut self, agent: usize) -> Step {
        let model = &self.agents[agent];
        if !model.up || model.connection.is_some() {
            return Ok(());
        }
        if self.master.core.is_none() {
            let delay = self.rng.range(50, 500);
            self.after(delay, Event::AgentConnect { agent });
            return Ok(());
        }
        let register: Register = model.register();
        let connection = ConnectionId(self.open_link(LinkEnd::Agent(agent)));
        self.agents[agent].connection = Some(connection);
        self.agents[agent].registered = false;
        let address = format!("10.0.0.{agent}:5051");
        self.send_to_master(
            connection.0,
            Input::AgentRegister {
                connection,
                register: Box::new(register),
                address,
            },
        );
        Ok(())
    }

    pub(super) fn agent_notices(&mut self, agent: usize, connection: ConnectionId) {
        if self.agents[agent].connection == Some(connection) {
            self.note(format_args!("agent {agent} lost {connection}"));
            self.agents[agent].connection = None;
            self.agents[agent].registered = false;
            let delay = self.rng.range(10, 1_000);
            self.after(delay, Event::AgentConnect { agent });
        }
    }

    pub(super) fn deliver_to_agent(&mut self, agent: usize, connection: ConnectionId, message: MasterMessage) -> Step {
        if !self.agents[agent].up || self.agents[agent].connection != Some(connection) {
            return Ok(());
        }
        if self.links.get(&connection.0).is_some_and(|link| link.broken) {
            return Ok(());
        }
        let Some(body) = message.body else { return Ok(()) };
        self.note(format_args!("agent {agent} <- {}", brief(&body)));
        let mut actions = Vec::new();
        let now = self.now;
        self.agents[agent].handle(now, body, &mut self.rng, &mut actions);
        self.agent_actions(agent, actions)
    }

    pub(super) fn agent_actions(&mut self, agent: usize, actions: Vec<AgentAction>) -> Step {
        for action in actions {
            match action {
                AgentAction::Send(message) => self.agent_sends(agent, message),
                AgentAction::Started(key) => self.no_task_twice.started(&key)?,
                AgentAction::Generated(key, status) => self.updates.generated(&key, &status),
                AgentAction::Forgot(key) => self.updates.forgot(&key),
                AgentAction::EndsAt(key, at) => self.at(at, Event::TaskEnds { agent, key }),
            }
        }
        Ok(())
    }

    pub(super) fn agent_sends(&mut self, agent: usize, message: AgentMessage) {
        let Some(connection) = self.agents[agent].connection.filter(|_| self.agents[agent].up) else {
            return;
        };
        self.send_to_master(
            connection.0,
            Input::AgentMessage {
                connection,
                message: Box::new(message),
            },
        );
    }
}
