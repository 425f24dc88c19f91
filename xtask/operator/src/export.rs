//! `operator export`: all that an operator has and git has not, in one sealed file.

use std::path::PathBuf;

use age::x25519;
use anyhow::{Context, Result};

use crate::belongings::Belongings;
use crate::seal::{self, For};
use unibus_ops::global::Global;
use unibus_ops::paths::Paths;
use unibus_ops::ui::next;
use unibus_ops::unfinished_file::UnfinishedFile;

/// Seal the CAs, secrets, node files and topology of the cluster in one file, for keys or with a passphrase
///
/// Keep it where the laptop is not: with it and a clone another machine operates the cluster. It is a file of age (age-encryption.org),
/// which other programs open, too. No node is asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seal it for the holder of the secret key of this public one (age1…); may be given several times
    #[arg(long, value_name = "RECIPIENT", value_parser = seal::recipient, required_unless_present = "passphrase_file")]
    encrypt_to: Vec<x25519::Recipient>,
    /// Seal it with the passphrase in the first line of this file, mode 0600, at least 16 characters
    #[arg(long, value_name = "FILE", conflicts_with = "encrypt_to")]
    passphrase_file: Option<PathBuf>,
    /// File to make, mode 0600; an existing one is never overwritten
    #[arg(long, value_name = "FILE", default_value = "operator.age")]
    out: PathBuf,
}

/// Collects and seals.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let file = global.topology_flag().cloned().unwrap_or_else(|| paths.topology());
    let topology = global.topology(&paths)?;
    let whom = match &args.passphrase_file {
        Some(file) => For::Passphrase(seal::passphrase(file)?),
        None => For::Recipients(args.encrypt_to.clone()),
    };
    let belongings = Belongings::collect(&paths, &topology.cluster.name, &file)?;
    let unfinished = UnfinishedFile::create(&args.out)?;
    seal::seal(unfinished.file(), &whom, |to| serde_json::to_writer(to, &belongings).context("sealing"))?;
    unfinished.finish()?;
    let shown = Paths::shown(&args.out);
    outln!("{} files of {} are in {shown}", belongings.files.len(), belongings.cluster);
    outln!("keep it where this machine is not, and make it again whenever a key changes");
    let import = format!("cargo xtask operator import {shown}");
    out!("{}", next(&[(&import, "on another machine, in a clone of this repository")]));
    Ok(())
}
