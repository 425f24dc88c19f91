//! `stage`: the plan is what happens. Recording tools stand in ssh's and rsync's place; no machine is ever reached.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on must stop")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use common::{Clone, Done, NODES, TOPOLOGY, program, with_cross};
use serde_json::Value;

const ENGINE: &str = "deploy/build/engine/2.15.1/nats-server";
const SHIPPED_UNIT: &str = include_str!("../../deploy/membershipd-cluster.service");

/// Notes its words and standard input under the host's name, and answers from `answers`, by the hash of its words. The
/// commands of the lock have none: they run as they are, on a file of this clone.
const RECORDER: &str = r#"#!/bin/sh
root=${0%/bin/*}
for last; do [ "$previous" = -- ] && host=$last; previous=$last; done
case $0 in */rsync) host=${last%%:*};; esac
{ printf '%s\037' "${0##*/}" "$@"; printf '\036'; } >> "$root/seen/$host"
answer=$root/answers/$(printf '%s\n' "${0##*/}" "$@" | sha256sum | cut -c1-64)
case $last in */run/unibus.lock) [ -e "$answer" ] || {
    mkdir -p "$root/locks"
    here=$(printf '%s' "$last" | sed -e "s#/run/unibus.lock#$root/locks/$host#" -e 's/$(id -u)/0/')
    tee -a "$root/stdin" | sh -c "$here"
    exit
} ;; esac
case $0 in */ssh) cat >> "$root/stdin";; esac
[ -e "$answer" ] || exit 0
code=$(head -n 1 "$answer")
if [ "$code" = 0 ]; then tail -n +2 "$answer"; else tail -n +2 "$answer" >&2; fi
exit "$code"
"#;

/// A clone from which three servers could be staged, with the recorders before the real tools.
fn ready() -> Clone {
    let clone = with_cross();
    program(&clone, "membershipd 0.1.0", &["-static", "-s"]);
    clone.write("deploy/membershipd-cluster.service", SHIPPED_UNIT);
    clone.script(ENGINE, "#!/bin/sh\necho 'nats-server: v2.15.1'\n");
    let pin = format!(
        "version = \"2.15.1\"\nsha256 = \"{}\"\n[pypi]\npackage = \"p\"\nplatform = \"x\"\nsha256 = \"{}\"\n",
        sha256(&clone, ENGINE),
        "0".repeat(64)
    );
    clone.write("deploy/engine.toml", pin);
    for verb in ["client-ca", "cluster-certs", "secrets", "build"] {
        let done = run(&clone, verb);
        assert_eq!(done.code, Some(0), "{verb}: {done:?}");
    }
    for tool in ["ssh", "rsync"] {
        clone.script(&format!("bin/{tool}"), RECORDER);
    }
    fs::create_dir(clone.path("answers")).unwrap();
    clone
}

fn run(clone: &Clone, line: &str) -> Done {
    fs::create_dir_all(clone.path("seen")).unwrap();
    let mut command = clone.command(line.split_whitespace());
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", clone.path("bin").display())).env_remove("CARGO_TARGET_DIR");
    Done::of(command)
}

