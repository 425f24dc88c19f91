//! All that an operator has and git has not: the files themselves, and their form in a sealed file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use unibus_ops::exit::BadInput;
use unibus_ops::fsx::{PRIVATE, PUBLIC};
use unibus_ops::paths::Paths;
use zeroize::Zeroize;

/// The form of such a file; a newer one has a higher number.
const SCHEMA: u32 = 1;
/// Bytes of one file: keys, certificates, settings and a topology are much smaller.
const MOST_FILE: u64 = 1 << 20;
/// The topology, as the sealed file calls it.
pub(crate) const TOPOLOGY: &str = "nodes.toml";
/// Directories of deploy/ that are taken along.
const DIRS: [&str; 3] = ["tls", "secrets", "out"];

/// What is sealed. Its text is zeroed when it goes.
#[derive(Serialize, Deserialize)]
pub(crate) struct Belongings {
    schema: u32,
    pub(crate) cluster: String,
    /// UTC, by the clock of the machine it was made on.
    pub(crate) made: String,
    pub(crate) files: Vec<Belonging>,
}

/// One file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Belonging {
    /// Below deploy/, with slashes.
    pub(crate) path: String,
    mode: u32,
    /// Base64.
    content: String,
}

impl Drop for Belonging {
    fn drop(&mut self) {
        self.content.zeroize();
    }
}

impl Belonging {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        BASE64.decode(self.content.as_bytes()).with_context(|| format!("the content of {}", self.path))
    }

    /// Where it is to lie, below `deploy`. Nothing but what [`Belongings::collect`] takes along is accepted: the file may come from anywhere.
    pub(crate) fn place(&self, deploy: &Path) -> Result<(PathBuf, u32)> {
        let path = Path::new(&self.path);
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        let known = self.path == TOPOLOGY || DIRS.iter().any(|dir| path.starts_with(dir) && path != Path::new(dir));
        if !(plain && known && [PRIVATE, PUBLIC].contains(&self.mode)) {
            bail!("{:?} with mode {:o} is nothing that an export has: the file is not one", self.path, self.mode);
        }
        Ok((deploy.join(path), self.mode))
    }
}

impl Belongings {
    /// All that there is of `cluster`: CAs, secrets, what its nodes get, and its topology.
    pub(crate) fn collect(paths: &Paths, cluster: &str, topology: &Path) -> Result<Self> {
        let deploy = paths.root().join("deploy");
        let mut files = Vec::new();
        for dir in [deploy.join("tls"), paths.secrets(cluster), paths.out(cluster)] {
            walk(&dir, &deploy, &mut files)?;
        }
        if !files.iter().any(|file: &Belonging| file.path.starts_with("secrets/")) {
            return Err(BadInput::new(format!(
                "there are no secrets of {cluster} here ({}), so there is nothing to keep",
                Paths::shown(&paths.secrets(cluster))
            )));
        }
        files.push(Belonging { path: TOPOLOGY.to_owned(), mode: PUBLIC, content: encoded(topology)? });
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let now = OffsetDateTime::now_utc();
        let made = now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).context("writing the time")?;
        Ok(Self { schema: SCHEMA, cluster: cluster.to_owned(), made, files })
    }

    /// Refuses what a newer xtask has made.
    pub(crate) fn check(self) -> Result<Self> {
        match self.schema {
            SCHEMA => Ok(self),
            other => bail!(
                "it has the form {other}, and this xtask knows {SCHEMA}: use the clone of the release that made it"
            ),
        }
    }
}

fn encoded(file: &Path) -> Result<String> {
    let shown = || format!("reading {}", Paths::shown(file));
    let length = fs::metadata(file).with_context(shown)?.len();
    if length > MOST_FILE {
        return Err(BadInput::new(format!("{} is larger than any file of an operator", Paths::shown(file))));
    }
    let mut bytes = fs::read(file).with_context(shown)?;
    let content = BASE64.encode(&bytes);
    bytes.zeroize();
    Ok(content)
}

fn walk(dir: &Path, deploy: &Path, files: &mut Vec<Belonging>) -> Result<()> {
    let shown = || format!("reading {}", Paths::shown(dir));
    if !dir.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(dir).with_context(shown)? {
        let entry = entry.with_context(shown)?;
        let (path, kind) = (entry.path(), entry.file_type().with_context(shown)?);
        if kind.is_dir() {
            walk(&path, deploy, files)?;
        } else if kind.is_file() {
            let private = entry.metadata().with_context(shown)?.permissions().mode() & 0o077 == 0;
            let below = path.strip_prefix(deploy).context("a file outside of deploy/")?;
            let name = below.to_str().with_context(|| format!("{} is no text", Paths::shown(&path)))?.to_owned();
            let mode = if private { PRIVATE } else { PUBLIC };
            files.push(Belonging { path: name, mode, content: encoded(&path)? });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_export_has_is_put_anywhere() {
        let of = |path: &str, mode| Belonging { path: path.to_owned(), mode, content: String::new() };
        let deploy = Path::new("/clone/deploy");
        let place =
            |path: &str, mode| of(path, mode).place(deploy).map(|(path, mode)| (path.display().to_string(), mode));
        assert_eq!(place("tls/ca.key", PRIVATE).unwrap(), ("/clone/deploy/tls/ca.key".to_owned(), PRIVATE));
        assert_eq!(place("nodes.toml", PUBLIC).unwrap().0, "/clone/deploy/nodes.toml");
        for bad in
            ["", "tls", "/etc/passwd", "../x", "tls/../../x", "secrets/./../x", "engine.toml", "build/x", "tls//../x"]
        {
            assert!(place(bad, PUBLIC).is_err(), "{bad}");
        }
        assert!(place("tls/ca.key", 0o4755).is_err());
    }
}
