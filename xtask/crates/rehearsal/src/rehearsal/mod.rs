//! The whole runbook, carried out against machines made for it, by the very commands that an operator types.

mod act;
mod clone;
mod mishaps;
mod performance;
mod record;
mod report;
mod runbook;
mod ssh;
mod timeline;
mod upgrade;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::act::{Chapter, Known};
use self::performance::Performance;
use self::record::Record;
use crate::fleet::{self, Base, Fleet, Layout, Order, Request};
use unibus_ops::build;
use unibus_ops::exit::BadInput;
use unibus_ops::fsx;
use unibus_ops::paths::Paths;
use unibus_ops::prerequisites::Consent;
use unibus_ops::topology::RouteNetwork;
use unibus_ops::ui::{Cell, Progress, Style, Table, next, took};

/// Logs of earlier rehearsals that are kept.
const LOGS: usize = 10;

/// What the files of the part are called that begins with the previous release.
const UPGRADED: &str = "-upgraded";

/// Machines of a cluster that is rehearsed.
const MACHINES: usize = 3;
/// Clusters beside each other, at most.
const CLUSTERS: usize = 3;

/// What was typed.
pub(crate) struct Options {
    /// The program with the operator's verbs.
    pub(crate) xtask: PathBuf,
    /// The topology whose names are rehearsed.
    pub(crate) topology: PathBuf,
    pub(crate) routes: Option<RouteNetwork>,
    pub(crate) membershipd: Option<PathBuf>,
    pub(crate) keep: bool,
    pub(crate) report: Option<PathBuf>,
    /// Chapters after those that bring the cluster up; none: all.
    pub(crate) only: Vec<String>,
    /// Whether a cluster of the previous release is upgraded too.
    pub(crate) upgrade: bool,
    pub(crate) consent: Consent,
}

impl Options {
    /// Whether the previous release takes part.
    fn upgrades(&self) -> bool {
        self.upgrade || self.only.iter().any(|name| name == upgrade::UPGRADE)
    }
}

/// Boots the machines, carries everything out, and leaves nothing, unless the machines are to be kept.
pub(crate) fn rehearse(paths: &Paths, mut options: Options) -> Result<()> {
    let parts = parts(&options)?;
    // Held open: all of the rehearsal runs this one, also when cargo puts another in its place meanwhile.
    let xtask = File::open(&options.xtask).with_context(|| format!("opening {}", Paths::shown(&options.xtask)))?;
    options.xtask = PathBuf::from(format!("/proc/{}/fd/{}", process::id(), xtask.as_raw_fd()));
    fleet::check(paths, options.consent, &Progress::new())?;
    let given = options.membershipd.as_deref().map(build::fit).transpose()?;
    fleet::sweep_dead(paths)?;
    let name = format!("rehearsal-{}", process::id());
    let log = log_file(paths, &name)?;
    let mut record = Record::begin();
    let played = play(paths, &options, parts, given.as_deref(), &name, &log, &mut record);
    record.end(played.as_ref().err());
    if let Some(file) = &options.report {
        fsx::write(file, fsx::PUBLIC, report::html(&record)?.as_bytes())?;
        outln!("report: {}", Paths::shown(file));
    }
    err!("\n{}", table(&record));
    let kept = played
        .map_err(|error| error.context(format!("the rehearsal failed; all that was said: {}", Paths::shown(&log))))?;
    outln!("rehearsed in {}; all that was said: {}", took(record.took()), Paths::shown(&log));
    for fleet in kept {
        out!("{}", how_to_look(&fleet)?);
    }
    Ok(())
}

