//! Claims moved into small documents, for the feature level at which those decide.
//!
//! At every moment the documents of one shape decide, by the level of the cluster, and each is changed by compare-and-set alone:
//!
//! 1. The documents of the spaces are *frozen*, those that are not there made so. From then on no node claims or releases anything in
//!    them: a change that was planned on one that was not frozen finds another revision. They still decide.
//! 2. Their claims are *copied*. No other change writes small documents at this level, and no node decides by them.
//! 3. The level is raised (`crate::level`), only where a view shows that both are so: then that cannot change any more. Entries of a
//!    bucket are applied in their order, so a node at the new level has all of the copies.
//! 4. The documents of the spaces are *emptied*. They stay frozen, so a node that has not applied the level yet claims nothing in them.
//!
//! A run that ends anywhere is completed by the next one. Between 1 and 3 no subject can be claimed or released, and release 0.1.0,
//! which does not know frozen documents, stays out already.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};

use super::keys;
use unibus_core::domain::{Claims, ClaimsKey, Record, RecordKey, Records as _, Space};
use unibus_core::view::View;
use unibus_store::{Records, Revision, Store, StoreError, get_json};

/// Attempts at a document that others keep changing too.
const CONTENTION: usize = 64;
/// Documents that are written side by side.
const AT_ONCE: usize = 32;

/// Whether the claims of `view` are frozen and all of them are in small documents.
pub(crate) fn are_moved(view: &View) -> bool {
    let spaces: Option<Vec<&Claims>> = Space::ALL.into_iter().map(|space| view.claims(&space.into())).collect();
    let Some(spaces) = spaces.filter(|spaces| spaces.iter().all(|claims| claims.is_frozen())) else { return false };
    let wanted: BTreeMap<ClaimsKey, Claims> = spaces.iter().flat_map(|claims| claims.small_documents()).collect();
    let is_used = |claims: &&Claims| claims.key().is_small() && claims.iter().next().is_some();
    let there = view.claims_of_all_levels().filter(is_used).map(|claims| (claims.key(), claims.clone()));
    there.collect::<BTreeMap<_, _>>() == wanted
}

/// Freezes the documents of the spaces, and copies their claims into small ones. Returns the last revision that a view must have
/// for [`are_moved`].
pub(crate) async fn copy(store: &dyn Store) -> Result<Option<Revision>, StoreError> {
    let (mut last, mut wanted) = (None, BTreeMap::new());
    for space in Space::ALL {
        let (frozen, revision) = change(store, &space.into(), |claims| claims.freeze()).await?;
        last = last.max(Some(revision));
        wanted.extend(frozen.small_documents());
    }
    let copied: Vec<_> = stream::iter(wanted)
        .map(|(key, claims)| async move { change(store, &key, |_| claims.clone()).await })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(copied.into_iter().map(|(_, revision)| Some(revision)).fold(last, Option::max))
}

/// Empties the documents of the spaces, once small ones decide.
pub(crate) async fn empty_spaces(store: &dyn Store) -> Result<(), StoreError> {
    for space in Space::ALL {
        change(store, &space.into(), Claims::emptied).await?;
    }
    Ok(())
}

/// Writes a document as `to` makes it of what is there, where it is not so already. Returns it with its revision.
async fn change(
    store: &dyn Store,
    key: &ClaimsKey,
    to: impl Fn(&Claims) -> Claims,
) -> Result<(Claims, Revision), StoreError> {
    let entry = keys::key(&RecordKey::Claims(key.clone()))?;
    let mut attempt = 1;
    loop {
        let found = get_json::<Claims>(store, Records::Rooms, &entry).await?;
        let wanted = found.as_ref().map_or_else(|| to(&Claims::none(key.clone())), |found| to(&found.value));
        let bytes = keys::encode(&Record::Claims(wanted.clone()))?;
        let written = match found {
            Some(found) if found.value == wanted => return Ok((wanted, found.revision)),
            Some(found) => store.update(Records::Rooms, &entry, &bytes, found.revision).await,
            None => store.create(Records::Rooms, &entry, &bytes).await,
        };
        match written {
            Ok(revision) => return Ok((wanted, revision)),
            Err(StoreError::Conflict { .. } | StoreError::Unknown { .. }) if attempt < CONTENTION => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}
