//! What installs programs on this machine, and the command that one would type.

use super::table::Package;
use crate::search_path::on_path;

/// A package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    Apt,
    Brew,
    Other,
}

impl Manager {
    /// The one that is here.
    pub(crate) fn find() -> Self {
        if cfg!(target_os = "macos") {
            Self::Brew
        } else if on_path("apt-get").is_some() {
            Self::Apt
        } else {
            Self::Other
        }
    }

    /// The command that installs the package.
    pub(crate) fn install(self, package: Package) -> String {
        match (self, package.brew) {
            (Self::Apt, _) => format!("apt-get install {}", package.debian),
            (Self::Brew, Some(name)) => format!("brew install {name}"),
            (Self::Brew, None) => "xcode-select --install".to_owned(),
            (Self::Other, _) => format!("install it; on Debian: apt-get install {}", package.debian),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_has_its_own_command() {
        let package = Package { debian: "python3-pip", brew: Some("python3") };
        assert_eq!(Manager::Apt.install(package), "apt-get install python3-pip");
        assert_eq!(Manager::Brew.install(package), "brew install python3");
        assert!(Manager::Other.install(package).ends_with("on Debian: apt-get install python3-pip"));
        assert_eq!(Manager::Brew.install(Package::debian("gcc")), "xcode-select --install");
    }
}
