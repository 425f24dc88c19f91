//! The daemon's binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    membershipd::cli::main()
}