/// The fleets that were to be kept.
fn play(
    paths: &Paths,
    options: &Options,
    parts: Vec<Part>,
    given: Option<&Path>,
    name: &str,
    log: &Path,
    record: &mut Record,
) -> Result<Vec<Fleet>> {
    let progress = Progress::new();
    let mut host = Performance::new(log, Known::new())?;
    for chapter in runbook::preparation(paths, given.is_some(), options.upgrades())? {
        host.on_host(&options.xtask, paths, &chapter, &progress, record)?;
    }
    if given.is_none() {
        // What cannot be staged is said before there are machines.
        build::load(paths)?;
    }
    let line = progress.line("base");
    let tree = Base::new(paths).obtain(&line).inspect_err(|_| line.failed(""))?;
    line.clear();
    let keep = options.keep;
    let scenes = parts.into_iter().map(|part| {
        let dir = fleet::fleets(paths).join(format!("{name}{}", part.suffix));
        let order = Order { dir, topology: options.topology.clone(), routes: part.routes, base: tree.clone() };
        let log = log.with_file_name(format!("{name}{}.log", part.suffix));
        Scene { order, log, keep: keep && part.may_stay, chapters: part.chapters }
    });
    let scenes: Vec<Scene> = scenes.collect();
    let stage = Stage {
        paths,
        xtask: &options.xtask,
        given,
        known: host.known(),
        progress: &progress,
        keep,
        scenes: &scenes,
        begun: AtomicUsize::new(0),
        first_failure: Mutex::default(),
    };
    let ended: Vec<Option<Ended>> = thread::scope(|scope| {
        let stage = &stage;
        let playing: Vec<_> = (0..at_once(scenes.len()))
            .map(|_| {
                let record = record.beside();
                scope.spawn(move || stage.play_on(record))
            })
            .collect();
        playing.into_iter().map(|turn| turn.join().ok()).collect()
    });
    for scene in &scenes {
        into_one(&scene.log, log)?;
    }
    let mut kept = Vec::new();
    for one in ended {
        let Some(one) = one else { bail!("playing a part of the rehearsal failed inside xtask") };
        record.take(one.record);
        kept.extend(one.kept);
    }
    match stage.into_failure() {
        Some(error) => Err(error),
        None => Ok(kept),
    }
}

/// Chapters that follow each other on machines of their own.
#[derive(Debug)]
struct Part {
    /// What its files are called, after the name of the rehearsal.
    suffix: &'static str,
    routes: Option<RouteNetwork>,
    /// Whether its machines stay where they are to be kept.
    may_stay: bool,
    chapters: Vec<Chapter>,
}

/// Everything, divided over clusters that can be played beside each other; or the named chapters, and what they need.
fn parts(options: &Options) -> Result<Vec<Part>> {
    let routes = options.routes;
    let part = |suffix, chapters| Part { suffix, routes, may_stay: true, chapters };
    if !options.only.is_empty() {
        let named: Vec<&String> = options.only.iter().filter(|name| *name != upgrade::UPGRADE).collect();
        let mut parts = Vec::new();
        if !named.is_empty() {
            parts.push(part("", chosen(&named)?));
        }
        if options.upgrades() {
            parts.push(part(UPGRADED, vec![upgrade::previous(), upgrade::there_and_back()]));
        }
        return Ok(parts);
    }
    // What takes longest first: that is how they are begun.
    let mut parts = vec![part("-used", used_cluster()), part("", grown_cluster()), part("-worn", worn_cluster())];
    if options.upgrades() {
        parts.push(part(UPGRADED, upgraded_cluster()));
    }
    if routes.is_none() {
        // Both networks must do.
        let routes = Some(RouteNetwork::Public);
        parts.push(Part { suffix: "-public", routes, may_stay: false, chapters: runbook::in_public() });
    }
    Ok(parts)
}

/// One cluster grows to three copies and gets other releases, some of which go wrong.
fn grown_cluster() -> Vec<Chapter> {
    [runbook::grown(), mishaps::of_releases(), runbook::aftermath()].concat()
}

/// One is about what it holds. It is broken under load first, so that there is much to back up.
fn used_cluster() -> Vec<Chapter> {
    [runbook::another("a cluster to be used"), runbook::used(), runbook::aftermath()].concat()
}

