//! Makes everything that the nodes need, below one directory. Run again it changes only what must change.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use time::OffsetDateTime;

use super::{Options, build, preflight};
use unibus_ops::engine;
use unibus_ops::exit::BadInput;
use unibus_ops::first_admin;
use unibus_ops::fsx::{self, Batch};
use unibus_ops::hash;
use unibus_ops::install_dir::{BOOTSTRAP, RUNTIME_DIR, STORES};
use unibus_ops::local_state::{Record, State};
use unibus_ops::node_files::{self, Cluster, Placement};
use unibus_ops::paths::Paths;
use unibus_ops::process::bounded;
use unibus_ops::random::System;
use unibus_ops::topology::Topology;
use unibus_ops::ui::Progress;

const ADMIN_HANDLE: &str = "root";
const BASE_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const KV_REPLICAS: u32 = 3;
const WITHIN: Duration = Duration::from_secs(10);

/// The admin that this cluster is seeded with.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    pub(super) handle: String,
    pub(super) sign_pub: String,
}

/// Everything up to the start.
pub(super) fn set_up(paths: &Paths, state: &State, options: &Options, progress: &Progress) -> Result<Admin> {
    let topology = topology(state, options)?;
    if !state.admin().exists() && !options.fresh && has_data(state) {
        let shown = Paths::shown(&state.admin());
        return Err(BadInput::new(format!(
            "{shown} is gone, and the stores know only the admin whose keys were in it; put it back, or begin with \
             empty stores by --fresh"
        )));
    }
    preflight::check(&topology)?;
    let engine = engine::obtain(paths, options.engine.as_deref())?;
    let membershipd = build::membershipd(paths, options.membershipd.as_deref(), progress)?;
    if options.fresh {
        empty_stores(state)?;
    }
    install(&engine.path, &state.programs().join(engine::FILE))?;
    install(&membershipd, &state.programs().join(unibus_ops::build::FILE))?;
    fsx::write(&state.topology(), fsx::PUBLIC, topology.to_toml().as_bytes())?;
    state.write_record(&Record { engine_version: engine.version, engine_sha256: engine.sha256.clone() })?;

    let paths = paths.with_base(state.dir())?;
    let placement = |topology: &Topology, node: &_| Placement::local(topology, node, Path::new(RUNTIME_DIR));
    let cluster = Cluster { topology: &topology, placement: &placement, engine_sha256: &engine.sha256 };
    let report = node_files::make_all(&paths, &cluster, OffsetDateTime::now_utc(), &System::new())?;
    let line = progress.line("certificates");
    line.done(if report.changed() { "made, with secrets and settings of every node" } else { "as they were" });
    for node in &topology.nodes {
        lay_out(state, &paths.node(&topology.cluster.name, &node.name), &node.name)?;
    }
    admin(state)
}

/// Gives every node the files that were made for it, as `stage` does on servers.
pub(super) fn ship(paths: &Paths, state: &State, topology: &Topology) -> Result<()> {
    let paths = paths.with_base(state.dir())?;
    topology
        .nodes
        .iter()
        .try_for_each(|node| lay_out(state, &paths.node(&topology.cluster.name, &node.name), &node.name))
}

/// Whether any node has stored anything: then the cluster has an admin already, or will say that it has none.
pub(super) fn has_data(state: &State) -> bool {
    fs::read_dir(state.nodes()).is_ok_and(|nodes| nodes.flatten().any(|node| node.path().join(STORES).exists()))
}

