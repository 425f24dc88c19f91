//! Keys over the API: those of users, public; those of rooms, sealed. The server opens none.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::call::{Call, Reply};
use super::paging::{InRoom, Paging, cursor};
use super::problem::{self, Problem};
use super::shared::Shared;
use super::target::{ListedUser, OneEpoch, OneRoom, Oneself};
use crate::clock;
use crate::conversation::{Envelope, Epoch, HpkePub, KeyId, Signature};
use crate::domain::{Handle, Records as _, RoomId, SignPub, State, User};
use crate::room_keys::{EpochRecord, KeysError, Vouched, recipient, there};

impl From<KeysError> for Problem {
    fn from(error: KeysError) -> Self {
        let said = error.to_string();
        match error {
            KeysError::OtherHpke(_) => problem::HPKE_KEY.because(said),
            KeysError::Taken { .. } => problem::EPOCH_TAKEN.because(said),
            KeysError::NotNext(_) => problem::EPOCH_NOT_NEXT.because(said),
            KeysError::Recipients(_) => problem::RECIPIENTS.because(said),
            KeysError::Denied(denial) => denial.into(),
            KeysError::NotProven(_) => problem::no_lease(),
            KeysError::Audit(error) => crate::users::UserError::Audit(error).into(),
            KeysError::Store(error) => error.into(),
        }
    }
}

/// A user as everybody sees him.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Listed)]
pub(super) struct ListedBody {
    /// Name.
    #[schema(value_type = String)]
    handle: Handle,
    /// Public Ed25519 key, 64 hexadecimal digits.
    #[schema(value_type = String)]
    sign_pub: SignPub,
    /// `active`, `disabled` or `removed`.
    #[schema(value_type = String)]
    state: State,
    /// His HPKE key; none: he has not set one, and nothing can be sealed for him.
    #[serde(skip_serializing_if = "Option::is_none")]
    hpke: Option<HpkeBody>,
}

/// A user's HPKE key.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Hpke)]
pub(super) struct HpkeBody {
    /// Public X25519 key, 64 hexadecimal digits.
    #[schema(value_type = String)]
    hpke_pub: HpkePub,
    /// The user's Ed25519 signature of it, as docs/conversations.md says, in base64.
    #[schema(value_type = String)]
    signature: Signature,
}

impl From<Vouched> for HpkeBody {
    fn from(Vouched { hpke_pub, signature, .. }: Vouched) -> Self {
        Self { hpke_pub, signature }
    }
}

/// The newest key of a room.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NewestKey)]
pub(super) struct NewestBody {
    /// Its epoch; none: the room has no key yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    epoch: Option<Epoch>,
    /// It is sealed for others than those who are there now, or there is none: whoever may begin an epoch should.
    stale: bool,
    /// It is sealed for the caller.
    own: bool,
}

/// A key of a room, sealed for the caller.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SealedKey)]
pub(super) struct EpochBody {
    #[schema(value_type = String)]
    room: RoomId,
    #[schema(value_type = u32)]
    epoch: Epoch,
    /// Who made and sealed it.
    #[schema(value_type = String)]
    by: Handle,
    /// When: milliseconds since 1970.
    at_ms: i64,
    /// Which key it is, 32 hexadecimal digits; derived from it.
    #[schema(value_type = String)]
    key_id: KeyId,
    #[schema(value_type = EnvelopeBody)]
    envelope: Envelope,
}

/// A key, sealed for one, as it is described. What the bytes are is in docs/conversations.md.
#[derive(ToSchema)]
#[schema(as = Envelope)]
#[expect(dead_code, reason = "`Envelope` is what is read and written; this describes it")]
pub(super) struct EnvelopeBody {
    /// What HPKE encapsulated, base64 of 32 bytes.
    enc: String,
    /// The key, sealed: base64 of 48 bytes.
    sealed: String,
    /// The signature of who sealed it: base64 of 64 bytes.
    signature: String,
}

