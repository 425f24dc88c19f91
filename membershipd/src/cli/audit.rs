//! `membershipd audit`: who did what and when; through the API as an admin, or on a node as root through its daemon.

use anyhow::Context;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::api::{Api, Signing, or_as_admin};
use super::moment::Moment;
use super::table::Table;
use super::{DONE, Daemon, Problem, block_on, failed_copy};
use crate::api::audited;
use crate::commands::audit::{AuditEntry, AuditRecord as Record};
use crate::commands::audit_query::AuditFilter;
use crate::control::OverSocket;
use crate::transfer::{End, Item, Part, TransferError};
use unibus_client::api::{AuditRecord, Client, ClientError, Request};
use unibus_core::domain::{Author, RoomId};
use unibus_store::Position;

/// Records that are asked for at a time.
const AT_A_TIME: usize = 500;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --identity, or UNIBUS_IDENTITY, it is an admin who asks, through the API of any node. Without, or where --runtime-dir \
                  names a daemon, it is root on that machine."
)]
pub(super) struct Args {
    /// Only the last so many of those records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    last: Option<u32>,
    /// Only what this user did, or root on a node: root@NODE
    #[arg(long, value_name = "HANDLE")]
    who: Option<Author>,
    /// Only what was done about this room
    #[arg(long, value_name = "ROOM")]
    room: Option<RoomId>,
    /// Only what was done in this way, as the column WHAT has it: member.remove
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only what was done since then: 2h, 3d, 2026-11-30, 2026-11-30T14:00:00+01:00
    #[arg(long, value_name = "WHEN")]
    since: Option<Moment>,
    /// Only what was done before then
    #[arg(long, value_name = "WHEN")]
    until: Option<Moment>,
    #[command(flatten)]
    api: Api,
    #[command(flatten)]
    daemon: Daemon,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let filter = AuditFilter {
        who: args.who.clone(),
        room: args.room.clone(),
        action: args.action.clone(),
        since_ms: args.since.map(|Moment(at)| at),
        until_ms: args.until.map(|Moment(at)| at),
    };
    let none = if filter == AuditFilter::default() { "nothing was done yet" } else { "nothing like that was done" };
    let last = args.last.and_then(|last| usize::try_from(last).ok());
    let records = match args.api.signing(&args.daemon) {
        Signing::User => args.api.run(async |client| asked(client, &filter, last).await)?,
        Signing::Root => {
            let from = OverSocket { runtime_dir: args.daemon.runtime_dir() };
            let items = block_on(all(&from))?
                .map_err(|error| or_as_admin(failed_copy(&error, args.api.json()), &args.daemon))?;
            let mut records = Vec::new();
            for item in items {
                records.extend(shown(&item, &filter)?);
            }
            records.split_off(records.len().saturating_sub(last.unwrap_or(usize::MAX)))
        }
    };
    args.api.print_entries(records, "records", none, table)?;
    Ok(DONE)
}

/// The records that `filter` takes, or the last so many of them, as the API says.
async fn asked(client: &Client, filter: &AuditFilter, last: Option<usize>) -> Result<Vec<Value>, ClientError> {
    let Some(last) = last else { return client.list(&format!("/v1/audit{}", query(filter, &[])), "records").await };
    let (mut records, mut before) = (Vec::new(), None::<String>);
    loop {
        let count = (last - records.len()).min(AT_A_TIME).to_string();
        let mut more = vec![("last", count.as_str())];
        more.extend(before.as_deref().map(|before| ("before", before)));
        let mut page = client.ask(&Request::get(format!("/v1/audit{}", query(filter, &more)))).await?;
        if let Some(Value::Array(found)) = page.get_mut("records").map(Value::take) {
            records.splice(0..0, found);
        }
        before = page.get("earlier").and_then(Value::as_str).map(str::to_owned);
        if before.is_none() || records.len() >= last {
            return Ok(records);
        }
    }
}

/// The query of a request for what `filter` takes; empty where that is everything.
fn query(filter: &AuditFilter, more: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let AuditFilter { who, room, action, since_ms, until_ms } = filter;
    let texts = [("who", who.as_ref().map(ToString::to_string)), ("room", room.as_ref().map(ToString::to_string))];
    let numbers = [("since", since_ms.map(|at| at.to_string())), ("until", until_ms.map(|at| at.to_string()))];
    for (name, value) in texts.into_iter().chain([("action", action.clone())]).chain(numbers) {
        if let Some(value) = value {
            query.append_pair(name, &value);
        }
    }
    query.extend_pairs(more);
    Some(query.finish()).filter(|query| !query.is_empty()).map(|query| format!("?{query}")).unwrap_or_default()
}

/// All entries of the log that `from` has.
async fn all(from: &dyn End) -> Result<Vec<Item>, TransferError> {
    let (mut items, mut after) = (Vec::new(), Position::default());
    loop {
        let page = from.read(Part::Audit, after).await?;
        items.extend(page.items);
        match page.next {
            Some(next) => after = next,
            None => return Ok(items),
        }
    }
}

/// The records of an entry that `filter` takes, as the API shows them.
fn shown(item: &Item, filter: &AuditFilter) -> anyhow::Result<Vec<Value>> {
    let number = item.revision.get();
    let entry: AuditEntry = serde_json::from_slice(&item.value)
        .with_context(|| format!("entry {number} of the audit is not understood; use the membershipd of its daemon"))?;
    let records = entry.records.into_iter().filter(|record: &Record| filter.takes(record));
    Ok(records.map(|record| serde_json::to_value(audited(number, record))).collect::<Result<_, _>>()?)
}

fn table(records: &[AuditRecord]) -> anyhow::Result<Table> {
    let mut table = Table::new(&["when", "who", "what", "on", "with", "outcome"]);
    for record in records {
        let at = OffsetDateTime::from_unix_timestamp(record.at_ms.div_euclid(1000))?;
        let room = record.room.as_ref().map(ToString::to_string);
        let whom = record.member.as_ref().or(record.user.as_ref()).map(ToString::to_string);
        let on: Vec<String> = room.into_iter().chain(whom).collect();
        let why = record.why.as_ref().map(|why| format!(": {why}"));
        table.row(vec![
            at.format(&Rfc3339)?,
            record.who.to_string(),
            record.action.clone(),
            on.join(" "),
            record.with.clone().unwrap_or_default(),
            format!("{}{}", record.stage, why.unwrap_or_default()),
        ]);
    }
    Ok(table)
}
