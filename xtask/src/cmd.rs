//! One module a verb, each with its `Args` and a `run`.

mod apply;
pub(crate) mod backup;
pub(crate) mod build;
pub(crate) mod check;
#[cfg(target_os = "linux")]
pub(crate) mod ci;
pub(crate) mod client_ca;
pub(crate) mod cluster_certs;
pub(crate) mod doctor;
pub(crate) mod engine;
pub(crate) mod local;
pub(crate) mod logs;
pub(crate) mod operations;
pub(crate) mod previous;
#[cfg(target_os = "linux")]
pub(crate) mod prove;
pub(crate) mod replace;
pub(crate) mod restore;
pub(crate) mod roll;
pub(crate) mod rollback;
pub(crate) mod scale;
pub(crate) mod secrets;
pub(crate) mod seed_admin;
pub(crate) mod setup;
pub(crate) mod stage;
pub(crate) mod status;
pub(crate) mod support_bundle;
pub(crate) mod test;
pub(crate) mod up;
pub(crate) mod verify;
