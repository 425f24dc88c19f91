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

const OPERATOR_LINTS: &str = "clippy --locked --manifest-path xtask/operator/Cargo.toml --target-dir target/operator --all-targets -- \
                              -D warnings";

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
    // The one program that is a workspace of its own.
    steps.quiet("operator, format", cargo("fmt --manifest-path xtask/operator/Cargo.toml --check"))?;
    steps.quiet("operator, lints", cargo(OPERATOR_LINTS))?;
    let deny = steps.step("cargo-deny", |line| Tool::CargoDeny.obtain(paths, line))?;
    // Also those that only other systems need: a build does not fetch them, and they are judged too.
    steps.quiet("crates", cargo("fetch --locked"))?;
    steps.quiet("operator, crates", cargo("fetch --locked --manifest-path xtask/operator/Cargo.toml"))?;
    // Nothing of this needs the network any more.
    let judge = cmd!(shell, "{deny} --all-features --offline check bans licenses sources");
    steps.quiet("dependencies", judge)?;
    let own = "xtask/operator/Cargo.toml";
    let judge = cmd!(
        shell,
        "{deny} --manifest-path {own} --config deny.toml --all-features --offline check bans licenses sources"
    );
    steps.quiet("operator, dependencies", judge)?;
    let doc = cargo("doc --locked --no-deps --workspace --document-private-items").env("RUSTDOCFLAGS", "-D warnings");
    steps.quiet("documentation", doc)
}
