//! `stage`: the plan is what happens. Recording tools stand in ssh's and rsync's place; no machine is ever reached.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::common::servers::{
    answer, answer_probe, argv, command, forget_answers, json, locks, plan, record, run, seen, sha256, work,
};
use crate::common::{Clone, Done, NODES, TOPOLOGY, program, with_cross};
use serde_json::Value;

const ENGINE: &str = "deploy/build/engine/2.15.1/nats-server";
const SHIPPED_UNIT: &str = include_str!("../../../deploy/membershipd-cluster.service");

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
    record(&clone);
    clone
}

/// The servers have nothing, but a program that runs.
fn empty_servers(clone: &Clone, steps: &[Value]) {
    for step in work(steps) {
        answer_probe(clone, step, holds(step));
        if step["probe"]["kind"] == "compares" {
            answer(clone, step["node"].as_str().unwrap(), &argv(&step["command"]), 0, ">f+++++++++ x");
        }
    }
}

/// Steps that change nothing, and hold on a server that has nothing.
fn holds(step: &Value) -> bool {
    ["feature level", "check settings"].iter().any(|id| step["id"] == *id)
}

/// The servers have everything.
fn staged_servers(clone: &Clone, steps: &[Value]) {
    forget_answers(clone);
    work(steps).for_each(|step| answer_probe(clone, step, true));
}

/// What is started and run on each host where `changed` steps change something and nothing else does.
fn wanted(plan: &Value, changed: impl Fn(&Value) -> bool) -> BTreeMap<String, Vec<Vec<String>>> {
    let mut all = BTreeMap::new();
    for session in plan["sessions"].as_array().unwrap() {
        let mine = |step: &&Value| step["node"] == session["node"];
        let steps: Vec<&Value> = plan["steps"].as_array().unwrap().iter().filter(mine).collect();
        let (locks, work): (Vec<&Value>, Vec<&Value>) =
            steps.into_iter().partition(|step| step["probe"]["kind"] == "in_the_effect");
        let mut calls = vec![argv(&session["command"]), argv(&locks[0]["command"]), argv(&locks[0]["note"])];
        calls.extend(work.iter().map(|step| argv(&step["probe"]["command"])));
        let mut fresh = true;
        for step in work {
            let sent = step["probe"]["kind"] == "compares";
            if !fresh && !sent {
                calls.push(argv(&step["probe"]["command"]));
            }
            if changed(step) || !fresh && sent {
                calls.push(argv(&step["command"]));
                fresh = false;
            }
        }
        calls.extend([argv(&locks[1]["note"]), argv(&locks[1]["command"])]);
        all.insert(format!("host-{}", session["node"].as_str().unwrap()), calls);
    }
    all
}

#[test]
fn the_shipped_topology_is_refused_with_all_its_placeholders() {
    let clone = ready();
    clone.write("deploy/nodes.toml", include_str!("../../../deploy/nodes.toml"));
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
        "  1. lock: take /run/unibus.lock for 'stage'; noted in /opt/unibus/operations.jsonl\n",
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
    let printed = json(&run(&clone, "stage --json"));
    let steps = plan(&run(&clone, "stage --json"));
    empty_servers(&clone, &steps);
    let done = run(&clone, "stage --yes --json");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(seen(&clone), wanted(&printed, |step| !holds(step)));
    for session in printed["sessions"].as_array().unwrap() {
        let opening = clone.read(&format!("openings/host-{}", session["node"].as_str().unwrap()));
        assert_eq!(opening, session["stdin"].as_str().unwrap());
    }
    assert_eq!(locks(&clone), Vec::<String>::new());
    let after = plan(&done);
    assert_eq!(after.len(), steps.len());
    for step in &after {
        let state = match step["id"].as_str().unwrap() {
            "feature level" | "check settings" => "already_so",
            "lock" | "unlock" => "done",
            _ => "changed",
        };
        assert_eq!(step["state"], state, "{step}");
    }
}

#[test]
fn nothing_is_done_twice() {
    let clone = ready();
    let printed = json(&run(&clone, "stage --json"));
    let steps = plan(&run(&clone, "stage --json"));
    staged_servers(&clone, &steps);
    let done = run(&clone, "stage --yes");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("everything was so already: nothing was changed"), "{done:?}");
    // One connection a node, and no file is sent to find out that it is there.
    let seen_now = seen(&clone);
    assert_eq!(seen_now, wanted(&printed, |_| false));
    assert!(!seen_now.values().flatten().any(|call| call[0] == "rsync"));
    assert!(done.stdout.starts_with(&format!("{} steps: {0} already so\n", work(&steps).count())), "{done:?}");
    let done = run(&clone, "stage --diff");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("nothing would change"), "{done:?}");
    assert_eq!(done.stdout.matches("  already so\n").count(), work(&steps).count(), "{done:?}");
}

#[test]
fn what_comes_after_a_change_is_asked_about_again() {
    let clone = ready();
    let printed = json(&run(&clone, "stage --json"));
    let steps = plan(&run(&clone, "stage --json"));
    staged_servers(&clone, &steps);
    // Another release: a program differs, and the link leads to the one before.
    for step in steps.iter().filter(|step| step["node"] == "b") {
        let id = step["id"].as_str().unwrap();
        if id == "programs" || id == "current release" {
            answer_probe(&clone, step, false);
            answer(&clone, "b", &argv(&step["command"]), 0, ">f.st...... membershipd");
        }
    }
    let done = run(&clone, "stage --yes --json");
    assert_eq!(done.code, Some(0), "{done:?}");
    let changed = |step: &Value| step["node"] == "b" && (step["id"] == "programs" || step["id"] == "current release");
    assert_eq!(seen(&clone), wanted(&printed, changed));
    for step in work(&plan(&done)) {
        assert_eq!(step["state"], if changed(step) { "changed" } else { "already_so" }, "{step}");
    }
}

