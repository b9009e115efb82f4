//! Why frameworks and roles are not offered more.

use proffer_proto::v1::{FrameworkId, master};

use super::{OperatorClient, missing};
use crate::calls::CallError;

impl OperatorClient {
    /// Why a framework, a role, or a role of a framework is not offered more: for each of its claims the reasons, with how many agents each
    /// is about. One of the two has to be named.
    pub async fn explain(
        &mut self,
        framework_id: Option<FrameworkId>,
        role: Option<String>,
    ) -> Result<master::response::Explain, CallError> {
        let call = master::Call {
            r#type: Some(master::call::Type::Explain.into()),
            explain: Some(master::call::Explain { framework_id, role }),
            ..Default::default()
        };
        self.submit(call).await?.explain.ok_or_else(|| missing("explain"))
    }
}
