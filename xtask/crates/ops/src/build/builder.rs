//! The ways to build a static program, and which of them works here.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use super::TARGET;
use super::toolchain::{Std, Toolchain, container_engine, toolchains, without_cargo, zig};
use crate::paths::Paths;
use crate::search_path::on_path;
use crate::tools;

/// C compilers that make code for musl, by the names their packages give them.
const MUSL_CC: [&str; 2] = ["x86_64-linux-musl-gcc", "musl-gcc"];

/// A way to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Builder {
    /// In a container, by `cross`
    Cross,
    /// With zig as C compiler and linker, by `cargo zigbuild`
    Zigbuild,
    /// With a C compiler for musl, by plain `cargo`
    Cargo,
}

impl Builder {
    /// In the order in which they are tried.
    const ALL: [Self; 3] = [Self::Cross, Self::Zigbuild, Self::Cargo];

    /// As one types it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cross => "cross",
            Self::Zigbuild => "zigbuild",
            Self::Cargo => "cargo",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Cross => "start docker or podman, and: cargo install cross",
            Self::Zigbuild => "cargo xtask setup build --yes",
            Self::Cargo => "rustup target add x86_64-unknown-linux-musl, and on Debian: apt-get install musl-tools",
        }
    }
}

/// All that a build needs, found on this machine.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) builder: Builder,
    with: With,
}

#[derive(Clone, Debug)]
enum With {
    Cross { cross: PathBuf, engine: &'static str },
    Zig { zigbuild: PathBuf, zig: PathBuf, toolchain: Toolchain },
    MuslCc { cc: PathBuf, toolchain: Toolchain },
}

/// The builder that was asked for, or the first that works; else, for each, why it does not and what would help.
pub(super) fn choose(asked: Option<Builder>, paths: &Paths) -> Result<Recipe, String> {
    let root = paths.root();
    let tried: Vec<Builder> = asked.map_or_else(|| Builder::ALL.to_vec(), |one| vec![one]);
    let mut reasons = Vec::new();
    for builder in tried {
        let found = match builder {
            Builder::Cross => cross(),
            Builder::Zigbuild => zigbuild(paths),
            Builder::Cargo => cargo(root),
        };
        match found {
            Ok(with) => return Ok(Recipe { builder, with }),
            Err(why) => reasons.push(format!("\n  {}: {why}\n    remedy: {}", builder.name(), builder.remedy())),
        }
    }
    let what = asked.map_or("no builder works here", |_| "this builder does not work here");
    Err(format!("{what}, so no static {TARGET} program can be made:{}", reasons.concat()))
}

fn cross() -> Result<With, String> {
    let cross = on_path("cross").ok_or("there is no cross on PATH")?;
    let engine = container_engine().ok_or("neither docker nor podman answers `info`")?;
    Ok(With::Cross { cross, engine })
}

fn zigbuild(paths: &Paths) -> Result<With, String> {
    let (zigbuild, zig) = zig_linker(paths)?;
    Ok(With::Zig { zigbuild, zig, toolchain: any_toolchain(paths.root())? })
}

/// The operator's own, else the fetched one.
fn zig_linker(paths: &Paths) -> Result<(PathBuf, PathBuf), String> {
    let own = on_path("cargo-zigbuild").and_then(|zigbuild| Some((zigbuild, zig()?)));
    own.or_else(|| tools::zig(paths))
        .ok_or_else(|| "there is no zig with cargo-zigbuild, neither on PATH nor in deploy/build".to_owned())
}

/// A toolchain that brings the standard library, else one that brings its source.
fn any_toolchain(root: &Path) -> Result<Toolchain, String> {
    let (found, refused) = toolchains(root);
    let having = |std| found.iter().find(|toolchain| toolchain.std == std).cloned();
    having(Std::Installed).or_else(|| having(Std::Source)).ok_or_else(|| lacking(&found, &refused))
}

/// The compiler of a static build, whatever links; a container brings its own.
pub(super) fn compiler(paths: &Paths) -> Result<String, String> {
    any_toolchain(paths.root())
        .map(|toolchain| toolchain.version)
        .or_else(|why| choose(None, paths).map(|recipe| recipe.compiler()).map_err(|_| why))
}

/// The linker of a static build, if one is here already.
pub(super) fn linker(paths: &Paths) -> Result<String, String> {
    zig_linker(paths)
        .map(|(_, zig)| zig.display().to_string())
        .or_else(|why| choose(None, paths).map(|recipe| recipe.builder.name().to_owned()).map_err(|_| why))
}

fn cargo(root: &Path) -> Result<With, String> {
    let cc = MUSL_CC.into_iter().find_map(on_path).ok_or("there is no C compiler for musl (musl-gcc) on PATH")?;
    let (found, refused) = toolchains(root);
    // A standard library built along would need libunwind and a start file that a C compiler for musl does not bring.
    let toolchain = found.iter().find(|toolchain| toolchain.std == Std::Installed).cloned();
    Ok(With::MuslCc { cc, toolchain: toolchain.ok_or_else(|| lacking(&found, &refused))? })
}

fn lacking(found: &[Toolchain], refused: &[String]) -> String {
    let without = found.iter().map(|toolchain| {
        let has = if toolchain.std == Std::Source { "only the source of the" } else { "no" };
        format!("{} has {has} standard library for {TARGET}", toolchain.version)
    });
    let all: Vec<String> = without.chain(refused.iter().cloned()).collect();
    if all.is_empty() { "there is no rustc beside a cargo on PATH".to_owned() } else { all.join("; ") }
}

impl Recipe {
    /// The target directory of this way to build. Each has its own: what they leave there does not mix.
    pub(super) fn target_dir(&self, root: &Path) -> PathBuf {
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        let std = if self.builds_std() { "-std" } else { "" };
        target.join("static").join(format!("{}{std}", self.builder.name()))
    }

