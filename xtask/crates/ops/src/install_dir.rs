//! The names within a node's install directory, which a server and a node of `local` have alike.

/// Where the control socket of a node of `local` lies, seen from its install directory.
pub const RUNTIME_DIR: &str = "run";
/// The environment of a node's daemon, in its install directory.
pub const CLUSTER_ENV: &str = "cluster.env";
/// The daemon's stores, in a node's install directory.
pub const STORES: &str = "local_files";
/// Where a daemon notes the feature level of its cluster, beside its engine's store, in a node's install directory.
pub(crate) const LEVEL_NOTE: &str = "local_files/jetstream.level";
/// The record that seeds the first admin, in a node's install directory.
pub const BOOTSTRAP: &str = "bootstrap/admin.json";

/// Where the control socket of a server's daemon lies.
pub const SERVER_RUNTIME_DIR: &str = "/run/unibus";
