//! The membershipd that servers run: built static, inspected, and kept with what is known about it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

pub use self::builder::Builder;
use crate::cargo;
use crate::exit::BadInput;
use crate::fsx;
use crate::hash::sha256_of;
use crate::paths::Paths;
use crate::process::bounded;
use crate::shell::{cmd, shell_in};
use crate::ui::Line;

mod builder;
mod elf;
mod toolchain;

/// What servers run.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-musl";
/// The daemon's file name, here and on a node.
pub const FILE: &str = "membershipd";
const RECORD: &str = "membershipd.json";
const SCHEMA: u32 = 1;
const VERSION_WITHIN: Duration = Duration::from_secs(10);
/// The feature level of releases from before there were levels.
const LOWEST_LEVEL: u32 = 1;
/// In the version of a build whose safeguards can be switched off.
const TEST_BUILD: &str = "+faults";

/// What is known about the program in deploy/build, beside which it lies as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    schema: u32,
    /// As the program says it.
    pub version: String,
    /// Of the program.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// The highest feature level that it can do; none: it could not be asked here.
    #[serde(default)]
    pub level: Option<u32>,
    /// The way it was built.
    pub builder: String,
    /// The rustc that built it.
    pub compiler: String,
    pub(crate) commit: Option<String>,
}

/// The Rust on PATH that this workspace can be built with; else why there is none.
pub(crate) fn rust(root: &Path) -> Result<String, String> {
    let (found, refused) = toolchain::toolchains(root);
    match found.into_iter().next() {
        Some(toolchain) => Ok(toolchain.version),
        None if refused.is_empty() => Err("there is no rustc beside a cargo on PATH".to_owned()),
        None => Err(refused.join("; ")),
    }
}

/// The builder that `build` would take, with its compiler; else why each does not work, and what would help.
pub fn builder(paths: &Paths) -> Result<String, String> {
    builder::choose(None, paths).map(|recipe| format!("{} ({})", recipe.builder.name(), recipe.compiler()))
}

/// What would compile a static program here; else why nothing can.
pub fn compiler(paths: &Paths) -> Result<String, String> {
    builder::compiler(paths)
}

/// What would link a static program here; else why nothing can.
pub(crate) fn linker(paths: &Paths) -> Result<String, String> {
    builder::linker(paths)
}

/// Where the program lies.
pub fn place(paths: &Paths) -> PathBuf {
    paths.build().join(FILE)
}

/// Builds, inspects, and only then puts the program in place.
pub fn build(paths: &Paths, asked: Option<Builder>, line: &Line) -> Result<Built> {
    line.set("looking for what can build");
    let recipe = builder::choose(asked, paths).map_err(BadInput::new)?;
    line.set(format!("building with {} ({})", recipe.builder.name(), recipe.compiler()));
    cargo::run(recipe.command(paths.root()), line)?;
    let program = program_in(&recipe.target_dir(paths.root()));
    line.set("inspecting");
    let builder = recipe.builder.name().to_owned();
    keep(paths, &program, |Inspected { version, level }, sha256, bytes| Built {
        schema: SCHEMA,
        version,
        sha256,
        bytes,
        level,
        builder,
        compiler: recipe.compiler(),
        commit: commit(paths.root()),
    })
}

/// Builds the sources of another release as this clone is built, into a target directory of their own, and inspects the program.
pub fn build_of(paths: &Paths, source: &Path, target: &Path, line: &Line) -> Result<()> {
    line.set("looking for what can build");
    let recipe = builder::choose(None, paths).map_err(BadInput::new)?;
    line.set(format!("building {} with {}", Paths::shown(source), recipe.builder.name()));
    cargo::run(recipe.command_for(paths.root(), source, target), line)?;
    fit(&program_in(target)).map(drop)
}

/// Where a build leaves the program in a target directory.
pub fn program_in(target: &Path) -> PathBuf {
    target.join(TARGET).join("release").join(FILE)
}

/// A program that was built elsewhere, if it may be staged.
pub fn fit(program: &Path) -> Result<PathBuf> {
    let found = typed(program)?;
    inspect(&found)?;
    Ok(found)
}

/// A program as it was typed: a name alone is a file here, not something to be looked for in PATH.
fn typed(program: &Path) -> Result<PathBuf> {
    fs::canonicalize(program).map_err(|error| BadInput::new(format!("{}: {error}", program.display())))
}

/// Takes a program that was built elsewhere.
pub fn adopt(paths: &Paths, program: &Path) -> Result<Built> {
    let unknown = || "unknown".to_owned();
    keep(paths, &typed(program)?, |Inspected { version, level }, sha256, bytes| Built {
        schema: SCHEMA,
        version,
        sha256,
        bytes,
        level,
        builder: unknown(),
        compiler: unknown(),
        commit: None,
    })
}

/// Copies what one clone built into another one.
#[cfg(target_os = "linux")]
pub fn copy(from: &Paths, to: &Paths) -> Result<Built> {
    let built = load(from)?;
    keep(to, &place(from), |_, _, _| built)
}

