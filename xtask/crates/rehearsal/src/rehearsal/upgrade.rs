//! From the previous release to this one: what an operator of that release has and does, and then the runbook's upgrade, the way
//! back, the way forward again, and its end, each under load.

use super::act::{Act, Chapter};
use super::runbook::{ALL_HOLD, ALL_SO, NODES, by, on};

/// The chapter that can be asked for by name.
pub(super) const UPGRADE: &str = "upgrade";

/// Who has many rooms, and how many: release 0.1.0 has 300 that persist, and a user 200 of them.
const OWNERS: [&str; 2] = ["alice", "bob"];
const ROOMS: u32 = 145;

/// What of a release lies beside its programs: its unit, and what else an operator of it does not write.
const FILES: [&str; 3] = ["{unit}", "standalone.conf", "engine.toml"];

/// This host builds the release before there are machines, and tells where its programs lie.
pub(super) fn preparation() -> Chapter {
    let build = Act::xtask("previous --static --json")
        .learns("previous.static", "/static")
        .learns("previous.xtask", "/xtask")
        .learns("previous.source", "/source");
    Chapter { name: "build the previous release", acts: vec![build] }
}

/// A cluster of the previous release, brought up by its own xtask, and people who have used it.
pub(super) fn previous() -> Chapter {
    let mut acts = vec![
        // A topology of that release names the port of the engine's monitor, which later engines do not have; it is kept in an upgrade.
        Act::tool("sed -i /^route[^_]/amonitor=8250 deploy/nodes.toml"),
        Act::tool("cp deploy/build/membershipd deploy/build/this"),
        Act::tool("mkdir deploy/this"),
        Act::tool(&format!("cp --target-directory deploy/this {}", below("deploy"))),
        Act::tool(&format!("cp --target-directory deploy {}", below("{previous.source}/deploy"))),
    ];
    acts.extend(["client-ca", "cluster-certs", "secrets", "engine"].map(before));
    acts.extend([
        before("build --from {previous.static} --json").learns("before", "/sha256"),
        before("stage --yes").says("nothing was started"),
        Act::tool("membershipd identity new --handle root --out root.toml --json").learns("sign_pub", "/sign_pub"),
        before("seed-admin --sign-pub {sign_pub} --yes"),
        before("up --yes"),
        before("verify").says(ALL_HOLD),
    ]);
    acts.extend(runs("{before}"));
    acts.extend([
        Act::tool("membershipd identity new --handle alice --out alice.toml --json").learns("alice", "/sign_pub"),
        on("b", "{install_dir}/membershipd user add --handle alice --sign-pub {alice}"),
        Act::tool("membershipd identity new --handle bob --out bob.toml --json").learns("bob", "/sign_pub"),
        on("b", "{install_dir}/membershipd user add --handle bob --sign-pub {bob}"),
        // Sealed, kept and signed: that is what a room is unless its owner says otherwise.
        by("root", "a", "room create kitchen --subject room.kitchen --invite alice"),
        by("alice", "c", "tail kitchen --no-follow --accept"),
        by("root", "b", "say kitchen before the upgrade"),
        by("root", "a", "blob put kitchen deploy/nodes.toml"),
        by("root", "b", "blob list kitchen --json").learns("blob", "/blobs/0/sha256"),
    ]);
    acts.extend(OWNERS.map(|owner| many_rooms(owner, &format!("make --count {ROOMS}")).within(300)));
    Chapter { name: "the previous release", acts }
}

/// That cluster gets this release, goes back, and forward again, and the upgrade is finished; what was said and put there is read all
/// the time.
pub(super) fn there_and_back() -> Chapter {
    let mut acts = vec![
        Act::tool("cp --recursive deploy/this/. deploy"),
        Act::xtask("build --from deploy/build/this --json").learns("this", "/sha256"),
        Act::xtask("stage --diff").exits(3).says("cargo xtask stage --yes"),
        Act::xtask("stage --yes").says("nothing was started"),
    ];
    acts.extend(under_load("roll", "{this}"));
    acts.extend(used("after the upgrade", &["before the upgrade"], BEFORE));
    acts.push(Act::xtask("verify").says(NOT_FINISHED).says("cargo xtask roll --finish"));
    acts.extend(under_load("rollback", "{before}"));
    acts.extend(used("back again", &["before the upgrade", "after the upgrade"], BEFORE));
    acts.extend(under_load("roll", "{this}"));
    acts.extend(used("and forward again", &["before the upgrade", "after the upgrade", "back again"], BEFORE));
    // Release 0.1.0 shares its connections there, on this host's disk, and leaves the directory; they ended long ago.
    acts.push(Act::tool("rmdir /tmp/unibus-ssh-0-{network}"));
    acts.extend(finished());
    let said = ["before the upgrade", "after the upgrade", "back again", "and forward again"];
    acts.extend(used("at the end", &said, "membershipd"));
    Chapter { name: UPGRADE, acts }
}