/// As typed now, else as it was the last time.
fn topology(state: &State, options: &Options) -> Result<Topology> {
    let last = if state.topology().exists() { Some(Topology::load(&state.topology())?) } else { None };
    let last_base = last.as_ref().and_then(|last| match last.nodes.first()?.public {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let base = options.base_address.or(last_base).unwrap_or(BASE_ADDRESS);
    if !base.is_loopback() {
        return Err(BadInput::new(format!(
            "--base-address {base}: a local cluster lives on loopback, in 127.0.0.0/8; nothing was changed"
        )));
    }
    let last_replicas = last.as_ref().map(|last| last.cluster.kv_replicas);
    let kv_replicas = options.kv_replicas.or(last_replicas).unwrap_or(KV_REPLICAS);
    if let Some(stored) = last_replicas
        && stored != kv_replicas
        && !options.fresh
        && has_data(state)
    {
        return Err(BadInput::new(format!(
            "--kv-replicas {kv_replicas}: the stores in {} were made with {stored}; keep that, or begin with empty \
             stores by --fresh",
            Paths::shown(state.dir())
        )));
    }
    Topology::local(base, kv_replicas).map_err(|error| BadInput::new(format!("--base-address {base}: {error:#}")))
}

/// `--fresh`: the stores go, and with them every user and what the admin had seen of them; certificates, secrets and the admin's
/// identity stay.
fn empty_stores(state: &State) -> Result<()> {
    let pins = state.admin_pins();
    if pins.exists() {
        fs::remove_file(&pins).with_context(|| format!("removing {}", Paths::shown(&pins)))?;
    }
    let nodes = match fs::read_dir(state.nodes()) {
        Ok(nodes) => nodes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", Paths::shown(&state.nodes()))),
    };
    for node in nodes {
        let node = node.with_context(|| format!("reading {}", Paths::shown(&state.nodes())))?.path();
        let stores = node.join(STORES);
        if stores.exists() {
            fs::remove_dir_all(&stores).with_context(|| format!("removing {}", Paths::shown(&stores)))?;
        }
        let record = node.join(BOOTSTRAP);
        if record.exists() {
            fs::remove_file(&record).with_context(|| format!("removing {}", Paths::shown(&record)))?;
        }
    }
    Ok(())
}

/// A copy of a program, renamed into place: what runs is not changed by the next build.
fn install(from: &Path, to: &Path) -> Result<()> {
    let shown = Paths::shown(to);
    if hash::sha256_of(from)? == sha256_if_there(to)? {
        return Ok(());
    }
    let new = to.with_extension("new");
    let dir = to.parent().unwrap_or(to);
    fs::create_dir_all(dir)
        .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("making the directory of {shown}"))?;
    fs::copy(from, &new)
        .and_then(|_| fs::set_permissions(&new, fs::Permissions::from_mode(0o755)))
        .and_then(|()| fs::rename(&new, to))
        .with_context(|| format!("writing {shown}"))
}

fn sha256_if_there(file: &Path) -> Result<String> {
    if file.exists() { hash::sha256_of(file) } else { Ok(String::new()) }
}

/// A node's install directory, as it looks on a server.
fn lay_out(state: &State, from: &Path, name: &str) -> Result<()> {
    let dir = state.node(name);
    let mut batch = Batch::default();
    copy_tree(from, &dir, &mut batch)?;
    batch.commit()?;
    let run = dir.join(RUNTIME_DIR);
    fs::create_dir_all(&run).with_context(|| format!("making {}", Paths::shown(&run)))?;
    for private in [&dir, &run] {
        fs::set_permissions(private, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("closing {} to others", Paths::shown(private)))?;
    }
    for program in [engine::FILE, unibus_ops::build::FILE] {
        let link = dir.join(program);
        let to = Path::new("../../bin").join(program);
        if fs::read_link(&link).is_ok_and(|now| now == to) {
            continue;
        }
        if fs::symlink_metadata(&link).is_ok() {
            fs::remove_file(&link).with_context(|| format!("removing {}", Paths::shown(&link)))?;
        }
        symlink(&to, &link).with_context(|| format!("making {}", Paths::shown(&link)))?;
    }
    Ok(())
}

/// What differs, with its mode.
fn copy_tree(from: &Path, to: &Path, batch: &mut Batch) -> Result<()> {
    let shown = Paths::shown(from);
    for entry in fs::read_dir(from).with_context(|| format!("reading {shown}"))? {
        let entry = entry.with_context(|| format!("reading {shown}"))?;
        let (source, place) = (entry.path(), to.join(entry.file_name()));
        let meta = entry.metadata().with_context(|| format!("looking at {}", Paths::shown(&source)))?;
        if meta.is_dir() {
            copy_tree(&source, &place, batch)?;
            continue;
        }
        let mode = meta.permissions().mode() & 0o777;
        let content = fs::read(&source).with_context(|| format!("reading {}", Paths::shown(&source)))?;
        let same = fs::metadata(&place).is_ok_and(|there| there.permissions().mode() & 0o777 == mode)
            && fs::read(&place).is_ok_and(|there| there == content);
        if !same {
            batch.put(&place, mode, content);
        }
    }
    Ok(())
}

/// The identity that this cluster's first admin has; made once.
fn admin(state: &State) -> Result<Admin> {
    let file = state.admin();
    let mut command = Command::new(state.programs().join(unibus_ops::build::FILE));
    command.args(["identity"]);
    if file.exists() {
        command.args(["show", "--json", "--identity"]).arg(&file);
    } else {
        command.args(["new", "--json", "--handle", ADMIN_HANDLE, "--out"]).arg(&file);
    }
    let shown = Paths::shown(&file);
    let output = bounded(command, b"", WITHIN).with_context(|| format!("the identity {shown}"))?;
    let (handle, sign_pub) = first_admin::identity(&output).with_context(|| format!("the identity {shown}"))?;
    Ok(Admin { handle, sign_pub })
}
