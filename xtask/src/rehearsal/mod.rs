//! The whole runbook, carried out against machines made for it, by the very commands that an operator types.

mod act;
mod clone;
mod mishaps;
mod performance;
mod record;
mod report;
mod runbook;
mod timeline;

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::act::Chapter;
use self::performance::Performance;
use self::record::Record;
use crate::build;
use crate::exit::BadInput;
use crate::fleet::{self, Base, Fleet, Order, Request};
use crate::fsx;
use crate::paths::Paths;
use crate::prerequisites::Consent;
use crate::topology::RouteNetwork;
use crate::ui::{Cell, Progress, Style, Table, next, took};

/// Logs of earlier rehearsals that are kept.
const LOGS: usize = 10;

/// What was typed.
pub(crate) struct Options {
    /// The topology whose names are rehearsed.
    pub(crate) topology: PathBuf,
    pub(crate) routes: Option<RouteNetwork>,
    pub(crate) membershipd: Option<PathBuf>,
    pub(crate) keep: bool,
    pub(crate) report: Option<PathBuf>,
    /// Chapters after those that bring the cluster up; none: all.
    pub(crate) only: Vec<String>,
    pub(crate) consent: Consent,
}

/// Boots the machines, carries everything out, and leaves nothing, unless the machines are to be kept.
pub(crate) fn rehearse(paths: &Paths, options: &Options) -> Result<()> {
    let chapters = chosen(&options.only)?;
    fleet::check(paths, options.consent, &Progress::new())?;
    let given = options.membershipd.as_deref().map(build::fit).transpose()?;
    fleet::sweep_dead(paths)?;
    let name = format!("rehearsal-{}", process::id());
    let log = log_file(paths, &name)?;
    let mut record = Record::begin();
    let played = play(paths, options, &chapters, given.as_deref(), &name, &log, &mut record);
    record.end(played.as_ref().err());
    if let Some(file) = &options.report {
        fsx::write(file, fsx::PUBLIC, report::html(&record)?.as_bytes())?;
        println!("report: {}", Paths::shown(file));
    }
    eprint!("\n{}", table(&record));
    let fleet = played
        .map_err(|error| error.context(format!("the rehearsal failed; all that was said: {}", Paths::shown(&log))))?;
    println!("rehearsed in {}; all that was said: {}", took(record.took()), Paths::shown(&log));
    if let Some(fleet) = fleet {
        print!("{}", how_to_look(&fleet)?);
    }
    Ok(())
}

/// The fleet, if it was to be kept.
fn play(
    paths: &Paths,
    options: &Options,
    chapters: &[Chapter],
    given: Option<&Path>,
    name: &str,
    log: &Path,
    record: &mut Record,
) -> Result<Option<Fleet>> {
    let progress = Progress::new();
    let mut performance = Performance::new(log)?;
    for chapter in runbook::preparation(paths, given.is_some())? {
        performance.on_host(paths, &chapter, &progress, record)?;
    }
    if given.is_none() {
        // What cannot be staged is said before there are machines.
        build::load(paths)?;
    }
    let line = progress.line("base");
    let tree = Base::new(paths).obtain(&line).inspect_err(|_| line.failed(""))?;
    line.clear();
    let mut stage = Stage { paths, given, performance, progress, record };
    let order = |name: String, routes| Order {
        dir: fleet::fleets(paths).join(name),
        topology: options.topology.clone(),
        routes,
        base: tree.clone(),
    };
    if options.routes.is_none() && options.only.is_empty() {
        // Both networks must do. First the one that takes less time; of these machines nothing is kept.
        let order = order(format!("{name}-public"), Some(RouteNetwork::Public));
        stage.play(&order, &runbook::in_public(), false)?;
    }
    stage.play(&order(name.to_owned(), options.routes), chapters, options.keep)
}

/// All chapters, or those that make a cluster that is well and then the named ones.
fn chosen(only: &[String]) -> Result<Vec<Chapter>> {
    let whole = runbook::whole();
    let needed = whole.iter().position(|chapter| chapter.name == runbook::LAST_NEEDED).map_or(0, |at| at + 1);
    let all: Vec<Chapter> = whole.into_iter().chain(mishaps::chapters()).chain(runbook::aftermath()).collect();
    let Some((first, rest)) = all.split_at_checked(needed).filter(|_| !only.is_empty()) else { return Ok(all) };
    if let Some(unknown) = only.iter().find(|name| !rest.iter().any(|chapter| chapter.name == **name)) {
        let names: Vec<&str> = rest.iter().map(|chapter| chapter.name).collect();
        return Err(BadInput::new(format!("there is no chapter {unknown:?}; there are:\n  {}", names.join("\n  "))));
    }
    Ok(first
        .iter()
        .chain(rest.iter().filter(|chapter| only.iter().any(|name| name == chapter.name)))
        .cloned()
        .collect())
}

/// What every set of machines is played on with.
struct Stage<'a> {
    paths: &'a Paths,
    given: Option<&'a Path>,
    performance: Performance,
    progress: Progress,
    record: &'a mut Record,
}

impl Stage<'_> {
    /// Boots machines and carries the chapters out on them. The fleet, if it is to be kept.
    fn play(&mut self, order: &Order, chapters: &[Chapter], keep: bool) -> Result<Option<Fleet>> {
        let begun = Instant::now();
        let mut fleet = Fleet::up(order, &self.progress)?;
        self.record.booted(begun.elapsed());
        if keep {
            // Also when what follows fails: that is when one wants to look.
            fleet.stay()?;
        }
        let done = clone::make(self.paths, fleet.layout(), self.given).and_then(|_| {
            let mut chapters = chapters.iter();
            chapters.try_for_each(|chapter| self.performance.in_fleet(&fleet, chapter, &self.progress, self.record))
        });
        match (done, keep) {
            (Ok(()), true) => Ok(Some(fleet)),
            (Ok(()), false) => fleet.down().map(|()| None),
            (Err(error), true) => {
                Err(error.context(format!("the machines are kept:\n{}", how_to_look(&fleet)?.trim_end())))
            }
            (Err(error), false) => {
                self.performance.note_journals(&fleet);
                // What failed first is what is reported.
                let _ = fleet.down();
                Err(error.context("the machines are gone; to look at them afterwards: cargo xtask rehearse --keep"))
            }
        }
    }
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
