//! `doctor`: everything that is missing is found at once, here and on nodes; nothing is changed. No machine is ever reached.

use std::fs;

use crate::common::{self, Clone, Done, NODES, with_cross};
use serde_json::Value;

/// Answers as the server named in `answers`: the first line there is an exit code, the rest what is said; `date` is told
/// truly. Every session and every command in it is noted.
const SSH: &str = r#"#!/bin/sh
export root=${0%/bin/*} host
[ "$1" = -V ] && { echo 'OpenSSH_9.2p1' >&2; exit 0; }
[ "$1" = -G ] && { echo "identityfile $root/id"; exit 0; }
for last; do [ "$previous" = -- ] && host=$last; previous=$last; done
cat "$root/greeting-$host" 2> /dev/null
case $last in *' sh sh -s') ;; *) printf 'login\036' >> "$root/seen-$host"
    [ ! -e "$root/alone-$host" ] || echo 'mux_client_request_session: session request failed: Session open refused by peer' >&2
    echo 'unibus: ready'; exit ;;
esac
printf 'session\036' >> "$root/seen-$host"
answer=$root/answers/$host
code=$(head -n 1 "$answer")
if [ "$code" != 0 ]; then tail -n +2 "$answer" >&2; exit "$code"; fi
while IFS= read -r line && [ "$line" != "echo 'unibus: ready'" ]; do :; done
echo 'unibus: ready'
{ cat "$root/bin/answers"; cat; } | sh -s
"#;

/// What a session's words mean here. A command gets its input as the first word.
const ANSWERS: &str = r#"
tell() { printf '%s %s\n%s\n' "$1" "${#2}" "$2"; }
run() {
    shift
    printf '%s\036' "$*" >> "$root/seen-$host"
    case $1 in
    bash) tell 0 "$(tail -n +2 "$root/answers/$host")" ;;
    date) if [ -e "$root/clock-$host" ]; then tell 0 "$(cat "$root/clock-$host")"; else tell 0 "$(date +%s%3N)"; fi ;;
    *) tell 127 '' ;;
    esac
}
"#;

/// A clone on a machine that has everything, with an ssh that reaches nobody.
fn ready() -> Clone {
    let clone = with_cross();
    clone.script("bin/ssh", SSH);
    clone.write("bin/answers", ANSWERS);
    clone.script("bin/ssh-add", "#!/bin/sh\nexit 1\n");
    clone.write("id", "");
    for (tool, says) in [
        ("rsync", "rsync  version 3.2.7  protocol version 31"),
        ("cc", "cc 12.2.0"),
        ("python3", "pip 23.0.1 from /usr/lib"),
        ("apt-get", "apt"),
        ("openssl", "OpenSSL 3"),
        ("curl", "curl 7"),
    ] {
        clone.script(&format!("bin/{tool}"), &format!("#!/bin/sh\necho '{says}'\n"));
    }
    clone.script("bin/git", "#!/bin/sh\ncase $1 in ls-files) cat known 2>/dev/null;; esac\nexit 0\n");
    fs::create_dir(clone.path("answers")).unwrap();
    clone
}

fn run(clone: &Clone, line: &str) -> Done {
    let mut command = clone.command(line.split_whitespace());
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", clone.path("bin").display())).env_remove("CARGO_TARGET_DIR");
    Done::of(command)
}

fn verdict(done: &Done) -> Vec<Value> {
    let said: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    assert_eq!((&said["schema"], &said["ok"]), (&Value::from(1), &Value::from(done.code == Some(0))), "{done:?}");
    for check in said["checks"].as_array().unwrap() {
        let well = ["ok", "info"].contains(&check["level"].as_str().unwrap());
        assert_eq!(check["ok"], well, "{check}");
        let must_help = ["warn", "fail"].contains(&check["level"].as_str().unwrap());
        assert!(!must_help || !check["remedy"].as_str().unwrap().is_empty(), "no remedy: {check}");
    }
    said["checks"].as_array().unwrap().clone()
}

/// The check of that id and node.
fn of(checks: &[Value], id: &str, node: &str) -> Value {
    let found = checks.iter().find(|check| check["id"] == id && check["node"] == node);
    found.unwrap_or_else(|| panic!("no {id} of {node}: {checks:?}")).clone()
}

fn level(checks: &[Value], id: &str, node: &str) -> String {
    of(checks, id, node)["level"].as_str().unwrap().to_owned()
}

/// What a bare Debian 12 answers, number `n` of three.
fn bare(n: u8) -> String {
    let mut text = format!(
        "0\narch\tx86_64\nos\tdebian 12\nsystemd\tsystemd 252 (252.39-1)\nrsync\trsync  version 3.2.7  protocol version 31\n\
         ntp\tyes\npasswd\t\ngroup\t\ninstall\t41943040 /\nstores\t41943040 /\naddress\t192.0.2.{n} eth0\n\
         address\t198.51.100.{n} wg0\nss\tyes\nlistens\tLISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=7,fd=3))\n"
    );
    for other in (1..=3).filter(|other| *other != n) {
        for (address, port) in [("198.51.100", 6250), ("192.0.2", 6250), ("192.0.2", 4250), ("192.0.2", 8470)] {
            text.push_str(&format!("reach\t{address}.{other} {port} 1 Connection refused\n"));
        }
    }
    text + "end\tend\n"
}

#[test]
fn a_machine_that_has_everything_is_fit_and_nothing_is_changed() {
    let clone = ready();
    let before = clone.tree();
    let done = run(&clone, "doctor --json");
    let checks = verdict(&done);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(before == clone.tree(), "it changed something");
    for id in ["rust", "cc", "ssh", "rsync", "ssh key", "python3 with pip", "builder", "git", "topology", "modes"] {
        assert_eq!(level(&checks, id, "here"), "ok", "{id}: {checks:?}");
    }
    for (id, verb) in
        [("engine", "engine"), ("client CA", "client-ca"), ("certificates", "cluster-certs"), ("secrets", "secrets")]
    {
        let check = of(&checks, id, "here");
        assert_eq!(check["level"], "info", "{check}");
        assert!(check["remedy"].as_str().unwrap().contains(&format!("cargo xtask {verb}")), "{check}");
    }
    let done = run(&clone, "doctor");
    assert!(
        done.stdout.contains("nothing is missing") && done.stdout.contains("next: cargo xtask doctor --nodes"),
        "{done:?}"
    );
}

#[test]
fn everything_that_is_missing_is_said_at_once_with_its_package() {
    let clone = ready();
    let mut command = clone.command(["doctor", "--json"]);
    // A machine with nothing but what brings packages.
    for tool in ["ssh", "ssh-add", "rsync", "cc", "python3", "git", "openssl", "curl", "cross", "docker"] {
        fs::remove_file(clone.path(&format!("bin/{tool}"))).unwrap();
    }
    command.env("PATH", clone.path("bin")).env_remove("CARGO_TARGET_DIR");
    let done = Done::of(command);
    let checks = verdict(&done);
    assert_eq!(done.code, Some(1), "{done:?}");
    for (id, package) in [
        ("cc", "apt-get install gcc libc6-dev"),
        ("ssh", "apt-get install openssh-client"),
        ("rsync", "apt-get install rsync"),
        ("python3 with pip", "apt-get install python3-pip"),
        ("rust", "rustup"),
        ("builder", "cargo zigbuild".split(' ').next().unwrap()),
    ] {
        let check = of(&checks, id, "here");
        assert_eq!(check["level"], "fail", "{check}");
        assert!(check["remedy"].as_str().unwrap().contains(package), "{check}");
        assert!(done.stderr.contains(id), "{id}: {}", done.stderr);
    }
    // What only optional verbs need is a warning.
    for (id, package) in [("git", "git"), ("mmdebstrap", "mmdebstrap"), ("zstd", "zstd")] {
        let check = of(&checks, id, "here");
        assert_eq!((&check["level"], &check["remedy"]), (&"warn".into(), &format!("apt-get install {package}").into()));
    }
    // What only tests need is not installed at all.
    for id in ["openssl", "curl", "systemd-analyze"] {
        let check = of(&checks, id, "here");
        assert!(check["level"] == "info" && check["remedy"].as_str().unwrap().contains("deploy/build"), "{check}");
    }
}

#[test]
fn a_tool_that_is_too_old_or_broken_does_not_count() {
    let clone = ready();
    clone.script("bin/rsync", "#!/bin/sh\necho 'openrsync: protocol version 29, rsync version 2.6.9 compatible'\n");
    clone.script("bin/cc", "#!/bin/sh\necho 'xcrun: error: invalid active developer path' >&2\nexit 1\n");
    fs::remove_file(clone.path("id")).unwrap();
    let checks = verdict(&run(&clone, "doctor --json"));
    assert!(of(&checks, "rsync", "here")["got"].as_str().unwrap().contains("older than 3.1"), "{checks:?}");
    assert!(of(&checks, "cc", "here")["got"].as_str().unwrap().contains("developer path"), "{checks:?}");
    assert_eq!((level(&checks, "rsync", "here"), level(&checks, "cc", "here")), ("fail".to_owned(), "fail".to_owned()));
    assert_eq!(level(&checks, "ssh key", "here"), "warn");
}

#[test]
fn secrets_that_others_can_have_are_named() {
    let clone = ready();
    for verb in ["client-ca", "cluster-certs", "secrets"] {
        clone.ok(verb);
    }
    let checks = verdict(&run(&clone, "doctor --json"));
    assert_eq!(
        (level(&checks, "modes", "here"), level(&checks, "certificates", "here")),
        ("ok".to_owned(), "ok".to_owned())
    );
    let open = ["deploy/tls/ca.key", "deploy/secrets/test/b/bus.nk", "deploy/out/test/c/secrets/cluster.pass"];
    for file in open {
        clone.chmod(file, 0o640);
    }
    let modes = of(&verdict(&run(&clone, "doctor --json")), "modes", "here");
    assert_eq!(modes["level"], "fail");
    for file in open {
        assert!(modes["got"].as_str().unwrap().contains(&format!("{file} 0640")), "{modes}");
        assert!(modes["remedy"].as_str().unwrap().contains(file), "{modes}");
        clone.chmod(file, 0o600);
    }
    clone.write("known", "deploy/tls/ca.key\n");
    let git = of(&verdict(&run(&clone, "doctor --json")), "git", "here");
    assert!(git["level"] == "fail" && git["got"].as_str().unwrap().contains("deploy/tls/ca.key"), "{git}");
    fs::remove_file(clone.path("known")).unwrap();
    fs::remove_file(clone.path("deploy/tls/ca.crt")).unwrap();
    let ca = of(&verdict(&run(&clone, "doctor --json")), "client CA", "here");
    assert!(ca["level"] == "fail" && ca["got"].as_str().unwrap().contains("deploy/tls/ca.crt is not"), "{ca}");
}

#[test]
fn placeholders_are_news_here_and_a_refusal_for_nodes() {
    let clone = ready();
    clone.write("deploy/nodes.toml", include_str!("../../../deploy/nodes.toml"));
    let all = ["<MAGNUS_PUBLIC_IP>", "<MAGNUS_WG_IP>", "<HOMER_WG_IP>", "<DATARDOS_WG_IP>"];
    let done = run(&clone, "doctor --json");
    let check = of(&verdict(&done), "placeholders", "here");
    assert_eq!((done.code, &check["level"]), (Some(0), &"info".into()), "{done:?}");
    let said = run(&clone, "doctor --nodes");
    assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{said:?}");
    for left in all {
        assert!(check["got"].as_str().unwrap().contains(left), "{check}");
        assert!(said.stderr.contains(left), "{said:?}");
    }
    assert!(check["remedy"].as_str().unwrap().contains("stage"), "{check}");
    assert!(NODES.iter().all(|node| !clone.path(&format!("seen-host-{node}")).exists()), "somebody was asked");
    clone.write("deploy/nodes.toml", common::TOPOLOGY.replacen("\"wg\"", "\"vpn\"", 1));
    let done = run(&clone, "doctor --json");
    let check = of(&verdict(&done), "topology", "here");
    assert!(done.code == Some(1) && check["got"].as_str().unwrap().contains("nodes.toml:3: "), "{check}");
    assert!(run(&clone, "doctor --local").stderr.contains("verify --local"));
}

#[test]
fn three_bare_servers_are_fit_and_only_read() {
    let clone = ready();
    for (node, n) in NODES.iter().zip(1..) {
        clone.write(&format!("answers/host-{node}"), bare(n));
    }
    let done = run(&clone, "doctor --nodes --json");
    let checks = verdict(&done);
    assert_eq!(done.code, Some(0), "{done:?}");
    for node in NODES {
        let seen = clone.read(&format!("seen-host-{node}"));
        let seen: Vec<&str> = seen.split_terminator('\u{1e}').collect();
        assert!(
            matches!(seen[..], ["session", question, "date +%s%3N", "login"] if question.starts_with("bash -c ")),
            "{seen:?}"
        );
        assert!(
            seen[1].contains("bash /opt/unibus /opt/unibus/local_files unibus membershipd-cluster.service "),
            "{}",
            seen[1]
        );
        assert!(checks.iter().filter(|check| check["node"] == node).all(|check| check["level"] == "ok"), "{checks:?}");
    }
    let table = run(&clone, "doctor --nodes").stdout;
    assert!(table.contains("check                       a                      b                      c\n"), "{table}");
    assert!(
        table
            .contains("reach.route.wg              closed but reachable   closed but reachable   closed but reachable"),
        "{table}"
    );
    assert!(table.ends_with("next: cargo xtask stage  what would be put on the servers\n"), "{table}");
}

#[test]
fn a_login_that_is_in_the_way_and_a_drop_in_that_takes_the_secrets_are_named() {
    let clone = ready();
    for (node, n) in NODES.iter().zip(1..) {
        clone.write(&format!("answers/host-{node}"), bare(n));
        // All nodes agree, so it is this machine that is wrong.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        clone.write(&format!("clock-host-{node}"), format!("{}\n", now - 35_000));
    }
    clone.write("greeting-host-a", "Welcome to a\n");
    clone.write("alone-host-b", "");
    let file = "/run/systemd/system/service.d/zzz-lxc-service.conf";
    clone.write("answers/host-c", bare(3).replace("ntp\t", &format!("emptied\t{file}\nntp\t")));
    let done = run(&clone, "doctor --nodes --json");
    let checks = verdict(&done);
    assert_eq!(done.code, Some(1), "{done:?}");
    let shell = of(&checks, "shell", "a");
    assert!(shell["level"] == "warn" && shell["got"].as_str().unwrap().ends_with(": Welcome to a"), "{shell}");
    assert_eq!((level(&checks, "shell", "b"), level(&checks, "sessions", "a")), ("ok".to_owned(), "ok".to_owned()));
    let sessions = of(&checks, "sessions", "b");
    assert!(sessions["level"] == "info" && sessions["remedy"].as_str().unwrap().contains("MaxSessions"), "{sessions}");
    let credentials = of(&checks, "credentials", "c");
    assert!(credentials["level"] == "fail" && credentials["got"].as_str().unwrap().contains(file), "{credentials}");
    for node in NODES {
        let clock = of(&checks, "clock", node);
        let got = clock["got"].as_str().unwrap();
        assert!(
            got.starts_with("this machine's clock is 3") && got.ends_with(&format!(" s ahead of {node}'s")),
            "{clock}"
        );
    }
}

#[test]
fn every_failure_of_every_node_is_shown_at_once() {
    let clone = ready();
    let a = bare(1)
        .replace("x86_64", "aarch64")
        .replace("rsync  version 3.2.7  protocol version 31", "")
        .replace("0.0.0.0:22", "0.0.0.0:4250")
        .replace("198.51.100.2 6250 1 Connection refused", "198.51.100.2 6250 124 no answer within 8 s");
    clone.write("answers/host-a", a);
    clone.write("clock-host-a", "1000\n");
    clone.write("answers/host-b", "255\n@@@@@@\nroot@host-b: Permission denied (publickey).\n");
    clone.write("answers/host-c", "1\nsudo: a password is required\n");
    let done = run(&clone, "doctor --nodes --json");
    let checks = verdict(&done);
    assert_eq!(done.code, Some(1), "{done:?}");
    for id in ["architecture", "rsync", "ports.client", "clock", "reach.route.wg.b"] {
        assert_eq!(level(&checks, id, "a"), "fail", "{id}: {checks:?}");
    }
    assert_eq!(level(&checks, "reach.route.wg.c", "a"), "ok");
    assert!(of(&checks, "ports.client", "a")["got"].as_str().unwrap().contains("sshd (pid 7)"));
    assert!(of(&checks, "clock", "a")["got"].as_str().unwrap().contains("behind"));
    let b = of(&checks, "reachable", "b");
    assert!(b["level"] == "fail" && b["remedy"].as_str().unwrap().contains("authorized_keys"), "{b}");
    let c = of(&checks, "root", "c");
    assert!(c["level"] == "fail" && c["remedy"].as_str().unwrap().contains("NOPASSWD"), "{c}");
    for (node, failed) in [("b", "reachable"), ("c", "root")] {
        for check in checks.iter().filter(|check| check["node"] == node && check["id"] != failed) {
            let well = check["id"] == "reachable";
            assert_eq!(check["level"], if well { "ok" } else { "not_asked" }, "{check}");
        }
    }
    let done = run(&clone, "doctor --nodes");
    assert!(done.stdout.contains("FAILED reachable on b") && done.stdout.contains("FAILED root on c"), "{done:?}");
    assert!(done.stderr.contains("architecture (a)") && done.stderr.contains("root (c)"), "{done:?}");
}
