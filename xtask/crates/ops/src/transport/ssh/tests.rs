//! What ssh and rsync are told, and what a shell that talks makes of it.

use super::*;

/// What the remote side does, with a local shell in ssh's place, which is root as far as it knows.
fn remote(script: &str, args: &[&str], stdin: &[u8]) -> Output {
    let script = &script.replace("$(id -u)", "0");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(remote_command(script, args));
    bounded(shell, stdin, Duration::from_secs(10)).unwrap()
}

/// A directory whose name a shell could misread.
fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("xtask ssh '").tempdir().unwrap()
}

#[test]
fn every_argument_arrives_as_it_was() {
    let nasty = ["", " ", "a b", "it's", "\"", "$HOME", "`id`", "a\nb", "\\", "*", "-n", "é", "';exit 9;'", "$(id)"];
    for word in nasty {
        let output = remote(RUN, &["/", "printf", "%s", word], b"");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
    }
    assert_eq!(quote("./membershipd"), "./membershipd");
    assert_eq!(quote("it's"), "'it'\"'\"'s'");
}

#[test]
fn a_command_runs_in_the_install_directory_with_its_exit_code() {
    let scratch = scratch();
    let dir = scratch.path();
    let output = remote(RUN, &[dir.to_str().unwrap(), "sh", "-c", "pwd; cat; exit 4"], b"in");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\nin", dir.display()));
    assert_eq!(output.code, Some(4));
}

#[test]
fn a_file_is_put_whole_with_its_mode_or_not_at_all() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = scratch();
    let dir = scratch.path();
    let at = dir.to_str().unwrap();
    let put = |length: &str| remote(PUT, &[at, "bootstrap.json", "0640", length, ""], b"whole");
    assert_eq!(put("9").code, Some(1), "cut short");
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0, "nothing may be left");
    let done = put("5");
    assert!(done.ok(), "{}", done.stderr);
    let file = dir.join("bootstrap.json");
    assert_eq!(std::fs::read(&file).unwrap(), b"whole");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_host_is_never_taken_for_an_option() {
    let hosts = [("a", "-oProxyCommand=x"), ("b", "")].map(|(n, h)| (n.to_owned(), h.to_owned()));
    let ssh = Ssh::new(BTreeMap::from(hosts), "/opt/unibus");
    for node in ["a", "b", "c"] {
        let failure = ssh.run(node, &["true"], b"", Duration::from_secs(1)).unwrap_err();
        assert!(matches!(failure, Failure::Unreachable(_)), "{failure}");
    }
}

#[test]
fn a_relay_has_a_connection_of_its_own() {
    let ssh = Ssh::new(BTreeMap::from([("a".to_owned(), "host-a".to_owned())]), "/opt/unibus");
    let words = ssh.relay("a", &["./membershipd", "control"]).unwrap();
    assert_eq!(words[..4], after_greeting());
    // ssh takes the first value that it is given.
    let first = words.iter().find(|word| word.starts_with("ControlPath=")).unwrap();
    assert_eq!(first, "ControlPath=none");
    assert!(words.iter().any(|word| word == "BatchMode=yes"));
    assert!(words.last().unwrap().ends_with("sh /opt/unibus ./membershipd control"), "{words:?}");
}

#[test]
fn host_keys_are_always_checked() {
    assert!(!options().iter().any(|option| option.contains("HostKey") || option.contains("KnownHosts")));
}

#[test]
fn a_configuration_for_people_who_work_there_has_no_effect() {
    for option in ["RemoteCommand=none", "RequestTTY=no", "ClearAllForwardings=yes"] {
        assert!(options().iter().any(|word| word == option), "{option}");
    }
}

/// A directory with an `ssh` that is a shell here which talks first.
fn noisy() -> (tempfile::TempDir, String) {
    use std::io::Write as _;
    let dir = scratch();
    let file = dir.path().join("ssh");
    let mut install = Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(&file).stdin(std::process::Stdio::piped());
    let mut child = install.spawn().unwrap();
    // Whatever ssh is told before the host, and that itself, is of no interest here.
    let script = "#!/bin/sh\nwhile [ \"$1\" != host ]; do shift; done; shift\n\
                  printf 'Welcome back!\\n\\033[1munibus: read\\n'; exec sh -c \"$*\"\n";
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    (dir, path)
}