fn sha256(clone: &Clone, file: &str) -> String {
    let out = Command::new("openssl").args(["dgst", "-sha256", "-r"]).arg(clone.path(file)).output().unwrap();
    String::from_utf8(out.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

fn plan(done: &Done) -> Vec<Value> {
    let said: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    assert_eq!(said["schema"], 1);
    said["steps"].as_array().unwrap().clone()
}

fn argv(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// Whatever the recorders saw, by host, in order; and forgets it.
fn seen(clone: &Clone) -> BTreeMap<String, Vec<Vec<String>>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(clone.path("seen")).unwrap() {
        let entry = entry.unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        let calls = text.split_terminator('\u{1e}');
        let calls = calls.map(|call| call.split_terminator('\u{1f}').map(str::to_owned).collect()).collect();
        fs::remove_file(entry.path()).unwrap();
        all.insert(entry.file_name().into_string().unwrap(), calls);
    }
    all
}

/// What `words` answers from now on.
fn answer(clone: &Clone, words: &[String], code: u8, says: &str) {
    let file = clone.path("said");
    fs::write(&file, format!("{}\n", words.join("\n"))).unwrap();
    let hash = sha256(clone, "said");
    fs::write(clone.path("answers").join(hash), format!("{code}\n{says}\n")).unwrap();
}

/// The steps that change servers.
fn work(steps: &[Value]) -> impl Iterator<Item = &Value> {
    steps.iter().filter(|step| step["probe"]["kind"] != "in_the_effect")
}

/// The locks that lie on the servers.
fn locks(clone: &Clone) -> Vec<String> {
    let Ok(entries) = fs::read_dir(clone.path("locks")) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The servers have nothing, but a program that runs.
fn empty_servers(clone: &Clone, steps: &[Value]) {
    for step in steps {
        let probe = argv(&step["probe"]["command"]);
        let runs = step["id"] == "check settings";
        match step["probe"]["kind"].as_str().unwrap() {
            "asks" => answer(clone, &probe, u8::from(!runs), ""),
            "in_the_effect" => {}
            _ => {
                answer(clone, &probe, 0, ">f+++++++++ x");
                answer(clone, &argv(&step["command"]), 0, ">f+++++++++ x");
            }
        }
    }
}

/// The servers have everything.
fn staged_servers(clone: &Clone, steps: &[Value]) {
    fs::remove_dir_all(clone.path("answers")).unwrap();
    fs::create_dir(clone.path("answers")).unwrap();
    for step in steps.iter().filter(|step| step["probe"]["kind"] == "asks") {
        answer(clone, &argv(&step["probe"]["command"]), 0, step["probe"]["prints"].as_str().unwrap_or_default());
    }
}

#[test]
fn the_shipped_topology_is_refused_with_all_its_placeholders() {
    let clone = ready();
    clone.write("deploy/nodes.toml", include_str!("../../deploy/nodes.toml"));
    for line in ["stage", "stage --yes", "stage --diff", "stage --json", "stage --node homer"] {
        let done = run(&clone, line);
        assert_eq!(done.code, Some(2), "{line}: {done:?}");
        for left in ["<MAGNUS_PUBLIC_IP>", "<MAGNUS_WG_IP>", "<HOMER_WG_IP>", "<DATARDOS_WG_IP>"] {
            assert!(done.stderr.contains(left), "{line}: {left}: {done:?}");
        }
    }
    assert_eq!(seen(&clone), BTreeMap::new());
}

#[test]
fn a_dry_run_prints_every_step_and_opens_no_connection() {
    let clone = ready();
    let before = clone.tree();
    let done = run(&clone, "stage");
    assert_eq!(done.code, Some(0), "{done:?}");
    let steps = plan(&run(&clone, "stage --json"));
    assert!(clone.tree() == before, "a dry run changed something here");
    assert_eq!(seen(&clone), BTreeMap::new());
    for step in &steps {
        let id = step["id"].as_str().unwrap();
        assert_eq!(step["state"], "planned");
        assert_eq!(done.stdout.matches(&format!(". {id}: ")).count(), NODES.len(), "{id}: {done:?}");
    }
    for part in [
        "useradd --system --user-group --home-dir /opt/unibus --no-create-home --shell /usr/sbin/nologin -- unibus",
        "directory /opt/unibus/secrets, root:root 0700",
        "7 files to /opt/unibus/secrets/, root:root 0600",
        "2 files to /opt/unibus/tls/, unibus:unibus 0600",
        "directory /opt/unibus/bootstrap, root:unibus 0770",
        "directory /opt/unibus/local_files, unibus:unibus 0700",
        "link /opt/unibus/membershipd to current/membershipd",
        "unless test -L /opt/unibus/current",
        "       | UNIBUS_ENGINE=/opt/unibus/releases/0.1.0-",
        " check-config --env-file cluster.env --env-file releases/0.1.0-",
        "file /etc/systemd/system/membershipd-cluster.service, root:root 0644",
        "       | WatchdogSignal=SIGKILL",
        "  1. lock: take /run/unibus.lock for 'stage'\n",
        "when 2 of these 3 have granted the lock:\n",
        "in the end, also if something failed:\n",
        "  1. unlock: give /run/unibus.lock back\n",
        "dry run: nothing was changed, no connection was opened\nnext: cargo xtask stage --yes",
    ] {
        assert!(done.stdout.contains(part), "{part}:\n{}", done.stdout);
    }
    for file in ["deploy/build/membershipd", ENGINE, "deploy/out/test/b/tls/route.crt", "deploy/out/test/c/cluster.env"]
    {
        let line = format!("{file}  sha256 {}", sha256(&clone, file));
        assert!(done.stdout.contains(&line), "{line}:\n{}", done.stdout);
    }
}

#[test]
fn what_yes_starts_is_what_the_dry_run_printed() {
    let clone = ready();
    let steps = plan(&run(&clone, "stage --json"));
    empty_servers(&clone, &steps);
    let done = run(&clone, "stage --yes --json");
    assert_eq!(done.code, Some(0), "{done:?}");
    let mut wanted: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    for step in &steps {
        let calls = wanted.entry(format!("host-{}", step["node"].as_str().unwrap())).or_default();
        if step["probe"]["kind"] == "asks" {
            calls.push(argv(&step["probe"]["command"]));
        }
        if step["id"] != "check settings" {
            calls.push(argv(&step["command"]));
        }
    }
    assert_eq!(seen(&clone), wanted);
    assert_eq!(locks(&clone), Vec::<String>::new());
    let after = plan(&done);
    assert_eq!(after.len(), steps.len());
    for step in &after {
        let state = match step["id"].as_str().unwrap() {
            "check settings" => "already_so",
            "lock" | "unlock" => "done",
            _ => "changed",
        };
        assert_eq!(step["state"], state, "{step}");
    }
}

#[test]
fn nothing_is_done_twice() {
    let clone = ready();
    let steps = plan(&run(&clone, "stage --json"));
    staged_servers(&clone, &steps);
    let done = run(&clone, "stage --yes");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("everything was so already: nothing was changed"), "{done:?}");
    let changing: Vec<Vec<String>> = steps
        .iter()
        .filter(|step| step["probe"]["kind"] == "asks" && step["id"] != "check settings")
        .map(|step| argv(&step["command"]))
        .collect();
    for call in seen(&clone).into_values().flatten() {
        assert!(!changing.contains(&call), "{call:?}");
    }
    assert!(done.stdout.starts_with(&format!("{} steps: {0} already so\n", work(&steps).count())), "{done:?}");
    let done = run(&clone, "stage --diff");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("nothing would change"), "{done:?}");
    assert_eq!(done.stdout.matches("  already so\n").count(), work(&steps).count(), "{done:?}");
}

#[test]
fn diff_only_asks_and_says_by_its_exit_code_what_it_heard() {
    let clone = ready();
    let steps = plan(&run(&clone, "stage --json"));
    staged_servers(&clone, &steps);
    // One node lacks its settings, another has a link that leads elsewhere.
    let find = |id: &str, node: &str| steps.iter().find(|step| step["id"] == id && step["node"] == node).unwrap();
    answer(&clone, &argv(&find("settings", "b")["probe"]["command"]), 0, ">fc........ cluster.env");
    answer(&clone, &argv(&find("staged release", "c")["probe"]["command"]), 0, "releases/0.0.9-x");
    let done = run(&clone, "stage --diff --json");
    assert_eq!(done.code, Some(3), "{done:?}");
    let changing: Vec<(String, String)> = plan(&done)
        .iter()
        .filter(|step| step["state"] == "would_change")
        .map(|step| (step["node"].as_str().unwrap().to_owned(), step["id"].as_str().unwrap().to_owned()))
        .collect();
    let wanted = [("b", "settings"), ("c", "staged release")];
    assert_eq!(changing, wanted.map(|(node, id)| (node.to_owned(), id.to_owned())));
    let asked: Vec<Vec<String>> = steps.iter().map(|step| argv(&step["probe"]["command"])).collect();
    for call in seen(&clone).into_values().flatten() {
        assert!(asked.contains(&call), "{call:?}");
    }
    let done = run(&clone, "stage --diff");
    assert_eq!((done.code, done.stdout.matches("  changes\n").count()), (Some(3), 2), "{done:?}");
    assert!(done.stdout.contains("next: cargo xtask stage --yes"), "{done:?}");
}

#[test]
fn a_node_that_fails_stops_what_follows_and_the_next_run_goes_on() {
    let clone = ready();
    let steps = plan(&run(&clone, "stage --json"));
    empty_servers(&clone, &steps);
    let bad = steps.iter().find(|step| step["id"] == "tls directory" && step["node"] == "b").unwrap();
    answer(&clone, &argv(&bad["command"]), 1, "install: cannot create directory: No space left on device");
    let done = run(&clone, "stage --yes --json");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.stderr
            .contains("b: step 'tls directory' (/opt/unibus/tls): install: cannot create directory: No space left"),
        "{done:?}"
    );
    assert!(done.stderr.contains("cargo xtask stage --yes"), "{done:?}");
    let b: Vec<Value> = work(&plan(&done)).filter(|step| step["node"] == "b").cloned().collect();
    let at = b.iter().position(|step| step["id"] == "tls directory").unwrap();
    assert!(b[..at].iter().all(|step| step["state"] == "changed"), "{b:?}");
    assert!(b[at]["why"].as_str().unwrap().contains("No space left"), "{b:?}");
    assert!(b[at + 1..].iter().all(|step| step["state"] == "not_reached"), "{b:?}");
    let sent = seen(&clone);
    assert!(!sent["host-b"].iter().any(|call| call[0] == "rsync"), "{sent:?}");

    staged_servers(&clone, &steps);
    assert_eq!(run(&clone, "stage --yes").code, Some(0));

    // A host that ssh cannot reach is named with ssh's own reason.
    answer(
        &clone,
        &argv(&work(&steps).next().unwrap()["probe"]["command"]),
        255,
        "ssh: connect to host a: Connection refused",
    );
    let done = run(&clone, "stage --yes");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("a: step 'user'") && done.stderr.contains("Connection refused"), "{done:?}");
}

