//! What this machine needs, out of one table, and how what is missing comes here: installed after a yes, or fetched into
//! deploy/build.

mod apt;
mod look;
mod manager;
mod musl;
mod table;
mod unpack;

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub use self::look::look;
pub(crate) use self::manager::Manager;
pub(crate) use self::table::PREREQUISITES;
pub use self::table::Package;
pub use self::table::Source;
pub use self::table::Verb;
pub use self::table::{Prerequisite, Probe};

use self::apt::{Privilege, Transaction};
use crate::exit::BadInput;
use crate::paths::Paths;
use crate::search_path::{SYSTEM_DIRS, on_path};
use crate::tools;
use crate::ui::{Cell, Progress, Style, Table, Tone};

/// Node.js, the linker and the clients take half of it; what is built takes the rest, and more.
const ROOM: u64 = 2 << 30;

/// What the operator says about installing packages on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Nothing yet: asked on a terminal; without one root's process installs and any other one refuses.
    Ask,
    /// Yes, with sudo where this is not root.
    Yes,
    /// No.
    Never,
}

/// The flag of every verb that looks for what it needs before it begins.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct InstallArgs {
    /// Install no package on this machine: where one is missing, list all of them and stop with exit code 2
    #[arg(long)]
    no_install: bool,
}

impl InstallArgs {
    /// What was said by the flag.
    pub fn consent(self) -> Consent {
        if self.no_install { Consent::Never } else { Consent::Ask }
    }

    /// The flag as it was typed, for another run of this program.
    pub fn words(self) -> Option<&'static str> {
        self.no_install.then_some("--no-install")
    }
}

/// A prerequisite, and what is here in its place or why that does not count.
pub(crate) type Finding = (&'static Prerequisite, Result<String, String>);

/// Looks for everything that these verbs need.
pub fn look_for(paths: &Paths, verbs: &[Verb]) -> Vec<Finding> {
    let rows = table::needed_by(verbs);
    let (pip, others): (Vec<&Prerequisite>, Vec<&Prerequisite>) =
        rows.into_iter().partition(|row| row.probe == Probe::Pip);
    let mut findings: Vec<Finding> = others.into_iter().map(|row| (row, look(paths, row))).collect();
    // Tests start Python themselves; for anyone else it only fetches.
    let fetches = findings.iter().any(|(row, found)| found.is_err() && matches!(row.source, Source::Fetched(_)));
    if fetches || verbs.contains(&Verb::Test) {
        findings.extend(pip.into_iter().map(|row| (row, look(paths, row))));
    }
    findings
}

/// What is missing, by the way in which it comes here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    rows: Vec<(&'static Prerequisite, String)>,
}

impl Missing {
    /// What these verbs lack.
    pub fn of(findings: Vec<Finding>) -> Self {
        let missing = findings.into_iter().filter_map(|(row, found)| Some((row, found.err()?)));
        Self { rows: missing.collect() }
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What only the system's package manager brings.
    fn installed(&self) -> impl Iterator<Item = &(&'static Prerequisite, String)> {
        self.rows.iter().filter(|(row, _)| matches!(row.source, Source::Package(_) | Source::MuslStd(_)))
    }

    /// The Debian packages of what is installed.
    fn packages(&self) -> BTreeSet<&'static str> {
        let words = self.rows.iter().filter_map(|(row, _)| match row.source {
            Source::Package(package) => Some(package.debian),
            Source::MuslStd(debian) => Some(debian),
            Source::Unpacked(_) | Source::Fetched(_) => None,
        });
        words.flat_map(|words| words.split(' ')).collect()
    }

    /// What one would type to install it, if anything is to be installed.
    pub fn by_hand(&self) -> Option<String> {
        let packages: Vec<&str> = self.packages().into_iter().collect();
        let (name, musl) = self
            .rows
            .iter()
            .find_map(|(row, _)| match row.source {
                Source::MuslStd(debian) => Some((row.name, debian)),
                _ => None,
            })
            .filter(|_| on_path("rustup").is_some())
            .unzip();
        let aside = name
            .zip(musl)
            .map(|(name, debian)| format!(" ({debian} only where this does not bring {name}: {})", musl::COMMAND));
        (!packages.is_empty()).then(|| format!("apt-get install {}{}", packages.join(" "), aside.unwrap_or_default()))
    }

    fn lacks_musl(&self) -> bool {
        self.rows.iter().any(|(row, _)| matches!(row.source, Source::MuslStd(_)))
    }

    /// One line each: what, why it does not count, what it is for.
    fn lines(&self) -> String {
        let mut out = String::new();
        for (row, why) in self.installed() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\n  {}: {why} ({})", row.name, row.purpose);
        }
        out
    }
}

