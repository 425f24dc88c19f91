//! Whether a prerequisite is here. Only looks: nothing that it starts stays or changes anything.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::table::{Prerequisite, Probe, Source};
use super::unpack;
use crate::build;
use crate::paths::Paths;
use crate::process::bounded;
use crate::search_path::find;
use crate::tools::Tool;

/// Enough of what a program says of itself.
const SHOWN: usize = 50;
const WITHIN: Duration = Duration::from_secs(20);
/// The first with `--chown`; what macOS brings calls itself 2.6.9.
const OLDEST_RSYNC: (u32, u32) = (3, 1);

/// What is here in the row's place; else why it does not count.
pub fn look(paths: &Paths, row: &Prerequisite) -> Result<String, String> {
    let find = |program: &str| match row.source {
        Source::Unpacked(_) => find(program).or_else(|| unpack::program(paths, program)),
        _ => find(program),
    };
    match row.probe {
        Probe::Runs(program, argument) => says(&find(program).ok_or("not on PATH")?, &[argument]),
        Probe::IsThere(program) => find(program).map(|path| path.display().to_string()).ok_or("not on PATH".to_owned()),
        Probe::Rsync => rsync(),
        Probe::Pip => pip(),
        Probe::MuslStd => build::compiler(paths),
        Probe::Fetched(tool) => match tool.here(paths) {
            Some(place) => Ok(Paths::shown(&place)),
            None if tool == Tool::Zig => build::linker(paths),
            None => Err("not fetched yet".to_owned()),
        },
    }
}

/// The first line that a program says of itself, on whichever stream; or why it does not run.
fn says(program: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(args);
    let output = bounded(command, b"", WITHIN).map_err(|failure| failure.to_string())?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |text: &str| text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned);
    let said = line(&stdout).or_else(|| line(&output.stderr)).unwrap_or_else(|| "it said nothing".to_owned());
    let said = if said.chars().count() > SHOWN { said.chars().take(SHOWN).chain(['…']).collect() } else { said };
    if output.ok() { Ok(said) } else { Err(format!("{} does not run: {said}", program.display())) }
}

fn rsync() -> Result<String, String> {
    let said = says(&find("rsync").ok_or("not on PATH")?, &["--version"])?;
    if release(&said).is_some_and(|has| has >= OLDEST_RSYNC) {
        return Ok(said);
    }
    let (major, minor) = OLDEST_RSYNC;
    Err(format!("{said}; older than {major}.{minor}, without --chown"))
}

/// `rsync  version 3.2.7  protocol version 31`, or `openrsync: protocol version 29, rsync version 2.6.9 compatible`.
fn release(said: &str) -> Option<(u32, u32)> {
    let number = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.trim_start_matches('v').split(['.', '-']);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let words: Vec<&str> = said.split_whitespace().collect();
    words.windows(2).filter(|pair| pair.first() == Some(&"version")).find_map(|pair| number(pair.get(1)?))
}

fn pip() -> Result<String, String> {
    let python = find("python3").ok_or("no python3 on PATH")?;
    says(&python, &["-m", "pip", "--version"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_of_every_rsync_is_read() {
        assert_eq!(release("rsync  version 3.2.7  protocol version 31"), Some((3, 2)));
        assert_eq!(release("rsync  version v3.4.1  protocol version 32"), Some((3, 4)));
        assert_eq!(release("openrsync: protocol version 29, rsync version 2.6.9 compatible"), Some((2, 6)));
        assert_eq!(release("rsync"), None);
        assert!(release("rsync  version 3.10.0-pre  protocol version 31").is_some_and(|has| has >= OLDEST_RSYNC));
    }

    #[test]
    fn a_program_that_does_not_run_does_not_count() {
        let sh = find("sh").unwrap();
        assert_eq!(says(&sh, &["-c", "echo; echo one; echo two"]).unwrap(), "one");
        let why = says(&sh, &["-c", "echo broken >&2; exit 1"]).unwrap_err();
        assert!(why.contains("does not run: broken"), "{why}");
        assert_eq!(find("no-such-program"), None);
    }
}
