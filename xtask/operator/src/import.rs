//! `operator import`: what another machine has sealed, in its place in this clone.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};
use zeroize::Zeroizing;

use crate::belongings::{Belongings, TOPOLOGY};
use crate::seal::{self, WithArgs};
use unibus_ops::exit::BadInput;
use unibus_ops::fsx::{self, Batch};
use unibus_ops::global::Global;
use unibus_ops::paths::Paths;
use unibus_ops::ui::next;

/// Bytes of all files together, in their form: much more than any cluster has.
const MOST: u64 = 64 << 20;

/// Put what `operator export` has sealed where the other verbs look for it
///
/// What is there already and the same is kept; where anything differs nothing is written, and it is named. A topology that still has
/// placeholders makes way for the sealed one. No node is asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The sealed file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    with: WithArgs,
}

/// Opens, compares and writes.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let with = args.with.read()?;
    let mut text = Zeroizing::new(Vec::new());
    let shown = Paths::shown(&args.file);
    let opened = seal::open(&args.file, &with)?;
    opened.take(MOST).read_to_end(&mut text).with_context(|| format!("{shown} is damaged or cut off"))?;
    let belongings: Belongings =
        serde_json::from_slice(&text).with_context(|| format!("{shown} is no export of an operator"))?;
    let belongings = belongings.check()?;
    let deploy = paths.root().join("deploy");
    let (mut batch, mut differ, mut written, mut kept) = (Batch::default(), Vec::new(), 0, 0);
    for file in &belongings.files {
        let (path, mode) = file.place(&deploy)?;
        let (bytes, old) = (file.bytes()?, fsx::read(&path)?);
        match old {
            Some(old) if old == bytes => kept += 1,
            Some(old) if file.path == TOPOLOGY && has_placeholders(&old) => {
                batch.put(&path, mode, bytes);
                written += 1;
            }
            Some(_) => differ.push(Paths::shown(&path)),
            None => {
                batch.put(&path, mode, bytes);
                written += 1;
            }
        }
    }
    if !differ.is_empty() {
        return Err(BadInput::new(format!(
            "nothing was written, as these are there and differ: {}; move them away if what is in {shown} is right",
            differ.join(", ")
        )));
    }
    batch.commit()?;
    outln!("{written} files of {} were written, {kept} were there; sealed {}", belongings.cluster, belongings.made);
    outln!("the servers let in the holders of ssh keys that they know: see that this machine has one");
    let known = ("cargo xtask doctor --nodes", "whether this machine reaches the servers");
    out!("{}", next(&[known, ("cargo xtask stage --diff", "whether they have what is here")]));
    Ok(())
}

/// As the repository ships it.
fn has_placeholders(topology: &[u8]) -> bool {
    String::from_utf8_lossy(topology).lines().any(|line| !line.trim_start().starts_with('#') && line.contains("\"<"))
}
