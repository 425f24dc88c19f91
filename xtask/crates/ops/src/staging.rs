//! What `stage` makes of a server, as steps: user, directories, release, certificates, secrets, settings, unit.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::build::{self, Built};
use crate::engine::{self, Engine};
use crate::fsx::{PRIVATE, PUBLIC};
use crate::hash;
use crate::install_dir::{BOOTSTRAP, CLUSTER_ENV, STORES};
use crate::node_files::{self, CLIENT_CA, ROUTE_CA, SECRETS, TLS_OWN};
use crate::paths::Paths;
use crate::plan::{Effect, SentFile, Step, Unless, words};
use crate::secrets::{PER_NODE, SHARED};
use crate::topology::{INSTALL_DIR, Topology};
use crate::transport::Mode;

/// The user that the daemon runs as, and its group.
pub(crate) const USER: &str = "unibus";
/// Owner of what the daemon must read itself although nobody else may.
pub(crate) const DAEMON: &str = "unibus:unibus";
/// Owner of what the daemon must not change.
const ROOT: &str = "root:root";
/// Owner of what the daemon may look into, or, by the mode, put away.
const SHARED_WITH_DAEMON: &str = "root:unibus";
/// The unit, in deploy/ and on a server.
pub const UNIT: &str = "membershipd-cluster.service";
const UNITS: &str = "/etc/systemd/system";
const PROGRAM: Mode = Mode(0o755);
/// Settings that belong to a release, beside its programs.
const RELEASE_ENV: &str = "release.env";
/// The links that decide: what runs, what `roll` makes run next, and what ran before.
pub(crate) const CURRENT: &str = "current";
pub(crate) const STAGED: &str = "staged";
pub(crate) const PREVIOUS: &str = "previous";
/// Digits of a release's name that come from its programs; enough to tell a few dozen apart.
const RELEASE_DIGITS: usize = 12;

/// All that is sent to every server alike.
#[derive(Clone, Debug)]
pub struct Release {
    pub(crate) id: String,
    membershipd: SentFile,
    engine: SentFile,
    engine_sha256: String,
    unit: String,
    /// The highest feature level that it can do; none: it could not be asked here.
    pub highest_level: Option<u32>,
}

impl Release {
    /// The release of these two programs. The same programs make the same release, whenever they are staged.
    pub fn new(paths: &Paths, built: &Built, engine: &Engine, unit: &str, topology: &Topology) -> Self {
        let digits = hash::short(format!("{} {}", built.sha256, engine.sha256).as_bytes(), RELEASE_DIGITS);
        Self {
            id: format!("{}-{digits}", built.version),
            membershipd: SentFile { from: build::place(paths), sha256: Some(built.sha256.clone()) },
            engine: SentFile { from: engine.path.clone(), sha256: Some(engine.sha256.clone()) },
            engine_sha256: engine.sha256.clone(),
            highest_level: built.level,
            unit: unit.replace(INSTALL_DIR, &topology.cluster.install_dir),
        }
    }
}

