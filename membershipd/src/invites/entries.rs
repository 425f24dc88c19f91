//! Invites as entries of their bucket. No view holds them: they are read when somebody asks.

use super::Invites;
use crate::commands::keys::Address;
use unibus_core::domain::{InvalidValue, Invite, InviteId};
use unibus_store::{
    Entry, Keyed, Operation, Page, PageSize, Position, Prefix, Records, Revision, StoreError, get_json, update_json,
};

/// What the keys of invites begin with.
const INVITE: &str = "invite";

/// An invite that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub id: InviteId,
    /// The invite.
    pub invite: Invite,
    /// Its revision.
    pub revision: Revision,
}

/// Where an invite stands.
pub(super) fn address(id: &InviteId) -> Result<Address, StoreError> {
    Address::new(Records::Invites, &format!("{INVITE}.{id}"))
}

impl Invites {
    /// The invite of this name, as it was a moment ago.
    pub(super) async fn read(&self, id: InviteId) -> Result<Option<Kept>, StoreError> {
        let Address { bucket, key } = address(&id)?;
        let entry = get_json::<Invite>(&**self.commands.store(), bucket, &key).await?;
        Ok(entry.map(|Entry { value, revision }| Kept { id, invite: value, revision }))
    }

    /// Keeps `invite` in the place of `kept`, where that still is what is there.
    pub(super) async fn replace(&self, kept: &Kept, invite: Invite) -> Result<Kept, StoreError> {
        let Address { bucket, key } = address(&kept.id)?;
        let revision = update_json(&**self.commands.store(), bucket, &key, &invite, kept.revision).await?;
        Ok(Kept { id: kept.id, invite, revision })
    }

    /// Invites last changed after `after`, in the order of their changes.
    pub async fn page(&self, after: Position, size: PageSize) -> Result<Page<Kept>, StoreError> {
        let refused = |error| StoreError::Refused {
            operation: Operation::on("list", Records::Invites.bucket()),
            why: format!("{error}"),
        };
        let prefix: Prefix = INVITE.parse().map_err(|error: InvalidValue| refused(error))?;
        let page = self.commands.store().scan(Records::Invites, &prefix, after, size).await?;
        let kept = |Keyed { key, entry }: Keyed| {
            let operation = Operation::at("read", Records::Invites.bucket(), &key);
            let id = key.as_str().strip_prefix(INVITE).and_then(|rest| rest.strip_prefix('.')?.parse().ok());
            let Some(id) = id else {
                return Err(StoreError::Unreadable { operation, why: "its key names no invite".to_owned() });
            };
            let Entry { value, revision } = entry.json::<Invite>(&operation)?;
            Ok(Kept { id, invite: value, revision })
        };
        Ok(Page { items: page.items.into_iter().map(kept).collect::<Result<_, _>>()?, next: page.next })
    }
}
