//! How a missing program is installed here, by the name that this system's packages have.

use crate::tools::on_path;

/// What a program comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) debian: &'static str,
    /// None: what macOS brings itself, or lacks for good.
    pub(super) brew: Option<&'static str>,
}

impl Package {
    /// A package that both call the same.
    pub(super) const fn same(name: &'static str) -> Self {
        Self { debian: name, brew: Some(name) }
    }

    /// A package of Debian.
    pub(super) const fn debian(name: &'static str) -> Self {
        Self { debian: name, brew: None }
    }
}

/// What installs programs on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manager {
    Apt,
    Brew,
    Other,
}

impl Manager {
    /// The one that is here.
    pub(super) fn find() -> Self {
        if cfg!(target_os = "macos") {
            Self::Brew
        } else if on_path("apt-get").is_some() {
            Self::Apt
        } else {
            Self::Other
        }
    }

    /// The command that installs the package.
    pub(super) fn install(self, package: Package) -> String {
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
