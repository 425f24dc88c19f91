//! What all requests share, and the store of nonces behind their signatures.

use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use uuid::Uuid;

use super::connections::{Answering, Connections};
use super::keyed_limiter::KeyedLimiter;
use super::limits;
use super::metrics::Metrics;
use super::names::Names;
use crate::blobs::Blobs;
use crate::commands::Commands;
use crate::config::{ClearRooms, Share};
use crate::gate::Gate;
use crate::history::Histories;
use crate::invites::Invites;
use crate::peers::Peers;
use crate::posture::Observer;
use crate::rate::Rate;
use crate::room_keys::RoomKeys;
use unibus_core::domain::{FeatureLevel, SignPub, Terms};
use unibus_core::view::View;
use unibus_http_signature::{NonceError, NonceUse, Nonces};
use unibus_store::Store;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) gate: Arc<Gate>,
    pub(super) observer: Observer,
    /// The other nodes.
    pub(super) peers: Peers,
    pub(super) invites: Invites,
    pub(super) commands: Arc<Commands>,
    /// What is allowed on this bus.
    pub(super) terms: Terms,
    pub(super) store: Arc<dyn Store>,
    pub(super) keys: RoomKeys,
    /// Epochs that a user may begin, and envelopes in them.
    pub(super) epochs: Rate<RandomState>,
    pub(super) envelopes: Rate<RandomState>,
    pub(super) names: Names,
    pub(super) metrics: Metrics,
    pub(super) addresses: Rate<RandomState>,
    pub(super) callers: Rate<RandomState>,
    /// Addresses of those who are nobody yet.
    pub(super) newcomers: Rate<RandomState>,
    pub(super) connections: Connections,
    /// Places of requests whose head is proven.
    pub(super) requests: KeyedLimiter,
    /// Places of clients that have no user yet.
    pub(super) newcomer_requests: KeyedLimiter,
    /// Memory for bodies, in bytes.
    pub(super) body_bytes: KeyedLimiter,
    /// What is said in rooms.
    pub(super) histories: Histories,
    /// Answers with messages that may be on their way.
    pub(super) readings: KeyedLimiter,
    pub(super) blobs: Blobs,
    pub(super) uploads: KeyedLimiter,
    pub(super) downloads: KeyedLimiter,
    /// Lists that are read from the store.
    pub(super) lists: KeyedLimiter,
    /// Identity of this process, and the requests of it so far: together the id of a request.
    boot: u64,
    serial: AtomicU64,
}

impl Shared {
    /// For one node, from `began`.
    pub(super) fn new(
        peers: Peers,
        commands: Arc<Commands>,
        histories: Histories,
        blobs: Blobs,
        began: Instant,
    ) -> Self {
        let observer = peers.observer().clone();
        let (a_second, bounds) = (observer.config.api_rate.get(), observer.config.bounds);
        let rate = |a_second| Rate::new(a_second, limits::BURST_S, limits::RATE_SLOTS, began, RandomState::new());
        let an_hour = |count| Rate::of(count, limits::HOUR, count, limits::RATE_SLOTS, began, RandomState::new());
        let newcomers = (limits::NEWCOMERS_A_SECOND, limits::NEWCOMERS_BURST_S);
        Self {
            gate: observer.gate.clone(),
            invites: Invites::new(commands.clone()),
            names: Names::of(&observer.config),
            metrics: Metrics::new(),
            addresses: rate(a_second.saturating_mul(limits::KEYS_PER_ADDRESS)),
            callers: rate(a_second),
            epochs: an_hour(bounds.hourly.epochs),
            envelopes: an_hour(bounds.hourly.envelopes),
            newcomers: Rate::new(newcomers.0, newcomers.1, limits::RATE_SLOTS, began, RandomState::new()),
            connections: Connections::new(bounds.connections, &observer.config.trusted_proxies),
            requests: KeyedLimiter::new("requests", bounds.requests),
            newcomer_requests: KeyedLimiter::new(
                "registrations",
                Share {
                    all: limits::NEWCOMERS,
                    user: limits::NEWCOMERS_PER_ADDRESS,
                    address: limits::NEWCOMERS_PER_ADDRESS,
                },
            ),
            body_bytes: KeyedLimiter::new("bytes of bodies", bounds.body_bytes),
            histories,
            readings: KeyedLimiter::new("readings of messages", bounds.readings),
            blobs,
            uploads: KeyedLimiter::new("uploads", bounds.uploads),
            downloads: KeyedLimiter::new("downloads", bounds.downloads),
            lists: KeyedLimiter::new("lists", bounds.lists),
            boot: u64::from_str_radix(&observer.boot, 16).unwrap_or_default(),
            serial: AtomicU64::new(0),
            terms: Terms {
                encrypted_only: observer.config.clear_rooms == ClearRooms::Refuse,
                quota: observer.config.quota,
                keeping: observer.config.keeping,
            },
            observer,
            peers,
            keys: RoomKeys::new(commands.clone()),
            store: commands.store().clone(),
            commands,
        }
    }

    /// A new id of a request.
    pub(super) fn next_id(&self) -> String {
        request_id(self.boot, self.serial.fetch_add(1, Ordering::Relaxed))
    }
}

/// A UUID made of process and number (version 8, RFC 9562 section 5.8): unique without randomness for each request.
fn request_id(boot: u64, serial: u64) -> String {
    // 48 bits of the process, 4 of the version, 12 more of the process, 2 of the variant, 4 more of the process, 58 of the number.
    let high = (boot >> 16 << 16) | ((boot & 0xffff) >> 4);
    let low = ((boot & 0xf) << 58) | (serial & ((1 << 58) - 1));
    Uuid::new_v8((u128::from(high) << 64 | u128::from(low)).to_be_bytes()).urn().to_string()
}

/// Nonces in the replicated store, as the level of the cluster says.
pub(super) struct Spending<'a>(pub(super) &'a Shared);

impl Nonces for Spending<'_> {
    async fn insert(&self, used: &NonceUse) -> Result<(), NonceError> {
        let key = used.entry_key().parse().map_err(|error| NonceError::Unknown(format!("{error}")))?;
        let (store, level) = (&self.0.store, self.0.gate.view(View::level));
        let noted = if level >= FeatureLevel::Kept {
            store.log_nonce(used.authority.as_str(), &key).await
        } else {
            store.insert_nonce(&key).await
        };
        match noted {
            Ok(unibus_store::Nonce::Fresh) => Ok(()),
            Ok(unibus_store::Nonce::Replayed) => Err(NonceError::Used),
            Err(error) => Err(NonceError::Unknown(error.to_string())),
        }
    }
}

/// Where a request comes from, and what its log line says about it.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) id: String,
    pub(super) peer: IpAddr,
    pub(super) route: &'static str,
    pub(super) method: &'static str,
    /// Key that the request names.
    pub(super) key: Option<SignPub>,
    /// Whether the signature was right.
    pub(super) proven: bool,
    /// On which connection it is under way.
    pub(super) answering: Option<Answering>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_and_differ() {
        assert_eq!(request_id(u64::MAX, 1), "urn:uuid:ffffffff-ffff-8fff-bc00-000000000001");
        assert_eq!(
            request_id(0x0123_4567_89ab_cdef, 0x1_0000_0000_0000),
            "urn:uuid:01234567-89ab-8cde-bc01-000000000000"
        );
        assert_ne!(request_id(1, 2), request_id(1, 3));
        assert_ne!(request_id(1, 2), request_id(2, 2));
    }
}
