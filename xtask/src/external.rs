//! Verbs that are a program of their own: no other verb waits for cargo to build them.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use unibus_ops::cargo::{JSON_MESSAGES, cargo, executable, run};
use unibus_ops::exit::BadInput;
use unibus_ops::paths::Paths;
use unibus_ops::shell::shell_in;
use unibus_ops::ui::Progress;

use crate::program::this_program;

/// A program of its own.
pub(crate) struct External {
    /// The package, and its program.
    pub(crate) package: &'static str,
    /// Where its manifest lies, if it is no part of the workspace.
    manifest: Option<&'static str>,
    /// Names a program that is built already. Tests and rehearsals set it: where they run there may be no cargo.
    pub(crate) variable: &'static str,
}

/// Rehearses, and breaks clusters on purpose.
pub(crate) const REHEARSAL: External =
    External { package: "unibus-rehearsal", manifest: None, variable: "UNIBUS_REHEARSAL" };
/// Keeps and replaces what an operator has.
pub(crate) const OPERATOR: External =
    External { package: "unibus-operator", manifest: Some("xtask/operator/Cargo.toml"), variable: "UNIBUS_OPERATOR" };
/// Tells the program which `xtask` started it.
const CALLER_VAR: &str = "UNIBUS_XTASK";

/// All that was typed after the verb. The other program parses it, and its `--help` is the verb's.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Flags and words of the verb; its --help names them
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    _words: Vec<OsString>,
}

/// Becomes the program, with the command line of this one: exit code, signals and terminal are the program's own.
pub(crate) fn become_it(external: &External, used: &[External]) -> Result<()> {
    let mut command = command(external, used, &Progress::new())?;
    let error = command.args(env::args_os().skip(1)).exec();
    Err(error).with_context(|| format!("starting {}", command.get_program().display()))
}

/// The program, built unless it is current, without its words; and those that it starts verbs of.
pub(crate) fn command(external: &External, used: &[External], progress: &Progress) -> Result<Command> {
    let mut command = Command::new(program(external, progress)?);
    command.env(CALLER_VAR, this_program()?);
    for other in used {
        command.env(other.variable, program(other, progress)?);
    }
    Ok(command)
}

/// Where the program is.
pub(crate) fn program(External { package, manifest, variable }: &External, progress: &Progress) -> Result<PathBuf> {
    if let Some(program) = env::var_os(variable) {
        return Ok(program.into());
    }
    let line = progress.line(package);
    let sources = sources(variable)?;
    let shell = shell_in(sources.root())?;
    let build = cargo(&shell).args(["build", "--locked", "--package", package]).args(JSON_MESSAGES);
    let build = match manifest {
        // Its dependencies have other features there than here, so they lie in a directory of their own.
        Some(manifest) => build.args(["--manifest-path", manifest, "--target-dir", "target/operator"]),
        None => build,
    };
    let messages = run(build, &line).inspect_err(|_| line.failed(""))?;
    line.clear();
    executable(&messages, package).with_context(|| format!("cargo built no program '{package}'"))
}

/// The clone that this program was built from, whichever it works on.
fn sources(variable: &str) -> Result<Paths> {
    // Cargo says where the package lies now, which may not be where it was compiled.
    let package = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let root = package.ancestors().find(|dir| dir.join("xtask/Cargo.toml").is_file()).map(Path::to_path_buf);
    let gone =
        || BadInput::new(format!("the clone that this xtask was built from is gone; name a program: {variable}=FILE"));
    Paths::find(Some(&root.ok_or_else(gone)?))
}
