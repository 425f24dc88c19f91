//! `membershipd audit`: who did what and when; through the API as somebody, or on a node as root through its daemon.

use anyhow::Context;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::api::Api;
use super::table::Table;
use super::{DONE, Daemon, Problem, block_on, failed_copy};
use crate::api::audited;
use crate::commands::audit::AuditEntry;
use crate::control::OverSocket;
use crate::transfer::{End, Item, Part, TransferError};
use unibus_client::api::AuditRecord;
use unibus_store::Position;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    api: Api,
    #[command(flatten)]
    daemon: Daemon,
}

/// Runs the verb. Who is nobody on the bus and root on the node asks the daemon there.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let (field, none) = ("records", "nothing was done yet");
    if args.api.is_somebody() {
        args.api.print_list("/v1/audit", field, none, table)?;
    } else {
        let from = OverSocket { runtime_dir: args.daemon.runtime_dir.clone() };
        let items = block_on(all(&from))?.map_err(|error| failed_copy(&error, args.api.json()))?;
        let mut records = Vec::new();
        for item in items {
            records.extend(shown(&item)?);
        }
        args.api.print_entries(records, field, none, table)?;
    }
    Ok(DONE)
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

/// The records of an entry, as the API shows them.
fn shown(item: &Item) -> anyhow::Result<Vec<Value>> {
    let number = item.revision.get();
    let entry: AuditEntry = serde_json::from_slice(&item.value)
        .with_context(|| format!("entry {number} of the audit is not understood; use the membershipd of its daemon"))?;
    let records = entry.records.into_iter().map(|record| audited(number, record));
    Ok(records.map(serde_json::to_value).collect::<Result<_, _>>()?)
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
