//! `membershipd audit`: who did what and when, through the API.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::api::Api;
use super::table::Table;
use super::{DONE, Problem};
use crate::client::Audited;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    api: Api,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    args.api.print_list("/v1/audit", "records", "nothing was done yet", table)?;
    Ok(DONE)
}

fn table(records: &[Audited]) -> anyhow::Result<Table> {
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
