//! What goes wrong on the way, on purpose: each ends in a message that names node, cause and remedy, and a second run completes.

use super::act::{Act, Chapter};
use super::runbook::{ALL_HOLD, ALL_SO, NOTHING_DONE};

/// What some images of containers put into all services.
const EMPTIES: &str = "/etc/systemd/system/service.d/zzz-lxc-service.conf";

/// A cluster runs and is well before each chapter, and again after it. `{a}`, `{b}` and `{c}` are nodes, the seed first, and
/// `{a.host}` and so on what ssh knows them by; `{install_dir}` and `{client_port}` are the topology's.
pub(super) fn of_machines() -> Vec<Chapter> {
    vec![
        Chapter {
            name: "a node unreachable",
            acts: vec![
                Act::xtask("fleet --dir {dir} cut {b} public"),
                Act::xtask("stage --yes").exits(1).says("{b}").says("nothing was changed; once that is put right"),
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
            name: "another architecture",
            acts: vec![
                shadow("uname", "echo aarch64"),
                Act::xtask("doctor --nodes").exits(1).says("{b}").says("aarch64").says("take another machine"),
                bare("uname"),
                Act::xtask("doctor --nodes"),
            ],
        },
        Chapter {
            name: "a clock off by minutes",
            acts: vec![
                shadow("date", "exec /usr/bin/date -d +5minutes \"$@\""),
                Act::xtask("doctor --nodes").exits(1).says("{b}").says("ms ahead").says("timedatectl"),
                bare("date"),
                Act::xtask("doctor --nodes"),
            ],
        },
        Chapter {
            name: "a drop-in that takes the secrets away",
            acts: vec![
                Act::tool("ssh {b.host} mkdir -p /etc/systemd/system/service.d /etc/systemd/system/{unit}.d"),
                Act::tool(&format!(
                    "ssh {{b.host}} printf '[Service]\\nLoadCredential=\\n' > {EMPTIES} && systemctl daemon-reload"
                )),
                Act::xtask("doctor --nodes").exits(1).says("{b}").says("zzz-lxc-service.conf empties LoadCredential="),
                // As doctor says.
                Act::tool("ssh {b.host} ln -s /dev/null /etc/systemd/system/{unit}.d/zzz-lxc-service.conf"),
                Act::tool("ssh {b.host} systemctl daemon-reload && systemctl restart {unit}"),
                Act::xtask("doctor --nodes"),
                Act::xtask("up --yes"),
                well(),
                Act::tool(&format!(
                    "ssh {{b.host}} rm -r /etc/systemd/system/{{unit}}.d {EMPTIES} && systemctl daemon-reload"
                )),
            ],
        },
        Chapter {
            name: "an engine that is not the pinned one",
            acts: vec![
                Act::tool("ssh {b.host} cp {install_dir}/nats-server /root/other; printf x >> /root/other"),
                Act::tool("ssh {b.host} mv /root/other $(readlink -f {install_dir}/nats-server)"),
                Act::tool("ssh {b.host} systemctl restart {unit}").exits(1),
                Act::xtask("up --yes").exits(1).says("{b}").says("was tampered with or replaced"),
                Act::xtask("verify").exits(1).says("{b}"),
                Act::xtask("stage --yes").says("nothing was started"),
                Act::xtask("up --yes"),
                well(),
            ],
        },
        Chapter {
            name: "a server gone for good",
            acts: vec![
                Act::xtask("fleet --dir {dir} reinstall {c}"),
                Act::xtask("replace {c}").says(NOTHING_DONE),
                // The machine in its place has another host key, which only the operator accepts.
                Act::xtask("replace {c} --yes").exits(1).says("{c}").says("IDENTIFICATION HAS CHANGED"),
                Act::tool("ssh-keygen -R {c.host}"),
                Act::tool("ssh -o StrictHostKeyChecking=accept-new {c.host} true"),
                Act::xtask("replace {c} --yes").within(300),
                well(),
            ],
        },
    ]
}

/// The same with releases: there is another one to go to, and `deploy/build/first` is what runs.
pub(super) fn of_releases() -> Vec<Chapter> {
    vec![
        Chapter {
            name: "ssh cut in the middle of stage",
            acts: vec![
                // What rsync is started by there ends its own connection, as a line that breaks would.
                shadow("rsync", "pkill -KILL -x sshd -P 1 --inverse"),
                Act::tool("cp deploy/build/first deploy/build/third"),
                Act::tool("truncate --size=+32 deploy/build/third"),
                Act::xtask("build --from deploy/build/third"),
                Act::xtask("stage --yes").exits(1).says("{b}").says("the connection broke on the way"),
                bare("rsync"),
                Act::xtask("stage --yes").says("nothing was started"),
                Act::xtask("stage --yes").says(ALL_SO),
            ],
        },
        Chapter {
            name: "two operators, and one laptop dies in the middle of roll",
            acts: vec![
                Act::xtask("roll --yes")
                    .beside(
                        "{a}: 1/1 restart",
                        Act::xtask("roll --yes").exits(1).says("for 'roll'").says("--break-lock"),
                    )
                    .killed_at("{b}: 1/1 restart"),
                // The dead run was one of this laptop, so its lock is taken over.
                Act::xtask("roll --yes").within(300),
                Act::xtask("roll --yes").says(ALL_SO),
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
    ]
}

fn well() -> Act {
    Act::xtask("verify").says(ALL_HOLD)
}

/// A script that `{b}` finds before the program of that name.
fn shadow(program: &str, script: &str) -> Act {
    let file = format!("/usr/local/bin/{program}");
    Act::tool(&format!("ssh {{b.host}} printf '#!/bin/sh\\n%s\\n' '{script}' > {file} && chmod +x {file}"))
}

/// The program itself again.
fn bare(program: &str) -> Act {
    Act::tool(&format!("ssh {{b.host}} rm /usr/local/bin/{program}"))
}
