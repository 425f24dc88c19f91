//! The membershipd that the nodes will run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use unibus_ops::cargo::build_membershipd;
use unibus_ops::exit::BadInput;
use unibus_ops::paths::Paths;
use unibus_ops::process::bounded;
use unibus_ops::ui::Progress;

const WITHIN: Duration = Duration::from_secs(10);

/// The program of `--membershipd FILE`, else what this clone builds.
pub(super) fn membershipd(paths: &Paths, given: Option<&Path>, progress: &Progress) -> Result<PathBuf> {
    if let Some(file) = given {
        return chosen(file);
    }
    let line = progress.line("membershipd");
    line.set("building");
    match build_membershipd(paths, &line) {
        Ok(program) => {
            line.done("built");
            Ok(program)
        }
        Err(error) => {
            line.failed("");
            Err(error)
        }
    }
}

/// The program that was named, if it is a membershipd.
pub fn chosen(file: &Path) -> Result<PathBuf> {
    let named = format!("--membershipd {}", file.display());
    let program = std::fs::canonicalize(file).map_err(|error| BadInput::new(format!("{named}: {error}")))?;
    let mut command = Command::new(&program);
    command.arg("--version");
    let output = bounded(command, b"", WITHIN).map_err(|error| BadInput::new(format!("{named}: {error}")))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.ok() || !said.starts_with("membershipd ") {
        let said = said.lines().next().unwrap_or("nothing");
        return Err(BadInput::new(format!("{named}: this is no membershipd: asked for its version it said {said:?}")));
    }
    Ok(program)
}
