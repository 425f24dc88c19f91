//! What an operator sees of a cluster: the cause first, whether the bus works, and all nodes at once.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::harness::{Build, Cluster, NODES, Shared, holds, said, signal, wait, xtask};
use super::pty::OnTerminal;

/// A verb for this cluster.
fn verb(cluster: &Cluster, line: &str) -> Command {
    let mut command = xtask();
    let words: Vec<&str> = line.split_whitespace().collect();
    command.args(words).args(["--local", "--state", cluster.state.to_str().unwrap()]);
    command
}

fn run(cluster: &Cluster, line: &str) -> Output {
    verb(cluster, line).output().unwrap()
}

/// `membershipd`, as the admin, through one node.
fn admin(cluster: &Cluster, node: &str, arguments: &[&str]) -> Output {
    Command::new(cluster.node(node).join("membershipd"))
        .args(arguments)
        .env_clear()
        .env("UNIBUS_IDENTITY", cluster.state.join("admin.toml"))
        .env("UNIBUS_CA", cluster.ca())
        .env("UNIBUS_URL", format!("https://{}:8470", cluster.address(node)))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn ready_means_that_the_very_next_command_works() {
    let cluster = Cluster::start(Build::Real);
    let (verdict, code) = cluster.verify();
    assert_eq!((code, &verdict["headline"]), (Some(0), &"3 nodes healthy".into()), "right after `local`");
    let made = admin(&cluster, "magnus", &["room", "create", "hall", "--subject", "room.hall"]);
    assert!(made.status.success(), "{}", said(&made));
    for (round, (node, how)) in
        [("homer", "start"), ("datardos", "restart"), ("magnus", "start"), ("homer", "restart")].into_iter().enumerate()
    {
        if how == "start" {
            cluster.control(&["stop", node]);
        }
        let started = cluster.local(&[how, node]);
        // Nothing is waited for: that is what was promised.
        let (verdict, code) = cluster.verify();
        let text = format!("round {round}");
        let told = admin(&cluster, node, &["say", "hall", &text]);
        assert_eq!((code, &verdict["state"]), (Some(0), &"healthy".into()), "{how} {node}: {verdict}");
        assert!(told.status.success(), "{how} {node}: {}", said(&told));
        assert!(said(&started).contains(&format!("3 nodes healthy\n{node}: ready, pid ")), "{}", said(&started));
    }
    // Where there can be no quorum nothing is promised.
    for node in NODES {
        cluster.control(&["stop", node]);
    }
    let begun = Instant::now();
    let alone = said(&cluster.local(&["start", "magnus"]));
    assert!(alone.contains("magnus: running") && alone.contains("next: cargo xtask local"), "{alone}");
    assert!(begun.elapsed() < Duration::from_secs(30), "it waited for nodes that do not run");
    let second = said(&cluster.local(&["start", "homer"]));
    assert!(second.contains("datardos is down; the bus works (2 of 3)\nhomer: ready"), "{second}");
    let told = admin(&cluster, "homer", &["say", "hall", "two are enough"]);
    assert!(told.status.success(), "{}", said(&told));
}

#[test]
fn the_cause_comes_first_and_the_exit_code_says_whether_the_bus_works() {
    let cluster = Cluster::start(Build::Real);
    let status = run(&cluster, "status");
    assert!(said(&status).starts_with("exit Some(0)\n3 nodes healthy\n"), "{}", said(&status));

    cluster.control(&["stop", "homer"]);
    let down = "homer is down; the bus works (2 of 3)";
    wait("the headline", 30, || {
        let status = said(&run(&cluster, "status"));
        holds(status.starts_with(&format!("exit Some(1)\n{down}\n")), status)
    });
    let text = said(&run(&cluster, "verify"));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..4], ["exit Some(1)", down, "", "CAUSE homer is down"], "{text}");
    assert!(text.contains("so      ") && text.contains("routes (magnus, datardos)"), "{text}");
    let next = format!("cargo xtask local --state {} start homer", cluster.state.display());
    assert!(
        text.contains(&format!("next    {next}")) && text.contains(&format!("error: {down}; next: {next}")),
        "{text}"
    );
    assert!(!text.contains("--identity"), "the operator asked no node as a user: {text}");
    let (verdict, _) = cluster.verify();
    assert_eq!(
        (&verdict["schema"], &verdict["state"], &verdict["headline"]),
        (&1.into(), &"degraded".into(), &down.into())
    );
    let cause = &verdict["causes"][0];
    assert_eq!((&cause["cause"], &cause["checks"][0]["id"]), (&"homer is down".into(), &"reachable".into()), "{cause}");
    let follows = cause["consequences"].as_array().unwrap();
    assert!(follows.iter().any(|one| one["id"] == "routes" && one["node"] == "magnus"), "{cause}");

    // At once: the last lease still counts, and nothing will renew it.
    cluster.control(&["kill", "--stay-down", "datardos"]);
    let status = run(&cluster, "status --json");
    let shown: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((status.status.code(), &shown["state"]), (Some(4), &"denied".into()), "{shown}");
    wait("the end of the lease", 30, || {
        let status = said(&run(&cluster, "status"));
        let first = status.lines().nth(1).unwrap_or_default();
        let right = first.starts_with("no quorum since ")
            && first.ends_with(": everything is denied (homer and datardos are down)");
        holds(right && status.starts_with("exit Some(4)"), status)
    });
    let started = said(&cluster.local(&["start", "datardos"]));
    assert!(started.contains("datardos: ready"), "{started}");
    let started = said(&cluster.local(&["status"]));
    assert!(started.starts_with(&format!("exit Some(1)\n{down}\n")), "{started}");
    cluster.control(&["start", "homer"]);

    a_node_that_hangs_stops_nothing_but_its_row(&cluster);
}