/// One gets other certificates, and all that usually goes wrong on a machine.
fn worn_cluster() -> Vec<Chapter> {
    [
        runbook::another("a cluster to be worn"),
        runbook::rotated(),
        ssh::ways(),
        mishaps::of_machines(),
        runbook::aftermath(),
    ]
    .concat()
}

/// One comes from the previous release.
fn upgraded_cluster() -> Vec<Chapter> {
    [vec![upgrade::previous(), upgrade::there_and_back()], runbook::aftermath()].concat()
}

/// Those that make a cluster that is well, with two releases, and then the named ones.
fn chosen(only: &[&String]) -> Result<Vec<Chapter>> {
    let mut chapters = runbook::grown();
    let mishaps = [mishaps::of_machines(), mishaps::of_releases()].concat();
    let rest = [runbook::used(), runbook::rotated(), ssh::ways(), mishaps, runbook::aftermath()];
    let rest = rest.concat();
    if let Some(unknown) = only.iter().find(|name| !rest.iter().any(|chapter| chapter.name == name.as_str())) {
        let names: Vec<&str> = rest.iter().map(|chapter| chapter.name).chain([upgrade::UPGRADE]).collect();
        return Err(BadInput::new(format!("there is no chapter {unknown:?}; there are:\n  {}", names.join("\n  "))));
    }
    chapters.extend(rest.into_iter().filter(|chapter| only.iter().any(|name| name.as_str() == chapter.name)));
    Ok(chapters)
}

/// How many of the parts are played beside each other: most of the time is waited, for elections and for clocks, so three
/// clusters take hardly longer than one. A host without room for them has fewer.
fn at_once(parts: usize) -> usize {
    (2..=parts.min(CLUSTERS)).rev().find(|many| fleet::has_room_for(many * MACHINES)).unwrap_or(1)
}

/// A part, and where it is played.
struct Scene {
    order: Order,
    log: PathBuf,
    keep: bool,
    chapters: Vec<Chapter>,
}

/// Parts that were played after each other.
struct Ended {
    kept: Vec<Fleet>,
    record: Record,
}

/// What every set of machines is played on with.
struct Stage<'a> {
    paths: &'a Paths,
    xtask: &'a Path,
    given: Option<&'a Path>,
    /// What this host has found out for all of them.
    known: &'a Known,
    progress: &'a Progress,
    keep: bool,
    scenes: &'a [Scene],
    /// So many of them have begun.
    begun: AtomicUsize,
    /// What went wrong first, anywhere. What comes after it is of no interest.
    first_failure: Mutex<Option<anyhow::Error>>,
}

