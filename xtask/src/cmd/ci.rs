//! `ci`: everything that must hold before a change lands, in one run, with the program that ships.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::{check, test};
use crate::external;
use crate::previous::Previous;
use crate::testing::Steps;
use unibus_ops::build;
use unibus_ops::global::Global;
use unibus_ops::prerequisites::{self, Consent, InstallArgs, Verb};

/// Prove a change: static build, check, test with the static program, rehearse with an upgrade
///
/// What .ci/run calls on a clean clone. The first failure ends it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the report of the rehearsal: one HTML page
    #[arg(long, value_name = "FILE", default_value = "deploy/build/rehearsal.html")]
    report: PathBuf,
    #[command(flatten)]
    install: InstallArgs,
}

/// Proves everything.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let consent = args.install.consent();
    let mut steps = Steps::new();
    // What a later verb would fetch for itself is here before anything takes long.
    prerequisites::ensure(&paths, &Verb::ALL, consent, &steps.progress)?;
    let outcome = prove(global, args, consent, &mut steps);
    steps.show();
    outcome
}

fn prove(global: &Global, args: &Args, consent: Consent, steps: &mut Steps) -> Result<()> {
    let paths = global.paths()?;
    // Alone: it keeps both cores busy, and what runs beside it waits for longer than its tests allow.
    let built = steps.step("static build", |line| build::build(&paths, None, line))?;
    outln!("membershipd {}, {} bytes, by {} ({})", built.version, built.bytes, built.builder, built.compiler);
    // While what it has in common with this release is compiled.
    let previous = Previous::load(&paths.previous())?;
    steps.step("previous release, static", |line| previous.obtain_static(&paths, line))?;
    check::judge(&paths, steps)?;
    let program = build::place(&paths);
    let order = test::Order { filter: None, machines: false, membershipd: Some(&program), words: &[], consent };
    test::carry_out(&paths, &order, steps)?;
    let mut rehearse = external::command(&external::REHEARSAL, &[external::OPERATOR], &steps.progress)?;
    rehearse
        .args(global.words(&paths))
        .args(["rehearse", "--upgrade", "--report"])
        .arg(&args.report)
        .args(args.install.words());
    steps.aloud("rehearsal", || {
        let status = rehearse.status().context("starting the rehearsal")?;
        if status.success() { Ok(()) } else { bail!("the rehearsal ended with {status}; what it said is above") }
    })
}
