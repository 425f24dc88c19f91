//! The release before this one, built from this clone's history: what every test of an upgrade starts from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use unibus_ops::exit::BadInput;
use unibus_ops::paths::Paths;
use unibus_ops::process::{Output, bounded};
use unibus_ops::shell::{cmd, shell_in};
use unibus_ops::tools::once;
use unibus_ops::ui::Line;
use unibus_ops::{build, cargo};

/// Unpacking some hundred files.
const WITHIN: Duration = Duration::from_secs(120);

/// Which release that is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Previous {
    pub(crate) version: String,
    /// All forty digits: a name can move.
    pub(crate) commit: String,
}

/// The programs of that release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Programs {
    pub(crate) membershipd: PathBuf,
    pub(crate) xtask: PathBuf,
    /// Its sources, with the deploy directory that its xtask works on.
    pub(crate) source: PathBuf,
}

impl Previous {
    /// Reads deploy/previous.toml.
    pub(crate) fn load(file: &Path) -> Result<Self> {
        let shown = Paths::shown(file);
        let text = fs::read_to_string(file).map_err(|error| BadInput::new(format!("reading {shown}: {error}")))?;
        let read: Self = toml::from_str(&text).map_err(|error| BadInput::new(format!("{shown}: {error}")))?;
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if read.commit.len() != 40 || !digits(&read.commit) {
            return Err(BadInput::new(format!("{shown}: commit {:?} is not 40 lower-case hex digits", read.commit)));
        }
        // It becomes a folder's name.
        if read.version.is_empty() || !read.version.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+".contains(&b)) {
            return Err(BadInput::new(format!(
                "{shown}: version {:?} must be letters, digits and . - +",
                read.version
            )));
        }
        Ok(read)
    }

    /// Its programs, built unless they are here.
    pub(crate) fn obtain(&self, paths: &Paths, line: &Line) -> Result<Programs> {
        let (place, source) = self.sources(paths, line)?;
        let programs = ["membershipd", "xtask"].map(|name| place.join("target/debug").join(name));
        let proof = place.join("built");
        if !proof.exists() {
            line.set(format!("building {}, some minutes, once", self.version));
            let shell = shell_in(&source)?;
            let build = cargo::cargo(&shell).args(["build", "--locked", "--bins"]);
            let build = build.env("CARGO_TARGET_DIR", place.join("target"));
            // Dependencies that this clone has compiled already are not compiled again.
            let build = build.env("CARGO_BUILD_BUILD_DIR", paths.root().join("target"));
            cargo::run(build, line).with_context(|| format!("building the previous release, {}", self.version))?;
            let [membershipd, _] = &programs;
            must_be(membershipd, &self.version)?;
            fs::write(&proof, "").with_context(|| format!("writing {}", Paths::shown(&proof)))?;
        }
        let [membershipd, xtask] = programs;
        Ok(Programs { membershipd, xtask, source })
    }

    /// Its membershipd as servers run it, built unless it is here.
    pub(crate) fn obtain_static(&self, paths: &Paths, line: &Line) -> Result<PathBuf> {
        let (place, source) = self.sources(paths, line)?;
        let (target, proof) = (place.join("static"), place.join("built-static"));
        if !proof.exists() {
            build::build_of(paths, &source, &target, line)
                .with_context(|| format!("building the previous release, {}, for servers", self.version))?;
            fs::write(&proof, "").with_context(|| format!("writing {}", Paths::shown(&proof)))?;
        }
        Ok(build::program_in(&target))
    }

    /// Where all of it lies, and there its sources, unpacked unless they are here.
    fn sources(&self, paths: &Paths, line: &Line) -> Result<(PathBuf, PathBuf)> {
        let place = paths.build().join("previous").join(format!("{}-{}", self.version, self.commit));
        once(&place, &place, line, |new| {
            line.set(format!("unpacking {} of {}", self.version, self.commit));
            self.unpack(paths, &new.join("source"))
        })?;
        let source = place.join("source");
        Ok((place, source))
    }

    /// The commit's tree, as git has it, into a new directory.
    pub(crate) fn unpack(&self, paths: &Paths, to: &Path) -> Result<()> {
        let (shell, commit) = (shell_in(paths.root())?, &self.commit);
        let output = bounded(cmd!(shell, "git archive --format=tar {commit}"), b"", WITHIN)
            .map_err(|failure| BadInput::new(failure.to_string()))?;
        if !output.ok() {
            return Err(BadInput::new(format!(
                "git has no commit {} of release {} here ({}); fetch the whole history: git fetch --unshallow --tags",
                self.commit,
                self.version,
                output.reason()
            )));
        }
        fs::create_dir_all(to).with_context(|| format!("making {}", Paths::shown(to)))?;
        let unpacked = bounded(cmd!(shell, "tar -xf - -C {to}"), &output.stdout, WITHIN)
            .map_err(|failure| BadInput::new(failure.to_string()))?;
        if !unpacked.ok() {
            return Err(BadInput::new(format!("unpacking {}: {}", self.commit, unpacked.reason())));
        }
        Ok(())
    }
}

fn must_be(program: &Path, version: &str) -> Result<()> {
    let mut ask = Command::new(program);
    ask.arg("--version");
    let said = bounded(ask, b"", WITHIN).ok().filter(Output::ok).map(|output| output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    if said.split(' ').next_back() == Some(version) {
        return Ok(());
    }
    Err(BadInput::new(format!("deploy/previous.toml says {version}, and the program of that commit says {said:?}")))
}