impl Stage<'_> {
    /// Plays whichever part is next, until there is none or something went wrong.
    fn play_on(&self, mut record: Record) -> Ended {
        let mut kept = Vec::new();
        while !self.has_failed() {
            let Some(scene) = self.scenes.get(self.begun.fetch_add(1, Ordering::Relaxed)) else { break };
            match self.play(scene, &mut record) {
                Ok(fleet) => kept.extend(fleet),
                Err(error) => self.fail(error),
            }
        }
        Ended { kept, record }
    }

    fn failure(&self) -> MutexGuard<'_, Option<anyhow::Error>> {
        self.first_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_failed(&self) -> bool {
        self.failure().is_some()
    }

    fn fail(&self, error: anyhow::Error) {
        {
            let mut first = self.failure();
            if first.is_some() {
                return;
            }
            *first = Some(error);
        }
        if !self.keep {
            for scene in self.scenes {
                // Commands end with the machines that they work on. What is not there yet does not come any more.
                let _ = Layout::new(&scene.order.dir).and_then(|layout| fleet::take_down(&layout));
            }
        }
    }

    fn into_failure(self) -> Option<anyhow::Error> {
        self.first_failure.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Boots machines and carries the chapters out on them. The fleet, if it is to be kept.
    fn play(&self, scene: &Scene, record: &mut Record) -> Result<Option<Fleet>> {
        if !scene.log.exists() {
            fsx::write(&scene.log, fsx::PRIVATE, b"")?;
        }
        let mut performance = Performance::new(&scene.log, self.known.clone())?;
        let begun = Instant::now();
        let mut fleet = Fleet::up(&scene.order, self.progress)?;
        record.booted(begun.elapsed());
        if scene.keep {
            // Also when what follows fails: that is when one wants to look.
            fleet.stay()?;
        }
        let made = clone::make(self.paths, fleet.layout(), self.given);
        let done = made.and_then(|_| fleet.layout().keep_xtask(self.xtask)).and_then(|()| {
            scene.chapters.iter().try_for_each(|chapter| {
                if self.has_failed() {
                    bail!("another part of the rehearsal failed");
                }
                performance.in_fleet(&fleet, chapter, self.progress, record)
            })
        });
        match (done, scene.keep) {
            (Ok(()), true) => Ok(Some(fleet)),
            (Ok(()), false) => fleet.down().map(|()| None),
            (Err(error), true) => {
                Err(error.context(format!("the machines are kept:\n{}", how_to_look(&fleet)?.trim_end())))
            }
            (Err(error), false) => {
                if !self.has_failed() {
                    performance.note_journals(&fleet);
                }
                // What failed first is what is reported.
                let _ = fleet.down();
                Err(error.context("the machines are gone; to look at them afterwards: cargo xtask rehearse --keep"))
            }
        }
    }
}

/// Moves what one part has noted to the end of the log of all.
fn into_one(part: &Path, log: &Path) -> Result<()> {
    if part == log || !part.exists() {
        return Ok(());
    }
    let said = fs::read(part).with_context(|| format!("reading {}", Paths::shown(part)))?;
    let name = part.file_stem().unwrap_or_default().to_string_lossy();
    let mut to = File::options().append(true).open(log).with_context(|| format!("opening {}", Paths::shown(log)))?;
    write!(to, "\n===== {name}\n")
        .and_then(|()| to.write_all(&said))
        .with_context(|| format!("writing {}", Paths::shown(log)))?;
    fs::remove_file(part).with_context(|| format!("removing {}", Paths::shown(part)))
}

/// What to type to look at machines that were kept.
fn how_to_look(fleet: &Fleet) -> Result<String> {
    let by = format!("cargo xtask fleet --dir {}", Paths::shown(fleet.layout().dir()));
    let status = fleet.ask(&Request::Status)?;
    let Some(first) = status.nodes.first() else { bail!("the fleet has no machine") };
    let clone = fleet.layout().clone_dir();
    Ok(next(&[
        (&format!("{by} ssh {}", first.name), "log in to a machine"),
        (&format!("{by} sh cargo xtask --root {} verify", clone.display()), "a verb, at the operator's place"),
        (&format!("{by} down"), "leave nothing"),
    ]))
}

fn table(record: &Record) -> String {
    let mut table = Table::new(&["chapter", "commands", "", "took"]);
    for chapter in &record.chapters {
        let word = if chapter.ok() { "ok" } else { "FAILED" };
        table.row(vec![
            chapter.name.as_str().into(),
            chapter.commands.len().to_string().into(),
            Cell::judged(chapter.ok(), word),
            took(chapter.took()).into(),
        ]);
    }
    table.render(Style::stderr())
}

