//! What operators do with agents and their machines: drain them, plan their maintenance, give them up.

use std::time::Duration;

use proffer_proto::v1::{AgentId, MachineId, maintenance, master};

use super::{OperatorClient, missing};
use crate::calls::CallError;

impl OperatorClient {
    /// Ends the tasks of an agent and offers nothing of it any more. It is answered when the order is kept; GET_AGENTS tells
    /// when nothing is left on the agent. Tasks get the shorter one of their own grace period and `grace`. With `mark_gone` the
    /// agent can never come back after that.
    pub async fn drain_agent(
        &mut self,
        agent_id: AgentId,
        grace: Option<Duration>,
        mark_gone: bool,
    ) -> Result<(), CallError> {
        let mut drain = master::call::DrainAgent {
            agent_id,
            max_grace_period: None,
            mark_gone: Some(mark_gone),
        };
        if let Some(grace) = grace {
            let max = drain.max_grace_period.get_or_insert_default();
            max.seconds = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
            max.nanos = grace.subsec_nanos().cast_signed();
        }
        let call = master::Call {
            r#type: Some(master::call::Type::DrainAgent.into()),
            drain_agent: Some(drain),
            ..Default::default()
        };
        self.submit(call).await.map(drop)
    }

    /// Offers nothing of an agent any more; its tasks run on.
    pub async fn deactivate_agent(&mut self, agent_id: AgentId) -> Result<(), CallError> {
        let call = master::Call {
            r#type: Some(master::call::Type::DeactivateAgent.into()),
            deactivate_agent: Some(master::call::DeactivateAgent { agent_id }),
            ..Default::default()
        };
        self.submit(call).await.map(drop)
    }

    /// Offers an agent again that was drained or deactivated, or is being drained.
    pub async fn reactivate_agent(&mut self, agent_id: AgentId) -> Result<(), CallError> {
        let call = master::Call {
            r#type: Some(master::call::Type::ReactivateAgent.into()),
            reactivate_agent: Some(master::call::ReactivateAgent { agent_id }),
            ..Default::default()
        };
        self.submit(call).await.map(drop)
    }

    /// Says that an agent never comes back: its tasks are gone, and its id is refused from then on.
    pub async fn mark_agent_gone(&mut self, agent_id: AgentId) -> Result<(), CallError> {
        let call = master::Call {
            r#type: Some(master::call::Type::MarkAgentGone.into()),
            mark_agent_gone: Some(master::call::MarkAgentGone { agent_id }),
            ..Default::default()
        };
        self.submit(call).await.map(drop)
    }

    /// When machines are planned to be away.
    pub async fn get_maintenance_schedule(&mut self) -> Result<maintenance::Schedule, CallError> {
        let response = self.get(master::call::Type::GetMaintenanceSchedule).await?;
        let schedule = response.get_maintenance_schedule;
        Ok(schedule.ok_or_else(|| missing("get_maintenance_schedule"))?.schedule)
    }

    /// Which machines are planned to be away or down, and what frameworks said to that.
    pub async fn get_maintenance_status(&mut self) -> Result<maintenance::ClusterStatus, CallError> {
        let response = self.get(master::call::Type::GetMaintenanceStatus).await?;
        let status = response.get_maintenance_status;
        Ok(status.ok_or_else(|| missing("get_maintenance_status"))?.status)
    }

    /// Replaces the whole schedule of maintenance.
    pub async fn update_maintenance_schedule(&mut self, schedule: maintenance::Schedule) -> Result<(), CallError> {
        let call = master::Call {
            r#type: Some(master::call::Type::UpdateMaintenanceSchedule.into()),
            update_maintenance_schedule: Some(master::call::UpdateMaintenanceSchedule { schedule }),
            ..Default::default()
        };
        self.submit(call).await.map(drop)
    }

    /// Takes machines of the schedule down: their agents are gone, and none may register from there.
    pub async fn start_maintenance(&mut self, machines: Vec<MachineId>) -> Result<(), CallError> {
        let call = master::Call {
            r#type: Some(master::call::Type::StartMaintenance.into()),
            start_maintenance: Some(master::call::StartMaintenance { machines }),
            ..Default::default()
        };
        self.submit(call).await.map(drop)
    }

    /// Ends the maintenance of machines that are down.
    pub async fn stop_maintenance(&mut self, machines: Vec<MachineId>) -> Result<(), CallError> {
        let call = master::Call {
            r#type: Some(master::call::Type::StopMaintenance.into()),
            stop_maintenance: Some(master::call::StopMaintenance { machines }),
            ..Default::default()
        };
        self.submit(call).await.map(drop)
    }
}
