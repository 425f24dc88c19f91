//! Who listens on a port, as /proc tells.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The state of a listening socket in /proc/net/tcp.
const LISTEN: &str = "0A";

/// The process that keeps `address` from being bound: `pid 7 (nats-server -c x)`.
pub(super) fn listener(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    let v4 = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    let inode = inodes(&v4, &v6, ip, address.port()).into_iter().next()?;
    owner(&inode)
}

/// Listening sockets that cover the address: itself, or any address, in either family.
fn inodes(v4: &str, v6: &str, ip: Ipv4Addr, port: u16) -> Vec<String> {
    // The kernel prints addresses as 32-bit words in the machine's own byte order.
    let own = format!("{:08X}", u32::from_ne_bytes(ip.octets()));
    let any_v4 = "0".repeat(8);
    let any_v6 = "0".repeat(32);
    let mut found = Vec::new();
    for (table, addresses) in [(v4, [own, any_v4]), (v6, [any_v6.clone(), any_v6])] {
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, _, _, _, _, _, inode, ..] = fields.as_slice() else { continue };
            let Some((address, at)) = local.split_once(':') else { continue };
            if *state == LISTEN && u16::from_str_radix(at, 16) == Ok(port) && addresses.iter().any(|one| one == address)
            {
                found.push((*inode).to_owned());
            }
        }
    }
    found
}

fn owner(inode: &str) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?;
    for process in processes.flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        // Another user's process does not show its descriptors.
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = descriptors
            .flatten()
            .any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()));
        if holds {
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            return Some(format!("pid {pid} ({})", shorten(&command)));
        }
    }
    None
}

/// Enough of a command line to know the program by.
fn shorten(command: &str) -> String {
    const MOST: usize = 80;
    let line = command.lines().next().unwrap_or_default().trim();
    if line.chars().count() <= MOST { line.to_owned() } else { line.chars().take(MOST).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0B00007F:109A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0
   1: 0C00007F:109A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0
   2: 00000000:2116 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0
   3: 0B00007F:109A 0B00007F:FFFF 01 00000000:00000000 00:00000000 00000000     0        0 444 1 0 100 0\n";
    const V6: &str = "head
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 555 1\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn only_listeners_that_cover_the_address_count() {
        let ip = Ipv4Addr::new(127, 0, 0, 11);
        assert_eq!(inodes(V4, V6, ip, 4250), ["111"]);
        assert_eq!(inodes(V4, V6, ip, 8470), ["333"], "on any address");
        assert_eq!(inodes(V4, V6, ip, 8080), ["555"], "on any address of IPv6 too");
        assert!(inodes(V4, V6, ip, 6250).is_empty());
    }
}
