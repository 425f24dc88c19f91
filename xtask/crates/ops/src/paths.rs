//! Where everything lies: the clone's own folders, and the three that hold key material.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::exit::BadInput;
use crate::lock::Lock;

/// The clone that was found, for what is noted of this run.
static FOUND: OnceLock<PathBuf> = OnceLock::new();

/// The clone that this run works on, once it was looked for.
pub(crate) fn found() -> Option<&'static Path> {
    FOUND.get().map(PathBuf::as_path)
}

/// The files of one clone. The key material (`tls`, `secrets`, `out`) lies below a base directory of its own,
/// so that `local` can keep its own apart from that of the servers.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
    base: PathBuf,
}

impl Paths {
    /// The clone that `root` names, else the one around the working directory, else the one cargo runs us in.
    pub fn find(root: Option<&Path>) -> Result<Self> {
        let root = match root {
            Some(dir) if is_clone(dir) => absolute(dir)?,
            Some(dir) => {
                return Err(BadInput::new(format!(
                    "--root {}: this is no clone of unibus: it has no deploy/engine.toml",
                    dir.display()
                )));
            }
            None => find_upwards()?,
        };
        let base = root.join("deploy");
        // One process works on one clone.
        let _ = FOUND.set(root.clone());
        Ok(Self { root, base })
    }

    /// The same clone, but key material below `base`.
    pub fn with_base(&self, base: &Path) -> Result<Self> {
        Ok(Self { root: self.root.clone(), base: absolute(base)? })
    }

    /// The clone itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The operator's topology.
    pub fn topology(&self) -> PathBuf {
        self.root.join("deploy/nodes.toml")
    }

    /// The pin of the engine.
    pub fn engine_pin(&self) -> PathBuf {
        self.root.join("deploy/engine.toml")
    }

    /// Which release came before this one.
    pub fn previous(&self) -> PathBuf {
        self.root.join("deploy/previous.toml")
    }

    /// What can be made again at any time.
    pub fn build(&self) -> PathBuf {
        self.root.join("deploy/build")
    }

    /// What is fetched for builds and tests, each thing in a directory of its own.
    pub fn tools(&self) -> PathBuf {
        self.build().join("tools")
    }

    /// The client CA's certificate, which every client of the bus trusts.
    pub fn client_ca_cert(&self) -> PathBuf {
        self.base.join("tls/ca.crt")
    }

    /// The client CA's key.
    pub(crate) fn client_ca_key(&self) -> PathBuf {
        self.base.join("tls/ca.key")
    }

    /// The directories that hold key material.
    pub fn key_material(&self) -> [PathBuf; 3] {
        ["tls", "secrets", "out"].map(|dir| self.base.join(dir))
    }

    /// A cluster's secrets that never leave the laptop as a whole.
    pub fn secrets(&self, cluster: &str) -> PathBuf {
        self.base.join("secrets").join(cluster)
    }

    /// The route CA's key.
    pub fn cluster_ca_key(&self, cluster: &str) -> PathBuf {
        self.secrets(cluster).join("cluster-ca.key")
    }

    /// The route CA's certificate.
    pub(crate) fn cluster_ca_cert(&self, cluster: &str) -> PathBuf {
        self.out(cluster).join("cluster-ca.crt")
    }

    /// How far a rotation of the route CA is; none is under way where there is no such file.
    pub fn rotation(&self, cluster: &str) -> PathBuf {
        self.secrets(cluster).join("rotation.toml")
    }

    /// The key of the route CA that a rotation brings.
    pub fn next_ca_key(&self, cluster: &str) -> PathBuf {
        self.secrets(cluster).join("cluster-ca-next.key")
    }

    /// The certificate of the route CA that a rotation brings.
    pub(crate) fn next_ca_cert(&self, cluster: &str) -> PathBuf {
        self.out(cluster).join("cluster-ca-next.crt")
    }

    /// What is made for a cluster's nodes.
    pub fn out(&self, cluster: &str) -> PathBuf {
        self.base.join("out").join(cluster)
    }

    /// All that one node gets, laid out as in its install directory.
    pub fn node(&self, cluster: &str, node: &str) -> PathBuf {
        self.out(cluster).join(node)
    }

    /// A path as the operator would type it: relative to the working directory if it lies below.
    pub fn shown(path: &Path) -> String {
        let below = env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf));
        match below {
            Some(short) if short.as_os_str().is_empty() => ".".to_owned(),
            Some(short) => short.display().to_string(),
            None => path.display().to_string(),
        }
    }

    /// Keeps a second xtask from changing the same key material; released when the value is dropped.
    pub fn lock(&self) -> Result<Lock> {
        let shown = Self::shown(&self.base);
        fs::create_dir_all(&self.base).with_context(|| format!("making {shown}"))?;
        // The directory itself is locked, so that no lock file is ever left behind.
        let dir = File::open(&self.base).with_context(|| format!("opening {shown}"))?;
        Lock::take(dir, || ()).with_context(|| format!("waiting for another xtask that works on {shown}"))
    }
}

fn is_clone(dir: &Path) -> bool {
    dir.join("deploy/engine.toml").is_file()
}

fn absolute(dir: &Path) -> Result<PathBuf> {
    std::path::absolute(dir).with_context(|| format!("finding {}", dir.display()))
}

fn find_upwards() -> Result<PathBuf> {
    // Cargo says where the package lies now, which may not be where it was compiled.
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = env::current_dir().context("finding the working directory")?;
    here.ancestors()
        .chain(package.iter().flat_map(|dir| dir.ancestors()))
        .find(|dir| is_clone(dir))
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            BadInput::new(format!(
                "{} is not inside a clone of unibus (no deploy/engine.toml there or above); \
                 change into one or name it with --root DIR",
                here.display()
            ))
        })
}
