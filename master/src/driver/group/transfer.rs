//! Another master leads.

use proffer_proto::masters::TransferLeadership;

use super::change::{Begun, votes};
use super::{Goal, TRANSFER_MAX};
use crate::driver::{Driver, MastersError};

impl Driver {
    pub(super) fn transfer_goal(&mut self, transfer: &TransferLeadership) -> Result<Begun, MastersError> {
        let to = transfer
            .to
            .as_deref()
            .map(|name| self.resolve(name, votes))
            .transpose()?;
        if to == Some(self.me.member) {
            return Err(MastersError::Refused("this master leads already".to_owned()));
        }
        if to.is_some_and(|id| !self.member.status().voters.contains(&id)) {
            return Err(MastersError::Refused("only a master that votes can lead".to_owned()));
        }
        if !self.member.transfer_leadership(to) {
            return Err(MastersError::Refused(
                "there is no other master that has the whole log and could lead".to_owned(),
            ));
        }
        Ok((Box::new(|reply| Goal::Transfer { reply }), TRANSFER_MAX))
    }
}
