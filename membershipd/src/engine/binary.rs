//! The nats-server binary: where it is, what it is, and whether it may run.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// Oldest engine that may run: the fixes for scaling in place and an affordable `sync_interval: always` are in it.
const OLDEST: (u32, u32) = (2, 14);
const NAME: &str = "nats-server";

/// Why there is no engine to run.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Looked for in vain.
    #[error(
        "no {NAME} beside {beside}, nor on PATH; remedy: name it with --engine, or run 'cargo xtask local', which fetches it"
    )]
    Missing {
        /// Directory of this binary.
        beside: PathBuf,
    },
    /// It cannot be read or run.
    #[error("{doing} the engine {path}: {source}; remedy: name a working nats-server with --engine")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// The binary.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It is not the file that was shipped.
    #[error(
        "the engine {path} was tampered with or replaced: its sha256 is {got}, expected {want}; remedy: put the pinned binary back"
    )]
    Tampered {
        /// The binary.
        path: PathBuf,
        /// What it should be.
        want: String,
        /// What it is.
        got: String,
    },
    /// It is not a nats-server, or one from before 2.14.
    #[error(
        "the engine {path} says '{said}': nats-server 2.14 or later is needed; remedy: use the pinned one of deploy/engine.toml"
    )]
    Unfit {
        /// The binary.
        path: PathBuf,
        /// Its answer to --version.
        said: String,
    },
    /// It refuses the configuration.
    #[error("the engine refuses its configuration {config}: {said}")]
    Config {
        /// The rendered file.
        config: PathBuf,
        /// Its explanation.
        said: String,
    },
}

/// An engine that may run.
#[derive(Debug, Clone)]
pub struct Binary {
    /// The file.
    pub path: PathBuf,
    /// Its version, such as 2.15.1.
    pub version: String,
    /// Its sha256, lower-case hex.
    pub sha256: String,
}

impl Binary {
    /// Finds and checks the engine: `named`, else beside this binary, else on PATH.
    pub fn find(named: Option<&Path>, want_sha256: Option<&str>) -> Result<Self, EngineError> {
        let path = named.map_or_else(Self::look_around, |path| Ok(path.to_owned()))?;
        let fail = |doing| {
            let path = path.clone();
            move |source| EngineError::Io { doing, path, source }
        };
        let path = std::fs::canonicalize(&path).map_err(fail("cannot find"))?;
        let bytes = std::fs::read(&path).map_err(fail("cannot read"))?;
        let sha256 = data_encoding::HEXLOWER.encode(&Sha256::digest(&bytes));
        if let Some(want) = want_sha256.filter(|want| *want != sha256) {
            return Err(EngineError::Tampered { path, want: want.to_owned(), got: sha256 });
        }
        let output = Command::new(&path).arg("--version").output().map_err(fail("cannot run"))?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let version = said.strip_prefix("nats-server: v").filter(|version| fit(version));
        match version {
            Some(version) => Ok(Self { version: version.to_owned(), path, sha256 }),
            None => Err(EngineError::Unfit { path, said }),
        }
    }

    /// Has the engine check a configuration without starting.
    pub fn check(&self, config: &Path) -> Result<(), EngineError> {
        let output = Command::new(&self.path).arg("-t").arg("-c").arg(config).output();
        let output =
            output.map_err(|source| EngineError::Io { doing: "cannot run", path: self.path.clone(), source })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(EngineError::Config { config: config.to_owned(), said })
    }

    fn look_around() -> Result<PathBuf, EngineError> {
        let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned)).unwrap_or_default();
        let on_path = std::env::var_os("PATH").unwrap_or_default();
        std::iter::once(beside.clone())
            .chain(std::env::split_paths(&on_path))
            .map(|directory| directory.join(NAME))
            .find(|candidate| candidate.is_file())
            .ok_or(EngineError::Missing { beside })
    }
}

fn fit(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= OLDEST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_strange_versions_do_not_fit() {
        assert!(fit("2.14.0") && fit("2.15.1") && fit("3.0.0") && fit("2.15.0-RC.1"));
        assert!(!fit("2.9.10") && !fit("1.20.0") && !fit("latest") && !fit(""));
    }
}
