//! A machine that reboots within a roll, and known to be back by the id of its boot.

use super::{REBOOTED, RESTARTED, Site, Waves, limited};
use crate::plan::{Effect, Purpose, Step, Unless, words};
use crate::staging::UNIT;

/// Where the kernel tells which boot it is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Where that is noted, below the install directory, before the machine goes down. It lies on a disk: /run does not outlive a boot.
const BEFORE: &str = "boot-before";
/// A moment later, so that the answer still comes.
const REBOOT: &str = "umask 022; cat \"$1\" > \"$2\" && sync -- \"$2\" && systemd-run --quiet --collect --on-active=1s \
                      --timer-property=AccuracySec=100ms systemctl --no-block reboot";
const IS_ANOTHER: &str = "test -s \"$2\" && ! cmp -s -- \"$1\" \"$2\"";

/// A script with its arguments after it, so that nothing is quoted twice.
fn sh(script: &str, args: &[&str]) -> Vec<String> {
    words(&[&["sh", "-c", script, "sh"], args].concat())
}

impl Site<'_> {
    /// Fails where the daemon would not come back with its machine.
    pub(super) fn starts_at_boot(node: &str) -> Step {
        let argv = sh("echo \"$1\" >&2; exit 1", &["its daemon does not start at boot: 'cargo xtask up --yes' first"]);
        let unless = Unless { argv: words(&["systemctl", "is-enabled", "--quiet", "--", UNIT]), prints: None };
        Step::new("starts at boot", node, Effect::Run { argv, unless }).with(Purpose::Require)
    }

    /// Reboots the machine of a node. Its daemon leaves first, in good order.
    pub(super) fn boot(&self, waves: &mut Waves, node: &str) {
        let before = self.below(BEFORE);
        let stopped = Unless { argv: sh("! systemctl is-active --quiet -- \"$1\"", &[UNIT]), prints: None };
        let stop = Effect::Run { argv: words(&["systemctl", "stop", "--", UNIT]), unless: stopped };
        let always = Unless { argv: words(&["false"]), prints: None };
        let reboot = Effect::Run { argv: sh(REBOOT, &[BOOT_ID, &before]), unless: always };
        let another = sh(IS_ANOTHER, &[BOOT_ID, &before]);
        let back = Effect::Run { argv: another.clone(), unless: Unless { argv: another, prints: None } };
        let gone = Unless { argv: words(&["test", "!", "-e", &before]), prints: None };
        let forget = Effect::Run { argv: words(&["rm", "--", &before]), unless: gone };
        waves.then([limited("drain", node, stop, RESTARTED)]);
        waves.then([Step::new("reboot", node, reboot)]);
        waves.then([limited("until rebooted", node, back, REBOOTED).with(Purpose::Return)]);
        waves.then([Step::new("forget the boot before", node, forget)]);
    }
}
