//! What operators set of roles: quota and weights.

use proffer_proto::v1::master::response::update_quota::Violation;
use proffer_proto::v1::quota::{QuotaConfig, QuotaStatus};
use proffer_proto::v1::{Role, WeightInfo, master};

use super::{OperatorClient, missing};
use crate::calls::CallError;

impl OperatorClient {
    /// The roles that frameworks have or operators set something of.
    pub async fn get_roles(&mut self) -> Result<Vec<Role>, CallError> {
        let response = self.get(master::call::Type::GetRoles).await?;
        Ok(response.get_roles.ok_or_else(|| missing("get_roles"))?.roles)
    }

    /// The quota of every role that has one, and what it uses of it.
    pub async fn get_quota(&mut self) -> Result<QuotaStatus, CallError> {
        let response = self.get(master::call::Type::GetQuota).await?;
        Ok(response.get_quota.ok_or_else(|| missing("get_quota"))?.status)
    }

    /// Replaces the quotas of these roles, all of them or none; one with neither guarantees nor limits is none. With `force` guarantees
    /// may be more than the cluster has, and limits less than what is in use.
    pub async fn update_quota(&mut self, quota_configs: Vec<QuotaConfig>, force: bool) -> Result<(), CallError> {
        let update = master::call::UpdateQuota {
            force: Some(force),
            quota_configs,
            dry_run: None,
        };
        self.submit(update_quota(update)).await.map(drop)
    }

    /// What [`update_quota`](Self::update_quota) would violate; nothing is changed.
    pub async fn check_quota(&mut self, quota_configs: Vec<QuotaConfig>) -> Result<Vec<Violation>, CallError> {
        let update = master::call::UpdateQuota {
            force: None,
            quota_configs,
            dry_run: Some(true),
        };
        let response = self.submit(update_quota(update)).await?;
        Ok(response.update_quota.ok_or_else(|| missing("update_quota"))?.violations)
    }

    /// The weights that operators gave; other roles have 1.
    pub async fn get_weights(&mut self) -> Result<Vec<WeightInfo>, CallError> {
        let response = self.get(master::call::Type::GetWeights).await?;
        Ok(response.get_weights.ok_or_else(|| missing("get_weights"))?.weight_infos)
    }

    /// Gives roles weights, all of them or none: a role with weight 2 gets twice the share of one with weight 1.
    pub async fn update_weights(&mut self, weight_infos: Vec<WeightInfo>) -> Result<(), CallError> {
        let call = master::Call {
            r#type: Some(master::call::Type::UpdateWeights.into()),
            update_weights: Some(master::call::UpdateWeights { weight_infos }),
            ..Default::default()
        };
        self.submit(call).await.map(drop)
    }
}

fn update_quota(update: master::call::UpdateQuota) -> master::Call {
    master::Call {
        r#type: Some(master::call::Type::UpdateQuota.into()),
        update_quota: Some(update),
        ..Default::default()
    }
}
