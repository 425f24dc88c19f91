//! Clones where and as people have them: in a folder with a space in its name, behind a link, made by a git that changes line ends.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::common::Done;
use crate::common::hosts::Servers;

#[test]
fn clone_with_a_space_in_its_path_or_behind_a_link_builds_and_deploys() {
    let servers = Servers::new();
    let odd = servers.clone.path("My clones/uni bus (é)");
    fs::create_dir_all(&odd).unwrap();
    let copied = Command::new("cp").arg("-a").arg(servers.clone.path("deploy")).arg(&odd).status().unwrap();
    assert!(copied.success());
    fs::remove_dir_all(odd.join("deploy/out")).unwrap();
    fs::remove_file(odd.join("deploy/build/membershipd")).unwrap();
    let there = |line: &str| {
        let mut command = servers.command(line);
        command.current_dir(&odd);
        let done = Done::of(command);
        assert_eq!(done.code, Some(0), "{line}: {done:?}");
        done
    };
    for verb in ["cluster-certs", "secrets", "build"] {
        there(verb);
    }
    assert!(odd.join("deploy/build/membershipd").is_file() && odd.join("deploy/out/test/a/cluster.env").is_file());
    assert!(there("stage --yes").stdout.contains("nothing was started"));
    there("up --yes");
    assert!(there("stage --diff").stdout.contains("nothing would change"));

    let link = servers.clone.path("link");
    symlink(&odd, &link).unwrap();
    for verb in ["cluster-certs", "secrets", "stage --diff", "up --yes"] {
        let done = servers.ok(&format!("--root {} {verb}", link.display()));
        assert!(!done.stdout.contains("renewed") && !done.stdout.contains("changed "), "{verb}: {done:?}");
    }
}

#[test]
fn git_changes_no_line_ends_of_what_is_hashed_or_shipped() {
    let clone = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let git = |words: &[&str]| {
        let mut git = Command::new("git");
        // The settings of git for Windows, and none of this machine's.
        git.current_dir(dir.path()).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        git.args(["-c", "core.autocrlf=true", "-c", "user.name=x", "-c", "user.email=x@x.invalid"]).args(words);
        let done = Done::of(git);
        assert_eq!(done.code, Some(0), "{words:?}: {done:?}");
        done
    };
    git(&["init", "--quiet"]);
    let files = [
        ".gitattributes",
        "deploy/membershipd-cluster.service",
        "deploy/standalone.conf",
        "deploy/engine.toml",
        "deploy/nodes.toml",
        "xtask/crates/ops/src/doctor/question.sh",
        "membershipd/docs/vectors.json",
        "membershipd/openapi.json",
    ];
    for file in files {
        let to = dir.path().join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(clone.join(file), to).unwrap();
    }
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "x"]);
    for file in files {
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    git(&["checkout", "--", "."]);
    for file in files {
        let (before, after) = (fs::read(clone.join(file)).unwrap(), fs::read(dir.path().join(file)).unwrap());
        assert!(before == after && !after.contains(&b'\r'), "{file} has other bytes");
    }
}
