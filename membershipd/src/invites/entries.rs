//! Invites as entries of their bucket. No view holds them: they are read when somebody asks.

use super::Invites;
use crate::domain::{Invite, InviteId};
use crate::store::{
    Entry, Key, Keyed, Operation, Page, PageSize, Position, Prefix, Records, Revision, StoreError, create_json,
    get_json, update_json,
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

fn key(id: &InviteId) -> Result<Key, StoreError> {
    parsed(&format!("{INVITE}.{id}"))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str) -> Result<T, StoreError> {
    let operation = || Operation::on("name an entry of", Records::Invites.bucket());
    name.parse().map_err(|error| StoreError::Refused { operation: operation(), why: format!("{error}") })
}

impl Invites {
    /// The invite of this name, as it was a moment ago.
    pub(super) async fn read(&self, id: InviteId) -> Result<Option<Kept>, StoreError> {
        let entry = get_json::<Invite>(&*self.store, Records::Invites, &key(&id)?).await?;
        Ok(entry.map(|Entry { value, revision }| Kept { id, invite: value, revision }))
    }

    /// Keeps one that never was.
    pub(super) async fn create(&self, id: InviteId, invite: Invite) -> Result<Kept, StoreError> {
        let revision = create_json(&*self.store, Records::Invites, &key(&id)?, &invite).await?;
        Ok(Kept { id, invite, revision })
    }

    /// Keeps `invite` in the place of `kept`, where that still is what is there.
    pub(super) async fn replace(&self, kept: &Kept, invite: Invite) -> Result<Kept, StoreError> {
        let revision = update_json(&*self.store, Records::Invites, &key(&kept.id)?, &invite, kept.revision).await?;
        Ok(Kept { id: kept.id, invite, revision })
    }

    /// Invites last changed after `after`, in the order of their changes.
    pub async fn page(&self, after: Position, size: PageSize) -> Result<Page<Kept>, StoreError> {
        let page = self.store.scan(Records::Invites, &parsed::<Prefix>(INVITE)?, after, size).await?;
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
