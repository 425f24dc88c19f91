//! Keys over the API: those of users, public; those of rooms, sealed. The server opens none.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;

use super::call::{Call, Reply};
use super::paging::{InRoom, Paging, cursor};
use super::problem::{self, Problem};
use super::shared::Shared;
use super::target::{ListedUser, OneEpoch, OneRoom, Oneself};
use crate::api::problem::Refuse as _;
use crate::config::Hourly;
use crate::room_keys::{EpochRecord, KeysError, Vouched, recipient, there};
use unibus_api_types::bodies;
use unibus_api_types::problem::Kind;
use unibus_core::clock;
use unibus_core::domain::{Handle, Records as _, User};
use unibus_store::StoreError;

impl From<KeysError> for Problem {
    fn from(error: KeysError) -> Self {
        let said = error.to_string();
        match error {
            KeysError::OtherHpke(_) => Kind::HPKE_KEY.because(said),
            KeysError::Taken { .. } => Kind::EPOCH_TAKEN.because(said),
            KeysError::NotNext(_) => Kind::EPOCH_NOT_NEXT.because(said),
            KeysError::Recipients(_) => Kind::RECIPIENTS.because(said),
            KeysError::Contended(_) => Kind::CONTENDED.because(said).soon(),
            KeysError::Denied(denial) => denial.into(),
            KeysError::NotProven(_) => problem::no_lease(),
            KeysError::Audit(error) => crate::users::UserError::Audit(error).into(),
            KeysError::Store(error) => error.into(),
        }
    }
}

impl From<Vouched> for bodies::Hpke {
    fn from(Vouched { hpke_pub, signature, .. }: Vouched) -> Self {
        Self { hpke_pub, signature }
    }
}

fn body_of(user: User, vouched: Option<Vouched>) -> bodies::Listed {
    let User { handle, sign_pub, state, .. } = user;
    bodies::Listed { handle, sign_pub, state, hpke: vouched.map(bodies::Hpke::from) }
}

/// The public keys of a user.
pub(super) async fn listed(shared: Arc<Shared>, call: Call<ListedUser>) -> Result<Reply, Problem> {
    let ListedUser(handle) = &call.target;
    let user = shared.gate.view(|view| view.user(handle).cloned());
    let user = user.ok_or_else(|| Kind::NO_SUCH_USER.because(format!("there is no user '{handle}'")))?;
    let vouched = shared.keys.of_user(handle).await?;
    Reply::json(&body_of(user, vouched))
}

/// Sets the caller's HPKE key.
pub(super) async fn publish(shared: Arc<Shared>, call: Call<Oneself>) -> Result<Reply, Problem> {
    let bodies::Hpke { hpke_pub, signature } = call.json()?;
    let vouched = Vouched::new(hpke_pub, signature);
    let vouches = recipient(&call.caller, &vouched).check(signature);
    vouches.map_err(|error| Kind::NOT_VOUCHED.because(error.to_string()))?;
    let changed = shared.keys.set(&call.caller, &vouched).await?;
    let status = if changed { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Reply::json(&body_of(call.caller, Some(vouched)))?.status(status))
}

/// Which key is the newest.
pub(super) async fn newest(shared: Arc<Shared>, call: Call<OneRoom>) -> Result<Reply, Problem> {
    let OneRoom(room) = &call.target;
    let Some((epoch, record)) = shared.keys.newest(room).await? else {
        return Reply::json(&bodies::NewestKey { epoch: None, stale: true, own: false });
    };
    let stale = record.is_stale(&shared.keys.present(room).await?);
    let own = record.envelopes.contains_key(&call.caller.handle);
    Reply::json(&bodies::NewestKey { epoch: Some(epoch), stale, own })
}

/// One key.
pub(super) async fn show(shared: Arc<Shared>, call: Call<OneEpoch>) -> Result<Reply, Problem> {
    let Call { caller, target: OneEpoch { room, epoch }, .. } = call;
    let missing = || Kind::NO_SUCH_EPOCH.because(format!("nobody has begun epoch {epoch} of '{room}'"));
    let record = shared.keys.epoch(&room, epoch).await?.ok_or_else(missing)?;
    let EpochRecord { by, at_ms, key_id, mut envelopes, .. } = record;
    let envelope = envelopes.remove(&caller.handle).ok_or_else(|| {
        Kind::NOT_SEALED.because(format!("whoever began epoch {epoch} of '{room}' did not seal its key for you"))
    })?;
    Reply::json(&bodies::SealedKey { room, epoch, by, at_ms, key_id, envelope })
}

/// Counts an epoch with so many envelopes. Epochs are never deleted, as what was said in each of them may still be read: so each user
/// begins a bounded number of them.
fn take_rotation(shared: &Shared, user: &Handle, envelopes: u32) -> Result<(), Problem> {
    let Hourly { epochs, envelopes: most, .. } = shared.observer.config.bounds.hourly;
    let now = Instant::now();
    let refused = |wait| {
        let detail = format!("a user may begin {epochs} epochs with {most} envelopes in an hour (--rotations-by-user)");
        Kind::RATE_LIMITED.because(detail).retry_after(wait)
    };
    shared.epochs.take(user, now).map_err(refused)?;
    shared.envelopes.take_many(user, envelopes, now).map_err(|wait| {
        shared.epochs.give_back(user, 1);
        refused(wait)
    })
}

/// Begins an epoch.
pub(super) async fn begin(shared: Arc<Shared>, call: Call<OneEpoch>) -> Result<Reply, Problem> {
    let bodies::NewEpoch { key_id, envelopes } = call.json()?;
    let Call { caller, target: OneEpoch { room, epoch }, .. } = call;
    let record = EpochRecord::new(caller.handle.clone(), clock::unix_ms(), key_id, envelopes);
    let envelopes = u32::try_from(record.envelopes.len()).unwrap_or(u32::MAX);
    take_rotation(&shared, &caller.handle, envelopes)?;
    let changed = shared.keys.begin(&caller, &room, epoch, &record).await;
    // Only what may have been written counts: of members who begin an epoch at the same time all but one are refused.
    if !matches!(&changed, Ok(true) | Err(KeysError::Store(StoreError::Unknown { .. }))) {
        shared.epochs.give_back(&caller.handle, 1);
        shared.envelopes.give_back(&caller.handle, envelopes);
    }
    let changed = changed?;
    let status = if changed { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Reply::json(&bodies::Begun { epoch, changed })?.status(status))
}

/// For whom a key is to be sealed.
pub(super) async fn recipients(shared: Arc<Shared>, call: Call<OneRoom>) -> Result<Reply, Problem> {
    let paging: Paging<InRoom> = call.page()?;
    let OneRoom(room) = &call.target;
    let (users, next) = shared.gate.view(|view| {
        let after = |user: &&User| paging.after.as_ref().is_none_or(|InRoom(after)| user.handle > *after);
        let mut rest = there(view, room).filter(after);
        let users: Vec<User> = rest.by_ref().take(paging.size.get()).cloned().collect();
        let next = users.last().filter(|_| rest.next().is_some()).map(|last| cursor(&InRoom(last.handle.clone())));
        (users, next)
    });
    let mut vouched = shared.keys.of_users(users.iter().map(|user| user.handle.clone()).collect()).await?;
    let with_key = |user: User| vouched.remove(&user.handle).map(|vouched| body_of(user, Some(vouched)));
    Reply::json(&bodies::Recipients { recipients: users.into_iter().filter_map(with_key).collect(), next })
}
