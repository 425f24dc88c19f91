//! Ten chaos runs, each with victims of its own.

use anyhow::Result;

use unibus_ops::paths::Paths;

const RUNS: u64 = 10;
/// Beside the cluster that a user of this machine may have, which stays as it is.
const BASE_ADDRESS: &str = "127.0.91.11";

/// Brings a cluster up, breaks it so many times, and takes it down, also after a failure.
pub(super) fn run(paths: &Paths) -> Result<()> {
    let state = paths.build().join("prove-chaos");
    let xtask = |words: &[&str]| super::xtask(paths, &state, words);
    let runs = || -> Result<()> {
        xtask(&["local", "--detach", "--fresh", "--base-address", BASE_ADDRESS])?;
        for seed in 1..=RUNS {
            errln!("\nchaos {seed} of {RUNS}");
            xtask(&["chaos", "--local", "--yes", "--seed", &seed.to_string()])?;
        }
        Ok(())
    };
    let done = runs();
    let down = xtask(&["local", "--down"]);
    done.and(down)?;
    outln!("{RUNS} chaos runs, nothing lost");
    Ok(())
}