/// The log of this rehearsal, an empty file; the oldest others go.
fn log_file(paths: &Paths, name: &str) -> Result<PathBuf> {
    let dir = paths.build().join("rehearse/logs");
    let shown = Paths::shown(&dir);
    let mut old = Vec::new();
    if dir.is_dir() {
        for entry in fs::read_dir(&dir).with_context(|| format!("reading {shown}"))? {
            let entry = entry.with_context(|| format!("reading {shown}"))?;
            old.push((entry.metadata().and_then(|meta| meta.modified()).ok(), entry.path()));
        }
    }
    old.sort();
    let surplus = (old.len() + 1).saturating_sub(LOGS);
    for (_, file) in old.into_iter().take(surplus) {
        fs::remove_file(&file).with_context(|| format!("removing {}", Paths::shown(&file)))?;
    }
    let file = dir.join(format!("{name}.log"));
    fsx::write(&file, fsx::PRIVATE, b"")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of chapters, each once.
    fn names<'a>(chapters: impl IntoIterator<Item = &'a Chapter>) -> std::collections::BTreeSet<&'static str> {
        chapters.into_iter().map(|chapter| chapter.name).collect()
    }

    fn options(only: Vec<String>, upgrade: bool) -> Options {
        Options {
            xtask: PathBuf::new(),
            topology: PathBuf::new(),
            routes: None,
            membershipd: None,
            keep: false,
            report: None,
            only,
            upgrade,
            consent: Consent::Never,
        }
    }

    #[test]
    fn whatever_there_is_to_play_is_played_on_one_of_the_clusters() {
        let only = |only: Vec<String>| options(only, false);
        let used = runbook::used();
        let mishaps = [ssh::ways(), mishaps::of_machines(), mishaps::of_releases()].concat();
        let rest = [&runbook::grown(), &used, &runbook::rotated(), &mishaps, &runbook::aftermath()];
        let mut all = names(rest.into_iter().flatten());
        let one_by_one = parts(&only(all.iter().map(|&name| name.to_owned()).collect())).unwrap_err();
        assert!(one_by_one.to_string().contains("there is no chapter"), "what makes the cluster is always played");
        let used: Vec<String> = names(&used).into_iter().map(str::to_owned).collect();
        let named = parts(&only(used)).unwrap();
        assert_eq!(named.len(), 1, "what is named is played on one cluster");
        all.extend(["over public addresses", "a cluster to be used", "a cluster to be worn"]);
        all.extend(["the previous release", "upgrade"]);
        let without = parts(&only(Vec::new())).unwrap();
        assert!(without.iter().all(|part| part.suffix != UPGRADED), "it was not asked for");
        let parts = parts(&options(Vec::new(), true)).unwrap();
        assert_eq!(names(parts.iter().flat_map(|part| &part.chapters)), all);
        let suffixes: std::collections::BTreeSet<&str> = parts.iter().map(|part| part.suffix).collect();
        assert_eq!(suffixes.len(), parts.len(), "no two of them share a directory");
        let last = |part: &Part| part.chapters.last().map(|chapter| chapter.name);
        let secrets = runbook::aftermath().last().map(|chapter| chapter.name);
        assert!(parts.iter().filter(|part| part.may_stay).all(|part| last(part) == secrets));
    }

    #[test]
    fn an_upgrade_that_is_named_begins_with_the_previous_release() {
        let named = |only: &[&str], upgrade| {
            let options = options(only.iter().map(|&name| name.to_owned()).collect(), upgrade);
            let parts = parts(&options).map_err(|error| error.to_string())?;
            let chapters = |part: &Part| part.chapters.iter().map(|chapter| chapter.name).collect::<Vec<_>>();
            Ok((options.upgrades(), parts.iter().map(chapters).collect::<Vec<_>>()))
        };
        let upgraded = || vec!["the previous release", "upgrade"];
        assert_eq!(named(&["upgrade"], false), Ok((true, vec![upgraded()])));
        for (only, upgrade) in [(&["rooms", "upgrade"] as &[&str], false), (&["rooms"], true)] {
            let (builds, parts) = named(only, upgrade).unwrap();
            assert!(builds);
            assert_eq!(parts.len(), 2, "{only:?}");
            assert!(parts[0].ends_with(&["rooms"]), "{only:?}");
            assert_eq!(parts[1], upgraded(), "{only:?}");
        }
        assert!(!named(&["rooms"], false).unwrap().0);
        let refused: Result<_, String> = named(&["the previous release"], false);
        assert!(refused.unwrap_err().contains("there is no chapter"), "what makes the cluster is always played");
    }
}
