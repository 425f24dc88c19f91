//! The daemon on its own with a real engine: life and death of the two, the store's guard, the bus without authentication.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Authority, Daemon, Dir, alive, engine, membershipd, own_address, said, signal};
use rustix::process::Signal;

#[test]
fn killed_with_its_engine_left_nowhere() {
    let mut daemon = Daemon::start(&[]);
    let engine = daemon.engine_pid().unwrap();
    assert!(alive(engine));
    signal(daemon.child.id(), Signal::KILL);
    daemon.child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while alive(engine) {
        assert!(Instant::now() < deadline, "the engine {engine} outlived its daemon");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_killed_engine_is_back_within_five_seconds() {
    let daemon = Daemon::start(&[]);
    let before = daemon.engine_pid().unwrap();
    let killed = Instant::now();
    signal(before, Signal::KILL);
    daemon.wait("new engine", || daemon.engine_pid().is_some_and(|now| now != before));
    assert!(killed.elapsed() < Duration::from_secs(5), "took {:?}", killed.elapsed());
    daemon.wait_for_lease();
}

#[test]
fn a_second_daemon_on_the_store_refuses() {
    let daemon = Daemon::start(&[]);
    let output = membershipd(daemon.dir.path())
        .args(["--runtime-dir", "run2", "--bind", &own_address().to_string(), "--engine"])
        .arg(engine())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("in use by another membershipd"), "{}", said(&output));
    assert!(daemon.status().is_some(), "the first one must not have noticed");
}

#[test]
fn users_survive_a_restart_and_the_last_admin_stays() {
    let daemon = Daemon::start(&[]);
    let key = daemon.identity("root");
    let add = ["user", "add", "--handle", "root", "--sign-pub", &key, "--role", "admin"];
    assert!(daemon.ask(&add).status.success());
    assert!(said(&daemon.ask(&add)).contains("nothing to do"), "repeating is safe");
    let other = daemon.identity("other");
    let conflict = daemon.ask(&["user", "add", "--handle", "root", "--sign-pub", &other]);
    assert_eq!(conflict.status.code(), Some(1));
    assert!(said(&conflict).contains("another key"), "{}", said(&conflict));
    let shared = daemon.ask(&["user", "add", "--handle", "twin", "--sign-pub", &key]);
    assert!(said(&shared).contains("belongs to 'root'"), "{}", said(&shared));
    let last = daemon.ask(&["user", "remove", "root", "--json"]);
    assert_eq!(last.status.code(), Some(1));
    assert!(said(&last).contains("last admin") && said(&last).contains("\"code\":\"conflict\""), "{}", said(&last));

    let address = daemon.address;
    let dir = daemon.stop();
    let log = std::fs::metadata(dir.path().join("local_files/unibus.db-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0, "the file of a node that was stopped has everything by itself");
    let daemon = Daemon::launch(dir, address, &[]);
    daemon.wait_for_lease();
    let list = said(&daemon.ask(&["user", "list"]));
    assert!(list.contains("root") && list.contains("admin") && list.contains(&key), "{list}");
}

#[test]
fn a_bootstrap_record_acts_once() {
    let daemon = Daemon::start(&[]);
    let (root, second) = (daemon.identity("root"), daemon.identity("second"));
    let record = |key: &str| format!(r#"{{"schema":1,"handle":"root","sign_pub":"{key}"}}"#);
    let path = daemon.dir.write("bootstrap.json", &record(&root), 0o644);
    daemon.wait("complaint about the mode", || daemon.log().contains("chmod 600"));
    assert!(path.exists(), "a record that others could change is not used");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    daemon.wait("import", || !path.exists());
    assert_eq!(daemon.status().unwrap()["admins"], 1);

    assert!(
        daemon.ask(&["user", "add", "--handle", "second", "--sign-pub", &second, "--role", "admin"]).status.success()
    );
    assert!(daemon.ask(&["user", "remove", "root"]).status.success());
    daemon.dir.write("bootstrap.json", &record(&root), 0o600);
    daemon.wait("deletion of the stale record", || !path.exists());
    let list = said(&daemon.ask(&["user", "show", "root"]));
    assert!(list.contains("removed"), "{list}");
    let again = daemon.ask(&["user", "enable", "root"]);
    assert!(said(&again).contains("that is final"), "{}", said(&again));
}

#[test]
fn a_store_is_only_started_as_it_was_made() {
    let daemon = Daemon::start(&["--node-name", "one"]);
    let address = daemon.address;
    let dir = daemon.stop();
    let kv = Daemon::command(dir.path(), address, &["--node-name", "one", "--store", "kv"]).output().unwrap();
    assert_eq!(kv.status.code(), Some(1));
    assert!(said(&kv).contains("was made with --store sqlite"), "{}", said(&kv));
    let other = Daemon::command(dir.path(), address, &["--node-name", "two"]).output().unwrap();
    assert_eq!(other.status.code(), Some(1));
    assert!(said(&other).contains("was made standalone as one"), "{}", said(&other));
    // A store without its marker may be anything.
    std::fs::remove_file(dir.path().join("local_files/jetstream.mode.toml")).unwrap();
    let unmarked = Daemon::command(dir.path(), address, &["--node-name", "one"]).output().unwrap();
    assert!(said(&unmarked).contains("no marker"), "{}", said(&unmarked));
}

#[test]
fn without_authentication_anybody_is_in_but_never_in_jetstream() {
    let daemon = Daemon::start(&["--bus-auth", "off"]);
    let status = daemon.status().unwrap();
    assert_eq!((&status["bus_auth"], &status["acl"]), (&"off".into(), &false.into()));
    let mut stream = TcpStream::connect((daemon.address, 4250)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
        .write_all(b"CONNECT {\"verbose\":false}\r\nSUB any 1\r\nPUB any 2\r\nhi\r\nPUB $JS.API.INFO 0\r\n\r\n")
        .unwrap();
    let mut reader = BufReader::new(stream);
    let (mut delivered, mut violation) = (false, false);
    while !(delivered && violation) {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "closed: {}", daemon.log());
        delivered |= line.starts_with("MSG any 1 2");
        violation |= line.contains("Permissions Violation for Publish to \"$JS.API.INFO\"");
    }
}

#[test]
fn ports_in_use_are_named_before_anything_starts() {
    let dir = Dir::new();
    let address = own_address();
    let taken = TcpListener::bind((address, 4250)).unwrap();
    let output = Daemon::command(dir.path(), address, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains(&format!("{address}:4250 (--client-port)")), "{}", said(&output));
    drop(taken);
}

#[test]
fn engines_that_are_missing_old_or_tampered_do_not_run() {
    let dir = Dir::new();
    let run = |engine: &str, extra: &[&str]| {
        let output = membershipd(dir.path())
            .args(["--runtime-dir", "run", "--bind", &own_address().to_string(), "--engine", engine])
            .args(extra)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        said(&output)
    };
    assert!(run("nowhere", &[]).contains("cannot find the engine nowhere"));
    let old = dir.script("old", "#!/bin/sh\necho nats-server: v2.9.10\n");
    assert!(run(old.to_str().unwrap(), &[]).contains("2.14 or later"));
    let plain = dir.write("plain", "no program", 0o644);
    assert!(run(plain.to_str().unwrap(), &[]).contains("cannot run the engine"));
    let want = "0".repeat(64);
    let tampered = run(engine().to_str().unwrap(), &["--engine-sha256", &want]);
    assert!(tampered.contains("tampered") && tampered.contains(&want), "{tampered}");
}

#[test]
fn a_full_disk_leaves_no_half_file() {
    let dir = Dir::new();
    // A file size limit of nothing is a full disk for this one process.
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$0\" identity new --handle root --out root.toml";
    let output =
        Command::new("sh").args(["-c", script]).arg(crate::common::program()).current_dir(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("cannot write root.toml"), "{}", said(&output));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn health_is_for_everybody_and_says_little_to_the_network() {
    let daemon = Daemon::start(&[]);
    let mut stream = TcpStream::connect((daemon.address, 8470)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    // The test is on loopback, so it sees the posture too.
    assert!(text.contains("\"status\":\"ok\"") && text.contains("\"posture\""), "{text}");
}

#[test]
fn a_revocation_is_written_and_acknowledged_even_where_it_was_so_already() {
    let daemon = Daemon::start(&[]);
    let key = daemon.identity("alice");
    assert!(daemon.ask(&["user", "add", "--handle", "alice", "--sign-pub", &key]).status.success());
    for changed in [true, false] {
        let output = daemon.ask(&["user", "disable", "alice", "--json"]);
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let is = (&answer["changed"], &answer["fence"]);
        assert_eq!(is, (&changed.into(), &"acknowledged".into()), "one node has only itself to ask: {answer}");
    }
    let enabled = daemon.ask(&["user", "enable", "alice", "--json"]);
    assert!(said(&enabled).contains("\"waited_ms\":0"), "{}", said(&enabled));
}

#[test]
fn a_relay_answers_every_line_and_a_slow_one_holds_nobody_up() {
    let daemon = Daemon::start(&["--store", "kv"]);
    let key = daemon.identity("alice");
    assert!(daemon.ask(&["user", "add", "--handle", "alice", "--sign-pub", &key]).status.success());
    let mut relay = Relay::start(&daemon);
    // A write that the engine does not answer.
    let engine = daemon.engine_pid().unwrap();
    signal(engine, Signal::STOP);
    relay.say(r#"{"id":1,"request":{"verb":"probe-write","key":0,"value":"x","expected":0}}"#);
    relay.say(r#"{"id":"two","request":{"verb":"user-list"}}"#);
    let list = relay.hear();
    assert_eq!((&list["id"], &list["answer"]["ok"]["schema"]), (&"two".into(), &1.into()), "{list}");
    relay.say(r#"{"id":3,"request":{"verb":"unheard-of"}}"#);
    let unheard = relay.hear();
    assert_eq!((&unheard["id"], &unheard["answer"]["error"]["code"]), (&3.into(), &"bad_request".into()), "{unheard}");
    relay.say(r#"{"id":4,"reqest":{}}"#);
    let misspelt = relay.hear();
    assert_eq!(
        (&misspelt["id"], &misspelt["answer"]["error"]["code"]),
        (&4.into(), &"bad_request".into()),
        "{misspelt}"
    );
    relay.say(r#"{"request":{"verb":"user-show","handle":"nobody"}}"#);
    let missing = relay.hear();
    assert_eq!((missing.get("id"), &missing["answer"]["error"]["code"]), (None, &"not_found".into()), "{missing}");
    signal(engine, Signal::CONT);
    let slow = relay.hear();
    assert_eq!((&slow["id"], slow["answer"]["ok"]["revision"].is_u64()), (&1.into(), true), "{slow}");

    // Without a daemon each line is still answered, and the session goes on.
    let mut daemon = daemon;
    signal(daemon.child.id(), Signal::KILL);
    daemon.child.wait().unwrap();
    relay.say(r#"{"id":5,"request":{"verb":"status"}}"#);
    let gone = relay.hear();
    assert_eq!((&gone["id"], &gone["answer"]["error"]["code"]), (&5.into(), &"not_running".into()), "{gone}");
    relay.end();
}

/// `membershipd control`, driven line by line.
struct Relay {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Relay {
    fn start(daemon: &Daemon) -> Self {
        let mut command = membershipd(daemon.dir.path());
        command.args(["control", "--runtime-dir", "run"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (requests, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, requests, answers }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.requests, "{line}").unwrap();
    }

    fn hear(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no answer: {line:?}"))
    }

    /// Ends the input; the relay must end well, and say nothing more.
    fn end(mut self) {
        drop(self.requests);
        let mut rest = String::new();
        self.answers.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), self.child.wait().unwrap().code()), ("", Some(0)));
    }
}

#[test]
fn waiting_tells_what_is_missing_and_scale_refuses_what_cannot_be() {
    let dir = Dir::new();
    let waiting = |within: &str, goal: &str, dir: &Dir| {
        let arguments = ["wait", "--for", goal, "--within", within, "--runtime-dir", "run", "--json"];
        membershipd(dir.path()).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // No daemon: not yet, and no error of another kind.
    let output = waiting("0", "alive", &dir).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("not alive within 0 s: no daemon answers at run/control.sock"), "{}", said(&output));

    // Whoever waits before the daemon is there has it as soon as it is.
    let waiters: Vec<Child> = ["alive", "quorum", "healthy", "current"].map(|goal| waiting("30", goal, &dir)).into();
    let daemon = Daemon::launch(dir, own_address(), &[]);
    for waiter in waiters {
        let output = waiter.wait_with_output().unwrap();
        assert!(output.status.success(), "{}\n{}", said(&output), daemon.log());
        assert!(said(&output).contains("\"ok\":true"), "{}", said(&output));
    }
    assert_eq!(daemon.status().unwrap()["lease"]["valid"], true);

    // A silent daemon does not hold anybody up for longer than one look.
    signal(daemon.child.id(), Signal::STOP);
    let asked = Instant::now();
    let output = waiting("0", "healthy", &daemon.dir).wait_with_output().unwrap();
    signal(daemon.child.id(), Signal::CONT);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("did not answer within 10 s"), "{}", said(&output));
    assert!(asked.elapsed() < Duration::from_secs(15), "took {:?}", asked.elapsed());

    for (store, why) in [("sqlite", "in one file"), ("kv", "UNIBUS_users is set to have 1 copies")] {
        let daemon = Daemon::start(&["--store", store]);
        let current = daemon.ask(&["wait", "--for", "current", "--within", "30"]);
        assert!(current.status.success(), "{}", said(&current));
        let check = |copies| daemon.ask(&["scale", copies, "--check"]);
        assert!(check("1").status.success(), "{}", said(&check("1")));
        assert_eq!(check("3").status.code(), Some(1));
        assert!(said(&check("3")).contains(why), "{}", said(&check("3")));
        let refused = daemon.ask(&["scale", "3", "--json"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(said(&refused).contains("a node on its own has one copy"), "{}", said(&refused));
    }
}

#[test]
fn a_hangup_renews_the_api_s_certificate_and_touches_nothing_else() {
    let (dir, address) = (Dir::new(), own_address());
    let authority = Authority::new(&dir);
    let first = authority.leaf(&dir, address, 365);
    let tls = ["--tls-cert", "server.crt", "--tls-key", "server.key", "--tls-ca", "ca.crt"];
    let mut daemon = Daemon::launch(dir, address, &tls);
    daemon.wait_for_lease();
    let engine = daemon.engine_pid().unwrap();
    assert_eq!(served(&daemon), first);
    let mut open = OpenConnection::new(&daemon);
    assert!(open.ask().contains("HTTP/1.1 200"));

    let second = authority.leaf(&daemon.dir, address, 365);
    assert_eq!(served(&daemon), first, "nobody has said so yet");
    signal(daemon.child.id(), Signal::HUP);
    daemon.wait("new certificate", || served(&daemon) == second);
    assert!(open.ask().contains("HTTP/1.1 200"), "the connection of before was dropped");

    // A key that is not the certificate's: what is in use stays.
    let key = daemon.dir.path().join("server.key");
    let good = std::fs::read(&key).unwrap();
    authority.leaf(&daemon.dir, address, 365);
    std::fs::write(&key, &good).unwrap();
    signal(daemon.child.id(), Signal::HUP);
    daemon.wait("complaint", || daemon.log().contains("goes on with the certificate it has"));
    assert!(daemon.log().contains("server.key is not the key of server.crt"), "{}", daemon.log());
    std::fs::write(daemon.dir.path().join("server.crt"), "nonsense").unwrap();
    signal(daemon.child.id(), Signal::HUP);
    daemon.wait("complaint", || daemon.log().contains("server.crt holds no certificate in PEM"));
    assert_eq!(served(&daemon), second);
    assert!(open.ask().contains("HTTP/1.1 200"));
    assert_eq!(curl(&daemon), "200");

    assert!(daemon.child.try_wait().unwrap().is_none(), "a hangup ended the daemon");
    assert_eq!(daemon.engine_pid(), Some(engine), "the engine has nothing to do with it");
    assert!(!daemon.log().contains("Trapped"), "the engine was signalled: {}", daemon.log());
}

#[test]
fn certificates_that_end_soon_are_in_the_log_from_the_start() {
    let (dir, address) = (Dir::new(), own_address());
    Authority::new(&dir).leaf(&dir, address, 12);
    let tls = ["--tls-cert", "server.crt", "--tls-key", "server.key", "--tls-ca", "ca.crt"];
    let daemon = Daemon::launch(dir, address, &tls);
    daemon.wait_for_lease();
    let said = daemon.log().lines().filter(|line| line.contains("the certificate ends")).collect::<Vec<_>>().join("\n");
    // Twelve days, of which nothing or a second has passed.
    let days = said.contains("ends in 12 days") || said.contains("ends in 11 days");
    assert!(said.contains("WARN") && days && said.contains("server.crt"), "{said}");
    assert_eq!(said.lines().count(), 1, "the CA lasts: {said}");
}

/// sha256 of the certificate that the API serves, by openssl.
fn served(daemon: &Daemon) -> String {
    let script = "openssl s_client -connect \"$0\" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256";
    let api = format!("{}:8470", daemon.address);
    let output = Command::new("sh").args(["-c", script, &api]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase()
}

/// Status code of /healthz, by curl, which verifies the certificate.
fn curl(daemon: &Daemon) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "10", "--output", "/dev/null", "--write-out", "%{http_code}", "--cacert"])
        .arg(daemon.dir.path().join("ca.crt"))
        .arg(format!("https://{}:8470/healthz", daemon.address))
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A TLS connection to the API that stays open, by openssl.
struct OpenConnection {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl OpenConnection {
    fn new(daemon: &Daemon) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &format!("{}:8470", daemon.address), "-CAfile"])
            .arg(daemon.dir.path().join("ca.crt"))
            .args(["-verify_return_error"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, answers }
    }

    /// The head of the answer to one more request.
    fn ask(&mut self) -> String {
        self.child.stdin.as_mut().unwrap().write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.answers.read_line(&mut head).unwrap() > 0, "the connection ended after: {head}");
        }
        let mut body = [0; 3];
        self.answers.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"ok\n");
        head
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
