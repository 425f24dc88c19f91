//! The audit log over the API.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::call::{Call, Reply};
use super::paging::cursor;
use super::problem::Problem;
use super::shared::Shared;
use crate::bus::Bucket;
use crate::store::{Entry, Operation};

/// A record of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditRecord)]
pub(super) struct RecordBody {
    /// Its number; they grow, and some may be missing.
    number: u64,
    /// What was recorded.
    #[schema(value_type = Object)]
    record: Value,
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
    let paging = call.page()?;
    let page = shared.store.audit(paging.after.unwrap_or_default(), paging.size).await?;
    let operation = Operation::on("read", Bucket::Audit);
    let record = |entry: &Entry| {
        let entry = entry.json(&operation)?;
        Ok::<_, Problem>(RecordBody { number: entry.revision.get(), record: entry.value })
    };
    let records = page.items.iter().map(record).collect::<Result<_, _>>()?;
    Reply::json(&AuditBody { records, next: page.next.as_ref().map(cursor) })
}
