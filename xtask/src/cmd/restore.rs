//! `restore` and `promote`: a file of the sqlite store, carried into an empty cluster.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::apply::{self, ApplyArgs, CommandInfo, Extras, RejectLocal};
use unibus_ops::backup_stream;
use unibus_ops::build;
use unibus_ops::engine::Pin;
use unibus_ops::exit::BadInput;
use unibus_ops::global::Global;
use unibus_ops::paths::Paths;
use unibus_ops::plan::{Effect, SentFile, Step, Unless, words};
use unibus_ops::target::Target;
use unibus_ops::transport::Mode;

/// What every file of SQLite begins with (its file format, section 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// What SQLite puts beside a file whose changes are not all in it (its documentation of temporary files, sections 2.1 and 2.2).
const PENDING: [&str; 2] = ["-wal", "-journal"];
/// Where the file lies on the node meanwhile, below its install directory.
const ASIDE: &str = "restore";
const OWNER: &str = "root:root";
/// Some hundred thousand entries, each on three disks.
const CARRIED: Duration = Duration::from_secs(1800);

/// Bring a backup back, into a cluster that is empty
///
/// The cluster runs, and holds nothing: what is there already is never overwritten, not even an admin. The file goes to the seed
/// node, which writes it entry by entry; run again it goes on where it was. Nobody can use what is half there. Without --yes the
/// steps are only printed, and no connection is opened.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The file, as `backup` makes it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    apply: ApplyArgs,
    #[command(flatten)]
    reject_local: RejectLocal,
}

/// Make a cluster of what a single node had
///
/// The file is the store of a membershipd without a cluster (local_files/unibus.db), which has been stopped, or a copy that its
/// `export` made. Otherwise as `restore`: the cluster runs, and is empty.
#[derive(clap::Args)]
pub(crate) struct Promote {
    /// The file of the single node
    #[arg(long, value_name = "FILE")]
    db: PathBuf,
    #[command(flatten)]
    apply: ApplyArgs,
    #[command(flatten)]
    reject_local: RejectLocal,
}

/// Prints the plan of a restoration, and carries it out with `--yes`.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let verb = format!("restore {}", Paths::shown(&args.file));
    carry(global, &args.file, "restore", &verb, &args.apply, &args.reject_local)
}

/// The same of a promotion.
pub(crate) fn promote(global: &Global, args: &Promote) -> Result<()> {
    let verb = format!("promote --db {}", Paths::shown(&args.db));
    carry(global, &args.db, "promote", &verb, &args.apply, &args.reject_local)
}

fn carry(
    global: &Global,
    file: &Path,
    name: &str,
    verb: &str,
    args: &ApplyArgs,
    reject_local: &RejectLocal,
) -> Result<()> {
    reject_local
        .check("that needs servers; for a local cluster: membershipd migrate-to-kv in the directory of a node")?;
    is_store(file)?;
    let paths = global.paths()?;
    let target = Target::servers(global.topology(&paths)?, Pin::load(&paths.engine_pin())?, global.topology_flag());
    let steps = target.locked(plan(&target, file)?, name, &args.lock);
    let extras = Extras::default();
    let notes = ["the cluster must run and be empty: no admin is seeded; what is there is never overwritten"];
    let next = [("verify", "prove that the cluster is what it should be")];
    let info = CommandInfo { verb, notes: &notes, done: &[], next: &next };
    if !args.yes {
        return apply::preview(&target, &steps, &extras, args, &info);
    }
    let outcome = apply::carry_out(&target, steps);
    let seed = &target.seed()?.name;
    let remedy = format!(
        "what was carried stays and nobody can use what is half there; the file is still on {seed}, for root alone, until this \
         has ended well; the runbook has a table of what membershipd says: deploy/README.md, Restoring a backup"
    );
    apply::report(&target, &outcome, &extras, args, &info, Some(&remedy))
}

fn plan(target: &Target, file: &Path) -> Result<Vec<Step>> {
    let node = &target.seed()?.name;
    let aside = format!("{}/{ASIDE}", target.topology.cluster.install_dir);
    let name = file.file_name().and_then(|name| name.to_str()).context("a file without a name")?;
    let there = format!("{aside}/{name}");
    let program = format!("./{}", build::FILE);
    let from = std::path::absolute(file).with_context(|| format!("finding {}", Paths::shown(file)))?;
    // Whether it was carried already it finds out itself, entry by entry.
    let always = || Unless { argv: words(&["false"]), prints: None };
    let argv = words(&[&program, "migrate-to-kv", "--db", &there, "--runtime-dir", &target.runtime_dir]);
    let gone = Unless { argv: words(&["test", "!", "-e", &aside]), prints: None };
    let effects = [
        ("directory", Effect::MakeDirectory { path: aside.clone(), owner: OWNER.to_owned(), mode: Mode(0o700) }),
        (
            "file",
            Effect::SyncFiles {
                to: aside.clone(),
                owner: OWNER.to_owned(),
                mode: Mode(0o600),
                files: vec![SentFile { from, sha256: None }],
            },
        ),
        ("carry over", Effect::Run { argv, unless: always() }),
        ("file away", Effect::Run { argv: words(&["rm", "-r", "--", &aside]), unless: gone }),
    ];
    let steps = (0..).zip(effects).map(|(wave, (id, effect))| {
        let step = Step::new(id, node, effect).in_wave(wave);
        if id == "carry over" { step.within(CARRIED) } else { step }
    });
    Ok(steps.collect())
}

/// Refuses what is no store, or not all of one, before any node is asked.
fn is_store(file: &Path) -> Result<()> {
    // What was acknowledged last stands there alone until the store is closed in good order; without it the cluster would lack it.
    for end in PENDING {
        let mut beside = file.as_os_str().to_owned();
        beside.push(end);
        if fs::metadata(&beside).is_ok_and(|beside| beside.len() > 0) {
            return Err(BadInput::new(format!(
                "{} is not all of its store: part of it is in {}; start that membershipd and stop it, or take a copy by its \
                 `export`",
                Paths::shown(file),
                Paths::shown(Path::new(&beside))
            )));
        }
    }
    let mut begins = [0; MAGIC.len()];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut begins));
    match read {
        Ok(()) if begins == *MAGIC || begins == *backup_stream::MAGIC => Ok(()),
        Ok(()) => Err(BadInput::new(format!("{} is no backup and no file of the sqlite store", Paths::shown(file)))),
        Err(error) => Err(BadInput::new(format!("cannot read {}: {error}", Paths::shown(file)))),
    }
}
