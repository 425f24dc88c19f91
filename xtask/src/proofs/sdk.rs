//! The program of examples/rust, built on its own, sends and receives in a room of a local cluster.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use unibus_ops::cargo;
use unibus_ops::paths::Paths;
use unibus_ops::shell::shell_in;
use unibus_ops::ui::Progress;

/// Beside the cluster that a user of this machine may have, which stays as it is.
const BASE_ADDRESS: &str = "127.0.92.11";
const TEXT: &str = "said with the SDK";

/// Builds the program, brings a cluster up, talks, and takes the cluster down, also after a failure.
pub(super) fn run(paths: &Paths, progress: &Progress) -> Result<()> {
    let (state, target) = (paths.build().join("prove-sdk"), paths.build().join("sdk-target"));
    let line = progress.line("program");
    let source = paths.root().join("examples/rust");
    let shell = shell_in(&source)?;
    let build = cargo::cargo(&shell).args(["build", "--locked"]).env("CARGO_TARGET_DIR", &target);
    cargo::run(build, &line).context("building examples/rust")?;
    line.done("built, outside the workspace");
    let up = super::xtask(paths, &state, &["local", "--detach", "--fresh", "--base-address", BASE_ADDRESS]);
    let talked = up.and_then(|()| talk(&state, &target.join("debug/chat")));
    let down = super::xtask(paths, &state, &["local", "--down"]);
    let heard = talked?;
    down?;
    ensure!(heard.contains(TEXT), "the program heard {heard:?} instead of {TEXT:?}");
    outln!("sent and received by a program outside the workspace: {}", heard.trim());
    Ok(())
}

/// Says something as the admin, and returns what the admin hears.
fn talk(state: &Path, chat: &Path) -> Result<String> {
    let variables = super::admin_environment(state)?;
    let run = |program: &Path, words: &str| -> Result<String> {
        let mut command = Command::new(program);
        command.args(words.split(' '));
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let output = command.output().with_context(|| format!("starting {}", Paths::shown(program)))?;
        ensure!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    run(&state.join("bin/membershipd"), "room create kitchen --subject room.kitchen")?;
    run(chat, &format!("say kitchen {TEXT}"))?;
    run(chat, "tail kitchen 1")
}