    /// The whole command.
    pub(super) fn command(&self, root: &Path) -> Command {
        let (program, verb) = match &self.with {
            With::Cross { cross, .. } => (cross.clone(), "build"),
            With::Zig { zigbuild, .. } => (zigbuild.clone(), "zigbuild"),
            With::MuslCc { toolchain, .. } => (toolchain.dir.join("cargo"), "build"),
        };
        let mut command = Command::new(program);
        without_cargo(&mut command);
        command.current_dir(root).env("CARGO_TARGET_DIR", self.target_dir(root));
        command.args([verb, "--locked", "--release", "--package", "membershipd", "--target", TARGET]);
        match &self.with {
            With::Cross { engine, .. } => {
                command.env("CROSS_CONTAINER_ENGINE", engine);
            }
            With::Zig { zig, toolchain, .. } => {
                // They cache below the home directory unless told where: nothing is left outside the clone.
                let cache = self.target_dir(root).join("zig-cache");
                for variable in ["CARGO_ZIGBUILD_CACHE_DIR", "ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"] {
                    command.env(variable, &cache);
                }
                command.env("CARGO_ZIGBUILD_ZIG_PATH", zig);
                use_toolchain(&mut command, toolchain);
            }
            With::MuslCc { cc, toolchain } => {
                command.env("CC_x86_64_unknown_linux_musl", cc);
                use_toolchain(&mut command, toolchain);
            }
        }
        if self.builds_std() {
            // What this toolchain ships is stable; that std can be built along is not, hence the first. The second:
            // it has no start files of its own for musl, zig brings them.
            command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-C link-self-contained=no");
            command.arg("-Zbuild-std=std,panic_unwind");
        }
        command
    }

    /// The same for the sources of another release, whose program comes into a target directory of its own. What this clone has
    /// compiled for the recipe is not compiled again: that takes the same build directory, and the same paths in the environment
    /// of C compilers, which build scripts look at.
    pub(super) fn command_for(&self, root: &Path, source: &Path, target: &Path) -> Command {
        let mut command = self.command(root);
        command.current_dir(source).env("CARGO_TARGET_DIR", target);
        if self.builder != Builder::Cross {
            // A container sees nothing but the sources.
            command.env("CARGO_BUILD_BUILD_DIR", self.target_dir(root));
        }
        command
    }

    fn builds_std(&self) -> bool {
        matches!(&self.with, With::Zig { toolchain, .. } if toolchain.std == Std::Source)
    }

    /// What compiles, in words.
    pub(super) fn compiler(&self) -> String {
        match &self.with {
            With::Cross { engine, .. } => format!("cross in {engine}"),
            With::Zig { toolchain, .. } | With::MuslCc { toolchain, .. } => {
                let std = if self.builds_std() { ", its standard library built along" } else { "" };
                format!("{}{std}", toolchain.version)
            }
        }
    }
}

/// The very toolchain that was looked at, whichever comes first on PATH.
fn use_toolchain(command: &mut Command, toolchain: &Toolchain) {
    let rest = env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(toolchain.dir.clone()).chain(env::split_paths(&rest));
    // They came from a PATH, so they fit into one.
    let path = env::join_paths(dirs).unwrap_or_else(|_| OsString::from(&toolchain.dir));
    command.env("PATH", path).env("CARGO", toolchain.dir.join("cargo")).env("RUSTC", toolchain.dir.join("rustc"));
}
