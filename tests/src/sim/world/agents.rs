//! What happens between the world and its model agents.

use proffer_master_core::{ConnectionId, Input};
use proffer_proto::link::{AgentMessage, MasterMessage, master_message};
use proffer_proto::v1::TaskInfo;
use proffer_proto::v1::TaskState;

use super::links::LinkEnd;
use super::*;
use crate::sim::agent::AgentAction;
use crate::sim::brief::brief;
use crate::sim::wire::TaskKey;

impl World {
    pub(super) fn agent_connect(&mut self, agent: usize) {
        let model = &self.agents[agent];
        if !model.up || model.connection.is_some() {
            return;
        }
        let target = model.target;
        if let Some((next, delay)) = self.look_on(target) {
            self.agents[agent].target = next;
            self.after(delay, Event::AgentConnect { agent });
            return;
        }
        let connection = ConnectionId(self.open_link(LinkEnd::Agent(agent), target));
        let model = &mut self.agents[agent];
        model.connection = Some(connection);
        model.registered = false;
        let register = Box::new(model.register());
        let address = format!("10.0.0.{agent}:5051");
        self.send_to_master(
            connection.0,
            Input::AgentRegister {
                connection,
                register,
                address,
            },
        );
    }

    pub(super) fn agent_notices(&mut self, agent: usize, connection: ConnectionId) {
        if self.agents[agent].connection == Some(connection) {
            self.note(format_args!("agent {agent} lost {connection}"));
            self.agents[agent].connection = None;
            self.agents[agent].registered = false;
            let delay = self.rng.range(10, 500);
            self.after(delay, Event::AgentConnect { agent });
        }
    }

    pub(super) fn agent_retry(&mut self, agent: usize) -> Step {
        self.after(1_000, Event::AgentRetry { agent });
        let mut actions = Vec::new();
        if self.agents[agent].up {
            self.agents[agent].resend(&mut actions);
        }
        self.agent_actions(agent, actions)
    }

    pub(super) fn agent_start(&mut self, agent: usize) {
        self.note(format_args!("agent {agent} starts again"));
        self.agents[agent].up = true;
        self.agent_connect(agent);
    }

    pub(super) fn task_ends(&mut self, agent: usize, key: &TaskKey) -> Step {
        let state = if self.rng.one_in(8) {
            TaskState::TaskFailed
        } else {
            TaskState::TaskFinished
        };
        let mut actions = Vec::new();
        self.agents[agent].end(self.now, key, state, &mut actions);
        self.agent_actions(agent, actions)
    }

    pub(super) fn deliver_to_agent(&mut self, agent: usize, connection: ConnectionId, message: MasterMessage) -> Step {
        if !self.agents[agent].up || self.agents[agent].connection != Some(connection) {
            return Ok(());
        }
        if self
            .links
            .get(&connection.0)
            .is_none_or(|link| link.phase == links::Phase::Broken)
        {
            return Ok(());
        }
        let Some(body) = message.body else { return Ok(()) };
        self.note(format_args!("agent {agent} <- {}", brief(&body)));
        if let master_message::Body::Launch(launch) = &body {
            let lent = |info: &&TaskInfo| info.resources.iter().any(|resource| resource.revocable.is_some());
            for info in launch.tasks.iter().filter(lent) {
                let framework = launch.framework.id.clone().unwrap_or_default();
                self.no_task_lost.lent((framework, info.task_id.clone()));
            }
        }
        if let master_message::Body::Kill(kill) = &body {
            let key = (kill.framework_id.clone(), kill.task_id.clone());
            match kill.drain.is_some() {
                true => self.no_task_lost.drain_told(self.agents[agent].id.as_ref(), &key)?,
                false => self.no_task_lost.kill_told(&key)?,
            }
        }
        let mut actions = Vec::new();
        self.agents[agent].handle(self.now, body, &mut self.rng, &mut actions);
        self.agent_actions(agent, actions)
    }

    fn agent_actions(&mut self, agent: usize, actions: Vec<AgentAction>) -> Step {
        for action in actions {
            match action {
                AgentAction::Send(message) => self.agent_sends(agent, message),
                AgentAction::Started(key) => {
                    self.no_task_twice.started(&key)?;
                    self.no_task_lost.started(&key)?;
                }
                AgentAction::Generated(key, status) => self.updates.generated(&key, &status),
                AgentAction::Forgot(key) => self.updates.forgot(&key),
                AgentAction::Removed(volume) => self.volumes.removed(&volume)?,
                AgentAction::EndsAt(key, at) => self.at(at, Event::TaskEnds { agent, key }),
            }
        }
        Ok(())
    }

    fn agent_sends(&mut self, agent: usize, message: AgentMessage) {
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
