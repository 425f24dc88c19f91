//! Entries whose values are JSON.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::contract::{Entry, Revision, Store};
use super::error::{Operation, StoreError};
use unibus_core::key::{Key, Records};

/// The entry `key` as a `T`; what cannot be one is `Unreadable`, never absent.
pub async fn get_json<T: DeserializeOwned>(
    store: &dyn Store,
    bucket: Records,
    key: &Key,
) -> Result<Option<Entry<T>>, StoreError> {
    let entry = store.get(bucket, key).await?;
    entry.map(|entry| entry.json(&Operation::at("read", bucket.bucket(), key))).transpose()
}

/// [`Store::create`] with `value` as JSON.
pub async fn create_json(
    store: &dyn Store,
    bucket: Records,
    key: &Key,
    value: &(impl Serialize + Sync),
) -> Result<Revision, StoreError> {
    let bytes = to_json(&Operation::at("create", bucket.bucket(), key), value)?;
    store.create(bucket, key, &bytes).await
}

/// [`Store::update`] with `value` as JSON.
pub async fn update_json(
    store: &dyn Store,
    bucket: Records,
    key: &Key,
    value: &(impl Serialize + Sync),
    expected: Revision,
) -> Result<Revision, StoreError> {
    let bytes = to_json(&Operation::at("update", bucket.bucket(), key), value)?;
    store.update(bucket, key, &bytes, expected).await
}

impl Entry<Bytes> {
    /// The value as a `T`, for whoever did `operation`.
    pub fn json<T: DeserializeOwned>(&self, operation: &Operation) -> Result<Entry<T>, StoreError> {
        match serde_json::from_slice(&self.value) {
            Ok(value) => Ok(Entry { value, revision: self.revision }),
            Err(error) => {
                let why = format!("revision {}: {error}", self.revision);
                Err(StoreError::Unreadable { operation: operation.clone(), why })
            }
        }
    }
}

fn to_json(operation: &Operation, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value)
        .map_err(|error| StoreError::Refused { operation: operation.clone(), why: format!("it is not JSON: {error}") })
}
