//! The API: signed requests over HTTPS, on every node.
//!
//! From the top down: `listener` binds, serves and renews the certificate; `entrance` is the one way in, in one order, for
//! every request; `routes` is the one table of what there is, with the action that each route needs and the one place where
//! a request is authorized; `target` is what its path is about, as a type for each `handler`; `users`, `invites`, `rooms`, `members`, `keys`, `history`, `blobs`, `bus_connections`, `status` and `audit` carry out, `open` answers without a signature; `document` describes the
//! table (OpenAPI). Below them are the parts: `outcome` and `refusals` of commands, `shared`, `call`, `body`, `problem`, `paging`, `precondition`, `names`, `origin`, `connections`, `keyed_limiter`,
//! `metrics`, `limits`; `malformed` says in the form of all other refusals what the HTTP library refuses by itself.
//!
//! A request under /v1 is bounded before it is looked at: connections, bytes and time of the head, requests a second of its address.
//! Then its signature is read and proven, by the head alone, the rate of its key is counted, and it takes a place and memory for its
//! body from the shares of its user and address. Only then its body is waited for, its nonce spent, and the rules are asked whether it
//! may be carried out. The body of an upload comes last of all: it is streamed, and counts once it has the digest that was signed.

mod audit;
mod blobs;
mod body;
mod bus_connections;
mod call;
mod connections;
mod document;
mod ended;
mod entrance;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod handler;
mod history;
mod invites;
mod keyed_limiter;
mod keys;
mod limits;
mod listener;
mod malformed;
mod members;
mod metrics;
mod names;
mod open;
mod origin;
mod outcome;
mod paging;
mod precondition;
pub(crate) mod problem;
mod refusals;
mod rooms;
mod routes;
mod shared;
mod status;
mod target;
#[cfg(test)]
mod tests;
mod users;

pub(crate) use audit::audited;
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzzing::bodies;
pub use listener::{Api, Renewal};