/// Sees to it that everything these verbs need is here. Packages are installed with consent; what belongs into deploy/build
/// is fetched in any case.
pub fn ensure(paths: &Paths, verbs: &[Verb], consent: Consent, progress: &Progress) -> Result<()> {
    // A package may bring what would be unpacked otherwise, hence first.
    let missing = packages(paths, verbs, consent, progress)?;
    if missing.is_empty() {
        return Ok(());
    }
    fetch_all(paths, &missing, progress)?;
    let left = Missing::of(look_for(paths, verbs));
    if let Some((row, why)) = left.rows.first() {
        bail!("{} was fetched for {}, and still does not count: {why}", row.name, in_words(verbs));
    }
    Ok(())
}

/// The packages alone, and what is missing then: it is to be fetched.
pub fn packages(paths: &Paths, verbs: &[Verb], consent: Consent, progress: &Progress) -> Result<Missing> {
    let missing = Missing::of(look_for(paths, verbs));
    if missing.installed().next().is_none() {
        return Ok(missing);
    }
    agree(&missing, &in_words(verbs), consent)?;
    install(paths, missing, progress)?;
    let left = Missing::of(look_for(paths, verbs));
    if let Some((row, why)) = left.installed().next() {
        bail!("{} was installed for {}, and still does not count: {why}", row.name, in_words(verbs));
    }
    Ok(left)
}

fn in_words(verbs: &[Verb]) -> String {
    verbs.iter().map(|verb| format!("`{}`", verb.name())).collect::<Vec<_>>().join(", ")
}

/// Fails unless the packages that are missing may be installed.
fn agree(missing: &Missing, names: &str, consent: Consent) -> Result<()> {
    let lines = missing.lines();
    let by_hand = missing.by_hand().unwrap_or_default();
    let refuse = |why: &str| {
        BadInput::new(format!(
            "this machine lacks what {names} needs; {why}nothing was installed:{lines}\nby hand: {by_hand}\nnext: cargo xtask \
             setup --yes"
        ))
    };
    let from_packages = missing.rows.iter().any(|(row, _)| matches!(row.source, Source::Package(_)));
    if Manager::find() != Manager::Apt && (from_packages || on_path("rustup").is_none()) {
        return Err(BadInput::new(format!(
            "this machine lacks what {names} needs, and only Debian and Ubuntu are set up by this command; nothing was \
             installed:{lines}\nby hand, with the names that Debian has for them: {by_hand}"
        )));
    }
    let Some(privilege) = Privilege::find() else {
        return Err(refuse("you are not root and there is no sudo; "));
    };
    match consent {
        Consent::Yes => Ok(()),
        Consent::Never => Err(refuse("--no-install was given; ")),
        Consent::Ask if io::stdin().is_terminal() && io::stderr().is_terminal() => {
            let sudo = if privilege == Privilege::Sudo { ", with sudo" } else { "" };
            errln!("this machine lacks what {names} needs:{lines}");
            err!("install {by_hand}{sudo}? [y/N] ");
            io::stderr().flush().context("asking")?;
            let mut answer = String::new();
            io::stdin().lock().read_line(&mut answer).context("reading the answer")?;
            if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") { Ok(()) } else { Err(refuse("")) }
        }
        Consent::Ask if privilege == Privilege::Root => Ok(()),
        Consent::Ask => Err(refuse("there is no terminal to ask on and you are not root; ")),
    }
}

/// Installs the packages, says so, and says what undoes it.
fn install(paths: &Paths, mut missing: Missing, progress: &Progress) -> Result<()> {
    if missing.lacks_musl() {
        let line = progress.line("musl");
        match musl::add(paths, &line) {
            Ok(()) => {
                line.done(&format!("rustup has it now; undo: {}", musl::UNDO));
                missing.rows.retain(|(row, _)| !matches!(row.source, Source::MuslStd(_)));
            }
            Err(why) => line.done(&format!("not from rustup ({why}); Debian's compiler builds it")),
        }
    }
    let packages = missing.packages();
    if packages.is_empty() {
        return Ok(());
    }
    if Manager::find() != Manager::Apt {
        return Err(BadInput::new(format!("there is no apt-get here; nothing was installed:{}", missing.lines())));
    }
    let privilege = Privilege::find().context("finding out how to become root")?;
    // Before a line of progress: it would be drawn over the question for a password.
    privilege.confirm()?;
    let line = progress.line("packages");
    let done = apt::plan(&packages, privilege, &line).and_then(|transaction| {
        if !transaction.is_empty() {
            transaction.carry_out(privilege, &line)?;
        }
        Ok(transaction)
    });
    match done {
        Ok(transaction) => {
            line.done(&said(&transaction));
            if !transaction.new.is_empty() {
                progress.say(&format!("undo: {}", transaction.undo(privilege)));
            }
            Ok(())
        }
        Err(error) => {
            line.failed("nothing was installed");
            Err(error)
        }
    }
}

