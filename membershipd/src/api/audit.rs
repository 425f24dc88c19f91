//! The audit log over the API.

use std::net::IpAddr;
use std::sync::Arc;

use super::call::{Call, Reply};
use super::handler::Denied;
use super::paging::{Paging, Part, cursor};
use super::problem::Problem;
use super::shared::Shared;
use super::target::{Bus, Named};
use crate::commands::audit::{About, AuditEntry, AuditRecord, Decided, Stage};
use unibus_api_types::bodies;
use unibus_core::bus::{self, Bucket};
use unibus_core::domain::Author;
use unibus_store::{Operation, PageSize};

/// Entries that are asked for at a time; each has a record at least.
const AT_A_TIME: usize = 32;

/// A record of the entry with this number.
pub(crate) fn audited(number: u64, record: AuditRecord) -> bodies::AuditRecord {
    let AuditRecord { id, at_ms, who, action, user, room, member, with, stage } = record;
    let (stage, decided, written, why) = match stage {
        Stage::Begun(Decided { bus, room }) => ("begun", Some(bodies::Decided { bus, room }), Vec::new(), None),
        Stage::Done(written) => ("done", None, written, None),
        Stage::Refused(why) => ("refused", None, Vec::new(), Some(why)),
        Stage::Failed(why) => ("failed", None, Vec::new(), Some(why)),
        Stage::Unknown(why) => ("unknown", None, Vec::new(), Some(why)),
    };
    let body =
        |(record, revision): (String, unibus_store::Revision)| bodies::Written { record, revision: revision.get() };
    let written = written.into_iter().map(body).collect();
    let (id, stage) = (id.to_string(), stage.to_owned());
    bodies::AuditRecord { number, id, at_ms, who, action, user, room, member, with, stage, decided, written, why }
}

/// Records of the audit log, oldest first.
pub(super) async fn list(shared: Arc<Shared>, call: Call<Bus>) -> Result<Reply, Problem> {
    let Paging { after, size } = call.page::<Part>()?;
    let _place = shared.lists.take_within(&call.parties(), 1, bus::ASK).await?;
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
                        return Reply::json(&bodies::Audit { records, next: Some(cursor(&shown)) });
                    }
                    shown = Part { number, part };
                    records.push(audited(number, record));
                }
            }
        }
        match page.next {
            Some(next) => from = next,
            None => return Reply::json(&bodies::Audit { records, next: None }),
        }
    }
}

/// Notes what a client at the address `from` wanted to do and may not, and why.
pub(super) async fn denied(shared: &Shared, denied: Denied, from: IpAddr) {
    let Denied { who, action, named: Named { user, room, member }, why } = denied;
    let journal = shared.commands.journal();
    let about = About::new(Author::User(who.handle.clone()), action.name());
    let about = About { user, room, member, ..about };
    journal.deny(journal.number(), &about, Stage::Refused(why.to_string()), Some(from)).await;
}
