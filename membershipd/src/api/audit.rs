//! The audit log over the API.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::call::{Call, Reply, Target};
use super::paging::{Paging, Part, cursor};
use super::problem::Problem;
use super::routes::Denied;
use super::shared::Shared;
use crate::bus::Bucket;
use crate::commands::audit::{About, AuditEntry, AuditRecord, CommandId, Decided, Stage};
use crate::domain::{Author, Handle, Role, RoomId, RoomRole};
use crate::store::{Operation, PageSize};

/// Entries that are asked for at a time; each has a record at least.
const AT_A_TIME: usize = 32;

/// The rights by which something was decided.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Decided)]
pub(super) struct DecidedBody {
    /// The role on the bus; none: root on a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    bus: Option<Role>,
    /// The role in the room; none: no member, or nothing about a room.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    room: Option<RoomRole>,
}

/// A record that was written.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Written)]
pub(super) struct WrittenBody {
    record: String,
    revision: u64,
}

/// A record of the audit log. What somebody did has two with the same `id`: `begun` before anything is changed, and then
/// what came of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditRecord)]
pub(crate) struct RecordBody {
    /// Number of the entry in which it is; those that were written at one time share one.
    number: u64,
    /// What somebody did: 32 hexadecimal digits.
    #[schema(value_type = String)]
    id: CommandId,
    /// When: milliseconds since 1970.
    at_ms: i64,
    /// Who: a handle, or `root@` and a node.
    #[schema(value_type = String)]
    who: Author,
    /// What: one of the permissions, or `repair.` and what was repaired.
    action: String,
    /// The user who was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    user: Option<Handle>,
    /// The room.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    room: Option<RoomId>,
    /// Whose membership of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    member: Option<Handle>,
    /// What was asked for beside that.
    #[serde(skip_serializing_if = "Option::is_none")]
    with: Option<String>,
    /// `begun`, `done`, `refused`, `failed`, or `unknown`: it may have been done.
    stage: &'static str,
    /// Of what has begun, by which rights.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided: Option<DecidedBody>,
    /// Of what is done, what it concerns, and at which revision that is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    written: Vec<WrittenBody>,
    /// Of what was not done, why.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl RecordBody {
    /// A record of the entry with this number.
    pub(crate) fn of(number: u64, record: AuditRecord) -> Self {
        let AuditRecord { id, at_ms, who, action, user, room, member, with, stage } = record;
        let (stage, decided, written, why) = match stage {
            Stage::Begun(Decided { bus, room }) => ("begun", Some(DecidedBody { bus, room }), Vec::new(), None),
            Stage::Done(written) => ("done", None, written, None),
            Stage::Refused(why) => ("refused", None, Vec::new(), Some(why)),
            Stage::Failed(why) => ("failed", None, Vec::new(), Some(why)),
            Stage::Unknown(why) => ("unknown", None, Vec::new(), Some(why)),
        };
        let body =
            |(record, revision): (String, crate::store::Revision)| WrittenBody { record, revision: revision.get() };
        let written = written.into_iter().map(body).collect();
        Self { number, id, at_ms, who, action, user, room, member, with, stage, decided, written, why }
    }
}

/// A page of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Audit)]
pub(super) struct AuditBody {
    records: Vec<RecordBody>,
    /// `after` of the next page; none: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Records of the audit log, oldest first.
pub(super) async fn list(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let Paging { after, size } = call.page::<Part>()?;
    let mut shown = after.unwrap_or_default();
    let operation = Operation::on("read", Bucket::Audit);
    let mut records = Vec::new();
    let mut from = shown.before();
    loop {
        let page = shared.store.audit(from, PageSize::of(AT_A_TIME.min(size.get()))).await?;
        for entry in &page.items {
            let number = entry.revision.get();
            let AuditEntry { schema: _, records: parts } = entry.json(&operation)?.value;
            for (part, record) in (1..).zip(parts) {
                if !shown.includes(number, part) {
                    if records.len() == size.get() {
                        return Reply::json(&AuditBody { records, next: Some(cursor(&shown)) });
                    }
                    shown = Part { number, part };
                    records.push(RecordBody::of(number, record));
                }
            }
        }
        match page.next {
            Some(next) => from = next,
            None => return Reply::json(&AuditBody { records, next: None }),
        }
    }
}

/// Notes what somebody wanted to do and may not, and why.
pub(super) async fn denied(shared: &Shared, denied: &Denied) {
    let Denied { who, action, target, why } = denied;
    let journal = shared.commands.journal();
    let (user, room, member) = match target {
        Target::Bus | Target::Invite(_) => (None, None, None),
        Target::User(user) | Target::NewUser(user) | Target::Listed(user) => (Some(user), None, None),
        Target::Room(room) | Target::NewRoom(room) | Target::Epoch(room, _) => (None, Some(room), None),
        Target::Member(room, member) => (None, Some(room), Some(member)),
        Target::Blob(name) => (None, Some(&name.room), None),
    };
    let about = About::new(Author::User(who.handle.clone()), action.name());
    let about = About { user: user.cloned(), room: room.cloned(), member: member.cloned(), ..about };
    // That it is missing is logged, and what was denied stays so.
    let _ = journal.end(journal.number(), &about, Stage::Refused(why.to_string())).await;
}
