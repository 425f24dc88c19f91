//! The ways in which operators reach their servers, each with the four verbs that need all kinds of connections: a session (`up`), a
//! single command (`verify`), rsync (`stage`) and a file that is fetched (`backup`).

use super::act::{Act, Chapter};
use super::runbook::{ALL_HOLD, ALL_SO, NODES, on};

/// The operator's own configuration, and that as it was before.
const CONFIG: &str = "{dir}/home/.ssh/config";
const USUAL: &str = "{dir}/home/.ssh/usual";
/// An address of IPv6 for `{b}`, and one of that network for the operator (RFC 4193).
const ADDRESS: &str = "fd00:198:51::12";
const OPERATORS: &str = "fd00:198:51::1";

/// A cluster runs and is well before, and again after. The names are those of `mishaps`.
pub(super) fn ways() -> Vec<Chapter> {
    let mut acts = vec![Act::tool(&format!("cp {CONFIG} {USUAL}"))];
    acts.extend(for_terminals());
    acts.extend(shell_that_talks());
    acts.extend(one_session());
    acts.extend(jump_and_port());
    acts.extend(user_with_sudo());
    acts.extend(ipv6());
    acts.extend([Act::tool(&format!("rm {USUAL}")), Act::xtask("verify").says(ALL_HOLD)]);
    vec![Chapter { name: "ssh", acts }]
}

/// A configuration made by an operator who only ever logs in to work there.
fn for_terminals() -> Vec<Act> {
    let mut acts = sent_again();
    let lines = [
        "RequestTTY=force",
        "RemoteCommand=/bin/false",
        r"LocalForward\x209999\x20localhost:22",
        "ExitOnForwardFailure=yes",
    ];
    acts.extend(lines.map(|line| Act::tool(&format!("sed -i 1i{line} {CONFIG}"))));
    acts.push(Act::tool("ssh {b.host} true").exits(255).says("Cannot execute command-line and remote command"));
    acts.extend(verbs("for-terminals"));
    acts.push(as_usual());
    acts
}

/// A shell that greets every login, also that of a program.
fn shell_that_talks() -> Vec<Act> {
    let mut acts = sent_again();
    acts.extend(everywhere("cp .bashrc usual && sed -i '1iecho Welcome to this server' .bashrc"));
    acts.push(Act::xtask("doctor --nodes").says("prints before every command: Welcome to this server"));
    acts.extend(verbs("talks"));
    acts.extend(everywhere("mv usual .bashrc"));
    acts
}

/// A server that takes one session on each connection.
fn one_session() -> Vec<Act> {
    let mut acts = sent_again();
    acts.extend(everywhere("echo MaxSessions 1 > /etc/ssh/sshd_config.d/one.conf && systemctl reload ssh"));
    acts.push(Act::xtask("doctor --nodes").says("one, so each has a connection of its own"));
    acts.extend(verbs("one-session"));
    acts.extend(everywhere("rm /etc/ssh/sshd_config.d/one.conf && systemctl reload ssh"));
    acts
}

/// One node behind another, on a port of its own, as only ~/.ssh/config knows.
fn jump_and_port() -> Vec<Act> {
    let mut acts = sent_again();
    acts.push(on("b", "echo Port 2222 > /etc/ssh/sshd_config.d/port.conf && systemctl reload ssh"));
    acts.push(Act::xtask("verify").exits(1).says("{b}"));
    let lines = ["Port=2222", "ProxyJump={a.host}"];
    acts.extend(lines.map(|line| Act::tool(&format!("sed -i /HostName.{{b.public}}$/a{line} {CONFIG}"))));
    acts.extend(verbs("jump"));
    acts.push(on("b", "rm /etc/ssh/sshd_config.d/port.conf && systemctl reload ssh"));
    acts.push(as_usual());
    acts
}

/// A user who may become root without a password.
fn user_with_sudo() -> Vec<Act> {
    let mut acts = sent_again();
    acts.push(Act::tool(&format!("sed -i s/User.root/User=op/ {CONFIG}")));
    acts.push(Act::tool("ssh {b.host} id -un").says("op"));
    acts.extend(verbs("sudo"));
    acts.push(as_usual());
    acts
}

/// An address in the place of a name, by IPv6.
fn ipv6() -> Vec<Act> {
    let mut acts = sent_again();
    acts.extend([
        on("b", &format!("ip -6 address add {ADDRESS}/64 dev eth0 nodad")),
        Act::tool(&format!("ip -6 address add {OPERATORS}/64 dev public0 nodad")),
        Act::tool(&format!("sed -i s/^{{b.host}}/{{b.host}},{ADDRESS}/ {{dir}}/home/.ssh/known_hosts")),
        Act::tool("cp deploy/nodes.toml deploy/nodes.usual"),
        Act::tool(&format!("sed -i s/^ssh.*\"{{b.host}}\"/ssh=\"root@[{ADDRESS}]:22\"/ deploy/nodes.toml")),
        Act::xtask("verify").exits(2).says("a port belongs in ~/.ssh/config"),
        Act::tool(&format!("sed -i s/root@.*:22\"/root@{ADDRESS}\"/ deploy/nodes.toml")),
    ]);
    acts.extend(verbs("ipv6"));
    acts.extend([
        Act::tool("mv deploy/nodes.usual deploy/nodes.toml"),
        Act::tool(&format!("sed -i s/,{ADDRESS}// {{dir}}/home/.ssh/known_hosts")),
        Act::tool(&format!("ip -6 address del {OPERATORS}/64 dev public0")),
        on("b", &format!("ip -6 address del {ADDRESS}/64 dev eth0")),
    ]);
    acts
}

/// A mode that is not the plan's on each node: `stage` sends the file again.
fn sent_again() -> Vec<Act> {
    everywhere("chmod 640 {install_dir}/cluster.env")
}

fn verbs(way: &str) -> Vec<Act> {
    vec![
        Act::xtask("stage --yes").says("nothing was started"),
        Act::xtask("stage --yes").says(ALL_SO),
        Act::xtask("up --yes").says(ALL_SO),
        Act::xtask("verify").says(ALL_HOLD),
        Act::xtask(&format!("backup {way}.db")).says("content"),
    ]
}

fn as_usual() -> Act {
    Act::tool(&format!("cp {USUAL} {CONFIG}"))
}

fn everywhere(script: &str) -> Vec<Act> {
    NODES.iter().map(|node| on(node, script)).collect()
}
