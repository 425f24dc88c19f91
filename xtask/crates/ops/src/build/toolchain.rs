//! Which compilers this machine has, and what each needs to build a static program.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::TARGET;
use crate::process::bounded;
use crate::search_path::on_path;

/// rustup may have to think about it.
const WITHIN: Duration = Duration::from_secs(20);

/// A cargo and a rustc that lie in one directory of PATH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Toolchain {
    pub(super) dir: PathBuf,
    /// What rustc says that it is.
    pub(super) version: String,
    pub(super) std: Std,
}

/// Where the standard library for the target comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Std {
    /// It is installed.
    Installed,
    /// Its source is: it is built along.
    Source,
    /// Nowhere.
    Absent,
}

/// Every toolchain on PATH that is new enough, in its order; and why the others are not used.
pub(super) fn toolchains(root: &Path) -> (Vec<Toolchain>, Vec<String>) {
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    let mut seen: Vec<PathBuf> = Vec::new();
    for dir in env::var_os("PATH").iter().flat_map(env::split_paths) {
        let Ok(rustc) = dir.join("rustc").canonicalize() else { continue };
        if !dir.join("cargo").is_file() || seen.contains(&rustc) {
            continue;
        }
        seen.push(rustc);
        match look(&dir, root) {
            Ok(toolchain) => found.push(toolchain),
            Err(why) => refused.push(format!("{}: {why}", dir.join("rustc").display())),
        }
    }
    (found, refused)
}

fn look(dir: &Path, root: &Path) -> Result<Toolchain, String> {
    let version = ask(dir, root, &["--version"])?;
    let needed = env!("CARGO_PKG_RUST_VERSION");
    if release(&version, 1).is_none_or(|has| release(needed, 0).is_some_and(|needs| has < needs)) {
        return Err(format!("{version} is older than the {needed} that this workspace needs"));
    }
    let sysroot = PathBuf::from(ask(dir, root, &["--print", "sysroot"])?);
    let rustlib = sysroot.join("lib/rustlib");
    let std = if has_std(&rustlib.join(TARGET).join("lib")) {
        Std::Installed
    } else if rustlib.join("src/rust/library/std/Cargo.toml").is_file() {
        Std::Source
    } else {
        Std::Absent
    };
    Ok(Toolchain { dir: dir.to_path_buf(), version, std })
}

fn ask(dir: &Path, root: &Path, args: &[&str]) -> Result<String, String> {
    let mut rustc = Command::new(dir.join("rustc"));
    without_cargo(&mut rustc);
    rustc.args(args).current_dir(root);
    let output = bounded(rustc, b"", WITHIN).map_err(|failure| failure.to_string())?;
    if output.ok() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(output.stderr.lines().next().unwrap_or("it said nothing").to_owned())
}

/// Takes away what the cargo that runs us leaves in the environment; another toolchain would stumble over it.
pub(super) fn without_cargo(command: &mut Command) {
    for name in ["CARGO", "RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| ours.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
}

/// `1.95.0` as a pair, from the given word of the text.
fn release(text: &str, word: usize) -> Option<(u32, u32)> {
    let mut parts = text.split_whitespace().nth(word)?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn has_std(dir: &Path) -> bool {
    dir.read_dir().is_ok_and(|files| {
        files.flatten().any(|file| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
    })
}

/// The zig of the operator: a program on PATH, or the one of the Python package.
pub(super) fn zig() -> Option<PathBuf> {
    if let Some(zig) = on_path("zig") {
        return Some(zig);
    }
    let mut python = Command::new("python3");
    python.args(["-c", "import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).with_name('zig'))"]);
    let said = bounded(python, b"", WITHIN).ok().filter(crate::process::Output::ok)?;
    Some(PathBuf::from(String::from_utf8_lossy(&said.stdout).trim())).filter(|zig| zig.is_file())
}

/// A container engine that answers.
pub(super) fn container_engine() -> Option<&'static str> {
    ["docker", "podman"].into_iter().find(|engine| {
        let mut info = Command::new(engine);
        info.arg("info");
        bounded(info, b"", WITHIN).is_ok_and(|output| output.ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_as_numbers() {
        assert_eq!(release("rustc 1.96.0 (abc 2026-01-01) (built from a source tarball)", 1), Some((1, 96)));
        assert_eq!(release("1.95", 0), Some((1, 95)));
        assert!(release("rustc 1.100.0", 1) > release("1.95", 0));
        assert_eq!(release("rustc", 1), None);
    }
}
