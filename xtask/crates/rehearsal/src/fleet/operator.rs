//! The operator's side of a fleet: keys, and an ssh configuration that knows the machines.
//!
//! xtask's transport uses the operator's own ssh configuration and never relaxes the check of host keys, so a rehearsal
//! brings a configuration of its own. OpenSSH looks for it in the home directory that /etc/passwd names, whatever $HOME
//! says; so within the fleet's mounts another /etc/passwd is seen, in which root's home is the fleet's. The real ~/.ssh stays
//! as it is and out of sight, need not exist, and everything else that looks at $HOME, such as cargo, finds what it always finds.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::layout::Layout;
use super::members::Member;
use super::preflight;
use unibus_ops::exit::BadInput;
use unibus_ops::fsx::{Batch, PRIVATE, PUBLIC};
use unibus_ops::process::bounded;

const KEYGEN_WITHIN: Duration = Duration::from_secs(30);

/// The operator's public key, which the machines let in.
pub(super) fn public_key(layout: &Layout) -> PathBuf {
    ssh_dir(layout).join("id_ed25519.pub")
}

/// Makes the keys of the operator and of the machines, and the configuration that fits them.
pub(super) fn prepare(layout: &Layout, members: &[Member]) -> Result<()> {
    let mut hosts = BTreeSet::new();
    if let Some(twice) = members.iter().find(|member| !hosts.insert(member.host())) {
        return Err(BadInput::new(format!(
            "two nodes have the ssh host '{}'; a rehearsal cannot tell them apart",
            twice.host()
        )));
    }
    let id = ssh_dir(layout).join("id_ed25519");
    keygen(&id, "rehearsal")?;
    let (mut config, mut known) = (String::new(), String::new());
    for member in members {
        let key = layout.host_key(&member.name);
        keygen(&key, &member.name)?;
        let file = key.with_extension("pub");
        let line = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let key: Vec<&str> = line.split(' ').take(2).collect();
        let _ = writeln!(known, "{} {}", member.host(), key.join(" "));
        let _ = writeln!(
            config,
            "Host {}\n  HostName {}\n  HostKeyAlias {}\n  User {}\n",
            member.host(),
            member.public,
            member.host(),
            member.user()
        );
    }
    let _ = write!(
        config,
        "Host *\n  IdentityFile {}\n  IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile {}\n  \
         GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n",
        id.display(),
        ssh_dir(layout).join("known_hosts").display(),
    );
    let passwd = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let mut batch = Batch::default();
    batch.put(&ssh_dir(layout).join("config"), PRIVATE, config);
    batch.put(&ssh_dir(layout).join("known_hosts"), PRIVATE, known);
    batch.put(&layout.passwd(), PUBLIC, with_home(&passwd, &layout.home())?);
    batch.commit()
}

/// Gives a machine another host key. The operator still knows the old one.
pub(super) fn another_host_key(layout: &Layout, member: &Member) -> Result<()> {
    let key = layout.host_key(&member.name);
    for file in [key.clone(), key.with_extension("pub")] {
        fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
    }
    keygen(&key, &member.name)
}

fn ssh_dir(layout: &Layout) -> PathBuf {
    layout.home().join(".ssh")
}

/// `passwd` with another home for root.
fn with_home(passwd: &str, home: &Path) -> Result<String> {
    let home = home.display().to_string();
    let mut found = false;
    let mut changed = String::new();
    for line in passwd.lines() {
        let mut fields: Vec<&str> = line.split(':').collect();
        if let (Some(&"0"), Some(_)) = (fields.get(2), fields.get(5)) {
            fields.splice(5..6, [home.as_str()]);
            found = true;
        }
        let _ = writeln!(changed, "{}", fields.join(":"));
    }
    if !found {
        bail!("/etc/passwd has no user with the number 0");
    }
    Ok(changed)
}

fn keygen(file: &Path, comment: &str) -> Result<()> {
    let dir = file.parent().context("a key has no directory")?;
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let mut command = Command::new("ssh-keygen");
    command.env("PATH", preflight::PATH).args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(file);
    let output = bounded(command, b"", KEYGEN_WITHIN)?;
    if !output.ok() {
        bail!("ssh-keygen -f {}: {}", file.display(), output.reason());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_home_of_root_is_another() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n";
        assert_eq!(
            with_home(passwd, Path::new("/f/home")).unwrap(),
            "root:x:0:0:root:/f/home:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n"
        );
        with_home("", Path::new("/f")).unwrap_err();
    }
}