#[test]
fn another_operators_lock_is_respected_waited_for_or_broken() {
    let clone = ready();
    let steps = plan(&run(&clone, "stage --json"));
    staged_servers(&clone, &steps);
    let theirs = r#"{"schema":1,"holder":"bert@desk","process":{"pid":4711,"started":"1","boot":"x","space":"y","machine":null},"since":"2026-11-23T00:05:41Z","verb":"roll","token":"00"}"#;
    let hold =
        |hosts: &[&str]| hosts.iter().for_each(|host| clone.write(&format!("locks/{host}"), format!("{theirs}\n")));
    hold(&["host-a", "host-b", "host-c"]);
    for line in ["stage --yes", "stage --yes --wait-lock 1"] {
        let done = run(&clone, line);
        assert_eq!(done.code, Some(1), "{done:?}");
        for part in [
            "a, b, c: step 'lock'",
            "held by bert@desk (pid 4711) since 2026-11-23T00:05:41Z for 'roll'",
            "--break-lock",
        ] {
            assert!(done.stderr.contains(part), "{part}: {done:?}");
        }
        assert!(done.stdout.contains(&format!("{} steps: {0} not reached", work(&steps).count())), "{done:?}");
    }
    let commands: Vec<_> = seen(&clone).into_values().flatten().collect();
    assert!(commands.iter().all(|words| words.last().unwrap().contains("/run/unibus.lock")), "{commands:?}");
    assert_eq!(run(&clone, "stage --diff").code, Some(0), "who only looks needs no lock");
    assert_eq!(locks(&clone), ["host-a", "host-b", "host-c"]);

    let done = run(&clone, "stage --yes --break-lock");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("b: broke the lock of bert@desk (pid 4711)"), "{done:?}");
    assert_eq!(locks(&clone), Vec::<String>::new());

    // Where only a minority holds it, it keeps nobody out.
    hold(&["host-b"]);
    let done = run(&clone, "stage --yes");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("b: no lock there, a majority has granted it: held by bert@desk"), "{done:?}");
    assert_eq!(locks(&clone), ["host-b"]);

    let done = run(&clone, "stage --wait-lock 5");
    assert!(
        done.stdout.contains("is waited for, 5 s at most") && done.stdout.contains("stage --wait-lock 5 --yes"),
        "{done:?}"
    );
    assert_eq!(run(&clone, "stage --wait-lock 5 --break-lock").code, Some(2));
}

