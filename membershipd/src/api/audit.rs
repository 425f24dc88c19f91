//! The audit log over the API.

use std::net::IpAddr;
use std::sync::Arc;

use super::call::{ACTION, BEFORE, BY, Call, LAST, LIMIT, Parameter, ROOM, Reply, SINCE, UNTIL};
use super::handler::Denied;
use super::paging::{self, Paging, cursor};
use super::problem::Problem;
use super::shared::Shared;
use super::target::{Bus, Named};
use crate::api::problem::Refuse as _;
use crate::commands::audit::{About, AuditRecord, Decided, Stage};
use crate::commands::audit_query::{AuditFilter, AuditQuery, Place};
use unibus_api_types::bodies;
use unibus_api_types::problem::Kind;
use unibus_core::bus;
use unibus_core::domain::{Author, InvalidValue};

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

/// Which records a request asks for.
fn filter<T>(call: &Call<T>) -> Result<AuditFilter, Problem> {
    let bad = |error: InvalidValue| Kind::BAD_QUERY.because(error.to_string());
    let moment = |parameter: Parameter| call.number(parameter).map(|ms| ms.and_then(|ms| i64::try_from(ms).ok()));
    Ok(AuditFilter {
        who: call.parameter(BY).map(str::parse).transpose().map_err(bad)?,
        room: call.parameter(ROOM).map(str::parse).transpose().map_err(bad)?,
        action: call.parameter(ACTION).map(str::to_owned),
        since_ms: moment(SINCE)?,
        until_ms: moment(UNTIL)?,
    })
}

/// Records of the audit log, oldest first: after a place, or the last of them.
pub(super) async fn list(shared: Arc<Shared>, call: Call<Bus>) -> Result<Reply, Problem> {
    let (filter, last) = (filter(&call)?, call.number(LAST)?);
    let Paging { after, size }: Paging<Place> = call.page()?;
    let before: Option<Place> = call.parameter(BEFORE).map(paging::mark).transpose()?;
    if last.is_some() && (after.is_some() || call.parameter(LIMIT).is_some()) {
        return Err(Kind::BAD_QUERY.because("'last' stands in the place of 'after' and 'limit'"));
    }
    if last.is_none() && before.is_some() {
        return Err(Kind::BAD_QUERY.because("'before' is of the records that 'last' counts"));
    }
    let _place = shared.lists.take_within(&call.parties(), 1, bus::ASK).await?;
    let query = AuditQuery::new(&shared.store, &filter);
    let found = match last {
        Some(count) => query.last(before, usize::try_from(count).unwrap_or(usize::MAX)).await?,
        None => query.after(after, size.get()).await?,
    };
    let more = found.more.as_ref().map(cursor);
    let (next, earlier) = if last.is_some() { (None, more) } else { (more, None) };
    let records = found.records.into_iter().map(|(place, record)| audited(place.number, record)).collect();
    Reply::json(&bodies::Audit { records, next, earlier })
}

/// Notes what a client at the address `from` wanted to do and may not, and why.
pub(super) async fn denied(shared: &Shared, denied: Denied, from: IpAddr) {
    let Denied { who, action, named: Named { user, room, member }, why } = denied;
    let journal = shared.commands.journal();
    let about = About::new(Author::User(who.handle.clone()), action.name());
    let about = About { user, room, member, ..about };
    journal.deny(journal.number(), &about, Stage::Refused(why.to_string()), Some(from)).await;
}
