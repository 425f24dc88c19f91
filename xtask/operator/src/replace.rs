//! `operator replace-keys`: new keys and secrets in the place of all of them, after a laptop was lost or stolen.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use time::OffsetDateTime;

use unibus_ops::engine::Pin;
use unibus_ops::exit::BadInput;
use unibus_ops::fsx;
use unibus_ops::global::Global;
use unibus_ops::node_files::{self, Cluster, Placement};
use unibus_ops::paths::Paths;
use unibus_ops::random::System;
use unibus_ops::topology::Topology;
use unibus_ops::ui::next;

/// Names the cluster in the stores of its nodes; it is no secret, and stays.
const CLUSTER_ID: &str = "cluster.id";

/// Replace both CAs, all certificates, the route password and all nkeys, on this machine
///
/// What lies on the lost laptop is worth nothing once the nodes run with the new ones: nodes with old and new keys do not talk
/// to each other, so all of them are stopped, staged and started together. The id of the cluster stays, and so does all that it holds.
/// Without --yes it is only said what would be made.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Do it; the old keys on this machine are destroyed
    #[arg(long)]
    yes: bool,
    /// Keep the client CA: only if its key was not on the lost laptop. Otherwise each client needs the new deploy/tls/ca.crt
    #[arg(long)]
    keep_client_ca: bool,
}

/// Prints what would be made, or makes it.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let topology = global.topology(&paths)?;
    let cluster = topology.cluster.name.as_str();
    let id = paths.secrets(cluster).join(CLUSTER_ID);
    let lost = || {
        BadInput::new(format!(
            "{} is not there, and the nodes know their stores by it: bring it back first, by 'cargo xtask operator import FILE', or \
             from UNIBUS_CLUSTER_ID in the cluster.env of a node",
            Paths::shown(&id)
        ))
    };
    let text =
        fsx::read(&id)?.or(fsx::read(&aside(&paths, cluster).join("secrets").join(CLUSTER_ID))?).ok_or_else(lost)?;
    if !args.yes {
        outln!("these would be replaced, and the ones that are there destroyed:");
        if !args.keep_client_ca {
            outln!(
                "  the client CA: clients do not trust the nodes until they have the new {}",
                Paths::shown(&paths.client_ca_cert())
            );
        }
        outln!("  the route CA, and the certificates and keys of {} nodes", topology.nodes.len());
        outln!("  the route password, the key that signs admissions, and all nkeys of the nodes");
        outln!("{} stays. dry run: nothing was changed, no connection was opened", Paths::shown(&id));
        out!(
            "{}",
            next(&[("cargo xtask operator replace-keys --yes", "make them here; the nodes go on with the old ones")])
        );
        return Ok(());
    }
    replace(&paths, &topology, &Pin::load(&paths.engine_pin())?.sha256, &text, args.keep_client_ca)?;
    outln!("every key is new here; the nodes go on with the old ones until they are staged and started");
    out!(
        "{}",
        next(&[
            ("cargo xtask stage --yes", "bring them there; nothing is restarted by that"),
            ("ssh HOST systemctl stop membershipd-cluster", "on every node, one right after the other"),
            ("cargo xtask up --yes", "start all of them with the new keys"),
            ("cargo xtask verify", "prove it"),
        ])
    );
    Ok(())
}

/// Where the old ones lie until the new ones are there. A run that was killed is completed by the next.
fn aside(paths: &Paths, cluster: &str) -> PathBuf {
    paths.secrets(&format!(".replaced-{cluster}"))
}

fn replace(paths: &Paths, topology: &Topology, engine_sha256: &str, id: &[u8], keep_client_ca: bool) -> Result<()> {
    let cluster = topology.cluster.name.as_str();
    let aside = aside(paths, cluster);
    make_private(&aside)?;
    let client_ca = paths.client_ca_cert();
    let tls = client_ca.parent().context("a CA without a directory")?;
    let mut old = vec![(paths.secrets(cluster), "secrets"), (paths.out(cluster), "out")];
    if !keep_client_ca {
        old.push((tls.to_path_buf(), "tls"));
    }
    for (from, name) in &old {
        let to = aside.join(name);
        // Where an earlier run has moved it already, what is there now is that run's, and not whole.
        if from.exists() && !to.exists() {
            fs::rename(from, &to).with_context(|| format!("moving {} aside", Paths::shown(from)))?;
        }
    }
    make_private(&paths.secrets(cluster))?;
    fsx::write(&paths.secrets(cluster).join(CLUSTER_ID), fsx::PUBLIC, id)?;
    let made = Cluster { topology, placement: &Placement::server, engine_sha256 };
    node_files::make_all(paths, &made, OffsetDateTime::now_utc(), &System::new())?.print();
    fs::remove_dir_all(&aside).with_context(|| format!("destroying the old keys in {}", Paths::shown(&aside)))
}

fn make_private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("making {}", Paths::shown(dir)))
}