#[test]
fn the_lock_of_a_run_that_was_killed_is_taken_over() {
    let clone = ready();
    let steps = plan(&run(&clone, "stage --json"));
    staged_servers(&clone, &steps);
    // The node's first answer never comes, so the run is killed while it holds the lock.
    let waits = clone.path("waits");
    let slow = argv(&work(&steps).next().unwrap()["probe"]["command"]);
    answer(&clone, &slow, 0, "unibus");
    let recorder = clone.read("bin/ssh");
    let wait = "[ ! -e \"$root/waits\" ] || while [ -e \"$root/held\" ]; do sleep 0.05; done\ncode=$(";
    clone.script("bin/ssh", &recorder.replace("code=$(", wait));
    clone.write("held", "");
    fs::write(&waits, "").unwrap();
    let mut command = clone.command(["stage", "--yes"]);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", clone.path("bin").display())).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let begun = std::time::Instant::now();
    while locks(&clone) != ["host-a", "host-b", "host-c"] {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "the lock was never taken");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // While it lives it is respected, although it is ours.
    fs::remove_file(&waits).unwrap();
    let done = run(&clone, "stage --yes");
    assert!(done.code == Some(1) && done.stderr.contains(&format!("(pid {})", child.id())), "{done:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    let done = run(&clone, "stage --yes");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.stderr.contains("a: took over the lock of ") && done.stderr.contains("that process is gone"),
        "{done:?}"
    );
    assert_eq!(locks(&clone), Vec::<String>::new());
}

