//! A clone of its own for each test, the real binary to run in it, and what it left there.

#![allow(dead_code, reason = "each test program uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on must stop")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) mod hosts;
pub(crate) mod servers;

/// Three nodes in address space that is kept for documentation (RFC 5737).
pub(crate) const TOPOLOGY: &str = r#"[cluster]
name = "test"
route_network = "wg"
kv_replicas = 3
install_dir = "/opt/unibus"

[ports]
client = 4250
control_plane = 8470
route = 6250

[[node]]
name = "a"
ssh = "host-a"
public = "192.0.2.1"
wg = "198.51.100.1"
seed = true

[[node]]
name = "b"
ssh = "host-b"
public = "192.0.2.2"
wg = "198.51.100.2"

[[node]]
name = "c"
ssh = "host-c"
public = "192.0.2.3"
wg = "198.51.100.3"
"#;

pub(crate) const NODES: [&str; 3] = ["a", "b", "c"];

/// A directory that looks like a clone and goes away with the test.
pub(crate) struct Clone {
    pub(crate) root: PathBuf,
    _dir: tempfile::TempDir,
}

impl Clone {
    /// A clone with [`TOPOLOGY`] and the shipped pin of the engine.
    pub(crate) fn new() -> Self {
        // Some tests look at it as another user.
        let open = fs::Permissions::from_mode(0o755);
        let dir = tempfile::Builder::new().prefix("unibus-xtask-").permissions(open).tempdir().unwrap();
        fs::create_dir(dir.path().join("deploy")).unwrap();
        let clone = Self { root: dir.path().canonicalize().unwrap(), _dir: dir };
        clone.write("deploy/nodes.toml", TOPOLOGY);
        clone.write("deploy/engine.toml", include_str!("../../../deploy/engine.toml"));
        clone
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    pub(crate) fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    pub(crate) fn chmod(&self, file: &str, mode: u32) {
        fs::set_permissions(self.path(file), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn mode(&self, file: &str) -> u32 {
        fs::metadata(self.path(file)).unwrap().permissions().mode() & 0o7777
    }

    /// The real binary, to be run in this clone.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.current_dir(&self.root).env_remove("UNIBUS_ROOT").env_remove("CARGO_MANIFEST_DIR");
        command.args(args);
        command
    }

    /// A shell script in this clone, in which `$0` is the real binary. `runner` runs the shell.
    pub(crate) fn shell(&self, runner: &[&str], script: &str) -> Done {
        let words: Vec<&str> =
            runner.iter().copied().chain(["sh", "-c", script, env!("CARGO_BIN_EXE_xtask")]).collect();
        let (first, rest) = words.split_first().unwrap();
        let mut command = Command::new(first);
        command.args(rest).current_dir(&self.root).env_remove("UNIBUS_ROOT").env_remove("CARGO_MANIFEST_DIR");
        Done::of(command)
    }

    /// Runs the words of `line`.
    pub(crate) fn run(&self, line: &str) -> Done {
        Done::of(self.command(line.split_whitespace()))
    }

    /// Runs what must succeed.
    pub(crate) fn ok(&self, line: &str) -> Done {
        let done = self.run(line);
        assert_eq!(done.code, Some(0), "{line}: {done:?}");
        done
    }

    /// Runs what must be refused as bad input, and must change nothing. Returns what it says.
    pub(crate) fn refused(&self, line: &str) -> String {
        let before = self.tree();
        let done = self.run(line);
        assert_eq!(done.code, Some(2), "{line}: {done:?}");
        assert!(before == self.tree(), "{line} changed something: {done:?}");
        done.stderr
    }

    /// Every file and directory with its mode and content.
    pub(crate) fn tree(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let mut tree = BTreeMap::new();
        let mut open = vec![self.root.clone()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                let meta = fs::symlink_metadata(&path).unwrap();
                let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
                if meta.is_dir() {
                    open.push(path.clone());
                }
                tree.insert(path, (meta.permissions().mode(), content));
            }
        }
        tree
    }

    /// Writes an executable. Another process does it: a thread of ours that forks meanwhile would inherit the open
    /// file, and the kernel runs no file that somebody may still write.
    pub(crate) fn script(&self, file: &str, text: &str) -> PathBuf {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        path
    }
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(mut command: Command) -> Self {
        Self::from(command.output().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// What gives a shell mounts of its own. Root needs no user namespace, which none gets whose root directory was changed.
pub(crate) fn own_mounts() -> &'static [&'static str] {
    if is_root() { &["unshare", "--mount"] } else { &["unshare", "--user", "--map-root-user", "--mount"] }
}

/// Whether the tests are run by root.
pub(crate) fn is_root() -> bool {
    Done::of({
        let mut id = Command::new("id");
        id.arg("-u");
        id
    })
    .stdout
        == "0\n"
}

/// A program that says `says`, compiled with `flags`.
pub(crate) fn program(clone: &Clone, says: &str, flags: &[&str]) {
    clone.write("program.c", format!("#include <stdio.h>\nint main(void) {{ puts(\"{says}\"); return 0; }}\n"));
    let done = Command::new("cc")
        .args(flags)
        .arg("-o")
        .arg(clone.path("program"))
        .arg(clone.path("program.c"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// A tool that notes how it was called, and leaves the program where cargo would.
pub(crate) fn builder(clone: &Clone, name: &str) {
    let root = clone.root.display();
    clone.script(
        &format!("bin/{name}"),
        &format!(
            "#!/bin/sh\nPATH=/usr/bin:/bin\n\
             echo \"{name} $* target=${{CARGO_TARGET_DIR#{root}/}}\
             ${{CARGO_BUILD_BUILD_DIR:+ build=${{CARGO_BUILD_BUILD_DIR#{root}/}}}} zig=$CARGO_ZIGBUILD_ZIG_PATH cache=${{ZIG_GLOBAL_CACHE_DIR#{root}/}} \
             cc=$CC_x86_64_unknown_linux_musl bootstrap=$RUSTC_BOOTSTRAP flags=$RUSTFLAGS\" >> {root}/log\n\
             out=$CARGO_TARGET_DIR/x86_64-unknown-linux-musl/release\nmkdir -p \"$out\"\ncp {root}/program \"$out/membershipd\"\n"
        ),
    );
}

/// A clone in which `build` works, with a `cross` that takes whatever the program is.
pub(crate) fn with_cross() -> Clone {
    let clone = Clone::new();
    builder(&clone, "cross");
    clone.script("bin/docker", "#!/bin/sh\n[ \"$1\" = info ]\n");
    clone
}

/// Runs openssl in `dir`: it must succeed. Returns what it prints.
pub(crate) fn openssl(dir: &Path, line: &str) -> String {
    let done = try_openssl(dir, line);
    assert_eq!(done.code, Some(0), "openssl {line}: {done:?}");
    done.stdout
}

/// Runs openssl in `dir`.
pub(crate) fn try_openssl(dir: &Path, line: &str) -> Done {
    let mut command = Command::new("openssl");
    command.current_dir(dir).args(line.split_whitespace());
    Done::of(command)
}
