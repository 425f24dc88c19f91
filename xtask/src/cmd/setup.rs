//! `setup`: what this machine lacks, and its installation.

use anyhow::Result;

use unibus_ops::exit::WouldChange;
use unibus_ops::global::Global;
use unibus_ops::prerequisites::{self, Consent, Missing, Verb};
use unibus_ops::ui::{Progress, Style, next};

/// Show what this machine lacks, and with --yes install it
///
/// Packages come from apt on Debian and Ubuntu, with sudo where you are not root; everything else is fetched into deploy/build,
/// each thing known by its hash or lock file. No service is started. What was installed is said, with the command that undoes
/// it; running it again changes nothing. Exit code 0: nothing is missing; 3: something is, and --yes was not given.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only what these need [default: all of them]
    #[arg(value_enum, value_name = "VERB")]
    verbs: Vec<Verb>,
    /// Install and fetch what is missing
    #[arg(long)]
    yes: bool,
}

/// Looks, and installs with `--yes`.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let verbs = if args.verbs.is_empty() { Verb::ALL.to_vec() } else { args.verbs.clone() };
    if args.yes {
        let progress = Progress::new();
        prerequisites::ensure(&paths, &verbs, Consent::Yes, &progress)?;
        outln!("nothing is missing for: {}", names(&verbs));
        out!("{}", next(&[("cargo xtask local", "see it work"), ("cargo xtask test", "prove it")]));
        return Ok(());
    }
    let findings = prerequisites::look_for(&paths, &verbs);
    out!("{}", prerequisites::table(&findings, Style::stdout()));
    let missing = Missing::of(findings);
    if missing.is_empty() {
        outln!("\nnothing is missing for: {}", names(&verbs));
        return Ok(());
    }
    if let Some(command) = missing.by_hand() {
        outln!("\nwould install: {command}");
    }
    let typed: String = args.verbs.iter().map(|verb| format!(" {}", verb.name())).collect();
    outln!();
    out!("{}", next(&[(&format!("cargo xtask setup{typed} --yes"), "install it, and say what undoes it")]));
    Err(WouldChange.into())
}

fn names(verbs: &[Verb]) -> String {
    verbs.iter().map(|verb| verb.name()).collect::<Vec<_>>().join(", ")
}