#[test]
fn no_secret_is_in_a_plan_an_argument_or_a_message() {
    let clone = ready();
    let steps = plan(&run(&clone, "stage --json"));
    empty_servers(&clone, &steps);
    let mut said = String::new();
    for line in ["stage", "stage --json", "stage --diff", "stage --yes", "stage --yes --json"] {
        let done = run(&clone, line);
        said.push_str(&done.stdout);
        said.push_str(&done.stderr);
    }
    said.push_str(&seen(&clone).into_values().flatten().flatten().collect::<Vec<_>>().join("\n"));
    said.push_str(&clone.read("stdin"));
    let mut checked = 0;
    for node in NODES {
        for entry in fs::read_dir(clone.path(&format!("deploy/out/test/{node}/secrets"))).unwrap() {
            let secret = fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(!said.contains(secret.trim()));
            checked += 1;
        }
        for key in ["route.key", "server.key"] {
            let key = clone.read(&format!("deploy/out/test/{node}/tls/{key}"));
            let line = key.lines().nth(1).unwrap();
            assert!(!said.contains(line));
            checked += 1;
        }
    }
    assert_eq!(checked, 3 * 9);
    // They go by rsync, with their mode from the first byte.
    for step in steps.iter().filter(|step| step["id"] == "secrets" || step["id"] == "keys") {
        assert!(argv(&step["command"]).contains(&"--chmod=F0600".to_owned()), "{step}");
        assert!(step["effect"]["files"].as_array().unwrap().iter().all(|file| file["sha256"].is_null()), "{step}");
    }
}

#[test]
fn one_node_may_be_staged_alone() {
    let clone = ready();
    let steps = plan(&run(&clone, "stage --json --node c --node a"));
    assert!(work(&steps).all(|step| step["node"] != "b"));
    empty_servers(&clone, &steps);
    let done = run(&clone, "stage --yes --node c");
    assert_eq!(done.code, Some(0), "{done:?}");
    let seen = seen(&clone);
    assert_eq!((seen["host-a"].len(), seen["host-b"].len()), (2, 2), "the lock is the whole cluster's: {seen:?}");
    assert!(seen["host-c"].len() > work(&steps).count() / 2);
    let done = run(&clone, "stage --node c");
    assert!(done.stdout.contains("next: cargo xtask stage --node c --yes"), "{done:?}");
}

