//! `backup`, `restore` and `promote`: what is refused before any server is asked, and what a dry run says. The rehearsal carries
//! them out.

use std::fs;

use crate::common::TOPOLOGY;
use crate::common::hosts::Servers;
use serde_json::Value;

/// A file that begins as those of SQLite do.
const STORE: &[u8] = b"SQLite format 3\0 and some more";

#[test]
fn what_cannot_be_is_refused_before_anybody_is_asked() {
    let servers = Servers::new();
    let here = |name: &str| servers.clone.path(name).display().to_string();
    fs::write(here("there.db"), STORE).unwrap();
    servers.clone.write("deploy/nodes.toml", include_str!("../../../deploy/nodes.toml"));
    for line in [format!("backup {}", here("new.db")), format!("restore {} --yes", here("there.db"))] {
        let done = servers.run(&line);
        assert_eq!(done.code, Some(2), "{line}: {done:?}");
        assert!(done.stderr.contains("<HOMER_WG_IP>"), "{line}: {done:?}");
    }
    servers.clone.write("deploy/nodes.toml", TOPOLOGY);
    for (line, why) in [
        (format!("backup {}", here("there.db")), "is there already"),
        (format!("backup {} --node d", here("new.db")), "no node \"d\"; the topology has a, b, c"),
        (format!("backup {} --within 0", here("new.db")), "invalid value"),
        ("backup".to_owned(), "required"),
        (format!("restore {}", here("nowhere.db")), "cannot read"),
        (format!("restore {} --yes", here("deploy/nodes.toml")), "no file of the sqlite store"),
        (format!("restore {} --local", here("there.db")), "needs servers"),
        ("promote --yes".to_owned(), "--db"),
    ] {
        let done = servers.run(&line);
        assert_eq!(done.code, Some(2), "{line}: {done:?}");
        assert!(done.stderr.contains(why), "{line}: {done:?}");
    }
    for end in ["-wal", "-journal"] {
        let beside = format!("{}{end}", here("there.db"));
        fs::write(&beside, "what was acknowledged last").unwrap();
        let done = servers.run(&format!("promote --db {} --yes", here("there.db")));
        assert_eq!(done.code, Some(2), "{end}: {done:?}");
        assert!(done.stderr.contains("not all of its store") && done.stderr.contains(end), "{end}: {done:?}");
        fs::remove_file(&beside).unwrap();
    }
    assert_eq!(servers.seen(), Vec::<Vec<String>>::new());
    assert!(!servers.clone.path("new.db").exists());
    assert_eq!(fs::read(here("there.db")).unwrap(), STORE);
}

#[test]
fn a_dry_run_shows_where_the_file_goes_and_asks_nobody() {
    let servers = Servers::new();
    let file = servers.clone.path("there.db").display().to_string();
    fs::write(&file, STORE).unwrap();
    for verb in [format!("restore {file}"), format!("promote --db {file}")] {
        let done = servers.run(&verb);
        assert_eq!(done.code, Some(0), "{done:?}");
        for words in ["dry run: nothing was changed", "migrate-to-kv", "restore/there.db", "there.db --yes"] {
            assert!(done.stdout.contains(words), "{words}: {done:?}");
        }
        let plan: Value = serde_json::from_str(&servers.run(&format!("{verb} --json")).stdout).unwrap();
        let steps: Vec<&str> = plan["steps"].as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap()).collect();
        let work: Vec<&&str> = steps.iter().filter(|id| !id.contains("lock")).collect();
        assert_eq!(work, [&"directory", &"file", &"carry over", &"file away"]);
        // Who talks to whom is nobody's business: the file has no hash in a plan.
        let sent = plan["steps"].as_array().unwrap().iter().find(|step| step["id"] == "file").unwrap();
        assert_eq!(sent.pointer("/effect/files/0/sha256"), Some(&Value::Null), "{sent}");
    }
    assert_eq!(servers.seen(), Vec::<Vec<String>>::new());
}
