//! A generator of requests that knows the description of the API, and nothing else of it, finds no request that is answered in another
//! way than the description says.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use unibus_ops::cargo;
use unibus_ops::paths::Paths;
use unibus_ops::shell::shell_in;
use unibus_ops::tools::Tool;
use unibus_ops::ui::Progress;

/// Beside whatever else runs on this machine.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 96, 11);
const API_PORT: u16 = 8470;
/// Requests a second that the daemon takes: the generator has one key and one address.
const RATE: &str = "100000";
/// Examples that are drawn for each operation, beside those that are made of its limits.
const EXAMPLES: &str = "60";
/// Where the hooks and the settings of the generator are.
const CLIENTS: &str = "membershipd/tests/clients";

/// Starts a daemon on its own, asks it whatever its description allows and forbids, and ends it, also after a failure.
pub(super) fn run(paths: &Paths, progress: &Progress) -> Result<()> {
    let line = progress.line("membershipd");
    let shell = shell_in(paths.root())?;
    let build = cargo::cargo(&shell).args(["build", "--locked", "--package", "membershipd"]);
    let built = cargo::run(build.args(cargo::JSON_MESSAGES), &line)?;
    let program = cargo::executable(&built, "membershipd").context("cargo built no membershipd")?;
    line.done("built");
    let line = progress.line("engine and generator");
    let (engine, generator) = (Tool::Engine.obtain(paths, &line)?, Tool::Schemathesis.obtain(paths, &line)?);
    line.done("here");
    let site = Site::start(&program, &engine, paths.build().join("prove-api"))?;
    let status = site.ask(paths, &generator)?;
    let log = fs::read_to_string(site.dir.join("log")).context("reading the log of the daemon")?;
    ensure!(!log.contains("panicked"), "the daemon panicked; see {}", Paths::shown(&site.dir.join("log")));
    if !status {
        bail!(
            "what is answered is not what the description says; see above, and {}",
            Paths::shown(&site.dir.join("log"))
        );
    }
    Ok(())
}

/// A daemon on its own, with an admin.
struct Site {
    dir: PathBuf,
    daemon: Child,
}

impl Site {
    fn start(program: &Path, engine: &Path, dir: PathBuf) -> Result<Self> {
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("removing {}", Paths::shown(&dir)))?;
        }
        let mut made = fs::DirBuilder::new();
        made.recursive(true).mode(0o700).create(&dir).with_context(|| format!("making {}", Paths::shown(&dir)))?;
        let verb = |words: &[&str]| -> Result<String> {
            let output = Command::new(program).args(words).current_dir(&dir).env_remove("UNIBUS_IDENTITY").output();
            let output = output.context("starting membershipd")?;
            ensure!(output.status.success(), "{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let root = verb(&["identity", "new", "--handle", "root", "--out", "root.toml", "--json"])?;
        let root: Value = serde_json::from_str(&root).context("an identity that is no JSON")?;
        let key = root.get("sign_pub").and_then(Value::as_str).context("an identity without a key")?;
        verb(
            &[
                &["user", "add", "--db", "local_files/unibus.db", "--handle", "root", "--role", "admin"][..],
                &["--sign-pub", key],
            ]
            .concat(),
        )?;
        let log = fs::File::create(dir.join("log")).context("making the log of the daemon")?;
        let mut command = Command::new(program);
        command.args(["--runtime-dir", "run", "--bind", &ADDRESS.to_string(), "--api-rate", RATE]);
        command.arg("--engine").arg(engine);
        let daemon =
            command.current_dir(&dir).stdin(Stdio::null()).stderr(log).spawn().context("starting membershipd")?;
        let site = Self { dir: dir.clone(), daemon };
        verb(&["wait", "--for", "healthy", "--within", "60", "--runtime-dir", "run"])
            .with_context(|| format!("the daemon is not ready; see {}", Paths::shown(&dir.join("log"))))?;
        Ok(site)
    }

    /// Has the generator ask. Says whether it found nothing.
    fn ask(&self, paths: &Paths, generator: &Path) -> Result<bool> {
        let clients = paths.root().join(CLIENTS);
        let url = format!("http://{ADDRESS}:{API_PORT}");
        let mut command = Command::new("python3");
        command.args(["-B", "-m", "schemathesis.cli", "--config-file"]).arg(clients.join("schemathesis.toml"));
        command.args(["run", &format!("{url}/openapi.json"), "--url", &url, "--max-examples", EXAMPLES]);
        command.env("PYTHONPATH", generator).env("SCHEMATHESIS_HOOKS", clients.join("schemathesis_hooks.py"));
        command.env("UNIBUS_IDENTITY", self.dir.join("root.toml")).current_dir(&self.dir);
        let status = command.status().context("starting python3")?;
        Ok(status.success())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Its engine goes with it.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
