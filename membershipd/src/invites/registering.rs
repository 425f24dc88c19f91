//! What somebody does with an invite who is nobody yet: he makes himself a user, with the token and a key of his own.

use std::time::Duration;

use super::entries::Kept;
use super::error::InviteError;
use super::{CONTENTION, Invites};
use crate::commands::Principal;
use crate::commands::keys::Address;
use crate::users::{Outcome, UserChange, UserError};
use unibus_core::domain::{Author, InviteState, Role, SignPub, State, Token, Unusable, User};
use unibus_core::view::{Versioned, View, user_key};
use unibus_store::{Records, StoreError};

/// Time for our view to show a user that another node has made.
const CATCH_UP: Duration = Duration::from_secs(2);

/// An invite that its holder can use, as it was a moment ago.
#[derive(Debug)]
pub struct Offer {
    kept: Kept,
    key: SignPub,
}

impl Invites {
    /// Finds what `token` offers the owner of `key` at `now_unix` (seconds since 1970). Only reads, by the hash of the token:
    /// it takes as long for one that is nearly right as for any other.
    pub async fn look(&self, token: &Token, key: SignPub, now_unix: i64) -> Result<Offer, InviteError> {
        self.commands.state().read(|_| ())?;
        let kept = self.read(token.id()).await?.ok_or(InviteError::Unusable(Unusable::Unknown))?;
        let offer = Offer { kept, key };
        self.check(&offer, now_unix)?;
        Ok(offer)
    }

    /// Makes the user that was offered. May be repeated by the same key until it is done, and after that changes nothing; no
    /// other key can complete it.
    pub async fn register(&self, offer: Offer, now_unix: i64) -> Result<Outcome, InviteError> {
        let mut offer = offer;
        for _ in 0..CONTENTION {
            self.commands.state().read(|_| ())?;
            self.check(&offer, now_unix)?;
            if let Some(outcome) = self.made(&offer)? {
                self.spend(&offer).await;
                return Ok(outcome);
            }
            if let InviteState::Spent { .. } = offer.kept.invite.state {
                // Whoever has it and is not admitted any more was disabled or removed.
                self.is_free(&offer)?;
                return self.await_made(&offer).await;
            }
            let Offer { kept, key } = &offer;
            let claimed = kept.invite.claimed(*key);
            if claimed != kept.invite {
                self.is_free(&offer)?;
                match self.replace(kept, claimed).await {
                    Ok(kept) => offer.kept = kept,
                    Err(StoreError::Conflict { .. }) => {
                        let kept = self.read(kept.id).await?;
                        offer.kept = kept.ok_or(InviteError::Unusable(Unusable::Unknown))?;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            return self.make_user(&offer).await;
        }
        Err(InviteError::Contended(offer.kept.id))
    }

    /// Whether a user may be made of the offer now, or was made of it already.
    fn check(&self, offer: &Offer, now_unix: i64) -> Result<(), InviteError> {
        let Offer { kept, key } = offer;
        kept.invite.is_open_to(key).map_err(InviteError::Unusable)?;
        if matches!(kept.invite.state, InviteState::Spent { .. }) || self.made(offer)?.is_some() {
            return Ok(());
        }
        let in_force = |view: &View| {
            let inviter = view.versioned_user(&kept.invite.by).map(|user| &user.value);
            kept.invite.is_in_force(now_unix, inviter)
        };
        self.commands.state().read(in_force)?.map_err(InviteError::Unusable)
    }

    /// The user that came of the offer, where our view shows it, and it is admitted.
    fn made(&self, Offer { kept, key }: &Offer) -> Result<Option<Outcome>, InviteError> {
        let user = self.commands.state().read(|view| view.versioned_user(&kept.invite.handle).cloned())?;
        let is_it = |user: &Versioned<User>| user.value.sign_pub == *key && user.value.state == State::Active;
        Ok(user.filter(is_it).map(|user| Outcome::at_once(user.value, user.revision, false)))
    }

    /// Fails where handle or key are somebody's, before the invite is claimed for nothing.
    fn is_free(&self, Offer { kept, key }: &Offer) -> Result<(), InviteError> {
        let handle = &kept.invite.handle;
        self.commands.state().read(|view| match (view.versioned_user(handle), view.claimed_by(key)) {
            (Some(_), _) => Err(InviteError::HandleTaken(handle.clone())),
            (None, Some(owner)) if owner != handle => Err(InviteError::KeyTaken(*key)),
            (None, _) => Ok(()),
        })?
    }

    async fn make_user(&self, offer: &Offer) -> Result<Outcome, InviteError> {
        let Offer { kept, key } = offer;
        // The admin who made the invite makes the user. That they still are one is authorized once more when the user is made.
        let by = Principal { author: Author::User(kept.invite.by.clone()), role: Some(Role::Admin) };
        let outcome = match self.commands.change_user(by, UserChange::Add(kept.invite.user(*key), Some(kept.id))).await
        {
            Ok(outcome) => outcome,
            Err(UserError::Denied(_)) => return Err(InviteError::Unusable(Unusable::InviterGone)),
            // It may be the same user, with another role by now; or another one, who was faster. The invite stays claimed then, and
            // is of no use any more.
            Err(error @ UserError::Conflict(_)) => match self.made(offer)? {
                Some(outcome) => outcome,
                None => return Err(self.is_free(offer).err().unwrap_or(InviteError::User(error))),
            },
            Err(error) => return Err(error.into()),
        };
        self.spend(offer).await;
        Ok(outcome)
    }

    /// Marks an invite of which a user was made. The user is there whatever comes of it, and the invite is of no use to
    /// anybody else.
    async fn spend(&self, Offer { kept, key }: &Offer) {
        let spent = kept.invite.spent(*key);
        if spent == kept.invite {
            return;
        }
        match self.replace(kept, spent).await {
            // Somebody repeats this at the same time, and has marked it.
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => tracing::warn!(invite = %kept.id, "an invite that was used may not be marked so: {error}"),
        }
    }

    /// Waits until our view shows the user whom another node has made.
    async fn await_made(&self, offer: &Offer) -> Result<Outcome, InviteError> {
        let user = Address::new(Records::Users, &user_key(&offer.kept.invite.handle))?;
        let there = self.commands.store().get(user.bucket, &user.key).await?.map(|entry| entry.revision);
        if let Some(revision) = there {
            let seen = self.commands.state().seen(user.bucket, revision);
            // Where it takes too long, what follows says so.
            let _ = tokio::time::timeout(CATCH_UP, seen).await;
        }
        self.made(offer)?.ok_or(InviteError::User(UserError::NoLease))
    }
}
