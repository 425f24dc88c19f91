//! What a node is asked, once and in one session, and its answer read.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Only reads. bash is essential on Debian, and alone of all that is brings a way to try a port.
pub(super) const SCRIPT: &str = include_str!("question.sh");

/// What one node is, by its own account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) arch: String,
    /// `debian 12`
    pub(super) os: String,
    pub(super) systemd: String,
    pub(super) rsync: String,
    pub(super) ntp: String,
    pub(super) passwd: String,
    pub(super) group: String,
    pub(super) install: Option<Room>,
    pub(super) stores: Option<Room>,
    /// The drop-in that takes LoadCredential= from the unit; none does.
    pub(super) emptied: Option<String>,
    /// What the stores hold by now, in KiB.
    pub(super) used: u64,
    pub(super) addresses: Vec<(IpAddr, String)>,
    /// None where nobody could say.
    pub(super) listeners: Option<Vec<Listener>>,
    pub(super) reached: Vec<(IpAddr, u16, Reach)>,
}

/// Free room on a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) free_kib: u64,
    pub(super) mount: String,
}

/// A listening socket; no address: on any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    /// `nats-server (pid 42)`
    pub(super) who: String,
    /// The control group of its process, which names its unit.
    pub(super) cgroup: String,
}

/// How an attempt to connect ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Open,
    /// Nobody listens there, and the machine says so.
    Closed,
    /// It never arrived, or its answer did not.
    Filtered(String),
}

/// Reads an answer; none when it is not whole.
pub(super) fn read(text: &str) -> Option<Facts> {
    let mut facts = Facts::default();
    let mut listens: Vec<&str> = Vec::new();
    let mut cgroups: BTreeMap<&str, &str> = BTreeMap::new();
    let (mut asked_ss, mut whole) = (false, false);
    for (name, value) in text.lines().filter_map(|line| line.split_once('\t')) {
        let own = || value.trim().to_owned();
        match name {
            "arch" => facts.arch = own(),
            "os" => facts.os = own(),
            "systemd" => facts.systemd = own(),
            "rsync" => facts.rsync = own(),
            "ntp" => facts.ntp = own(),
            "passwd" => facts.passwd = own(),
            "group" => facts.group = own(),
            "install" => facts.install = room(value),
            "stores" => facts.stores = room(value),
            "emptied" => facts.emptied = Some(own()),
            "used" => facts.used = value.trim().parse().unwrap_or(0),
            "address" => facts.addresses.extend(address(value)),
            "ss" => asked_ss = true,
            "listens" => listens.push(value),
            "cgroup" => cgroups.extend(value.split_once(' ')),
            "reach" => facts.reached.extend(reach(value)),
            "end" => whole = true,
            _ => {}
        }
    }
    if asked_ss {
        facts.listeners = Some(listens.into_iter().filter_map(|line| listener(line, &cgroups)).collect());
    }
    whole.then_some(facts)
}

fn room(value: &str) -> Option<Room> {
    let (free, mount) = value.split_once(' ')?;
    Some(Room { free_kib: free.parse().ok()?, mount: mount.trim().to_owned() })
}

fn address(value: &str) -> Option<(IpAddr, String)> {
    let (address, device) = value.split_once(' ')?;
    Some((address.parse().ok()?, device.to_owned()))
}

/// `LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=7,fd=3))`
fn listener(line: &str, cgroups: &BTreeMap<&str, &str>) -> Option<Listener> {
    let mut fields = line.split_whitespace();
    let (host, port) = fields.nth(3)?.rsplit_once(':')?;
    let host = host.split_once('%').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    let address = match host {
        "*" => None,
        host => Some(host.parse().ok()?).filter(|address: &IpAddr| !address.is_unspecified()),
    };
    let users = fields.find(|field| field.starts_with("users:")).unwrap_or_default();
    let name = users.split('"').nth(1);
    let pid = users.split_once("pid=").and_then(|(_, rest)| rest.split([',', ')']).next());
    let who = match (name, pid) {
        (Some(name), Some(pid)) => format!("{name} (pid {pid})"),
        _ => "a process that ss does not show".to_owned(),
    };
    let cgroup = pid.and_then(|pid| cgroups.get(pid)).map(|&group| group.to_owned()).unwrap_or_default();
    Some(Listener { address, port: port.parse().ok()?, who, cgroup })
}

