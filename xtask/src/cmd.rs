//! One module a verb, each with its `Args` and a `run`.

pub(crate) mod client_ca;
pub(crate) mod cluster_certs;
pub(crate) mod engine;
pub(crate) mod secrets;
