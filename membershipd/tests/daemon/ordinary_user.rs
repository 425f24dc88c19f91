//! A node on its own as a user who is not root has it: README's lines, in a directory of the user's own.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{Dir, engine, own_address, program};
use rustix::process::{Pid, Signal, kill_process};

/// A user who is not root, and has no home and no session: `nobody` of most systems. What it is called does not matter.
const USER: u32 = 65_534;

/// The lines of README that make a node on its own: the first ones that are indented after the sentence that speaks of it.
fn lines() -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let (_, after) = readme.split_once("One node needs none of that").expect("README speaks of a node on its own");
    let lines = after.lines().skip_while(|line| !line.starts_with("    ")).take_while(|line| line.starts_with("    "));
    lines.collect::<Vec<_>>().join("\n")
}

/// Ends the daemon that a shell has left behind.
struct Ends(PathBuf);

impl Drop for Ends {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.0.join("pid")).ok().and_then(|pid| pid.trim().parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The programs by name in a directory that another user can read; the clone need not be one.
fn programs(dir: &Dir) -> PathBuf {
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for (name, from) in [("membershipd", program()), ("nats-server", engine())] {
        let to = bin.join(name);
        if std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to).unwrap();
        }
    }
    bin
}

/// README's lines carried out by another user where this is root, else by this one. `xdg` is the mode of a runtime directory, where
/// there is one.
fn carry_out(xdg: Option<u32>) -> (Dir, Ends, String) {
    let dir = Dir::new();
    let (bin, home) = (programs(&dir), dir.path().join("home"));
    std::fs::create_dir(&home).unwrap();
    let address = own_address();
    // What there is to be seen in the end, and whom to end.
    let script = format!("{}\nmembershipd user list\n", lines().replace(" &\n", " &\necho $! > pid\n"));
    let mut command = Command::new("sh");
    command.args(["-euc", &script]).env_clear().current_dir(&home).stdin(Stdio::null());
    command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    // Beside other tests it needs an address of its own; without that it is 127.0.0.1.
    command.env("UNIBUS_BIND", address.to_string()).env("UNIBUS_URL", format!("http://{address}:8470"));
    let mut owned = vec![home.clone()];
    if let Some(mode) = xdg {
        let run = dir.path().join("xdg");
        std::fs::create_dir(&run).unwrap();
        std::fs::set_permissions(&run, std::fs::Permissions::from_mode(mode)).unwrap();
        command.env("XDG_RUNTIME_DIR", &run);
        owned.push(run);
    }
    if rustix::process::geteuid().is_root() {
        for path in [dir.path(), &bin] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        owned.iter().for_each(|path| chown(path, Some(USER), Some(USER)).unwrap());
        command.uid(USER).gid(USER);
    }
    let ends = Ends(home.clone());
    // Not through a pipe: the daemon that stays has its end of it open.
    let shown = std::fs::File::create(dir.path().join("shown")).unwrap();
    let status = command.stdout(shown.try_clone().unwrap()).stderr(shown).status().unwrap();
    let said = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    assert!(status.success(), "{}\n{}", said("shown"), said("home/log"));
    let shown = said("shown");
    (dir, ends, shown)
}

#[test]
fn readme_lines_make_a_node_for_a_user_without_a_runtime_directory() {
    let (dir, _ends, said) = carry_out(None);
    assert!(said.contains("sqlite") && said.contains("root    admin"), "{said}");
    let run = dir.path().join("home/local_files/run");
    assert!(run.join("control.sock").exists(), "{said}");
    assert_eq!(run.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn readme_lines_make_a_node_in_the_users_runtime_directory() {
    let (dir, _ends, said) = carry_out(Some(0o700));
    assert!(dir.path().join("xdg/unibus/control.sock").exists(), "{said}");
    // A second node of this user would take the socket of the first.
    let other = Dir::new();
    let mut second = Command::new(program());
    second.env_clear().current_dir(other.path()).env("UNIBUS_RUNTIME_DIR", dir.path().join("xdg/unibus"));
    let second = second.arg("--engine").arg(engine()).args(["--bind", &own_address().to_string()]).output().unwrap();
    let refused = crate::common::said(&second);
    assert!(!second.status.success() && refused.contains("another daemon answers at"), "{refused}");
}

#[test]
fn a_runtime_directory_that_others_may_enter_is_not_used() {
    let (dir, _ends, said) = carry_out(Some(0o755));
    assert!(!dir.path().join("xdg/unibus").exists(), "{said}");
    assert!(dir.path().join("home/local_files/run/control.sock").exists(), "{said}");
}
