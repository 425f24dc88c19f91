//! Clients that know nothing of unibus, through half an hour of rest, restarts, losses of the quorum, and a thousand connections.

use anyhow::Result;

use crate::cmd::test::{self, Order};
use crate::testing::Steps;
use unibus_ops::paths::Paths;
use unibus_ops::prerequisites::Consent;

/// The test that proves it. What makes it shorter it reads from the environment.
const TEST: &str = "the_lines_of_the_client_page_live_for_long";

/// Builds and runs the test, which has a cluster of its own.
pub(super) fn run(paths: &Paths) -> Result<()> {
    let words = ["--ignored", "--nocapture"].map(str::to_owned);
    let order = Order { filter: Some(TEST), machines: false, membershipd: None, words: &words, consent: Consent::Ask };
    let mut steps = Steps::new();
    let outcome = test::carry_out(paths, &order, &mut steps);
    steps.show();
    outcome
}