#[test]
fn diff_only_asks_and_says_by_its_exit_code_what_it_heard() {
    let clone = ready();
    let steps = plan(&run(&clone, "stage --json"));
    staged_servers(&clone, &steps);
    // One node lacks its settings, another has a link that leads elsewhere.
    let find = |id: &str, node: &str| steps.iter().find(|step| step["id"] == id && step["node"] == node).unwrap();
    answer(&clone, "b", &argv(&find("settings", "b")["probe"]["command"]), 0, "0644 root:root\n00  -");
    answer(&clone, "c", &argv(&find("staged release", "c")["probe"]["command"]), 0, "releases/0.0.9-x");
    let done = run(&clone, "stage --diff --json");
    assert_eq!(done.code, Some(3), "{done:?}");
    let changing: Vec<(String, String)> = plan(&done)
        .iter()
        .filter(|step| step["state"] == "would_change")
        .map(|step| (step["node"].as_str().unwrap().to_owned(), step["id"].as_str().unwrap().to_owned()))
        .collect();
    let wanted = [("b", "settings"), ("c", "staged release")];
    assert_eq!(changing, wanted.map(|(node, id)| (node.to_owned(), id.to_owned())));
    let asked: Vec<Vec<String>> = work(&steps).map(|step| argv(&step["probe"]["command"])).collect();
    for calls in seen(&clone).into_values() {
        assert!(calls[0][0] == "ssh" && calls[1..].iter().all(|call| asked.contains(call)), "{calls:?}");
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
    answer(&clone, "b", &argv(&bad["command"]), 1, "install: cannot create directory: No space left on device");
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
    assert!(b[..at].iter().all(|step| holds(step) || step["state"] == "changed"), "{b:?}");
    assert!(b[at]["why"].as_str().unwrap().contains("No space left"), "{b:?}");
    assert!(b[at + 1..].iter().all(|step| step["state"] == "not_reached"), "{b:?}");
    let sent = seen(&clone);
    assert!(!sent["host-b"].iter().any(|call| call[0] == "rsync"), "{sent:?}");

    staged_servers(&clone, &steps);
    assert_eq!(run(&clone, "stage --yes").code, Some(0));

    // A connection that is lost on the way: nobody knows what came of that step, and the lock is given back all the same.
    empty_servers(&clone, &steps);
    answer(&clone, "b", &argv(&bad["command"]), 255, "client_loop: send disconnect: Broken pipe");
    let done = run(&clone, "stage --yes");
    assert_eq!(done.code, Some(1), "{done:?}");
    let why = "b: step 'tls directory' (/opt/unibus/tls): ssh host-b: client_loop: send disconnect: Broken pipe; \
               whether it had an effect is unknown";
    assert!(done.stderr.contains(why), "{done:?}");
    assert_eq!(locks(&clone), Vec::<String>::new());
}

#[test]
fn a_host_that_cannot_be_reached_is_named_once_with_the_remedy() {
    let clone = ready();
    let printed = json(&run(&clone, "stage --json"));
    staged_servers(&clone, printed["steps"].as_array().unwrap());
    let session = printed["sessions"].as_array().unwrap().iter().find(|session| session["node"] == "a").unwrap();
    let changed = "@@@@@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n@@@@@@@@@\nsome lines\n\
                   Host key verification failed.";
    let cases = [
        ("ssh: connect to host host-a port 22: Connection refused", "no sshd listens there"),
        (changed, "compare the key with the provider's console"),
    ];
    for (complaint, remedy) in cases {
        answer(&clone, "a", &argv(&session["command"]), 255, complaint);
        let done = run(&clone, "stage --yes");
        assert_eq!(done.code, Some(1), "{done:?}");
        let error = done.stderr.split("error: ").nth(1).unwrap();
        assert!(error.starts_with("a: step 'feature level' (sh): ssh host-a: ") && error.contains(remedy), "{done:?}");
        assert_eq!(error.matches(remedy).count(), 1, "{done:?}");
        assert!(!done.stderr.contains("no lock there"), "{done:?}");
        // The others go on without its lock.
        let done = run(&clone, "stage --yes --node b --node c");
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.stderr.contains("a: no lock there, a majority has granted it: ssh host-a: "), "{done:?}");
        assert!(done.stderr.contains(remedy), "{done:?}");
    }
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
    for calls in seen(&clone).into_values() {
        let lock = |call: &Vec<String>| call[0] == "ssh" || call.last().unwrap() == "/run/unibus.lock";
        assert!(calls.iter().all(lock), "{calls:?}");
    }
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
    // The nodes' first answers never come, so the run is killed while it holds the lock.
    clone.write("held", "");
    let waits = clone.path("waits");
    fs::write(&waits, "").unwrap();
    let mut child = command(&clone, "stage --yes").stderr(std::process::Stdio::null()).spawn().unwrap();
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
    assert_eq!((seen["host-a"].len(), seen["host-b"].len()), (5, 5), "the lock is the whole cluster's: {seen:?}");
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