#[test]
fn what_a_login_shell_prints_is_no_part_of_an_answer() {
    let (_dir, path) = noisy();
    let command = remote_command(
        &format!("{SAY_READY}; {}", RUN.replace("$(id -u)", "0")),
        &["/", "sh", "-c", "printf 'a\\0b\\n'; cat; echo oops >&2; exit 4"],
    );
    let [first, args @ ..] = after_greeting();
    let mut filter = start(&first, &args);
    filter.env("PATH", &path).args(["-o", "X=y", "--", "host", &command]);
    let output = bounded(filter, b"in", Duration::from_secs(10)).unwrap();
    assert_eq!((output.code, output.stdout.as_slice()), (Some(4), b"a\0b\nin".as_slice()));
    assert_eq!(output.stderr, "oops");
    assert_eq!(greeting(b"Welcome back!\n\n\x1b[1mx\nunibus: ready\nunibus: more"), "Welcome back!\n\\u001b[1mx");
    assert_eq!(greeting(b"unibus: ready\n"), "");
}

#[test]
fn rsync_works_where_the_shell_talks() {
    // rsync reads a path of the other side as a shell does.
    let ((dir, path), there) = (noisy(), tempfile::tempdir().unwrap());
    let hosts = BTreeMap::from([("a".to_owned(), "host".to_owned())]);
    let file = dir.path().join("sent");
    std::fs::write(&file, vec![7; 100_000]).unwrap();
    let files = Files {
        from: vec![file],
        to: there.path().display().to_string(),
        owner: "root:root".to_owned(),
        mode: crate::transport::Mode(0o600),
    };
    let words = Ssh::new(hosts, "/opt/unibus").rsync("a", &files).unwrap();
    let mine = |word: &&String| !word.starts_with("--chown") && !["--owner", "--group"].contains(&word.as_str());
    let words: Vec<String> = words.iter().filter(mine).map(|word| word.replace("$(id -u)", "0")).collect();
    let mut rsync = start("rsync", &words[1..]);
    rsync.env("PATH", path);
    let output = bounded(rsync, b"", Duration::from_secs(20)).unwrap();
    assert!(output.ok(), "{output:?}");
    assert_eq!(std::fs::read(there.path().join("sent")).unwrap(), vec![7; 100_000]);
}

#[test]
fn an_address_of_ipv6_is_in_brackets_for_rsync_alone() {
    for (host, rsync) in [
        ("homer", "homer"),
        ("root@192.0.2.1", "root@192.0.2.1"),
        ("2001:db8::1", "[2001:db8::1]"),
        ("root@2001:db8::1", "root@[2001:db8::1]"),
        ("root@fe80::1%eth0", "root@[fe80::1%eth0]"),
    ] {
        assert_eq!(rsync_host(host), rsync);
    }
    let ssh = Ssh::new(BTreeMap::from([("a".to_owned(), "root@2001:db8::1".to_owned())]), "/opt/unibus");
    let words = ssh.ssh("a", RUN, &["/"]).unwrap();
    assert_eq!(words.iter().rev().nth(1).map(String::as_str), Some("root@2001:db8::1"));
}

#[test]
fn who_is_not_root_asks_sudo_and_never_for_a_password() {
    let script = AS_ROOT.replace("$(id -u)", "1000").replace("exec \"$@\"", "printf '%s|' \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", script.as_str(), "sh", "install", "-d", "a b"]);
    let output = bounded(shell, b"", Duration::from_secs(10)).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "sudo|-n|--|install|-d|a b|");
    assert!(RUN.ends_with(AS_ROOT), "the same way in the install directory");
}

#[test]
fn files_are_sent_by_content_with_the_owner_and_mode_of_the_plan() {
    let ssh = Ssh::new(BTreeMap::from([("a".to_owned(), "host-a".to_owned())]), "/opt/unibus");
    let files = Files {
        from: vec!["/x/cluster.pass".into()],
        to: "/opt/unibus/secrets".to_owned(),
        owner: "root:root".to_owned(),
        mode: crate::transport::Mode(0o600),
    };
    let words = ssh.rsync("a", &files).unwrap();
    for word in ["--checksum", "--chmod=F0600", "--chown=root:root", "/x/cluster.pass"] {
        assert!(words.iter().any(|w| w == word), "{word}: {words:?}");
    }
    assert_eq!(words.last().map(String::as_str), Some("host-a:/opt/unibus/secrets/"));
}
