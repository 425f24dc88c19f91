//! What the tests share: a directory and an address of their own, and the real daemon in them.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

pub mod examples;
pub mod nats;
pub mod requests;
pub mod wire;

use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The pinned engine, where `cargo xtask test` (or `cargo xtask engine`) puts it.
pub fn engine() -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/build/engine/2.15.1/nats-server");
    let path = std::env::var_os("UNIBUS_TEST_ENGINE").map_or(fetched, PathBuf::from);
    assert!(path.is_file(), "no engine at {}; remedy: cargo xtask engine", path.display());
    path
}

/// A directory that goes with the test.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("unibus-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes an executable. Another process does it: a thread of ours that forks meanwhile would inherit the open file, and
    /// the kernel runs no file that may still be written.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        let written = Command::new("sh")
            .args(["-c", "printf %s \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"])
            .arg(&path)
            .arg(text)
            .status();
        assert!(written.unwrap().success());
        path
    }

    /// Writes the keys of one daemon.
    pub fn write_secrets(&self) {
        self.write("secrets/issuer.nk", &nkeys::KeyPair::new_account().seed().unwrap(), 0o600);
        self.write("secrets/xkey.nk", &nkeys::XKey::new().seed().unwrap(), 0o600);
        for name in ["callout", "control", "system", "bus"] {
            self.write(&format!("secrets/{name}.nk"), &nkeys::KeyPair::new_user().seed().unwrap(), 0o600);
        }
    }

    pub fn write(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&path).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Flags for what an [`Authority`] puts into the directory.
pub const TLS: [&str; 6] = ["--tls-cert", "server.crt", "--tls-key", "server.key", "--tls-ca", "ca.crt"];

/// A CA, for certificates of one node.
pub struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// A new one, with `ca.crt` in `dir`.
    pub fn new(dir: &Dir) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Not that of its leaves: openssl would take them for signed by themselves.
        params.distinguished_name.push(DnType::CommonName, "CA of a test");
        dir.write("ca.crt", &params.self_signed(&key).unwrap().pem(), 0o644);
        Self(Issuer::new(params, key))
    }

    /// Puts a new `server.crt` and `server.key` for `address` into `dir`; returns the certificate's sha256.
    pub fn leaf(&self, dir: &Dir, address: IpAddr, days: i64) -> String {
        let key = KeyPair::generate().unwrap();
        // As xtask makes them: where a client of nats.js is given an address, it looks for this name.
        let mut params = CertificateParams::new(vec![address.to_string(), "localhost".to_owned()]).unwrap();
        params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days);
        let leaf = params.signed_by(&key, &self.0).unwrap();
        dir.write("server.crt", &leaf.pem(), 0o644);
        dir.write("server.key", &key.serialize_pem(), 0o600);
        data_encoding::HEXLOWER.encode(&Sha256::digest(leaf.der()))
    }
}

/// A loopback address that no other test gets, of this or another run, as long as this process lives: a daemon that is
/// started again finds it free.
pub fn own_address() -> IpAddr {
    /// A listener on this port says that the address is taken; nothing else uses it.
    const CLAIM: u16 = 4249;
    /// Addresses that have all but the last byte in common.
    const BLOCK: u32 = 250;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static CLAIMS: Mutex<Vec<TcpListener>> = Mutex::new(Vec::new());
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Each process begins elsewhere, so that two hardly ever meet.
        let [high, low] = u16::try_from((std::process::id() + number / BLOCK) % 0x8000).unwrap().to_be_bytes();
        let address = IpAddr::from(Ipv4Addr::new(127, 64 + high, low, 1 + u8::try_from(number % BLOCK).unwrap()));
        if let Ok(claim) = TcpListener::bind((address, CLAIM)) {
            CLAIMS.lock().unwrap().push(claim);
            return address;
        }
    }
}

/// The binary under test: the one that `cargo xtask test` was told to test, such as the static one; else cargo's.
pub fn program() -> PathBuf {
    let told = std::env::var_os("UNIBUS_TEST_MEMBERSHIPD");
    told.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_membershipd")), PathBuf::from)
}

/// The binary under test with a clean environment, in `dir`. It waits for no node, unless a test says so: many ask one that is not there.
pub fn membershipd(dir: &Path) -> Command {
    let mut command = Command::new(program());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("UNIBUS_WAIT", "0").current_dir(dir).stdin(Stdio::null());
    command
}

