//! `roll --reboot`: what it would do, in which order, and what it refuses. The rehearsal carries it out on machines.

use crate::common::hosts::Servers;

#[test]
fn machines_reboot_one_after_the_other_and_the_lock_is_taken_again_on_each() {
    let servers = Servers::new();
    let plan = servers.plan("roll --reboot");
    let at = |node: &str, id: &str| -> Vec<u64> {
        let steps = plan.iter().filter(|step| step["node"] == node && step["id"] == id);
        steps.map(|step| step["wave"].as_u64().unwrap()).collect()
    };
    for node in ["a", "b", "c"] {
        let order = [
            "is healthy",
            "starts at boot",
            "drain",
            "reboot",
            "until rebooted",
            "lock again",
            "forget the boot before",
        ];
        let waves: Vec<u64> = order.iter().flat_map(|id| at(node, id)).collect();
        assert_eq!(waves.len(), order.len(), "each once on {node}: {waves:?}");
        assert!(waves.is_sorted_by(|a, b| a < b), "{node}: {waves:?}");
        // What follows waits for the node itself.
        assert!(at(node, "until current").iter().any(|wave| *wave > waves[5]), "{node}");
    }
    let last = |node: &str| at(node, "until current").into_iter().max().unwrap();
    assert!(last("a") < at("b", "drain")[0] && last("b") < at("c", "drain")[0], "one at a time");
    // Before any node is touched all of them must be well.
    let healthy = ["a", "b", "c"].map(|node| at(node, "is healthy")[0]);
    assert!(healthy.iter().all(|wave| *wave == healthy[0] && *wave < at("a", "drain")[0]));
    let done = servers.ok("roll --reboot");
    for words in
        ["which has forgotten the lock by then", "take /run/unibus.lock for 'roll --reboot'", "roll --reboot --yes"]
    {
        assert!(done.stdout.contains(words), "{words}: {done:?}");
    }
}

#[test]
fn reboot_excludes_what_it_cannot_be_combined_with() {
    let servers = Servers::new();
    for (line, why) in [
        ("roll --reboot --restart", "cannot be used with"),
        ("roll --reboot --finish", "cannot be used with"),
        ("roll --reboot --node d", "no node \"d\""),
    ] {
        let done = servers.run(line);
        assert_eq!(done.code, Some(2), "{line}: {done:?}");
        assert!(done.stderr.contains(why), "{line}: {done:?}");
    }
    assert_eq!(servers.seen(), Vec::<Vec<String>>::new());
}
