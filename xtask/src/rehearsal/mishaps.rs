//! What goes wrong on the way, on purpose: each ends in a message that names node, cause and remedy, and a second run completes.

use super::act::{Act, Chapter};
use super::runbook::{ALL_HOLD, ALL_SO, NOTHING_DONE};

/// A cluster runs and is well before each chapter, and again after it. `{a}`, `{b}` and `{c}` are nodes, the seed first, and
/// `{a.host}` and so on what ssh knows them by; `{install_dir}` and `{client_port}` are the topology's.
pub(super) fn chapters() -> Vec<Chapter> {
    let well = || Act::xtask("verify").says(ALL_HOLD);
    vec![
        Chapter {
            name: "a node unreachable",
            acts: vec![
                Act::xtask("fleet --dir {dir} cut {b} public"),
                Act::xtask("stage --yes").exits(1).says("{b}").says("put that right and run this again"),
                Act::xtask("fleet --dir {dir} heal"),
                Act::xtask("stage --yes").says(ALL_SO),
                well(),
            ],
        },
        Chapter {
            name: "no sudo, and sudo",
            acts: vec![
                Act::tool("sed -i s/User.root/User=nosudo/ {dir}/home/.ssh/config"),
                Act::xtask("stage --yes").exits(1).says("{a}").says("sudo"),
                Act::tool("sed -i s/User=nosudo/User=op/ {dir}/home/.ssh/config"),
                Act::xtask("stage --yes").says(ALL_SO),
                well(),
                Act::tool("sed -i s/User=op/User=root/ {dir}/home/.ssh/config"),
            ],
        },
        Chapter {
            name: "a disk full",
            acts: vec![
                Act::tool("ssh {b.host} mount -t tmpfs -o size=1m tmpfs {install_dir}/releases"),
                Act::xtask("stage --yes").exits(1).says("{b}").says("No space left on device"),
                Act::tool("ssh {b.host} umount {install_dir}/releases"),
                Act::xtask("stage --yes").says(ALL_SO),
                well(),
            ],
        },
        Chapter {
            name: "a port taken",
            acts: vec![
                Act::tool("ssh {b.host} systemctl stop {unit}"),
                Act::tool(
                    "ssh {b.host} systemd-run --unit=squatter systemd-socket-activate --accept -l {client_port} cat",
                ),
                Act::xtask("doctor --nodes").exits(1).says("{client_port}"),
                Act::xtask("up --yes").exits(1).says("{b}"),
                Act::tool("ssh {b.host} systemctl stop squatter"),
                Act::xtask("up --yes"),
                well(),
            ],
        },
        Chapter {
            name: "the seed dead",
            acts: vec![
                Act::xtask("fleet --dir {dir} kill {a}"),
                Act::xtask("verify").exits(1).says("{a}"),
                Act::xtask("roll --yes").exits(1).says("{a}"),
                Act::xtask("fleet --dir {dir} boot {a}"),
                Act::xtask("up --yes"),
                well(),
            ],
        },
        Chapter {
            name: "a program that does not start",
            acts: vec![
                Act::tool("cp deploy/build/first deploy/build/spoiled"),
                // A word of the engine's configuration, of the same length: the engine refuses it, so the daemon ends.
                Act::tool("sed -i s/lame_duck_duration/lame_duck_durazion/ deploy/build/spoiled"),
                Act::xtask("build --from deploy/build/spoiled"),
                Act::xtask("stage --yes").says("nothing was started"),
                Act::xtask("roll --yes").exits(1).says("{a} went back to its previous release and is well").within(300),
                well(),
                Act::xtask("build --from deploy/build/first"),
                Act::xtask("stage --yes").says("nothing was started"),
                Act::xtask("roll --yes").within(300),
                well(),
            ],
        },
        Chapter {
            name: "a server gone for good",
            acts: vec![
                Act::xtask("fleet --dir {dir} reinstall {c}"),
                Act::xtask("replace {c}").says(NOTHING_DONE),
                // The machine in its place has another host key, which nobody accepts but the operator.
                Act::xtask("replace {c} --yes").exits(1).says("{c}").says("IDENTIFICATION HAS CHANGED"),
                Act::tool("ssh-keygen -R {c.host}"),
                Act::tool("ssh -o StrictHostKeyChecking=accept-new {c.host} true"),
                Act::xtask("replace {c} --yes").within(300),
                well(),
            ],
        },
    ]
}