/// Whether something was built, whatever became of it.
#[cfg(target_os = "linux")]
pub fn is_there(paths: &Paths) -> bool {
    place(paths).exists() && paths.build().join(RECORD).exists()
}

/// Inspects a program and puts it in place with what is known about it.
fn keep(paths: &Paths, program: &Path, known: impl FnOnce(Inspected, String, u64) -> Built) -> Result<Built> {
    let inspected = inspect(program)?;
    let bytes = fs::metadata(program).with_context(|| format!("looking at {}", Paths::shown(program)))?.len();
    let built = known(inspected, sha256_of(program)?, bytes);
    install(program, &place(paths))?;
    let record = serde_json::to_string_pretty(&built).context("writing JSON")?;
    fsx::write(&paths.build().join(RECORD), fsx::PUBLIC, format!("{record}\n").as_bytes())?;
    Ok(built)
}

/// The program that was built, proved to be what was built then and fit to be staged.
pub fn load(paths: &Paths) -> Result<Built> {
    let (program, record) = (place(paths), paths.build().join(RECORD));
    let again = "next: cargo xtask build";
    let Some(text) = fsx::read(&record)?.filter(|_| program.exists()) else {
        return Err(BadInput::new(format!("there is no {} yet; {again}", Paths::shown(&program))));
    };
    let built: Built = serde_json::from_slice(&text)
        .map_err(|error| BadInput::new(format!("{}: {error}; {again}", Paths::shown(&record))))?;
    let sha256 = sha256_of(&program)?;
    if sha256 != built.sha256 {
        return Err(BadInput::new(format!(
            "{} is not what was built: its sha256 is {sha256}, not {}; {again}",
            Paths::shown(&program),
            built.sha256
        )));
    }
    let Inspected { level, .. } = inspect(&program)?;
    Ok(Built { level, ..built })
}

/// What a program says of itself.
struct Inspected {
    version: String,
    level: Option<u32>,
}

/// Refuses what a server could not or must not run.
fn inspect(program: &Path) -> Result<Inspected> {
    let shown = Paths::shown(program);
    let refuse = |why: String| BadInput::new(format!("{shown} must not be staged: {why}"));
    let bytes = fs::read(program).with_context(|| format!("reading {shown}"))?;
    let faults = elf::faults(&bytes);
    if !faults.is_empty() {
        return Err(refuse(faults.join("; ")));
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        // It cannot run here. This xtask is of the same workspace and has its version.
        return Ok(Inspected { version: env!("CARGO_PKG_VERSION").to_owned(), level: None });
    }
    let mut command = Command::new(program);
    command.arg("--version");
    let output = bounded(command, b"", VERSION_WITHIN).map_err(|error| refuse(format!("it does not run: {error}")))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let version = said.strip_prefix("membershipd ").filter(|version| output.ok() && !version.is_empty());
    match version {
        Some(version) if version.ends_with(TEST_BUILD) => {
            Err(refuse(format!("version {version} is a test build, whose safeguards can be switched off")))
        }
        Some(version) => Ok(Inspected { version: version.to_owned(), level: Some(highest_level(program)) }),
        None => Err(refuse(format!("asked for its version it said {said:?} and ended with {:?}", output.code))),
    }
}

/// The highest feature level that a program can do. One that does not know the question is from before there were levels.
fn highest_level(program: &Path) -> u32 {
    let mut command = Command::new(program);
    command.args(["level", "highest"]);
    let output = bounded(command, b"", VERSION_WITHIN).ok().filter(crate::process::Output::ok);
    output.and_then(|output| String::from_utf8_lossy(&output.stdout).trim().parse().ok()).unwrap_or(LOWEST_LEVEL)
}

/// A copy, renamed into place, so that a stage that runs meanwhile sends the old program or the new one.
fn install(from: &Path, to: &Path) -> Result<()> {
    let new = to.with_extension(format!("{}.new", process::id()));
    let dir = to.parent().ok_or_else(|| anyhow!("{} has no directory", Paths::shown(to)))?;
    fs::create_dir_all(dir)
        .and_then(|()| fs::copy(from, &new))
        .and_then(|_| fs::set_permissions(&new, Permissions::from_mode(0o755)))
        .and_then(|()| File::open(&new)?.sync_all())
        .and_then(|()| fs::rename(&new, to))
        .inspect_err(|_| {
            // Best effort: the error that brought us here is the one to report.
            let _ = fs::remove_file(&new);
        })
        .with_context(|| format!("writing {}", Paths::shown(to)))
}

/// The commit that was built, marked when the tree has changes on top of it; nothing where there is no git.
fn commit(root: &Path) -> Option<String> {
    let shell = shell_in(root).ok()?;
    let describe = cmd!(shell, "git describe --always --abbrev=12 --exclude=* --dirty");
    let output = bounded(describe, b"", VERSION_WITHIN).ok().filter(crate::process::Output::ok)?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|said| !said.is_empty())
}