/// Both outputs and the exit code, for assertions.
pub fn said(output: &Output) -> String {
    let code = output.status.code();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("exit {code:?}\n{out}\n{err}")
}

/// The words between `<<` and `>>` in a frame that is not sealed. Around them are bytes of an id and of a signature, which can be those
/// signs by chance.
pub fn marked(frame: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(frame);
    let mut words =
        text.split("<<").skip(1).filter_map(|rest| rest.split_once(">>")).map(|(words, _)| words.to_owned());
    words.find(|words| !words.is_empty() && words.chars().all(|c| c.is_ascii_alphanumeric() || c == ' '))
}

/// A daemon that runs standalone on an address of its own.
pub struct Daemon {
    pub dir: Dir,
    pub address: IpAddr,
    pub child: Child,
}

impl Daemon {
    /// Starts one and waits for its lease.
    pub fn start(extra: &[&str]) -> Self {
        let daemon = Self::launch(Dir::new(), own_address(), extra);
        daemon.wait_for_lease();
        daemon
    }

    /// One whose secrets lie in its directory, so that a test can ask its engine what it knows.
    pub fn start_with_secrets(extra: &[&str]) -> Self {
        let dir = Dir::new();
        dir.write_secrets();
        let daemon = Self::launch(dir, own_address(), &[&["--secrets-dir", "secrets"], extra].concat());
        daemon.wait_for_lease();
        daemon
    }

    /// One over TLS, with its `ca.crt` beside it; waits for its lease.
    pub fn start_tls() -> Self {
        Self::start_tls_with(&[])
    }

    /// The same with more flags.
    pub fn start_tls_with(extra: &[&str]) -> Self {
        let (dir, address) = (Dir::new(), own_address());
        Authority::new(&dir).leaf(&dir, address, 365);
        let daemon = Self::launch(dir, address, &[&TLS[..], extra].concat());
        daemon.wait_for_lease();
        daemon
    }

    pub fn launch(dir: Dir, address: IpAddr, extra: &[&str]) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.path().join("log")).unwrap();
        let child = Self::command(dir.path(), address, extra).stderr(log).spawn().unwrap();
        Self { dir, address, child }
    }

    pub fn command(dir: &Path, address: IpAddr, extra: &[&str]) -> Command {
        let mut command = membershipd(dir);
        command
            .args(["--runtime-dir", "run", "--bind", &address.to_string()])
            .arg("--engine")
            .arg(engine())
            .args(extra);
        command
    }

    pub fn wait_for_lease(&self) {
        self.wait("a lease", || self.status().is_some_and(|s| s["lease"]["valid"] == true));
    }

    pub fn wait(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < deadline, "no {what} after 30 s:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Runs a verb against this daemon.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        membershipd(self.dir.path()).args(arguments).args(["--runtime-dir", "run"]).output().unwrap()
    }

    pub fn status(&self) -> Option<Value> {
        serde_json::from_slice(&self.ask(&["status", "--json"]).stdout).ok().filter(|v: &Value| v["schema"] == 1)
    }

    pub fn engine_pid(&self) -> Option<u32> {
        u32::try_from(self.status()?["engine"]["pid"].as_u64()?).ok()
    }

    /// A new identity; returns its public key.
    pub fn identity(&self, handle: &str) -> String {
        let file = format!("{handle}.toml");
        let output = self.ask_plain(&["identity", "new", "--handle", handle, "--out", &file, "--json"]);
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        value["sign_pub"].as_str().unwrap().to_owned()
    }

    /// The seed of an identity that was made here.
    pub fn seed(&self, handle: &str) -> String {
        let text = std::fs::read_to_string(self.dir.path().join(format!("{handle}.toml"))).unwrap();
        let seed = text.lines().find_map(|line| line.strip_prefix("sign = \"")).unwrap();
        seed.trim_end_matches('"').to_owned()
    }

    fn ask_plain(&self, arguments: &[&str]) -> Output {
        membershipd(self.dir.path()).args(arguments).output().unwrap()
    }

    /// Stops it as a service manager does, and hands its directory on.
    pub fn stop(mut self) -> Dir {
        signal(self.child.id(), Signal::TERM);
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
        std::mem::replace(&mut self.dir, Dir::new())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its engine goes with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal. After STOP the process does nothing more: each of its threads goes on until it is scheduled and hears of it.
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
    let goes_on = |thread: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('T'))
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while signal == Signal::STOP && std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().any(goes_on) {
        assert!(Instant::now() < deadline, "{pid} does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a process lives; a zombie does not.
pub fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}