#[test]
fn bad_input_is_refused_before_anything_happens() {
    let clone = ready();
    let cases = [
        ("stage --node d", "no node \"d\"; the topology has a, b, c"),
        ("stage --yes --diff", "cannot be used with"),
        ("stage --local", "stage needs servers"),
        ("stage --topology none.toml", "none.toml"),
        ("stage extra", "unexpected argument"),
    ];
    for (line, why) in cases {
        let done = run(&clone, line);
        assert_eq!(done.code, Some(2), "{line}: {done:?}");
        assert!(done.stderr.contains(why), "{line}: {done:?}");
    }
    let refused = |why: &[&str]| {
        for line in ["stage", "stage --yes"] {
            let done = run(&clone, line);
            assert_eq!(done.code, Some(2), "{line}: {done:?}");
            for why in why {
                assert!(done.stderr.contains(why), "{line}: {why}: {done:?}");
            }
        }
        assert_eq!(seen(&clone), BTreeMap::new());
    };
    // A topology that was edited since the certificates and settings were made.
    clone.write("deploy/nodes.toml", TOPOLOGY.replacen("192.0.2.2", "192.0.2.9", 1));
    refused(&["do not fit the topology", "next: cargo xtask cluster-certs && cargo xtask secrets"]);
    clone.write("deploy/nodes.toml", TOPOLOGY);
    // Everything that is missing is said at once.
    fs::rename(clone.path(ENGINE), clone.path("engine")).unwrap();
    fs::rename(clone.path("deploy/build/membershipd"), clone.path("membershipd")).unwrap();
    fs::rename(clone.path("deploy/out/test/b/secrets/bus.nk"), clone.path("bus.nk")).unwrap();
    refused(&["cargo xtask engine", "cargo xtask build", "do not fit the topology"]);
    fs::rename(clone.path("engine"), clone.path(ENGINE)).unwrap();
    fs::rename(clone.path("bus.nk"), clone.path("deploy/out/test/b/secrets/bus.nk")).unwrap();
    // A program that is not the one that was built and inspected.
    program(&clone, "membershipd 0.1.0", &[]);
    fs::copy(clone.path("program"), clone.path("deploy/build/membershipd")).unwrap();
    refused(&["is not what was built"]);
}

#[test]
fn another_install_directory_is_meant_everywhere() {
    let clone = ready();
    clone.write("deploy/nodes.toml", TOPOLOGY.replacen("/opt/unibus", "/srv/bus", 1));
    let steps = plan(&run(&clone, "stage --json"));
    assert!(!serde_json::to_string(&steps).unwrap().contains("/opt/unibus"));
    let unit = steps.iter().find(|step| step["id"] == "unit").unwrap();
    assert!(
        unit["effect"]["content"].as_str().unwrap().contains("ReadWritePaths=/srv/bus/local_files /srv/bus/bootstrap")
    );
}

#[test]
fn the_unit_is_hardened_and_names_every_secret() {
    let clone = Clone::new();
    for line in [
        "Type=notify",
        "WatchdogSec=10",
        "WatchdogSignal=SIGKILL",
        "KillMode=mixed",
        "TimeoutStopSec=60",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "User=unibus",
        "RuntimeDirectory=unibus",
        "RuntimeDirectoryMode=0700",
        "EnvironmentFile=/opt/unibus/cluster.env",
        "EnvironmentFile=/opt/unibus/current/release.env",
    ] {
        assert!(SHIPPED_UNIT.lines().any(|have| have == line), "{line}");
    }
    for secret in ["cluster.pass", "issuer.nk", "xkey.nk", "callout.nk", "control.nk", "system.nk", "bus.nk"] {
        let line = format!("LoadCredential={secret}:/opt/unibus/secrets/{secret}");
        assert!(SHIPPED_UNIT.lines().any(|have| have == line), "{line}");
    }
    clone.write("membershipd-cluster.service", SHIPPED_UNIT);
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager", "--threshold=20"]);
    let done = Done::of({
        analyze.arg(clone.path("membershipd-cluster.service"));
        analyze
    });
    assert_eq!(done.code, Some(0), "its exposure is above 2.0: {done:?}");
}
