//! The standard library for static programs, from rustup.

use std::time::Duration;

use crate::build::TARGET;
use crate::paths::Paths;
use crate::process::bounded;
use crate::search_path::on_path;
use crate::shell::{cmd, shell_in};
use crate::ui::Line;

/// What adds it to the toolchain of this clone.
pub(super) const COMMAND: &str = "rustup target add x86_64-unknown-linux-musl";
/// What takes it away again.
pub(super) const UNDO: &str = "rustup target remove x86_64-unknown-linux-musl";
/// 30 MB over a slow line.
const WITHIN: Duration = Duration::from_secs(180);

/// Has rustup add it; says why not where it cannot.
pub(super) fn add(paths: &Paths, line: &Line) -> Result<(), String> {
    let rustup = on_path("rustup").ok_or("it is not on PATH")?;
    line.set(COMMAND);
    let shell = shell_in(paths.root()).map_err(|error| format!("{error:#}"))?;
    // The toolchain that rust-toolchain.toml names, not the one that runs us.
    let add = cmd!(shell, "{rustup} target add {TARGET}").env_remove("RUSTUP_TOOLCHAIN");
    let output = bounded(add, b"", WITHIN).map_err(|failure| failure.to_string())?;
    if output.ok() { Ok(()) } else { Err(output.reason()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_name_the_target() {
        assert!(COMMAND.ends_with(TARGET) && UNDO.ends_with(TARGET));
    }
}
