//! The record of an attachment, as NATS object stores write it (ADR-20), with who added it.

use std::collections::BTreeMap;

use data_encoding::BASE64URL;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::name::{BlobName, Body};
use unibus_api_types::BlobId;
use unibus_core::bus::{BLOB_CHUNK_BYTES, BLOBS};
use unibus_core::domain::Handle;

/// Where the record says who added the attachment.
const BY: &str = "by";
/// What a digest begins with.
const SHA_256: &str = "SHA-256=";

/// What is known of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRecord {
    /// What it is called.
    pub name: BlobName,
    /// Who added it.
    pub by: Handle,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// In how many messages it is kept.
    pub chunks: u64,
    /// Which those are.
    pub body: Body,
}

/// The record as it lies in the store.
#[derive(Debug, Serialize, Deserialize)]
struct ObjectInfo {
    name: String,
    bucket: String,
    nuid: String,
    size: u64,
    chunks: u64,
    digest: String,
    mtime: String,
    metadata: BTreeMap<String, String>,
    options: Options,
}

#[derive(Debug, Serialize, Deserialize)]
struct Options {
    max_chunk_size: u64,
}

impl BlobRecord {
    /// As it is written.
    pub(super) fn to_json(&self) -> Result<Vec<u8>, String> {
        let Self { name, by, at_ms, bytes, chunks, body } = self;
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(*at_ms) * 1_000_000);
        let mtime = at.map_err(|error| error.to_string())?.format(&Rfc3339).map_err(|error| error.to_string())?;
        let info = ObjectInfo {
            name: name.object(),
            bucket: BLOBS.to_owned(),
            nuid: body.to_string(),
            size: *bytes,
            chunks: *chunks,
            digest: digest(name.id),
            mtime,
            metadata: BTreeMap::from([(BY.to_owned(), by.to_string())]),
            options: Options { max_chunk_size: u64::try_from(BLOB_CHUNK_BYTES).unwrap_or(u64::MAX) },
        };
        serde_json::to_vec(&info).map_err(|error| error.to_string())
    }

    /// Reads the record of `name`; or what is wrong with it.
    pub(super) fn read(name: &BlobName, json: &[u8]) -> Result<Self, String> {
        let info: ObjectInfo = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let at = OffsetDateTime::parse(&info.mtime, &Rfc3339).map_err(|error| error.to_string())?;
        let at_ms = i64::try_from(at.unix_timestamp_nanos() / 1_000_000).map_err(|error| error.to_string())?;
        let by = info.metadata.get(BY).ok_or("it does not say who added it")?;
        if info.name != name.object() || info.digest != digest(name.id) {
            return Err("it is the record of something else".to_owned());
        }
        Ok(Self {
            name: name.clone(),
            by: by.parse().map_err(|error| format!("{error}"))?,
            at_ms,
            bytes: info.size,
            chunks: info.chunks,
            body: info.nuid.parse().map_err(|error| format!("{error}"))?,
        })
    }
}

fn digest(id: BlobId) -> String {
    format!("{SHA_256}{}", BASE64URL.encode(&id.sha256()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_fits_its_name_alone() {
        let name = BlobName { room: "hall".parse().unwrap(), id: BlobId::of(b"x") };
        let body = Body::new(&name, [7; 16]);
        let by = "alice".parse().unwrap();
        let record = BlobRecord { name: name.clone(), by, at_ms: 1_700_000_000_123, bytes: 1, chunks: 1, body };
        let json = record.to_json().unwrap();
        let text = String::from_utf8(json.clone()).unwrap();
        assert!(text.contains("\"mtime\":\"2023-11-14T22:13:20.123Z\""), "{text}");
        assert_eq!(BlobRecord::read(&name, &json), Ok(record));
        let other = BlobName { room: "kitchen".parse().unwrap(), ..name.clone() };
        assert!(BlobRecord::read(&other, &json).is_err());
        for bad in [text.replace("alice", "A"), text.replace("2023", "x"), text.replace("\"by\"", "\"of\"")] {
            assert!(BlobRecord::read(&name, bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
