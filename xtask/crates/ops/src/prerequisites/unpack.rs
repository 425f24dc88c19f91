//! Debian packages unpacked into deploy/build, for programs that only tests need: no service starts, nothing is installed,
//! and it needs no root.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::apt;
use super::table::{PREREQUISITES, Probe, Source};
use crate::cargo;
use crate::exit::BadInput;
use crate::paths::Paths;
use crate::search_path::on_path;
use crate::shell::{Shell, cmd, shell_in};
use crate::tools::{once, short_hash};
use crate::transport::quote;
use crate::ui::Line;

/// Where programs lie in an unpacked package.
const PROGRAM_DIRS: [&str; 4] = ["usr/bin", "bin", "usr/sbin", "sbin"];

/// The directory of the unpacked programs; it belongs at the end of PATH.
pub(super) fn bin(paths: &Paths) -> PathBuf {
    place(paths).join("bin")
}

/// The unpacked program of that name, if it is here.
pub(super) fn program(paths: &Paths, name: &str) -> Option<PathBuf> {
    Some(bin(paths).join(name)).filter(|program| program.is_file())
}

/// One place for all of them, by what they are: another list is unpacked beside it.
fn place(paths: &Paths) -> PathBuf {
    let names: Vec<&str> = rows().map(|(_, package)| package).collect();
    paths.tools().join(format!("debian-{}", short_hash(names.join(" ").as_bytes())))
}

/// Every program that may be unpacked, and its package.
fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    PREREQUISITES.iter().filter_map(|row| match (row.probe, row.source) {
        (Probe::Runs(program, _), Source::Unpacked(package)) => Some((program, package)),
        _ => None,
    })
}

/// Unpacks all of them, with the libraries that this system lacks, whichever are missing: they are small.
pub(super) fn obtain(paths: &Paths, line: &Line) -> Result<()> {
    let place = place(paths);
    let packages: Vec<String> = rows().map(|(_, package)| package.to_owned()).collect();
    if on_path("apt-get").is_none() || on_path("dpkg-deb").is_none() {
        return Err(BadInput::new(format!(
            "tests need {}, and this system has no apt-get to fetch them with; install them, then run this again",
            packages.join(", ")
        )));
    }
    let shell = Shell::new()?;
    once(&place, &place, line, |root| {
        let archives = root.join("archives");
        fs::create_dir_all(&archives).with_context(|| format!("making {}", Paths::shown(&archives)))?;
        line.set(format!("fetching {}", packages.join(" ")));
        // The system's own lists may know nothing yet, or name files that the mirror has no more.
        if !apt::knows(&packages, &[])? || download(&packages, &[], &archives, line).is_err() {
            let options = own_lists(paths, line)?;
            download(&packages, &options, &archives, line)?;
        }
        line.set(format!("unpacking {} into {}", packages.join(" "), Paths::shown(&place)));
        for entry in fs::read_dir(&archives).with_context(|| format!("reading {}", Paths::shown(&archives)))? {
            let (archive, tree) = (entry.context("reading the archives")?.path(), root.join("root"));
            cargo::run(cmd!(shell, "dpkg-deb --extract {archive} {tree}"), line)?;
        }
        fs::remove_dir_all(&archives).with_context(|| format!("removing {}", Paths::shown(&archives)))?;
        fs::create_dir(root.join("bin")).context("making the programs' directory")?;
        rows().try_for_each(|(program, _)| wrap(root, &place, program))
    })
}

/// The packages, installed or not, and what they need that is not installed.
fn download(packages: &[String], options: &[String], archives: &Path, line: &Line) -> Result<()> {
    let mut wanted = apt::closure(packages, options)?;
    wanted.extend(packages.iter().cloned());
    wanted.sort();
    wanted.dedup();
    let shell = shell_in(archives)?;
    // As root, apt would fetch as a user who may not write here.
    let download = cmd!(shell, "apt-get -o APT::Sandbox::User=root {options...} --quiet download {wanted...}");
    cargo::run(download, line)
        .map(drop)
        .map_err(|error| BadInput::new(format!("Debian packages could not be downloaded; is there a network? {error}")))
}

/// Package lists of this clone's own, which need no root.
fn own_lists(paths: &Paths, line: &Line) -> Result<Vec<String>> {
    let dir = paths.tools().join("apt");
    for part in ["lists/partial", "cache/archives/partial"] {
        let part = dir.join(part);
        fs::create_dir_all(&part).with_context(|| format!("making {}", Paths::shown(&part)))?;
    }
    let set = |name: &str, value: String| ["-o".to_owned(), format!("{name}={value}")];
    let options = [
        set("Dir::State::Lists", dir.join("lists").display().to_string()),
        set("Dir::Cache", dir.join("cache").display().to_string()),
        set("APT::Sandbox::User", "root".to_owned()),
        set("Debug::NoLocking", "1".to_owned()),
    ]
    .concat();
    line.set("fetching the package lists");
    let shell = Shell::new()?;
    let given = &options;
    let update = cmd!(shell, "apt-get {given...} --quiet update");
    cargo::run(update.env("LC_ALL", "C"), line).map_err(|error| {
        BadInput::new(format!("the package lists could not be fetched; is there a network? {error}"))
    })?;
    Ok(options)
}

/// A script that starts the program with the libraries that came along.
fn wrap(root: &Path, place: &Path, program: &str) -> Result<()> {
    let tree = root.join("root");
    let found = PROGRAM_DIRS.iter().map(|dir| Path::new(dir).join(program)).find(|file| tree.join(file).exists());
    let found = found.with_context(|| format!("no unpacked package has {program}"))?;
    let libraries: Vec<String> =
        libraries(&tree).iter().map(|dir| place.join("root").join(dir).display().to_string()).collect();
    let script = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH={} exec {} \"$@\"\n",
        quote(&libraries.join(":")),
        quote(&place.join("root").join(found).display().to_string())
    );
    let file = root.join("bin").join(program);
    fs::write(&file, script)
        .and_then(|()| fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)))
        .with_context(|| format!("writing {}", Paths::shown(&file)))
}

/// The directories of the tree that have shared libraries, two levels below `lib` at most, relative to the tree.
fn libraries(tree: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<(PathBuf, u8)> = ["usr/lib", "lib"].iter().map(|dir| (PathBuf::from(dir), 0)).collect();
    while let Some((dir, depth)) = open.pop() {
        let entries: Vec<fs::DirEntry> = fs::read_dir(tree.join(&dir)).into_iter().flatten().flatten().collect();
        let library = |entry: &fs::DirEntry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.ends_with(".so") || name.contains(".so.")
        };
        if entries.iter().any(library) {
            found.push(dir.clone());
        }
        let below = entries.iter().filter(|entry| depth < 2 && entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(below.map(|entry| (dir.join(entry.file_name()), depth + 1)));
    }
    found.sort();
    found
}