fn said(transaction: &Transaction) -> String {
    if transaction.is_empty() {
        return "apt has nothing to install".to_owned();
    }
    let upgraded = if transaction.upgraded.is_empty() {
        String::new()
    } else {
        format!("; upgraded {}", transaction.upgraded.join(" "))
    };
    format!("installed {}{upgraded}", transaction.new.join(" "))
}

fn fetch_all(paths: &Paths, missing: &Missing, progress: &Progress) -> Result<()> {
    must_have_room(&paths.build())?;
    let unpacked = missing.rows.iter().any(|(row, _)| matches!(row.source, Source::Unpacked(_)));
    if unpacked {
        step(progress, "test programs", |line| unpack::obtain(paths, line))?;
    }
    for (row, _) in &missing.rows {
        if let Source::Fetched(tool) = row.source {
            step(progress, row.name, |line| tool.obtain(paths, line).map(drop))?;
        }
    }
    Ok(())
}

/// Refuses where what is fetched would not fit: each tool has its own way to say that, and most are pages long.
fn must_have_room(dir: &Path) -> Result<()> {
    let Some(there) = dir.ancestors().find(|dir| dir.exists()) else { return Ok(()) };
    // What cannot be asked is found out by the first write.
    let Ok(stat) = rustix::fs::statvfs(there) else { return Ok(()) };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free >= ROOM {
        return Ok(());
    }
    Err(BadInput::new(format!(
        "the disk of {} has {} MiB free, and what is fetched and built needs {} MiB at least; nothing was fetched. Make room \
         there, then run this again",
        Paths::shown(there),
        free >> 20,
        ROOM >> 20
    )))
}

fn step(progress: &Progress, name: &str, work: impl FnOnce(&crate::ui::Line) -> Result<()>) -> Result<()> {
    let line = progress.line(name);
    let done = work(&line);
    match &done {
        Ok(()) => line.done("in deploy/build"),
        Err(_) => line.failed("nothing was kept"),
    }
    done
}

/// PATH with the system's own directories, where an ordinary user's has none, and with what was fetched and unpacked at its end:
/// what the system has comes first.
pub fn path(paths: &Paths) -> OsString {
    let own = env::var_os("PATH").unwrap_or_default();
    let system =
        SYSTEM_DIRS.map(PathBuf::from).into_iter().filter(|dir| !env::split_paths(&own).any(|has| has == *dir));
    let more = system.chain(tools::node_bin(paths)).chain([unpack::bin(paths)]);
    let dirs = env::split_paths(&own).chain(more);
    // What came from a PATH fits into one; a clone whose path has a colon in it keeps the system's.
    env::join_paths(dirs).unwrap_or(own)
}

/// Everything that verbs need, what each thing is for, and whether it is here.
pub fn table(findings: &[Finding], style: Style) -> String {
    let mut table = Table::new(&["", "what", "for", "is"]);
    for (row, found) in findings {
        let (mark, is) = match (found, row.source) {
            (Ok(is), _) => (Cell::toned(Tone::Good, "ok"), is.clone()),
            (Err(why), Source::Fetched(_) | Source::Unpacked(_)) => (Cell::toned(Tone::Plain, "to fetch"), why.clone()),
            (Err(why), _) => (Cell::toned(Tone::Bad, "MISSING"), why.clone()),
        };
        table.row(vec![mark, row.name.into(), row.for_verbs().into(), is.into()]);
    }
    table.render(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacking(names: &[&str]) -> Missing {
        let rows = PREREQUISITES.iter().filter(|row| names.contains(&row.name));
        Missing { rows: rows.map(|row| (row, "not on PATH".to_owned())).collect() }
    }

    #[test]
    fn packages_are_named_once_and_without_what_is_unpacked() {
        let missing = lacking(&["ssh", "ssh-keygen", "curl", "cc", "engine"]);
        let packages: Vec<&str> = missing.packages().into_iter().collect();
        assert_eq!(packages, ["gcc", "libc6-dev", "openssh-client"]);
        assert!(!missing.lines().contains("curl"), "{}", missing.lines());
    }

    #[test]
    fn a_refusal_lists_everything_with_the_next_command() {
        let refused = agree(&lacking(&["rsync", "zstd"]), "`test`", Consent::Never).unwrap_err();
        let said = refused.to_string();
        assert!(crate::exit::is_refusal(&refused), "{said}");
        for word in ["rsync: not on PATH (sends what differs)", "zstd", "setup --yes", "nothing was installed"] {
            assert!(said.contains(word) || Manager::find() != Manager::Apt, "{word}: {said}");
        }
    }
}