/// `10.0.0.2 6250 1 Connection refused`
fn reach(value: &str) -> Option<(IpAddr, u16, Reach)> {
    let mut parts = value.splitn(4, ' ');
    let (address, port, code) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
    let said = parts.next().unwrap_or_default().trim();
    let reach = match (code, said) {
        ("0", _) => Reach::Open,
        (_, "Connection refused") => Reach::Closed,
        (_, "") => Reach::Filtered(format!("exit code {code}")),
        (_, said) => Reach::Filtered(said.to_owned()),
    };
    Some((address, port, reach))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_debian_gives_it() {
        let text = "arch\tx86_64\nos\tdebian 12\nsystemd\tsystemd 252 (252.39-1~deb12u1)\nrsync\trsync  version 3.2.7  protocol version 31\n\
                    ntp\tyes\npasswd\tunibus:x:999:999::/opt/unibus:/usr/sbin/nologin\ngroup\tunibus:x:999:\n\
                    install\t20971520 /\nstores\t1024 /var/lib data\nused\t8\naddress\t127.0.0.1 lo\naddress\tfe80::1 eth0\n\
                    ss\tyes\nlistens\tLISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=7,fd=3))\n\
                    listens\tLISTEN 0 128 127.0.0.53%lo:53 0.0.0.0:* users:((\"systemd-resolve\",pid=8,fd=3))\n\
                    listens\tLISTEN 0 4096 *:6250 *:* users:((\"nats-server\",pid=42,fd=9))\n\
                    listens\tLISTEN 0 4096 [::1]:8250 [::]:*\n\
                    cgroup\t42 0::/system.slice/membershipd-cluster.service\n\
                    reach\t10.0.0.2 6250 0 \nreach\t10.0.0.3 6250 1 Connection refused\nreach\t2001:db8::3 6250 124 no answer within 8 s\n\
                    reach\t10.0.0.4 6250 1 No route to host\nend\tend\n";
        let facts = read(text).unwrap();
        assert_eq!((facts.arch.as_str(), facts.os.as_str(), facts.used), ("x86_64", "debian 12", 8));
        assert_eq!(facts.stores, Some(Room { free_kib: 1024, mount: "/var/lib data".to_owned() }));
        assert_eq!(facts.addresses.len(), 2);
        let listeners = facts.listeners.unwrap();
        let shown: Vec<_> = listeners.iter().map(|l| (l.address, l.port, l.who.as_str())).collect();
        assert_eq!(
            shown,
            [
                (None, 22, "sshd (pid 7)"),
                (Some("127.0.0.53".parse().unwrap()), 53, "systemd-resolve (pid 8)"),
                (None, 6250, "nats-server (pid 42)"),
                (Some("::1".parse().unwrap()), 8250, "a process that ss does not show"),
            ]
        );
        assert!(listeners[2].cgroup.ends_with("/membershipd-cluster.service"));
        let reached: Vec<Reach> = facts.reached.into_iter().map(|(.., reach)| reach).collect();
        let filtered = |why: &str| Reach::Filtered(why.to_owned());
        assert_eq!(
            reached,
            [Reach::Open, Reach::Closed, filtered("no answer within 8 s"), filtered("No route to host")]
        );
    }

    /// In the order in which systemd reads drop-ins: by name, wherever they lie, and the unit's own before those of all services.
    #[test]
    fn drop_in_that_empties_credentials_is_found_and_one_that_is_masked_or_made_good_is_none() {
        use crate::process::bounded;
        use std::fs;
        let dir = tempfile::tempdir().unwrap();
        let (all, own) = (dir.path().join("service.d"), dir.path().join("x.service.d"));
        fs::create_dir(&all).unwrap();
        fs::create_dir(&own).unwrap();
        let script = SCRIPT.replace("places='", &format!("places='{} ", dir.path().display()));
        let emptied = || {
            let mut bash = std::process::Command::new("bash");
            bash.args(["-c", &script, "bash", "/", "/", "root", "x.service"]);
            let output = bounded(bash, b"", std::time::Duration::from_secs(120)).unwrap();
            read(&String::from_utf8_lossy(&output.stdout)).unwrap().emptied
        };
        assert_eq!(emptied(), None);
        let file = all.join("zzz-lxc-service.conf");
        fs::write(&file, "[Service]\nProtectProc=default\nLoadCredential =  \n").unwrap();
        assert_eq!(emptied(), Some(file.display().to_string()));
        fs::write(own.join("zzzz.conf"), "[Service]\nLoadCredential=a:/b\n").unwrap();
        assert_eq!(emptied(), None, "made good by a later one");
        fs::rename(own.join("zzzz.conf"), own.join("a.conf")).unwrap();
        assert_eq!(emptied(), Some(file.display().to_string()), "an earlier one makes nothing good");
        std::os::unix::fs::symlink("/dev/null", own.join("zzz-lxc-service.conf")).unwrap();
        assert_eq!(emptied(), None, "masked");
    }

    #[test]
    fn half_an_answer_is_none() {
        assert_eq!(read("arch\tx86_64\nos\tdebian 12\n"), None);
        assert_eq!(read(""), None);
        let bare = read("end\tend\n").unwrap();
        assert_eq!((bare.listeners, bare.stores), (None, None), "what was not said is not made up");
    }

    /// The script runs here, where Linux is: an open port, a closed one, and the file systems are real.
    #[test]
    #[cfg(target_os = "linux")]
    fn the_question_has_an_answer_on_a_real_machine() {
        use crate::process::bounded;
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = |listener: &std::net::TcpListener| listener.local_addr().unwrap().port();
        let (open_port, closed_port) = (port(&open), port(&closed));
        drop(closed);
        let mut bash = std::process::Command::new("bash");
        let unit = "no-such-unit-here.service";
        bash.args(["-c", SCRIPT, "bash", "/opt/no such/dir", "/opt/no such/dir/stores", "no-such-user-here", unit]);
        bash.args(["127.0.0.1", &open_port.to_string(), "127.0.0.1", &closed_port.to_string()]);
        let output = bounded(bash, b"", std::time::Duration::from_secs(120)).unwrap();
        let facts = read(&String::from_utf8_lossy(&output.stdout)).unwrap_or_else(|| panic!("{output:?}"));
        assert!(facts.install.clone().is_some_and(|room| room.free_kib > 0), "{facts:?}");
        assert_eq!((facts.passwd.as_str(), facts.group.as_str()), ("", ""));
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        let reach = |port| {
            facts.reached.iter().find(|(_, at, _)| *at == port).map(|(address, _, reach)| (*address, reach.clone()))
        };
        assert_eq!(reach(open_port), Some((here, Reach::Open)));
        assert_eq!(reach(closed_port), Some((here, Reach::Closed)));
        if let Some(listeners) = &facts.listeners {
            let own = listeners.iter().find(|listener| listener.port == open_port).unwrap();
            assert!(own.who.contains(&std::process::id().to_string()), "{own:?}");
        }
    }
}
