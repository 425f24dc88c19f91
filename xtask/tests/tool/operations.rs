//! `operations`: each verb that changes servers is noted on them, and what a killed one has done is called unknown.

use std::fs;

use serde_json::Value;

use crate::common::NODES;
use crate::common::hosts::Servers;

fn operations(servers: &Servers, flags: &str) -> Vec<Value> {
    let said: Value = serde_json::from_str(&servers.ok(&format!("operations --json{flags}")).stdout).unwrap();
    assert_eq!(said["schema"], 1);
    said["operations"].as_array().unwrap().clone()
}

fn short(operation: &Value) -> (&str, &str, usize) {
    let nodes = operation["nodes"].as_array().unwrap().len();
    (operation["verb"].as_str().unwrap(), operation["result"].as_str().unwrap(), nodes)
}

#[test]
fn each_verb_is_noted_with_its_end_by_whom_and_why_it_failed() {
    let servers = Servers::new();
    let nothing = servers.ok("operations");
    assert!(nothing.stdout.contains("nothing was noted yet"), "{nothing:?}");
    servers.ok("stage --yes");
    servers.ok("up --yes");
    servers.clone.write("ill", "host-c current\n");
    assert_eq!(servers.run("roll --yes").code, Some(1));
    servers.clone.write("ill", "");
    let all = operations(&servers, "");
    assert_eq!(
        all.iter().map(short).collect::<Vec<_>>(),
        [("stage", "done", 3), ("up", "done", 3), ("roll", "failed", 3)]
    );
    let why = all[2]["end"]["why"].as_str().unwrap();
    assert!(why.starts_with("c: until current: "), "{why}");
    for operation in &all {
        assert!(operation["holder"].as_str().unwrap().contains('@') && operation["clone"].is_string(), "{operation}");
    }
    for node in NODES {
        let meta = fs::metadata(servers.at(node, "operations.jsonl")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777, 0o600);
    }
    // Looking notes nothing, and a verb that is told to look neither.
    servers.ok("up");
    servers.run("up --diff");
    assert_eq!(operations(&servers, ""), all);

    // A run that was killed: its beginning is all that there is.
    let file = servers.at("b", "operations.jsonl");
    let log = fs::read_to_string(&file).unwrap();
    let mut killed: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    killed.as_object_mut().unwrap().remove("end");
    killed["token"] = "killed".into();
    killed["since"] = "2999-01-01T00:00:00Z".into();
    killed["holder"] = "eve\u{1b}[2J@desk".into();
    fs::write(&file, format!("{log}{killed}\n")).unwrap();
    let last = operations(&servers, " --last 1");
    assert_eq!(last.iter().map(short).collect::<Vec<_>>(), [("roll", "unknown", 1)]);
    let shown = servers.ok("operations");
    assert!(shown.stdout.contains("was killed") && !shown.stdout.contains('\u{1b}'), "{shown:?}");

    servers.clone.write("cut", "operations.jsonl");
    assert_eq!(servers.run("operations").code, Some(1), "no node answers");
}