/// The steps for one server, from nothing to everything that `up` needs. `from` is the node's folder on this machine.
pub fn steps(release: &Release, topology: &Topology, node: &str, from: &Path) -> Result<Vec<Step>> {
    let dir = topology.cluster.install_dir.as_str();
    let below = |path: &str| format!("{dir}/{path}");
    let release_dir = below(&format!("releases/{}", release.id));
    let mut steps = Vec::new();
    let mut step = |id, effect| steps.push(Step::new(id, node, effect));

    step("user", Effect::MakeUser { name: USER.to_owned(), home: dir.to_owned() });
    let bootstrap = parent(BOOTSTRAP);
    let directories = [
        ("install directory", dir.to_owned(), ROOT, 0o755),
        ("releases", below("releases"), ROOT, 0o755),
        ("release directory", release_dir.clone(), ROOT, 0o755),
        ("tls directory", below("tls"), SHARED_WITH_DAEMON, 0o750),
        // systemd, as root, reads these and hands the daemon copies.
        ("secrets directory", below(SECRETS), ROOT, 0o700),
        ("stores", below(STORES), DAEMON, 0o700),
        // Root leaves the record of the first admin here; the daemon reads and deletes it, and can write nowhere else
        // that root looks into: not beside the programs, the units' settings or the secrets.
        ("bootstrap directory", below(bootstrap), SHARED_WITH_DAEMON, 0o770),
    ];
    for (id, path, owner, mode) in directories {
        step(id, Effect::MakeDirectory { path, owner: owner.to_owned(), mode: Mode(mode) });
    }

    let programs = vec![release.membershipd.clone(), release.engine.clone()];
    step("programs", sync(&release_dir, ROOT, PROGRAM, programs));
    let engine = node_files::engine_settings(&format!("{release_dir}/{}", engine::FILE), &release.engine_sha256);
    let content = format!("# Of release {}, made by `cargo xtask`.\n{}", release.id, node_files::as_env(&engine));
    let path = format!("{release_dir}/{RELEASE_ENV}");
    step("release settings", Effect::PutFile { path, owner: Some(ROOT.to_owned()), mode: Mode(PUBLIC), content });
    for (id, effect) in own_files(dir, from)? {
        step(id, effect);
    }
    let secrets = SHARED.iter().chain(&PER_NODE).map(|file| secret(from.join(SECRETS).join(file.file))).collect();
    step("secrets", sync(&below(SECRETS), ROOT, Mode(PRIVATE), secrets));

    // One link decides which release runs, and only `roll` and `rollback` move it; the names that everybody uses go
    // through it.
    let link = |path: &str, to: String| Effect::MakeLink { path: below(path), to };
    let id = format!("releases/{}", release.id);
    step("staged release", link(STAGED, id.clone()));
    let current = below(CURRENT);
    step(
        "first release",
        Effect::Run {
            argv: words(&["ln", "-sT", "--", &id, &current]),
            unless: Unless { argv: words(&["test", "-L", &current]), prints: None },
        },
    );
    step("daemon's name", link(build::FILE, format!("{CURRENT}/{}", build::FILE)));
    step("engine's name", link(engine::FILE, format!("{CURRENT}/{}", engine::FILE)));

    step(
        "unit",
        Effect::PutFile {
            path: format!("{UNITS}/{UNIT}"),
            owner: Some(ROOT.to_owned()),
            mode: Mode(PUBLIC),
            content: release.unit.clone(),
        },
    );
    step(
        "reload units",
        Effect::Run {
            argv: words(&["systemctl", "daemon-reload"]),
            unless: Unless {
                argv: words(&["systemctl", "show", "--property", "NeedDaemonReload", "--value", "--", UNIT]),
                prints: Some("no".to_owned()),
            },
        },
    );
    // It changes nothing: it fails where the program does not run there or the settings do not fit together.
    let staged = |file: &str| format!("{id}/{file}");
    let program = format!("./{}", staged(build::FILE));
    let files = ["--env-file", CLUSTER_ENV, "--env-file", &staged(RELEASE_ENV)];
    let check = words(&[&[program.as_str(), "check-config"], files.as_slice()].concat());
    step("check settings", Effect::Run { argv: check.clone(), unless: Unless { argv: check, prints: None } });
    Ok(steps)
}

