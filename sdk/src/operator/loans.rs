//! What is lent as revocable.

use proffer_proto::v1::master;

use super::{OperatorClient, missing};
use crate::calls::CallError;

impl OperatorClient {
    /// What is lent as revocable, on which agents and to whom, and what of it is being taken back for whom.
    pub async fn get_loans(&mut self) -> Result<master::response::GetLoans, CallError> {
        let response = self.get(master::call::Type::GetLoans).await?;
        response.get_loans.ok_or_else(|| missing("get_loans"))
    }
}