/// The program of the release before.
const BEFORE: &str = "{previous.static}";

/// What `verify` says for as long as there is a way back.
const NOT_FINISHED: &str = "an upgrade is not finished";

/// The feature level is raised under load. From then on clients of release 0.1.0 neither say anything in rooms that persist nor read
/// what is said in them newly, so this release's program does both.
fn finished() -> Vec<Act> {
    let wait = "while {install_dir}/membershipd status | grep -q carried.over; do sleep 1; done";
    let mut acts = vec![
        Act::xtask("roll --finish").says("'rollback' to them is over"),
        Act::xtask("chaos --during --json -- roll --finish --yes").judges().within(300),
        Act::xtask("roll --finish --yes").says(ALL_SO),
    ];
    // While rooms are carried over, and when all of them are.
    acts.extend(unchanged(""));
    acts.extend([
        Act::xtask("rollback --yes").exits(1).says("the cluster is at feature level 2").says("nothing was changed"),
        on("a", &format!("timeout 150 sh -c '{wait}'")),
        Act::xtask("verify").says(ALL_HOLD),
    ]);
    acts.extend(unchanged(" --say"));
    acts.extend(unchanged(""));
    acts.extend(runs("{this}"));
    acts
}

/// The many rooms have what they had, by content, page by page, and from places that were given out by the previous release.
fn unchanged(more: &str) -> [Act; 2] {
    OWNERS.map(|owner| many_rooms(owner, &format!("compare{more}")))
}

/// What `owner` does with their many rooms, by this release's program, which each node may answer.
fn many_rooms(owner: &str, what: &str) -> Act {
    let urls = NODES.map(|node| format!("https://{{{node}.public}}:{{api_port}}")).join(",");
    let who = format!("--identity {owner}.toml --ca deploy/tls/ca.crt --url {urls}");
    Act::tool(&format!("{{clone}}/deploy/build/this many-rooms {what} --record {owner}.rooms {who}"))
}

/// A verb of the xtask that the previous release's operator has, in the same clone.
fn before(line: &str) -> Act {
    Act::tool(&format!("{{previous.xtask}} --root {{clone}} {line}"))
}

fn below(dir: &str) -> String {
    FILES.map(|file| format!("{dir}/{file}")).join(" ")
}

/// Takes all nodes to another release while clients use them; in the end each runs the program with this sha256.
fn under_load(verb: &str, program: &'static str) -> Vec<Act> {
    let mut acts = vec![
        Act::xtask(&format!("chaos --during --json -- {verb} --yes")).judges().within(300),
        Act::xtask("verify").says(ALL_HOLD),
    ];
    acts.extend(runs(program));
    acts
}

/// Each node's daemon is the program with this sha256: both releases may say the same version.
fn runs(sha256: &'static str) -> impl Iterator<Item = Act> {
    let ask = "sha256sum /proc/$(systemctl show --property MainPID --value {unit})/exe";
    NODES.into_iter().map(move |node| on(node, ask).says(sha256))
}

/// What was said before is still read, the blob too; something new is said and read, also by alice, whose program is `reader`.
fn used(words: &'static str, said: &[&'static str], reader: &str) -> Vec<Act> {
    let copy = words.replace(' ', "-");
    let read = |act: Act| said.iter().fold(act, |act, words| act.says(words)).says(words);
    vec![
        by("root", "b", &format!("say kitchen {words}")),
        read(by("root", "c", "tail kitchen --no-follow --last 200")),
        read(by("alice", "a", "tail kitchen --no-follow --last 200").with(reader)),
        by("root", "a", &format!("blob get kitchen {{blob}} --out {copy}")),
        Act::tool(&format!("cmp deploy/nodes.toml {copy}")),
    ]
    .into_iter()
    .chain(unchanged(""))
    .collect()
}