fn a_node_that_hangs_stops_nothing_but_its_row(cluster: &Cluster) {
    let watch = OnTerminal::start(&verb(cluster, "status --watch"), (80, 50), "xterm");
    wait("a healthy screen", 30, || holds(watch.shown()[0] == "3 nodes healthy", watch.shown().join("\n")));
    // Longer than a watchdog lets a node hang: what asks it does.
    let link = cluster.node("homer").join("membershipd");
    let real = std::fs::read_link(&link).unwrap();
    let hang = "rm \"$0\"; printf '#!/bin/sh\\n[ \"$1\" = status ] && exec sleep 60\\nexec %s \"$@\"\\n' \"$1\" > \"$0\"; chmod 755 \"$0\"";
    let done = Command::new("sh").args(["-c", hang]).arg(&link).arg(&real).status().unwrap();
    assert!(done.success());
    let row =
        |shown: &[String]| shown.iter().skip(1).find(|line| line.starts_with("homer ")).cloned().unwrap_or_default();
    let mut clocks = Vec::new();
    wait("four seconds of the clock while it hangs", 40, || {
        let shown = watch.shown();
        let right =
            row(&shown).contains("no answer for ") && shown[0] == "homer gives no answer; the bus works (2 of 3)";
        if right && !clocks.contains(&shown[1]) {
            clocks.push(shown[1].clone());
        }
        holds(clocks.len() >= 4, shown.join("\n"))
    });
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    wait("a healthy screen", 40, || holds(watch.shown()[0] == "3 nodes healthy", watch.shown().join("\n")));
}

