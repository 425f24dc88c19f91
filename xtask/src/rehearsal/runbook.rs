//! What is rehearsed: the runbook, command by command.

use anyhow::Result;

use super::act::{Act, Chapter};
use crate::build;
use crate::engine::{self, Pin};
use crate::paths::Paths;

/// What this host does before there are machines, in the operator's own clone: only what its cache lacks.
pub(super) fn preparation(paths: &Paths, membershipd_given: bool) -> Result<Vec<Chapter>> {
    let mut chapters = Vec::new();
    if !engine::cached(paths, &Pin::load(&paths.engine_pin())?) {
        chapters.push(Chapter { name: "fetch the engine", acts: vec![Act::xtask("engine").says("(pinned)")] });
    }
    if !membershipd_given && !build::is_there(paths) {
        chapters.push(Chapter { name: "build", acts: vec![Act::xtask("build").says("static, stripped, x86-64")] });
    }
    Ok(chapters)
}

/// Everything else, at the operator's place among the machines, in the scratch clone. `{dir}` is the fleet's directory.
pub(super) fn chapters() -> Vec<Chapter> {
    let all_so = || "everything was so already";
    vec![
        Chapter {
            name: "client-ca",
            acts: vec![Act::xtask("client-ca").says("made"), Act::xtask("client-ca").says("kept")],
        },
        Chapter {
            name: "cluster-certs",
            acts: vec![Act::xtask("cluster-certs").says("made"), Act::xtask("cluster-certs").says("kept")],
        },
        Chapter { name: "secrets", acts: vec![Act::xtask("secrets").says("made"), Act::xtask("secrets").says("kept")] },
        Chapter { name: "engine", acts: vec![Act::xtask("engine").says("(pinned)")] },
        Chapter {
            name: "stage",
            acts: vec![
                Act::xtask("stage").says("dry run: nothing was changed, no connection was opened"),
                Act::xtask("stage --diff").exits(3).says("cargo xtask stage --yes"),
                Act::xtask("stage --yes").says("nothing was started"),
                Act::xtask("stage --yes").says(all_so()),
                Act::xtask("stage --diff").says("nothing would change"),
            ],
        },
        Chapter {
            name: "first admin",
            acts: vec![
                Act::tool("membershipd identity new --handle root --out root.toml --json")
                    .learns("sign_pub", "/sign_pub"),
                Act::xtask("seed-admin --sign-pub {sign_pub}").says("dry run: nothing was changed"),
                Act::xtask("seed-admin --sign-pub {sign_pub} --yes").says("done"),
            ],
        },
    ]
}
