//! Secrets of the operator where others could read or replace them, and what is written whatever the umask.

use std::fs;
use std::process::Command;

use crate::common::{Clone, is_root};

#[test]
fn a_secret_that_others_could_replace_is_refused_by_name() {
    let clone = Clone::new();
    for verb in ["client-ca", "cluster-certs", "secrets"] {
        clone.ok(verb);
    }
    let secrets = "deploy/secrets/test";
    for (dir, verb) in [(secrets, "secrets"), ("deploy/tls", "cluster-certs")] {
        let kept = clone.mode(dir);
        clone.chmod(dir, 0o777);
        let said = clone.refused(verb);
        assert!(said.contains("mode 0777") && said.contains(&format!("chmod go-w {dir}")), "{said}");
        clone.chmod(dir, kept);
    }
    let key = format!("{secrets}/issuer.nk");
    if is_root() {
        std::os::unix::fs::chown(clone.path(&key), Some(4242), Some(4242)).unwrap();
        let said = clone.refused("secrets");
        assert!(said.contains("issuer.nk") && said.contains("belongs to user 4242"), "{said}");
        std::os::unix::fs::chown(clone.path(&key), Some(0), Some(0)).unwrap();
    }
    clone.ok("secrets");
    fs::remove_file(clone.path(&key)).unwrap();
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(clone.path(&key)).status().unwrap().success());
    let said = clone.refused("secrets");
    assert!(said.contains("issuer.nk") && said.contains("not a regular file"), "{said}");
}

/// Files and directories that verbs make, but not those of `keys_are_private_and_certificates_public`.
#[test]
fn programs_and_directories_have_their_modes_whatever_the_umask() {
    let clone = crate::common::with_cross();
    crate::common::program(&clone, "membershipd 0.1.0", &["-static", "-s"]);
    let path = format!("{}:{}", clone.path("bin").display(), std::env::var("PATH").unwrap());
    for umask in ["000", "077"] {
        let done = clone.shell(&["env", &format!("PATH={path}")], &format!("umask {umask}; exec \"$0\" build"));
        assert_eq!(done.code, Some(0), "{done:?}");
        assert_eq!(clone.mode("deploy/build/membershipd"), 0o755, "umask {umask}");
        for (file, (mode, _)) in clone.tree() {
            let made =
                file.starts_with(clone.path("deploy/build")) && !file.starts_with(clone.path("deploy/build/target"));
            assert!(
                !made || file.is_symlink() || mode & 0o022 == 0,
                "umask {umask}: {} has mode {mode:o}",
                file.display()
            );
        }
        fs::remove_dir_all(clone.path("deploy/build")).unwrap();
    }
}
