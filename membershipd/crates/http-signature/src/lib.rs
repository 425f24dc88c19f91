//! Signed requests: HTTP message signatures (RFC 9421) with Ed25519, read narrowly.
//!
//! One profile and nothing beside it. A request carries exactly one signature, with our tag, over exactly `@method`,
//! `@authority`, `@path`, `@query`, `content-digest`, and `if-match` where it is sent; its parameters are exactly `created`,
//! `expires`, `nonce`, `keyid` and `tag`. What the message says about the algorithm is not asked: a key of ours is an Ed25519 key.
//! The order of components and parameters is the signer's.
//!
//! A request becomes an actor in four steps, and each value can only be had from the one before:
//! [`Claim::read`] (what the head says), [`Claim::prove_head`] (the signature is right, the user may act; no byte of the body was
//! needed, so none has to be waited for), [`Proven::with_body`] (the body is the one that was signed), [`Unspent::spend`] (the
//! nonce was never used). Only [`Verified`] is a request that counts. A body that is too large to be held comes last, by
//! [`Proven::before_body`]: its bearer must not let it count before it has the digest that was signed. Nothing here reads a clock,
//! a store or a socket: the caller gives the time, the directory and the [`Nonces`].
//!
//! Never here: which user a key is, what a path means, how a server answers.
//!
//! The body's limit is the caller's and comes first: a body is read only up to it, and only after [`Claim::prove_head`] agreed.

mod authority;
mod base;
mod claim;
mod dictionary;
mod digest;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod head;
mod nonce;
mod refusal;
mod sign;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use authority::Authority;
pub use base::{Component, Parameter};
pub use claim::{Claim, Proven, Standing};
pub use digest::BodyDigest;
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzzing::headers;
pub use head::{Field, RequestHead, fields};
pub use nonce::{Nonce, NonceError, NonceUse, Nonces, Unspent, Verified};
pub use refusal::{NONCE_UNKNOWN, Refusal};
pub use sign::{SignedFields, Signer, Unsignable};

/// Tag of our signatures: what was signed for something else with the same key is no request (RFC 9421 section 2.3).
pub const TAG: &str = "unibus";

/// Longest time between `created` and `expires`, in seconds.
pub const LIFETIME_S: i64 = 120;

/// How far any two clocks, a client's or a node's, may differ, in seconds.
pub const SKEW_S: i64 = 30;

/// Shortest time for which a nonce must be kept after its insert. A request made at one node may be shown to another until it
/// expires there, and either clock may be off; the minute is for an insert that is tried several times.
pub const NONCE_KEPT: Duration = Duration::from_secs((LIFETIME_S + 2 * SKEW_S + 60).cast_unsigned());

/// Largest head that is looked at: bytes of all names and values.
const HEAD_BYTES: usize = 16 * 1024;
/// Most fields that a head may have.
const HEAD_FIELDS: usize = 100;
/// Largest value of a field that is parsed or signed, in bytes. A signature of ours takes about 300.
const FIELD_BYTES: usize = 1024;
/// Most separators (`,`, `;` and space) in a field that is parsed: what bounds its members, components and parameters before
/// any of them is looked at. Ours have 12.
const FIELD_SEPARATORS: usize = 40;
