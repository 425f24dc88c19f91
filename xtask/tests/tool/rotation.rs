//! `cluster-certs --rotate`: a new route CA, phase by phase. The servers are directories; what runs on them is played, but the
//! certificates are real, and openssl says who would take whose in a handshake.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::hosts::Servers;
use crate::common::{self, Done, NODES, openssl, try_openssl};

/// A started daemon keeps what it has read. Where that is wanted all nodes call each other after every start, and who is
/// refused is noted.
const SYSTEMCTL: &str = r#"#!/bin/sh
systemctl-played "$@" || exit
case $1 in start | restart)
    here=$ROOT/hosts/$HOST
    rm -rf "$here/loaded"
    cp -r "$here/opt/unibus/tls" "$here/loaded"
    # In this order: whoever was asked meanwhile finds out, or what it has kept is forgotten.
    date +%s%N > "$ROOT/start"
    rm -f "$ROOT"/hosts/*/told-*
    [ -e "$ROOT/all-call" ] || exit 0
    for HOST in host-a host-b host-c; do
        [ -e "$ROOT/hosts/$HOST/loaded" ] || exit 0
    done
    for HOST in host-a host-b host-c; do
        HOST=$HOST played-membershipd probe-routes > "$ROOT/probe" || cat "$ROOT/probe" >> "$ROOT/refused"
    done
esac
"#;

/// Tells what it was started with, and has openssl judge whether the others would take it, and it them.
const MEMBERSHIPD: &str = r#"#!/bin/sh
here=$ROOT/hosts/$HOST
node=${HOST#host-}
[ ! -e "$ROOT/down-$HOST" ] || { echo 'no daemon runs' >&2; exit 1; }
sum() { openssl x509 -in "$1" -outform DER | sha256sum | cut -c1-64; }
# An answer is kept until the next start of any daemon, unless that has happened while it was made.
last=$(cat "$ROOT/start" 2>/dev/null)
keep() {
    cat "$here/new-$1.$$"
    mv "$here/new-$1.$$" "$here/told-$1"
    [ "$(cat "$ROOT/start" 2>/dev/null)" = "$last" ] || rm -f "$here/told-$1"
}
case $1 in
status)
    if said=$(cat "$here/told-status" 2>/dev/null); then echo "$said"; exit; fi
    cas= split=$here/split.$$
    mkdir "$split"
    awk -v d="$split" '/BEGIN/ { n++ } { print > (d "/" n) }' "$here/loaded/cluster-ca.crt"
    for ca in "$split"/*; do cas="$cas${cas:+,}\"$(sum "$ca")\""; done
    rm -r "$split"
    one() { printf '{"name":"%s","file":"tls/%s.crt","sha256":[%s],"not_after":"x","not_after_unix":9}' "$1" "$1" "$2"; }
    printf '{"schema":1,"node":"%s","boot":"9","version":"0.1.0","store":"kv","bus_auth":"enforce","acl":true,"tls":true,
        "engine":null,"cluster":null,"kv_replicas":3,"replicas":[],"lease":{"valid":true,"age_ms":1,"lease_ms":1,
        "bound_ms":1},"admins":1,"clients":0,"certificates":[%s,%s],"unix_ms":1,"bootstrap_pending":false,"faults":[]}' \
        "$node" "$(one route "\"$(sum "$here/loaded/route.crt")\"")" "$(one cluster-ca "$cas")" > "$here/new-status.$$"
    keep status ;;
probe-routes)
    if said=$(cat "$here/told-routes" 2>/dev/null); then
        echo "$said"
        case $said in *'"ok":false'*) exit 1 ;; *) exit 0 ;; esac
    fi
    routes= code=0
    for other in a:1 b:2 c:3; do
        n=${other#*:} other=${other%:*}
        [ "$other" != "$node" ] || continue
        there=$ROOT/hosts/host-$other/loaded ok=true
        openssl verify -purpose sslclient -CAfile "$there/cluster-ca.crt" "$here/loaded/route.crt" >&2 || ok=false
        openssl verify -purpose sslserver -CAfile "$here/loaded/cluster-ca.crt" "$there/route.crt" >&2 || ok=false
        [ $ok = true ] || code=1
        routes="$routes${routes:+,}{\"node\":\"$other\",\"address\":\"198.51.100.$n:6250\",\"ok\":$ok,\"issuer\":null,
            \"not_after_unix\":9,\"sha256\":\"$(sum "$there/route.crt")\",\"error\":\"from $node: refused\"}"
    done
    echo "{\"schema\":1,\"routes\":[$routes]}" > "$here/new-routes.$$"
    keep routes
    exit $code ;;
*) exec played-before "$@" ;;
esac
"#;

/// Ends xtask with SIGKILL at its n-th change of the file system.
const KILLER: &str = r#"#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
static void count(const char *path) {
    static int done;
    const char *at = getenv("KILL_AT");
    if (at && strstr(path, "/deploy/") && !strcmp(program_invocation_short_name, "xtask") && ++done == atoi(at))
        raise(SIGKILL);
}
int rename(const char *from, const char *to) {
    int (*next)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    count(to);
    return next(from, to);
}
int unlink(const char *path) {
    int (*next)(const char *) = dlsym(RTLD_NEXT, "unlink");
    count(path);
    return next(path);
}
int mkdir(const char *path, mode_t mode) {
    int (*next)(const char *, mode_t) = dlsym(RTLD_NEXT, "mkdir");
    count(path);
    return next(path, mode);
}
"#;

const STATE: &str = "deploy/secrets/test/rotation.toml";
const KEY: &str = "deploy/secrets/test/cluster-ca.key";
const NEXT_KEY: &str = "deploy/secrets/test/cluster-ca-next.key";
const PHASES: [&str; 3] = ["introduce", "switch", "retire"];

/// A cluster that runs.
fn up() -> Servers {
    let servers = Servers::new();
    let clone = &servers.clone;
    for (played, before, text) in
        [("systemctl", "systemctl-played", SYSTEMCTL), ("played-membershipd", "played-before", MEMBERSHIPD)]
    {
        fs::rename(clone.path(&format!("server/{played}")), clone.path(&format!("server/{before}"))).unwrap();
        clone.script(&format!("server/{played}"), text);
    }
    for node in NODES {
        fs::create_dir_all(clone.path(&format!("hosts/host-{node}/run"))).unwrap();
    }
    servers.ok("stage --yes");
    servers.ok("up --yes");
    let _ = fs::remove_file(clone.path("refused"));
    servers.forget();
    servers
}

fn phase(servers: &Servers) -> String {
    let text = fs::read_to_string(servers.clone.path(STATE)).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("phase = "));
    line.map_or_else(|| "none".to_owned(), |phase| phase.trim_matches('"').to_owned())
}

fn out(node: &str, file: &str) -> String {
    format!("deploy/out/test/{node}/tls/{file}")
}

/// Whether `ca` trusts all these certificates on both ends of a route.
fn trusts(servers: &Servers, ca: &Path, leaves: &[PathBuf]) -> bool {
    let leaves: Vec<String> = leaves.iter().map(|leaf| leaf.display().to_string()).collect();
    ["sslserver", "sslclient"].iter().all(|purpose| {
        let line = format!("verify -x509_strict -purpose {purpose} -CAfile {} {}", ca.display(), leaves.join(" "));
        try_openssl(&servers.clone.root, &line).code == Some(0)
    })
}

/// What a node was started with.
fn loaded(servers: &Servers, node: &str, file: &str) -> PathBuf {
    servers.clone.path(&format!("hosts/host-{node}/loaded/{file}"))
}

/// The files made here may go to any node at any time: whoever has them takes, and is taken by, whoever runs.
fn may_be_shipped(servers: &Servers, when: &str) {
    let made = |file: &str| NODES.map(|node| servers.clone.path(&out(node, file)));
    let running = |file: &str| NODES.map(|node| loaded(servers, node, file));
    let (new, old) = (made("route.crt"), running("route.crt"));
    let all: Vec<PathBuf> = new.iter().chain(&old).cloned().collect();
    // Nodes trust the same, but for those that run with what they had before.
    let distinct =
        |cas: [PathBuf; 3]| cas.into_iter().map(|ca| (fs::read(&ca).unwrap(), ca)).collect::<BTreeMap<_, _>>();
    for ca in distinct(made("cluster-ca.crt")).into_values() {
        assert!(trusts(servers, &ca, &all), "{when}: {} does not trust all", ca.display());
    }
    for ca in distinct(running("cluster-ca.crt")).into_values() {
        assert!(trusts(servers, &ca, &new), "{when}: a running node refuses what was made");
    }
}

/// Ships and restarts, as the operator is told to.
fn deploy(servers: &Servers) {
    servers.ok("stage --yes");
    servers.ok("roll --yes");
}

const STEP: &str = "cluster-certs --rotate --step --yes";

#[test]
fn a_dry_run_says_how_it_goes_and_does_nothing() {
    let servers = up();
    let before = servers.clone.tree();
    let done = servers.ok("cluster-certs --rotate");
    assert!(before == servers.clone.tree() && servers.seen().is_empty(), "it did something: {done:?}");
    assert!(done.stdout.starts_with("no rotation of the route CA is under way; with --yes one begins:\n"), "{done:?}");
    let at: Vec<usize> = PHASES.iter().map(|phase| done.stdout.find(&format!("\n{phase}: ")).unwrap()).collect();
    assert!(at.is_sorted(), "{done:?}");
    for part in [
        "  nodes  cargo xtask stage --yes\n  nodes  cargo xtask roll --yes\n",
        "a new key deploy/secrets/test/cluster-ca-next.key",
        "which is destroyed",
        "dry run: nothing was changed, no connection was opened\nnext: cargo xtask cluster-certs --rotate --yes",
    ] {
        assert!(done.stdout.contains(part), "{part}: {done:?}");
    }
    for bad in ["--rotate --force", "--yes", "--rotate --step", "--local", "--wait-lock 5"] {
        assert_eq!(servers.run(&format!("cluster-certs {bad}")).code, Some(2), "{bad}");
    }
    servers.clone.write("deploy/nodes.toml", include_str!("../../../deploy/nodes.toml"));
    for line in ["cluster-certs --rotate", "cluster-certs --rotate --yes", STEP] {
        let done = servers.run(line);
        assert!(done.code == Some(2) && done.stderr.contains("<MAGNUS_PUBLIC_IP>"), "{line}: {done:?}");
    }
    assert!(servers.seen().is_empty());
}

#[test]
fn a_whole_rotation_restarts_one_node_at_a_time_and_no_route_is_ever_refused() {
    let servers = up();
    let (old_leaf, old_ca) = (servers.clone.path("old.crt"), servers.clone.path("old-ca.crt"));
    fs::copy(loaded(&servers, "a", "route.crt"), &old_leaf).unwrap();
    fs::copy(loaded(&servers, "a", "cluster-ca.crt"), &old_ca).unwrap();
    let old_key = servers.clone.read(KEY);
    servers.clone.write("all-call", "");
    let done = servers.ok("cluster-certs --rotate --yes");
    for phase in PHASES {
        assert!(done.stdout.contains(&format!("phase {phase}: proved on every node")), "{done:?}");
    }
    assert!(done.stdout.contains("complete: no node trusts the old route CA any more"), "{done:?}");
    assert!(done.stdout.contains("the key of the old route CA is destroyed"), "{done:?}");
    let restarts: Vec<String> = PHASES.iter().flat_map(|_| NODES.map(|node| format!("host-{node} restart"))).collect();
    assert_eq!(servers.starts(), restarts);
    assert!(!servers.clone.path("refused").exists(), "{}", servers.clone.read("refused"));

    for node in NODES {
        let ca = loaded(&servers, node, "cluster-ca.crt");
        assert!(!trusts(&servers, &ca, std::slice::from_ref(&old_leaf)), "{node} takes a certificate of the old CA");
        assert!(!trusts(&servers, &old_ca, &[loaded(&servers, node, "route.crt")]));
        assert_eq!(fs::read_to_string(&ca).unwrap(), servers.clone.read("deploy/out/test/cluster-ca.crt"));
        assert_eq!(fs::read_to_string(&ca).unwrap().matches("BEGIN").count(), 1);
    }
    assert_ne!(old_key, servers.clone.read(KEY));
    let secret = old_key.lines().nth(1).unwrap().to_owned();
    for (path, (_, content)) in servers.clone.tree() {
        assert!(!String::from_utf8_lossy(&content).contains(&secret), "the old key is in {}", path.display());
    }
    for left in [STATE, NEXT_KEY, "deploy/out/test/cluster-ca-next.crt"] {
        assert!(!servers.clone.path(left).exists(), "{left}");
    }
    assert_eq!(servers.clone.mode(KEY), 0o600);
    // What follows is as it was before there was any rotation.
    let before = servers.clone.tree();
    for verb in ["cluster-certs", "secrets"] {
        let done = servers.ok(verb);
        assert!(!done.stdout.contains("made ") && !done.stdout.contains("renewed "), "{done:?}");
    }
    assert!(before == servers.clone.tree());
    servers.forget();
    deploy(&servers);
    assert_eq!(servers.starts(), Vec::<String>::new());
}

#[test]
fn each_step_waits_for_the_proof_of_every_node_and_other_verbs_keep_the_phase() {
    let servers = up();
    let old_key = servers.clone.read(KEY);
    for (number, wanted) in PHASES.iter().enumerate() {
        let done = servers.ok(STEP);
        assert_eq!(phase(&servers), *wanted, "{done:?}");
        let next = "next: cargo xtask stage --yes                           to every node\n      cargo xtask roll --yes                            \
                    one node after the other\n      cargo xtask cluster-certs --rotate --step --yes   ";
        let next: String = next.split_whitespace().collect::<Vec<_>>().join(" ");
        let said: String = done.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(&next), "{done:?}");
        may_be_shipped(&servers, wanted);
        assert_eq!(servers.clone.path(NEXT_KEY).exists(), number < 2, "{wanted}");
        assert_eq!(servers.clone.read(KEY) == old_key, number < 2, "{wanted}");

        // Nothing falls back to another phase, or goes ahead.
        let before = material(&servers);
        for verb in ["cluster-certs", "secrets", "client-ca", "cluster-certs --rotate"] {
            let done = servers.ok(verb);
            assert!(!done.stdout.contains("made ") && !done.stdout.contains("renewed "), "{verb}: {done:?}");
        }
        assert!(servers.ok("cluster-certs").stdout.contains(&format!("in phase {wanted}")));
        assert!(
            servers.ok("cluster-certs --rotate").stdout.contains(&format!("in phase {wanted}; with --yes it goes on"))
        );
        let refused = servers.run(STEP);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        for node in NODES {
            assert!(refused.stderr.contains(&format!("  {node}: it ")), "{refused:?}");
        }
        assert!(refused.stderr.contains("next: cargo xtask stage --yes\nnext: cargo xtask roll --yes"), "{refused:?}");
        assert!(
            servers.run("cluster-certs --force --force").stderr.contains("a rotation of the route CA is under way")
        );
        assert!(before == material(&servers), "{wanted}: something was changed");

        // One node is not enough.
        servers.ok("stage --yes");
        servers.ok("roll --yes --node a");
        let refused = servers.run(STEP);
        assert!(refused.code == Some(1) && !refused.stderr.contains("  a: it runs with"), "{refused:?}");
        assert!(refused.stderr.contains("  b: it ") && refused.stderr.contains("  c: it "), "{refused:?}");
        servers.ok("roll --yes");
    }
    let done = servers.ok(STEP);
    assert!(done.stdout.contains("complete: ") && done.stdout.contains("next: cargo xtask verify"), "{done:?}");
    assert_eq!(phase(&servers), "none");
}

#[test]
fn a_rotation_begins_only_where_all_is_well() {
    let servers = up();
    servers.clone.write("down-host-b", "");
    let before = servers.clone.tree();
    for line in ["cluster-certs --rotate --yes", STEP] {
        let done = servers.run(line);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stderr.contains("  b: no daemon runs") && done.stderr.contains("nothing was changed"), "{done:?}");
        assert_eq!(phase(&servers), "none");
    }
    servers.forget();
    let changed: Vec<PathBuf> = servers
        .clone
        .tree()
        .into_iter()
        .filter(|(path, content)| before.get(path) != Some(content))
        .map(|(path, _)| path)
        .collect();
    assert!(
        changed.iter().all(|path| path.starts_with(servers.clone.path("hosts"))
            || path.ends_with("seen")
            || path.ends_with("log")),
        "{changed:?}"
    );
    fs::remove_file(servers.clone.path("down-host-b")).unwrap();
    // Certificates that were renewed here and are on no node yet.
    fs::remove_file(servers.clone.path(&out("c", "route.key"))).unwrap();
    servers.ok("cluster-certs");
    let done = servers.run(STEP);
    assert!(done.stderr.contains("  c: it runs with the route certificate"), "{done:?}");
    assert!(done.stderr.contains("next: cargo xtask stage --yes"), "{done:?}");
    let none = common::Clone::new();
    assert!(none.refused("cluster-certs --rotate --step --yes").contains("next: cargo xtask cluster-certs"));
}

#[test]
fn a_node_that_falls_ill_stops_the_rotation_and_the_next_run_goes_on() {
    let servers = up();
    servers.clone.write("cut", "systemctl restart");
    let done = servers.run("cluster-certs --rotate --yes");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("stopped in phase introduce, restarting the nodes"), "{done:?}");
    assert!(done.stderr.contains("Connection refused"), "{done:?}");
    fs::remove_file(servers.clone.path("cut")).unwrap();
    servers.clone.write("all-call", "");
    let done = servers.ok("cluster-certs --rotate --yes");
    assert!(!done.stdout.contains("must be well") && done.stdout.contains("complete: "), "{done:?}");
    assert!(!servers.clone.path("refused").exists());
}

#[test]
fn a_laptop_that_dies_in_the_middle_of_a_restart_is_no_loss() {
    let servers = up();
    servers.clone.write("hang", "");
    let mut running = servers.command("cluster-certs --rotate --yes").spawn().unwrap();
    let begun = Instant::now();
    while !servers.clone.path("hanging").exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(60) && running.try_wait().unwrap().is_none(),
            "no restart was tried"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    running.kill().unwrap();
    running.wait().unwrap();
    fs::remove_file(servers.clone.path("hang")).unwrap();
    // The verb that it had started goes on by itself, and holds the lock until it ends.
    let done = servers.ok("cluster-certs --rotate --yes --wait-lock 60");
    assert!(done.stdout.contains("complete: "), "{done:?}");
}

#[test]
fn what_a_rotation_needs_and_lacks_is_named() {
    let servers = up();
    servers.ok(STEP);
    let keep = servers.clone.read(STATE);
    servers.clone.write(STATE, "phase = \"sideways\"\n");
    for line in ["cluster-certs", "stage", STEP, "cluster-certs --rotate"] {
        let done = servers.run(line);
        assert!(done.code == Some(2) && done.stderr.contains(STATE), "{line}: {done:?}");
    }
    servers.clone.write(STATE, keep);
    fs::rename(servers.clone.path(NEXT_KEY), servers.clone.path("away")).unwrap();
    let done = servers.run("cluster-certs");
    assert!(done.code == Some(2) && done.stderr.contains(NEXT_KEY) && done.stderr.contains("backup"), "{done:?}");
    fs::rename(servers.clone.path("away"), servers.clone.path(NEXT_KEY)).unwrap();
    servers.clone.chmod(NEXT_KEY, 0o644);
    assert!(servers.run("cluster-certs").stderr.contains(&format!("chmod 600 {NEXT_KEY}")));
    servers.clone.chmod(NEXT_KEY, 0o600);
    // What can be made again may be lost at any phase: the keys bring it back.
    for (wanted, next) in PHASES.iter().zip(PHASES.iter().skip(1).copied().chain(["none"])) {
        assert_eq!(phase(&servers), *wanted);
        deploy(&servers);
        fs::remove_dir_all(servers.clone.path("deploy/out")).unwrap();
        servers.ok("cluster-certs");
        servers.ok("secrets");
        may_be_shipped(&servers, wanted);
        deploy(&servers);
        servers.ok(STEP);
        assert_eq!(phase(&servers), next);
    }
}

/// Every file that a step may change.
fn material(servers: &Servers) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let dirs = ["deploy/secrets", "deploy/out"].map(|dir| servers.clone.path(dir));
    servers.clone.tree().into_iter().filter(|(path, _)| dirs.iter().any(|dir| path.starts_with(dir))).collect()
}

fn restore(servers: &Servers, material: &BTreeMap<PathBuf, (u32, Vec<u8>)>) {
    for dir in ["deploy/secrets", "deploy/out"] {
        fs::remove_dir_all(servers.clone.path(dir)).unwrap();
    }
    for dir in ["deploy/secrets", "deploy/out"] {
        fs::create_dir(servers.clone.path(dir)).unwrap();
    }
    for (path, (mode, content)) in material {
        if mode & 0o170_000 == 0o040_000 {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::write(path, content).unwrap();
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777)).unwrap();
    }
}

#[test]
fn whoever_kills_a_step_between_any_two_changes_breaks_nothing() {
    let servers = up();
    servers.clone.write("killer.c", KILLER);
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([servers.clone.path("killer.so"), servers.clone.path("killer.c")])
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{compiled:?}");
    let old_key = servers.clone.read(KEY);
    let mut kills = 0;
    for (from, to) in
        ["none", "introduce", "switch", "retire"].into_iter().zip(["introduce", "switch", "retire", "none"])
    {
        assert_eq!(phase(&servers), from);
        let before = material(&servers);
        let mut seen = BTreeSet::new();
        for at in 1.. {
            restore(&servers, &before);
            let mut step = servers.command(STEP);
            step.env("LD_PRELOAD", servers.clone.path("killer.so")).env("KILL_AT", at.to_string());
            let done = Done::of(step);
            let when = format!("from {from}, killed at change {at}");
            if done.code == Some(0) {
                break;
            }
            assert_eq!(done.code, None, "{when}: {done:?}");
            kills += 1;
            let reached = phase(&servers);
            assert!(reached == from || reached == to, "{when}: {reached}");
            seen.insert(reached.clone());
            assert!(
                from == "switch" || from == "retire" || servers.clone.read(KEY) == old_key,
                "{when}: the old key is gone"
            );
            // Any verb makes the files of the phase whole, and no node refuses them.
            servers.ok("cluster-certs");
            assert_eq!(phase(&servers), reached, "{when}");
            if reached == from {
                servers.ok(STEP);
                assert_eq!(phase(&servers), to, "{when}");
            } else if to == "none" {
                assert!(!servers.clone.path(NEXT_KEY).exists(), "{when}");
            } else {
                let again = servers.run(STEP);
                assert!(
                    again.stderr.contains(&format!("phase {to} has not reached every node yet")),
                    "{when}: {again:?}"
                );
            }
            may_be_shipped(&servers, &when);
        }
        assert!(seen.contains(from), "from {from}: {seen:?}");
        assert_eq!(phase(&servers), to);
        if to != "none" {
            deploy(&servers);
        }
    }
    assert!(kills > 15, "{kills}");
    let ca = servers.clone.path("deploy/out/test/cluster-ca.crt");
    let public = |line: String| openssl(&servers.clone.root, &line);
    assert_eq!(public(format!("x509 -in {} -noout -pubkey", ca.display())), public(format!("pkey -in {KEY} -pubout")));
}
