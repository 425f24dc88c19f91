//! Uses a running bus as its members do, from outside: [`load`] steadily, writing down what came of each operation, for
//! `cargo xtask chaos` to judge; [`mod@bench`] as fast as it goes, for ratios; [`rooms`] by orders, as many users
//! in very many rooms for `cargo xtask prove rooms`, and as one hostile member for `cargo xtask prove hostile`; [`many_rooms`] to compare what many rooms have kept.
//!
//! Here belongs what asks and counts. Never here: a verdict, a fault, anything of a node's own.

pub mod bench;
pub mod load;
pub mod many_rooms;
pub mod rooms;