/// A key that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEpoch {
    /// Which key it is, 32 hexadecimal digits; derived from it.
    #[schema(value_type = String)]
    key_id: KeyId,
    /// The key, sealed for each recipient, by handle.
    #[schema(value_type = BTreeMap<String, EnvelopeBody>)]
    envelopes: BTreeMap<Handle, Envelope>,
}

/// What beginning an epoch came to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Begun)]
pub(super) struct BegunBody {
    #[schema(value_type = u32)]
    epoch: Epoch,
    /// False where it was so already.
    changed: bool,
}

/// A page of those for whom a key is to be sealed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Recipients)]
pub(super) struct RecipientsBody {
    recipients: Vec<ListedBody>,
    /// `after` of the next page; none: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

fn body_of(user: User, vouched: Option<Vouched>) -> ListedBody {
    let User { handle, sign_pub, state, .. } = user;
    ListedBody { handle, sign_pub, state, hpke: vouched.map(HpkeBody::from) }
}

/// The public keys of a user.
pub(super) async fn listed(shared: Arc<Shared>, call: Call<ListedUser>) -> Result<Reply, Problem> {
    let ListedUser(handle) = &call.target;
    let user = shared.gate.view(|view| view.user(handle).cloned());
    let user = user.ok_or_else(|| problem::NO_SUCH_USER.because(format!("there is no user '{handle}'")))?;
    let vouched = shared.keys.of_user(handle).await?;
    Reply::json(&body_of(user, vouched))
}

/// Sets the caller's HPKE key.
pub(super) async fn publish(shared: Arc<Shared>, call: Call<Oneself>) -> Result<Reply, Problem> {
    let HpkeBody { hpke_pub, signature } = call.json()?;
    let vouched = Vouched::new(hpke_pub, signature);
    let vouches = recipient(&call.caller, &vouched).check(signature);
    vouches.map_err(|error| problem::NOT_VOUCHED.because(error.to_string()))?;
    let changed = shared.keys.set(&call.caller, &vouched).await?;
    let status = if changed { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Reply::json(&body_of(call.caller, Some(vouched)))?.status(status))
}

/// Which key is the newest.
pub(super) async fn newest(shared: Arc<Shared>, call: Call<OneRoom>) -> Result<Reply, Problem> {
    let OneRoom(room) = &call.target;
    let Some((epoch, record)) = shared.keys.newest(room).await? else {
        return Reply::json(&NewestBody { epoch: None, stale: true, own: false });
    };
    let stale = record.is_stale(&shared.keys.present(room).await?);
    let own = record.envelopes.contains_key(&call.caller.handle);
    Reply::json(&NewestBody { epoch: Some(epoch), stale, own })
}

/// One key.
pub(super) async fn show(shared: Arc<Shared>, call: Call<OneEpoch>) -> Result<Reply, Problem> {
    let Call { caller, target: OneEpoch { room, epoch }, .. } = call;
    let missing = || problem::NO_SUCH_EPOCH.because(format!("nobody has begun epoch {epoch} of '{room}'"));
    let record = shared.keys.epoch(&room, epoch).await?.ok_or_else(missing)?;
    let EpochRecord { by, at_ms, key_id, mut envelopes, .. } = record;
    let envelope = envelopes.remove(&caller.handle).ok_or_else(|| {
        problem::NOT_SEALED.because(format!("whoever began epoch {epoch} of '{room}' did not seal its key for you"))
    })?;
    Reply::json(&EpochBody { room, epoch, by, at_ms, key_id, envelope })
}

/// Begins an epoch.
pub(super) async fn begin(shared: Arc<Shared>, call: Call<OneEpoch>) -> Result<Reply, Problem> {
    let NewEpoch { key_id, envelopes } = call.json()?;
    let Call { caller, target: OneEpoch { room, epoch }, .. } = call;
    let record = EpochRecord::new(caller.handle.clone(), clock::unix_ms(), key_id, envelopes);
    let changed = shared.keys.begin(&caller, &room, epoch, &record).await?;
    let status = if changed { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Reply::json(&BegunBody { epoch, changed })?.status(status))
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
    Reply::json(&RecipientsBody { recipients: users.into_iter().filter_map(with_key).collect(), next })
}
