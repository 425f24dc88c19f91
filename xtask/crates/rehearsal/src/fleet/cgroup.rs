//! Cgroups, which know better than any process what runs: a machine's power switch, and its pause button.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use unibus_ops::exit::BadInput;

const PREFIX: &str = "unibus-fleet-";
const LOOK: Duration = Duration::from_millis(10);

/// The name of a fleet's cgroup.
pub(super) fn name(id: &str) -> String {
    format!("{PREFIX}{id}")
}

/// One cgroup of version 2.
#[derive(Clone, Debug)]
pub(super) struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// The cgroup at `dir`, made unless it is there.
    pub(super) fn make(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("making the cgroup {}", dir.display()))?;
        if !dir.join("cgroup.kill").exists() {
            // Best effort: the next line says what matters.
            let _ = fs::remove_dir(&dir);
            return Err(BadInput::new(
                "this kernel has no cgroup.kill, without which no machine can be powered off: it came with 5.14",
            ));
        }
        Ok(Self { dir })
    }

    /// The cgroup at `dir`, if it is there.
    pub(super) fn find(dir: PathBuf) -> Option<Self> {
        dir.is_dir().then_some(Self { dir })
    }

    /// Where it is.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether any process lives in it or below.
    pub(super) fn populated(&self) -> Result<bool> {
        self.event("populated")
    }

    /// Whether everything in it stands still.
    pub(super) fn frozen(&self) -> Result<bool> {
        self.event("frozen")
    }

    /// Ends every process in it and below, also those that stand still, and waits until they are gone.
    pub(super) fn kill(&self, within: Duration) -> Result<()> {
        let killed = self.write("cgroup.kill", "1").and_then(|()| self.wait(within, || Ok(!self.populated()?)));
        match killed {
            Ok(true) => Ok(()),
            Ok(false) => {
                bail!("processes in {} survive SIGKILL: {}", self.dir.display(), self.processes().join(", "))
            }
            // Somebody removed it meanwhile, which only goes when it is empty.
            Err(_) if !self.dir.exists() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Stops everything in it where it is, or lets it run on; waits until that is so.
    pub(super) fn freeze(&self, frozen: bool, within: Duration) -> Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })?;
        if !self.wait(within, || Ok(self.frozen()? == frozen))? {
            bail!(
                "{} is not {} after {} s",
                self.dir.display(),
                if frozen { "frozen" } else { "thawed" },
                within.as_secs()
            );
        }
        Ok(())
    }

    /// Waits until `met`; says whether it was within the time.
    pub(super) fn wait(&self, within: Duration, met: impl Fn() -> Result<bool>) -> Result<bool> {
        let deadline = Instant::now() + within;
        while !met()? {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            thread::sleep(LOOK);
        }
        Ok(true)
    }

    /// The first process of the cgroup `child` of this one, as our process namespace numbers it.
    pub(super) fn first_process(&self, child: &str) -> Option<i32> {
        let text = fs::read_to_string(self.dir.join(child).join("cgroup.procs")).ok()?;
        text.lines().next()?.parse().ok().filter(|pid| *pid > 0)
    }

    /// Removes it and all below. No process may be left in it.
    pub(super) fn remove(self) -> Result<()> {
        remove(&self.dir).with_context(|| format!("removing the cgroup {}", self.dir.display()))
    }

    fn processes(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![self.dir.clone()];
        while let Some(dir) = open.pop() {
            let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().map(str::to_owned));
            open.extend(below(&dir).unwrap_or_default());
        }
        found
    }

    fn event(&self, name: &str) -> Result<bool> {
        let file = self.dir.join("cgroup.events");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        value.map(|value| value == "1").with_context(|| format!("{} does not say '{name}'", file.display()))
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let file = self.dir.join(file);
        fs::write(&file, text).with_context(|| format!("writing {text} to {}", file.display()))
    }
}

fn remove(dir: &Path) -> io::Result<()> {
    for child in below(dir)? {
        remove(&child)?;
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match fs::remove_dir(dir) {
            // A process that ended counts until its parent has taken note.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                thread::sleep(LOOK)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
}

fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
