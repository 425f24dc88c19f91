//! What the verbs of the deployment tool are made of: the topology and what is derived from it (keys, secrets, node files), plans
//! and their execution over ssh, and the checks of nodes and of this machine.
//!
//! Here belongs what more than one verb needs, and what a verb does once its command line is read. It never starts daemons on this
//! machine (`unibus-local`), never boots machines and injects no fault (`unibus-rehearsal`), and knows no verb's command line beyond the
//! flags that several verbs share. Modules depend only on modules that do not depend on them.

// First: its macros are for all modules that follow.
#[macro_use]
pub mod stdio;

pub mod answer;
pub mod backup_stream;
pub mod build;
pub mod cargo;
pub mod doctor;
pub mod engine;
pub mod exit;
pub mod first_admin;
pub mod fsx;
pub mod global;
pub mod hash;
pub mod install_dir;
pub mod level;
pub mod local_state;
pub mod local_time;
pub mod lock;
pub mod logs;
pub mod machine_host;
pub mod making;
pub mod node_files;
pub mod operations;
pub mod overview;
pub mod paths;
pub mod pki;
pub mod plan;
pub mod posture;
pub mod prerequisites;
pub mod process;
pub mod random;
pub mod report;
pub mod rolling;
pub mod rotate;
pub mod screen;
pub mod search_path;
pub mod secrets;
pub mod shell;
pub mod staging;
pub mod support;
pub mod target;
pub mod tools;
pub mod topology;
pub mod transport;
pub mod ui;
pub mod unfinished_file;
pub mod verify;
pub mod watch;
