//! The attachments of a copy that a node on its own was started with: from its file into its engine, where it looks for them.

use std::sync::Arc;

use super::blobs;
use super::error::TransferError;
use crate::blobs::Blobs;
use unibus_store::SqliteStore;

/// Carries the attachments of `file` into `to`, and drops them from the file once they are there; says how many were carried. What
/// is there beside them stays. Repeating is safe.
pub async fn adopt(file: &Arc<SqliteStore>, to: &Blobs) -> Result<usize, TransferError> {
    let source = blobs::listed(&**file).await?;
    if source.is_empty() {
        return Ok(0);
    }
    let there = blobs::listed(to).await?;
    let written = blobs::write_missing(&**file, to, &source, &there).await?;
    let now = blobs::listed(to).await?;
    let missing: Vec<String> =
        source.keys().filter(|name| !now.contains_key(name)).map(crate::blobs::BlobName::object).collect();
    if !missing.is_empty() {
        return Err(TransferError::OtherBlobs(missing));
    }
    file.drop_blobs().await?;
    Ok(written)
}
