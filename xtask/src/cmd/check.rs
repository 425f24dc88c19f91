//! `check`: what can be judged without running anything.

use anyhow::Result;

use crate::testing::Steps;
use unibus_ops::cargo;
use unibus_ops::global::Global;
use unibus_ops::paths::Paths;
use unibus_ops::prerequisites::{self, InstallArgs, Verb};
use unibus_ops::shell::{cmd, shell_in};
use unibus_ops::tools::Tool;
use unibus_ops::ui::next;

/// Judge format, lints, dependencies and documentation
///
/// In the order in which they fail fastest; the first failure ends it. It runs no test and starts no server.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    install: InstallArgs,
}

/// Judges everything.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let mut steps = Steps::new();
    prerequisites::packages(&paths, &[Verb::Check], args.install.consent(), &steps.progress)?;
    let judged = judge(&paths, &mut steps);
    steps.show();
    judged?;
    out!("{}", next(&[("cargo xtask test", "run the tests")]));
    Ok(())
}

/// Everything, each as a step; the first failure ends it.
pub(super) fn judge(paths: &Paths, steps: &mut Steps) -> Result<()> {
    let shell = shell_in(paths.root())?;
    let cargo = |words: &str| cargo::cargo(&shell).args(words.split(' '));
    steps.quiet("format", cargo("fmt --all --check"))?;
    steps.quiet("lints", cargo("clippy --locked --workspace --all-targets --all-features -- -D warnings"))?;
    let deny = steps.step("cargo-deny", |line| Tool::CargoDeny.obtain(paths, line))?;
    // Also those that only other systems need: a build does not fetch them, and they are judged too.
    steps.quiet("crates", cargo("fetch --locked"))?;
    // Nothing of this needs the network any more.
    let judge = cmd!(shell, "{deny} --all-features --offline check bans licenses sources");
    steps.quiet("dependencies", judge)?;
    let doc = cargo("doc --locked --no-deps --workspace --document-private-items").env("RUSTDOCFLAGS", "-D warnings");
    steps.quiet("documentation", doc)
}
