//! The names within a node's install directory, which a server and a node of `local` have alike.

/// Where a node's control socket lies, seen from its install directory.
pub const RUNTIME_DIR: &str = "run";
/// The environment of a node's daemon, in its install directory.
pub const ENV_FILE: &str = "cluster.env";
/// The daemon's stores, in a node's install directory.
pub const STORES: &str = "local_files";
/// The record that seeds the first admin, in a node's install directory.
pub const BOOTSTRAP: &str = "bootstrap/admin.json";