/// What a node gets that differs from node to node and is no secret of systemd's: it may change while the node runs, and
/// counts from the next start.
fn own_files(dir: &str, from: &Path) -> Result<[(&'static str, Effect); 3]> {
    let tls = format!("{dir}/tls");
    let (keys, own_certs): (Vec<&str>, Vec<&str>) = TLS_OWN.into_iter().partition(|file| file.ends_with(".key"));
    let certs = own_certs.into_iter().chain([CLIENT_CA, ROUTE_CA]);
    let certs = certs.map(|file| public(from.join(file))).collect::<Result<Vec<_>>>()?;
    // The daemon reloads these from their directory, so it must be able to read them itself.
    let keys = keys.into_iter().map(|file| secret(from.join(file))).collect();
    Ok([
        ("certificates", sync(&tls, ROOT, Mode(PUBLIC), certs)),
        ("keys", sync(&tls, DAEMON, Mode(PRIVATE), keys)),
        ("settings", sync(dir, ROOT, Mode(PUBLIC), vec![public(from.join(CLUSTER_ENV))?])),
    ])
}

/// The steps that bring a running server's certificates and settings up to date, and nothing else.
pub fn refreshed(topology: &Topology, node: &str, from: &Path) -> Result<Vec<Step>> {
    let files = own_files(&topology.cluster.install_dir, from)?;
    Ok(files.into_iter().map(|(id, effect)| Step::new(id, node, effect)).collect())
}

/// A node's settings alone, whose content is known before the file exists; none of the install directory where the nodes are
/// directories of this machine.
pub fn put_settings(install_dir: Option<&str>, node: &str, content: String) -> Step {
    let (path, owner) = match install_dir {
        Some(dir) => (format!("{dir}/{CLUSTER_ENV}"), Some(ROOT.to_owned())),
        None => (CLUSTER_ENV.to_owned(), None),
    };
    Step::new("settings", node, Effect::PutFile { path, owner, mode: Mode(PUBLIC), content })
}

/// Whatever of these is newer than a node's running daemon counts only from its next start. Directories do not count: what
/// is in them does.
pub(crate) fn read_at_start(topology: &Topology) -> Vec<String> {
    let program = |file: &str| format!("{CURRENT}/{file}");
    let below = [
        CURRENT.to_owned(),
        program(build::FILE),
        program(engine::FILE),
        program(RELEASE_ENV),
        CLUSTER_ENV.to_owned(),
        "tls".to_owned(),
        SECRETS.to_owned(),
    ];
    let below = below.map(|path| format!("{}/{path}", topology.cluster.install_dir));
    below.into_iter().chain([format!("{UNITS}/{UNIT}")]).collect()
}

/// Removes the releases that no link leads to. What is not named as a release is left alone.
pub(crate) fn prune(topology: &Topology, node: &str) -> Step {
    let dir = topology.cluster.install_dir.as_str();
    let below = |path: &str| format!("{dir}/{path}");
    let (releases, previous) = (below("releases"), below(PREVIOUS));
    // Where a link that must be there is not, find fails before it has looked at anything. There need not be a previous one.
    let (current, staged) = (below(&format!("{CURRENT}/.")), below(&format!("{STAGED}/.")));
    let named = format!(".*/[0-9][^/]*-[0-9a-f]{{{RELEASE_DIGITS}}}");
    let unused = [
        ["find", releases.as_str(), "-mindepth", "1", "-maxdepth", "1", "-type", "d"].as_slice(),
        &["-regextype", "posix-extended", "-regex", &named],
        &["!", "-samefile", &current, "!", "-samefile", &staged, "!", "-exec", "test", "{}", "-ef", &previous, ";"],
    ]
    .concat();
    let argv = words(&[unused.as_slice(), &["-exec", "rm", "-rf", "--", "{}", "+"]].concat());
    let unless = Unless { argv: words(&[unused.as_slice(), &["-print"]].concat()), prints: Some(String::new()) };
    Step::new("remove unused releases", node, Effect::Run { argv, unless })
}

fn sync(to: &str, owner: &str, mode: Mode, files: Vec<SentFile>) -> Effect {
    Effect::SyncFiles { to: to.to_owned(), owner: owner.to_owned(), mode, files }
}

fn public(from: PathBuf) -> Result<SentFile> {
    let sha256 = hash::sha256_of(&from)?;
    Ok(SentFile { from, sha256: Some(sha256) })
}

fn secret(from: PathBuf) -> SentFile {
    SentFile { from, sha256: None }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(dir, _)| dir)
}

/// The unit as it is in the clone.
pub fn unit(paths: &Paths) -> Result<String> {
    let file = paths.root().join("deploy").join(UNIT);
    std::fs::read_to_string(&file).with_context(|| format!("reading {}", Paths::shown(&file)))
}