#[test]
fn the_live_status_is_right_on_terminals_of_every_width() {
    let cluster = Shared::cluster();
    for columns in [40, 80, 200] {
        let watch = OnTerminal::start(&verb(&cluster, "status --watch"), (columns, 60), "xterm-256color");
        let mut clocks = Vec::new();
        wait("four looks", 40, || {
            let shown = watch.shown();
            if shown[0] == "3 nodes healthy" && !clocks.contains(&shown[1]) {
                clocks.push(shown[1].clone());
            }
            holds(clocks.len() >= 4, shown.join("\n"))
        });
        let shown = watch.shown();
        let words =
            |word: &str| shown.iter().flat_map(|line| line.split_whitespace()).filter(|one| *one == word).count();
        assert_eq!((words("2.15.1"), words("ok"), words("healthy")), (3, 3, 1), "{}", shown.join("\n"));
        assert!(words("magnus") >= 1 && words("version") == 1 && words("certificates") == 1, "{}", shown.join("\n"));
        let offset = clocks[0].rsplit(' ').next().unwrap();
        assert!(offset == "UTC" || offset.starts_with(['+', '-']), "{clocks:?}");
    }
    // A terminal that knows no escapes, and none at all.
    let dumb = OnTerminal::start(&verb(&cluster, "status --watch"), (80, 60), "dumb");
    wait("the status", 40, || holds(dumb.written().contains("checks hold"), dumb.written()));
    assert!(
        !dumb.written().contains('\u{1b}') && dumb.written().starts_with("3 nodes healthy\r\n"),
        "{}",
        dumb.written()
    );
    let file = cluster.state.join("watched");
    let mut piped =
        verb(&cluster, "status --watch").env("TERM", "xterm").stdout(File::create(&file).unwrap()).spawn().unwrap();
    wait("the status", 40, || {
        let text = std::fs::read_to_string(&file).unwrap();
        holds(text.contains("checks hold") && !text.contains('\u{1b}'), text)
    });
    piped.kill().unwrap();
    piped.wait().unwrap();
}

#[test]
fn the_logs_of_all_nodes_are_one_and_are_followed_until_ctrl_c() {
    let cluster = Cluster::start(Build::Real);
    let read = |line: &str| {
        let output = run(&cluster, line);
        assert!(output.status.success(), "{line}: {}", said(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let lines = read("logs --lines 20");
    assert_eq!(lines.len(), 60, "20 of each node");
    let times: Vec<String> = lines.iter().map(|words| words[1..4].join(" ")).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(NODES.iter().all(|node| lines.iter().filter(|words| words[0] == *node).count() == 20));
    let one = read("logs homer -n 3");
    assert!(one.len() == 3 && one.iter().all(|words| words[0] == "homer"), "{one:?}");
    let all = read("logs --since 1h");
    assert!(all.len() > 60 && all.iter().any(|words| words.join(" ").contains("engine started")), "{}", all.len());
    let unknown = run(&cluster, "logs nobody");
    assert!(unknown.status.code() == Some(2) && said(&unknown).contains("nobody"), "{}", said(&unknown));
    let bad = run(&cluster, "logs --since soon");
    assert!(bad.status.code() == Some(2) && said(&bad).contains("is no moment"), "{}", said(&bad));

    let mut follow =
        verb(&cluster, "logs --follow --lines 0").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (sender, came) = mpsc::channel();
    let out = BufReader::new(follow.stdout.take().unwrap());
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    // The log of a node that starts comes from its next life on, in the same file.
    cluster.control(&["restart", "datardos"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut seen = Vec::new();
    while !seen.iter().any(|line: &String| line.starts_with("datardos") && line.contains("engine started")) {
        let left = deadline.saturating_duration_since(Instant::now());
        seen.push(came.recv_timeout(left).unwrap_or_else(|_| panic!("not followed: {seen:#?}")));
    }
    signal(follow.id(), Signal::INT);
    let ended = follow.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{}", said(&ended));

    // A node whose log is gone is named, and the rest is shown.
    std::fs::rename(cluster.node("homer").join("log"), cluster.node("homer").join("elsewhere")).unwrap();
    let without = run(&cluster, "logs -n 2");
    let text = said(&without);
    assert!(
        without.status.code() == Some(1) && text.contains("homer: no log: ") && text.contains("error: no log of homer"),
        "{text}"
    );
    assert_eq!(
        text.lines().filter(|line| line.starts_with("magnus ") || line.starts_with("datardos ")).count(),
        4,
        "{text}"
    );
}
