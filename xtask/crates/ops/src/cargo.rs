//! Runs cargo and shows what it is at.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::paths::Paths;
use crate::process::bounded;
use crate::shell::{Cmd, Shell, cmd, shell_in};
use crate::ui::Line;

/// Lines of a failed build that are worth showing; an error of rustc is rarely longer.
const SHOWN: usize = 200;
/// How pip announces that it asks once more.
pub(crate) const RETRYING: &str = "WARNING: Retrying";
/// Has cargo say on standard output what it builds, and people's messages on standard error.
pub const JSON_MESSAGES: [&str; 2] = ["--message-format", "json-render-diagnostics"];
const VERSION_WITHIN: Duration = Duration::from_secs(10);

/// The cargo that started us, else the one on PATH.
pub fn cargo(shell: &Shell) -> Cmd<'_> {
    let mut command = shell.cmd(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    // `cargo run` describes xtask in these, and build scripts such as ring's look at them: with them passed on, every
    // other build would find the last one stale.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command = command.env_remove(name);
        }
    }
    command
}

/// Builds membershipd and says where the program is.
pub fn build_membershipd(paths: &Paths, line: &Line) -> Result<PathBuf> {
    build(paths, &[], line)
}

/// Builds the membershipd whose safeguards a test can switch off, beside the real one and never in its place.
pub fn build_faults(paths: &Paths, line: &Line) -> Result<PathBuf> {
    // In the same target directory, where all dependencies are built already; the next build of the real one takes
    // the program's place there, so this one is copied away.
    let built = build(paths, &["--features", "fault-injection"], line)?;
    let kept = built.with_file_name("membershipd-faults");
    let new = built.with_file_name("membershipd-faults.new");
    fs::copy(&built, &new)
        .and_then(|_| fs::rename(&new, &kept))
        .with_context(|| format!("writing {}", Paths::shown(&kept)))?;
    let shell = shell_in(paths.root())?;
    let said = bounded(cmd!(shell, "{kept} --version"), b"", VERSION_WITHIN)?;
    if !String::from_utf8_lossy(&said.stdout).trim_end().ends_with("+faults") {
        bail!("another cargo built membershipd meanwhile; run this again");
    }
    Ok(kept)
}

fn build(paths: &Paths, features: &[&str], line: &Line) -> Result<PathBuf> {
    let shell = shell_in(paths.root())?;
    let command = cargo(&shell).args(["build", "--locked", "--package", "membershipd"]).args(features);
    let stdout = run(command.args(JSON_MESSAGES), line)?;
    executable(&stdout, "membershipd").context("cargo built no program 'membershipd'")
}

/// Runs a command whose standard error tells of its progress; its standard output is the result.
pub fn run(command: impl Into<Command>, line: &Line) -> Result<String> {
    let mut command: Command = command.into();
    let shown = shown(&command);
    let program = Path::new(command.get_program()).display().to_string();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {program}; is it installed and on PATH?"))?;
    let out = child.stdout.take();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        out.map_or(Ok(0), |mut out| out.read_to_end(&mut bytes)).map(|_| bytes)
    });
    let mut last: VecDeque<String> = VecDeque::new();
    if let Some(stderr) = child.stderr.take() {
        let mut begun = 0_u32;
        for text in BufReader::new(stderr).split(b'\n') {
            let text = String::from_utf8_lossy(&text.context("reading what it says")?).trim_end().to_owned();
            if let Some(doing) = progress(&text) {
                begun += 1;
                line.doing(&format!("{doing} ({begun})"));
                // No part of what went wrong.
                continue;
            }
            // pip's, of what it reports once more in the end.
            if text.starts_with(RETRYING) {
                continue;
            }
            if last.len() == SHOWN {
                last.pop_front();
            }
            last.push_back(text);
        }
    }
    let status = child.wait().with_context(|| format!("waiting for {program}"))?;
    let stdout = reader.join().unwrap_or_else(|_| Ok(Vec::new())).context("reading its output")?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        return Ok(stdout);
    }
    let said: Vec<&str> = last.iter().map(String::as_str).collect();
    bail!("{shown} ended with {status}:\n{}", said.join("\n"))
}

/// The command as one could type it.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program()).to_string_lossy();
    let args = command.get_args().map(|arg| arg.to_string_lossy());
    std::iter::once(program).chain(args).collect::<Vec<_>>().join(" ")
}

/// What cargo is at, if the line says so.
fn progress(line: &str) -> Option<&str> {
    let line = line.trim_start();
    ["Compiling", "Checking", "Documenting", "Downloaded"].iter().any(|word| line.starts_with(word)).then_some(line)
}

/// Something that cargo built, as its messages tell.
#[derive(Debug, Deserialize)]
pub struct Artifact {
    package_id: String,
    /// The Cargo.toml of its package.
    pub manifest_path: PathBuf,
    /// What it was built from.
    pub target: Target,
    /// How it was built.
    pub profile: Profile,
    /// The program, if it is one.
    pub executable: Option<PathBuf>,
}

impl Artifact {
    /// The name of its package, from an id such as `path+file:///w/xtask#0.1.0` or `path+file:///w/x#unibus-ops@0.1.0`.
    pub fn package(&self) -> &str {
        let (path, version) = self.package_id.split_once('#').unwrap_or((&self.package_id, ""));
        match version.split_once('@') {
            Some((name, _)) => name,
            None => path.rsplit('/').next().unwrap_or(path),
        }
    }
}

/// What it was built from.
#[derive(Debug, Deserialize)]
pub struct Target {
    /// Of the library, program or test; a library has underscores.
    pub name: String,
    /// `lib`, `bin`, `test` and others.
    pub kind: Vec<String>,
}

/// How it was built.
#[derive(Debug, Deserialize)]
pub struct Profile {
    /// Whether it is a test program.
    pub test: bool,
}

/// All that cargo's messages name.
pub fn artifacts(messages: &str) -> impl Iterator<Item = Artifact> {
    messages.lines().filter_map(|line| serde_json::from_str(line).ok())
}

/// The path of a program, from cargo's messages: where it lies depends on flags, environment and configuration.
pub fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    artifacts(messages)
        .filter(|artifact| !artifact.profile.test && artifact.target.name == name)
        .find_map(|artifact| artifact.executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_where_cargo_says() {
        let message = |name: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"path+file:///x#membershipd@0.1.0","manifest_path":"/x/Cargo.toml","target":{{"name":"{name}","kind":["bin"]}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let messages = [
            message("membershipd", false, "null"),
            message("membershipd", true, r#""/x/debug/deps/membershipd-1""#),
            message("other", false, r#""/x/other""#),
            message("membershipd", false, r#""/x/debug/membershipd""#),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        assert_eq!(executable(&messages.join("\n"), "membershipd"), Some(PathBuf::from("/x/debug/membershipd")));
        assert_eq!(executable("", "membershipd"), None);
    }

    #[test]
    fn progress_is_told_from_noise() {
        assert_eq!(progress("   Compiling ring v0.17.14"), Some("Compiling ring v0.17.14"));
        assert_eq!(progress("warning: unused"), None);
    }
}
