//! `chaos` on real clusters: the honest build is judged good, and a build without one safeguard is judged failed for that.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::harness::{Build, Cluster, Work, said};
use super::judged::{all_violations, chaos, chaos_without};

#[test]
fn an_honest_cluster_survives_everything() {
    let cluster = Cluster::start_for(Work::LoadsLong, Build::Real);
    let raw = cluster.state.join("history.jsonl");
    let (verdict, output) = chaos(&cluster, &["--yes", "--json", "--history", raw.to_str().unwrap()]);
    let broken = all_violations(&verdict);
    assert_eq!(output.status.code(), Some(0), "{broken:#?}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((verdict["ok"].clone(), broken.len()), (true.into(), 0));

    let windows = verdict["windows"].as_array().unwrap();
    let names: Vec<&str> = windows.iter().map(|window| window["fault"].as_str().unwrap()).collect();
    assert_eq!(names, ["before", "stop", "kill", "power-cut", "freeze", "quorum", "afterwards"]);
    for window in windows {
        let kinds = &window["kinds"];
        let (name, quorum) = (window["fault"].as_str().unwrap(), window["quorum"] == true);
        for kind in ["write", "connect", "message", "api_write"] {
            assert!(!quorum || kinds[kind]["acknowledged"].as_u64().unwrap() >= 10, "{kind} in {window:#}");
        }
        assert_eq!(quorum, name != "quorum");
        println!("{name} of {}: recovered after {} ms, {kinds}", window["nodes"], window["recovery_ms"]);
    }
    assert_eq!(windows[5]["nodes"].as_array().unwrap().len(), 2);
    assert!(windows[5]["recovery_ms"].as_u64().is_some(), "{:#}", windows[5]);
    assert!(windows[5]["kinds"]["connect"]["refused"].as_u64().unwrap() > 0);

    // The raw history is what was judged: no operation is missing, and each kind is there.
    let lines: Vec<Value> =
        fs::read_to_string(&raw).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ops: BTreeSet<u64> = lines.iter().filter_map(|line| line["op"].as_u64()).collect();
    assert_eq!(lines.last().unwrap()["event"], "end");
    assert_eq!(Some(ops.len()), lines.last().unwrap()["ops"].as_u64().map(|n| usize::try_from(n).unwrap()));
    let kinds: BTreeSet<&str> = lines.iter().filter_map(|line| line["kind"].as_str()).collect();
    let on_the_bus = ["connect", "disable", "message", "read", "victim_connect", "victim_message", "write"];
    let in_rooms = ["make_room", "join", "removal", "member_publish", "member_receive", "member_read"];
    let every =
        on_the_bus.into_iter().chain(in_rooms).chain(["api_write", "api_read", "say", "rotate", "read_history"]);
    assert_eq!(kinds, every.collect());

    // In each window something was said, and after each fault and in the end all members have read all of it.
    let talk = &verdict["conversations"][0];
    let (kept, readers) = (talk["acknowledged"].as_u64().unwrap(), talk["readers"].as_object().unwrap());
    assert!(kept >= 10 && readers.len() == 3 && readers.values().all(|read| read.as_u64().unwrap() >= kept), "{talk}");
    let looks = windows.len() - 2 + 1;
    assert_eq!(talk["readings"], 3 * looks, "{talk}");
    println!("conversation: {talk}");

    // Nothing is left behind but tombstones.
    let users: Value = serde_json::from_slice(&cluster.user("homer", &["list", "--json"]).stdout).unwrap();
    let made = users["users"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|user| user["handle"].as_str().is_some_and(|handle| handle.starts_with("chaos-")));
    let states: Vec<&str> = made.map(|user| user["state"].as_str().unwrap()).collect();
    assert!(states.len() >= 2 && states.iter().all(|state| *state == "removed"), "{users:#}");
    let url = format!("https://{}:8470", cluster.address("homer"));
    let (admin, ca) = (cluster.state.join("admin.toml"), cluster.ca());
    let as_admin = ["--identity", admin.to_str().unwrap(), "--ca", ca.to_str().unwrap(), "--url", &url, "--json"];
    let listed = cluster.membershipd("homer", &[["room", "list"].as_slice(), &as_admin].concat());
    let rooms: Value = serde_json::from_slice(&listed.stdout).unwrap_or_else(|_| panic!("{}", said(&listed)));
    let rooms = rooms["rooms"].as_array().unwrap();
    assert!(rooms.len() >= 2 && rooms.iter().all(|room| room["state"] == "removed"), "{rooms:#?}");

    without_a_yes_nothing_happens(&cluster);
}

fn without_a_yes_nothing_happens(cluster: &Cluster) {
    let before = cluster.local(&["ps", "--json"]).stdout;
    let (schedule, output) = chaos(cluster, &["--json"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((schedule["done"].clone(), schedule["faults"].as_array().unwrap().len()), (false.into(), 5));
    let first = schedule["faults"][0]["inject"][0]["command"].as_array().unwrap();
    assert!(first.contains(&"stop".into()), "{schedule:#}");
    assert_eq!(cluster.local(&["ps", "--json"]).stdout, before);
    let refused =
        cluster.xtask(&["chaos", "--local", "--state", cluster.state.to_str().unwrap(), "--yes", "--only", "cut-off"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
}

/// Switches these safeguards off and takes the quorum away, which must be judged failed. Returns every rule that was broken,
/// with the words for it.
pub(crate) fn judged_without(safeguards: &str, cluster: &Cluster) -> Vec<(String, String)> {
    cluster.without(safeguards);
    let (verdict, output) = chaos_without(safeguards, cluster, &["--yes", "--json", "--only", "quorum"]);
    assert_eq!(output.status.code(), Some(1), "{safeguards} was not noticed: {verdict:#}");
    assert_eq!(verdict["ok"], false);
    let windows = verdict["windows"].as_array().unwrap().iter();
    let lists = windows.map(|window| (window["fault"].as_str().unwrap(), &window["violations"]));
    let found = lists.chain([("end", &verdict["violations"])]).flat_map(|(when, list)| {
        let word = |violation: &Value, key: &str| violation[key].as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(move |one| (format!("{when}: {}", word(one, "rule")), word(one, "what")))
    });
    found.collect()
}

/// Whether a rule was broken (`window: rule` where it must have been then), and with which words.
pub(crate) fn is_named(found: &[(String, String)], rule: &str, words: &str) -> bool {
    found.iter().any(|(broken, what)| broken.ends_with(rule) && what.contains(words))
}

#[test]
fn connections_that_are_not_cut_are_judged_failed() {
    let cluster = Cluster::start_for(Work::Loads, Build::Faults);
    let found = judged_without("no-kick", &cluster);
    assert!(is_named(&found, "quorum: served-without-quorum", "message was granted"), "{found:#?}");
    // Nor are those of a member who was removed from a room: they have the rights that they were made with.
    assert!(is_named(&found, "removed-member-served", ""), "a removed member was not noticed: {found:#?}");
}
