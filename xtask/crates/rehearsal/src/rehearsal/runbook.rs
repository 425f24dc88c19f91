//! What is rehearsed: the runbook, command by command.

use anyhow::Result;

use super::act::{Act, Chapter};
use super::upgrade;
use unibus_ops::build;
use unibus_ops::engine::{self, Pin};
use unibus_ops::paths::Paths;

/// What this host does before there are machines, in the operator's own clone: only what its cache lacks, and what the parts
/// must know.
pub(super) fn preparation(paths: &Paths, membershipd_given: bool, upgrades: bool) -> Result<Vec<Chapter>> {
    let mut chapters = Vec::new();
    if !engine::cached(paths, &Pin::load(&paths.engine_pin())?) {
        chapters.push(Chapter { name: "fetch the engine", acts: vec![Act::xtask("engine").says("(pinned)")] });
    }
    if !membershipd_given && !build::is_there(paths) {
        chapters.push(Chapter { name: "build", acts: vec![Act::xtask("build").says("static, stripped, x86-64")] });
    }
    if upgrades {
        // After the build, whose dependencies it takes.
        chapters.push(upgrade::preparation());
    }
    Ok(chapters)
}

/// What a second `--yes` says, whatever the verb.
pub(super) const ALL_SO: &str = "everything was so already";
pub(super) const NOTHING_DONE: &str = "dry run: nothing was changed, no connection was opened";
pub(super) const ALL_HOLD: &str = "checks hold";

/// The runbook, at the operator's place among the machines, in the scratch clone, until there is a cluster that is well, with two
/// releases to go to and fro between. Begins with one copy of each bucket, as a staged roll-out does.
pub(super) fn grown() -> Vec<Chapter> {
    let mut grown = vec![Chapter {
        name: "topology",
        acts: vec![Act::tool("sed -i s/^kv_replicas.*/kv_replicas=1/ deploy/nodes.toml"), Act::xtask("doctor --nodes")],
    }];
    grown.extend(bring_up());
    grown.extend([
        // One copy is a step, and verify says so.
        Chapter {
            name: "verify",
            acts: vec![
                Act::xtask("verify").exits(1).says("scale 3").says("the bus works (3 of 3)"),
                Act::xtask("status").exits(1).says("the bus works (3 of 3)"),
                Act::xtask("logs --since 1h").says("engine started").says("{a}").says("{b}").says("{c}"),
            ],
        },
        Chapter {
            name: "scale",
            acts: vec![
                Act::xtask("scale 3").says("dry run"),
                Act::xtask("chaos --during --json -- scale 3 --yes").judges(),
                Act::xtask("scale 3 --yes").says(ALL_SO),
                Act::xtask("verify").says(ALL_HOLD),
            ],
        },
        Chapter {
            name: "roll",
            acts: vec![
                Act::xtask("roll").says(NOTHING_DONE),
                // The settings that `scale` has sent count from the next start.
                Act::xtask("chaos --during --json -- roll --yes").judges().within(300),
                Act::xtask("roll --yes").says(ALL_SO),
                Act::xtask("verify").says(ALL_HOLD),
            ],
        },
        Chapter {
            name: "upgrade and back",
            acts: vec![
                // The same program, but other bytes: another release.
                Act::tool("cp deploy/build/membershipd deploy/build/first"),
                Act::tool("cp deploy/build/membershipd deploy/build/second"),
                Act::tool("truncate --size=+16 deploy/build/second"),
                Act::xtask("build --from deploy/build/second"),
                Act::xtask("stage --yes").says("nothing was started"),
                Act::xtask("roll --yes").within(300),
                Act::xtask("verify").says(ALL_HOLD),
                Act::xtask("rollback").says(NOTHING_DONE),
                Act::xtask("rollback --yes").within(300),
                Act::xtask("rollback --yes").says(ALL_SO),
                Act::xtask("verify").says(ALL_HOLD),
                // What is staged is what runs again: every chapter begins with that.
                Act::xtask("build --from deploy/build/first"),
                Act::xtask("stage --yes").says("nothing was started"),
            ],
        },
    ]);
    grown
}

/// What is done to a cluster that is well, and takes certificates and restarts alone.
pub(super) fn rotated() -> Vec<Chapter> {
    vec![
        Chapter {
            name: "rotate the route CA",
            acts: vec![
                Act::xtask("cluster-certs --rotate").says("dry run"),
                Act::xtask("cluster-certs --rotate --yes").within(600),
                Act::xtask("verify").says(ALL_HOLD),
            ],
        },
        Chapter {
            name: "a new kernel",
            acts: vec![
                Act::xtask("roll --reboot").says(NOTHING_DONE),
                on("b", "systemctl stop {unit}"),
                Act::xtask("roll --reboot --yes").exits(1).says("is healthy").says("nothing was changed"),
                Act::xtask("up --yes"),
                on("c", "cat /proc/sys/kernel/random/boot_id > /root/boot"),
                Act::xtask("roll --reboot --yes").says("next: cargo xtask verify").within(600),
                on("c", "cmp -s /proc/sys/kernel/random/boot_id /root/boot").exits(1),
                Act::xtask("verify").says(ALL_HOLD),
            ],
        },
        Chapter { name: "a laptop lost", acts: laptop_lost() },
    ]
}

/// What was sealed is taken up on another machine, which replaces every key.
fn laptop_lost() -> Vec<Act> {
    let mut acts = vec![
        Act::tool("install -m 600 deploy/secrets/{cluster}/cluster.pass words"),
        Act::xtask("operator export --passphrase-file words --out operator.age").says("are in operator.age"),
        Act::xtask("operator export --passphrase-file words --out operator.age").exits(2).says("is there already"),
        Act::tool("mkdir lost"),
        Act::tool("mv deploy/tls deploy/secrets deploy/out lost/"),
        Act::xtask("stage").exits(2),
        Act::xtask("operator import operator.age --passphrase-file words").says("were written"),
        Act::tool("diff -r lost/secrets deploy/secrets"),
        Act::xtask("stage --diff").says("nothing would change"),
        Act::xtask("operator replace-keys").says("dry run"),
        Act::xtask("operator replace-keys --yes"),
        Act::tool("diff -q lost/tls/ca.key deploy/tls/ca.key").exits(1),
        Act::tool("diff lost/secrets/{cluster}/cluster.id deploy/secrets/{cluster}/cluster.id"),
        Act::xtask("stage --yes").says("nothing was started"),
    ];
    acts.extend(everywhere("stop"));
    acts.extend([
        Act::xtask("up --yes").within(300),
        Act::xtask("verify").says(ALL_HOLD),
        by("root", "a", "room list"),
        // Who trusts the lost CA is refused by their own TLS library.
        Act::tool("cp lost/tls/ca.crt lost.crt"),
        Act::tool("membershipd room list --identity root.toml --ca lost.crt --url https://{a.public}:{api_port}")
            .exits(1),
        Act::tool("rm -r lost lost.crt operator.age words"),
    ]);
    acts
}

/// What is done to a cluster that is well, and is about what it holds.
pub(super) fn used() -> Vec<Chapter> {
    vec![
        Chapter { name: "rooms", acts: rooms() },
        Chapter {
            name: "chaos",
            acts: vec![
                Act::xtask("chaos").says("dry run: nothing was changed"),
                Act::xtask("chaos --yes --confirm {cluster} --fleet {dir} --json --history {history}")
                    .judges()
                    .within(600),
                Act::xtask("verify").says(ALL_HOLD),
            ],
        },
        Chapter { name: "backup and restore", acts: backup_and_restore() },
        Chapter { name: "back to a single node", acts: single_node_and_forward() },
    ]
}

/// The letters by which acts name the nodes.
pub(super) const NODES: [&str; 3] = ["a", "b", "c"];

/// A command on the server of node `letter`.
pub(super) fn on(letter: &str, script: &str) -> Act {
    Act::tool(&format!("ssh {{{letter}.host}} {script}"))
}

/// What `who` asks node `letter` through its API, from the operator's place.
pub(super) fn by(who: &str, letter: &str, words: &str) -> Act {
    let who = format!("--identity {who}.toml --ca deploy/tls/ca.crt");
    Act::tool(&format!("membershipd {words} {who} --url https://{{{letter}.public}}:{{api_port}}"))
}

/// The unit on every server at once, as from three terminals: each needs its seconds to end.
fn everywhere(what: &str) -> Vec<Act> {
    let begun = NODES.iter().map(|node| on(node, &format!("systemctl --no-block {what} {{unit}}")));
    let done = NODES.iter().map(|node| on(node, &format!("systemctl {what} {{unit}}")));
    begun.chain(done).collect()
}

/// From the operator's place, through one node after the other: a room, who comes into it and who has to go.
fn rooms() -> Vec<Act> {
    vec![
        Act::tool("membershipd identity new --handle alice --out alice.toml --json").learns("alice", "/sign_pub"),
        on("b", "{install_dir}/membershipd user add --handle alice --sign-pub {alice}"),
        by("root", "a", "room create hall --subject room.hall").says("joined owner"),
        by("root", "a", "room create hall --subject room.hall").says("so already"),
        by("alice", "b", "room create corner --subject room.hall.corner").exits(1).says("above or below"),
        by("root", "b", "member invite hall alice --role member"),
        by("alice", "c", "member accept hall").says("joined"),
        by("root", "c", "member remove hall alice").says("no node honours what was taken away"),
        by("alice", "a", "member accept hall").exits(1),
        by("root", "b", "audit").says("member.remove"),
        // She leaves; what she alone owns goes to a member of it.
        by("alice", "a", "room create nook --subject room.nook --invite root"),
        by("root", "b", "user hand-over --from alice --to root").says("alice is alone in it"),
        by("root", "b", "user hand-over --from alice --to root --yes").exits(1).says("nothing was changed"),
        by("root", "c", "member accept nook").says("joined"),
        by("root", "b", "user hand-over --from alice --to root").says("root becomes its owner"),
        by("root", "b", "user hand-over --from alice --to root --yes").says("alice is disabled"),
        by("alice", "a", "room list").exits(1),
        on("c", "{install_dir}/membershipd repair").says("nothing to repair"),
    ]
}

/// The cluster loses all that it has, and gets it back from a file.
fn backup_and_restore() -> Vec<Act> {
    let mut acts = vec![
        Act::xtask("backup backup.db --json").learns("content", "/content_sha256"),
        Act::xtask("backup backup.db").exits(2).says("is there already"),
        // Whatever has come since is not written over.
        by("root", "b", "room create late --subject room.late"),
        Act::xtask("restore backup.db --yes").exits(1).says("the target holds"),
    ];
    acts.extend(anew("before"));
    acts.extend([
        Act::xtask("restore deploy/nodes.toml").exits(2).says("no file of the sqlite store"),
        Act::xtask("restore backup.db").says("dry run"),
        Act::xtask("restore backup.db --yes"),
        Act::xtask("verify").says(ALL_HOLD),
        Act::xtask("restore backup.db --yes"),
        Act::xtask("backup again.db --node {c}").says("{content}"),
        on("a", "ls {install_dir}/restore /tmp/*/unibus.db").exits(2).says("No such file"),
    ]);
    acts
}

/// A cluster of empty stores; what was in them is moved aside.
fn anew(aside: &str) -> Vec<Act> {
    let mut acts = everywhere("stop");
    let anew = "install -d -o unibus -g unibus -m 700 local_files";
    let away = format!("cd {{install_dir}} && mv local_files {aside} && {anew}");
    acts.extend(NODES.iter().map(|node| on(node, &away)));
    acts.push(Act::xtask("up --yes"));
    acts
}

/// One node goes on alone with what the cluster had, and becomes a cluster again.
fn single_node_and_forward() -> Vec<Act> {
    const DROP_IN: &str = "/etc/systemd/system/membershipd-cluster.service.d";
    let mut acts = vec![Act::xtask("backup single.db --json").learns("content", "/content_sha256")];
    acts.extend(everywhere("disable --now"));
    acts.extend([
        on("a", "ls {install_dir}/local_files/unibus.db*").exits(2).says("No such file"),
        Act::tool("rsync -p single.db {a.host}:/root/unibus.db"),
        on("a", "install -o unibus -g unibus -m 600 /root/unibus.db {install_dir}/local_files/unibus.db"),
        on("a", "rm /root/unibus.db"),
        on("a", &format!("mkdir -p {DROP_IN}")),
        Act::tool(&format!("rsync deploy/standalone.conf {{a.host}}:{DROP_IN}/")),
        on("a", "systemctl daemon-reload"),
        on("a", "systemctl enable --now {unit}"),
        on("a", "{install_dir}/membershipd wait --for healthy --within 30"),
        on("a", "{install_dir}/membershipd status").says("store=sqlite"),
        // The way forward, as the runbook has it.
        on("a", "{install_dir}/membershipd export --db /root/unibus.db").says("{content}"),
        Act::tool("rsync -p {a.host}:/root/unibus.db forward.db"),
        on("a", "rm /root/unibus.db"),
        on("a", "systemctl stop {unit}"),
        on("a", &format!("rm {DROP_IN}/standalone.conf")),
        on("a", "systemctl daemon-reload"),
    ]);
    acts.extend(anew("later"));
    acts.extend([
        Act::xtask("promote --db forward.db").says("dry run"),
        Act::xtask("promote --db forward.db --yes"),
        Act::xtask("verify").says(ALL_HOLD),
        Act::xtask("backup promoted.db").says("{content}"),
    ]);
    acts
}

/// From nothing to a cluster that runs.
pub(super) fn bring_up() -> Vec<Chapter> {
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
                Act::xtask("stage").says(NOTHING_DONE),
                Act::xtask("stage --diff").exits(3).says("cargo xtask stage --yes"),
                Act::xtask("stage --yes").says("nothing was started"),
                Act::xtask("stage --yes").says(ALL_SO),
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
        Chapter {
            name: "up",
            acts: vec![
                Act::xtask("up").says(NOTHING_DONE),
                Act::xtask("up --yes"),
                Act::xtask("up --yes").says(ALL_SO),
            ],
        },
    ]
}

/// The same over public addresses, from nothing until it is proved.
pub(super) fn in_public() -> Vec<Chapter> {
    vec![Chapter { name: "over public addresses", acts: until_proved() }]
}

/// The same with three copies of each bucket from the beginning.
pub(super) fn another(name: &'static str) -> Vec<Chapter> {
    vec![Chapter { name, acts: until_proved() }]
}

fn until_proved() -> Vec<Act> {
    let acts = bring_up().into_iter().flat_map(|chapter| chapter.acts);
    acts.chain([Act::xtask("verify").says(ALL_HOLD)]).collect()
}

/// What is to be seen on the servers when all of that is over.
pub(super) fn aftermath() -> Vec<Chapter> {
    // Every line that is secret; the frame of a key is none.
    const SECRETS: &str = "grep -hv ^----- {install_dir}/secrets/* {install_dir}/tls/*.key";
    const NAMES: &str = "grep -cE '[.]key$|[.]nk$|/cluster.pass$'";
    let nowhere = |host: &str| {
        let ssh = |script: String| Act::tool(&format!("ssh {host} {script}"));
        [
            // That the second command finds nothing counts because the first one finds all.
            ssh(format!("{SECRETS} | grep -cFf <({SECRETS})")).says("13"),
            ssh(format!("journalctl --boot --no-pager --output=verbose | grep -cFf <({SECRETS})")).exits(1),
            ssh(format!("find {{install_dir}} -type f -readable | {NAMES}")).says("9"),
            ssh(format!("setpriv --reuid=65534 --regid=65534 --clear-groups find / -xdev -type f -readable | {NAMES}"))
                .exits(1),
        ]
    };
    let acts = ["{a.host}", "{b.host}", "{c.host}"].into_iter().flat_map(nowhere).collect();
    vec![
        Chapter {
            name: "what was done, and by whom",
            acts: vec![
                Act::xtask("operations").says("stage").says("@"),
                Act::xtask("operations --last 20 --json").says("\"result\":\"done\""),
                on("a", "stat -c %a:%U {install_dir}/operations.jsonl").says("600:root"),
                Act::xtask("support-bundle --out support.txt").says("read it before you give it away"),
                Act::tool("grep -c PRIVATE.KEY support.txt").exits(1),
            ],
        },
        Chapter { name: "no secret in a journal, none for everybody", acts },
    ]
}

#[cfg(test)]
mod tests {
    use super::super::act::Who;
    use super::super::mishaps;
    use super::*;

    /// Commands of the runbook that are not for the servers; tests of their own carry them out.
    const HERE: [&str; 7] = [
        "local",
        "doctor",
        "setup --yes",
        "rehearse",
        "chaos --local --yes",
        "operator export --encrypt-to age1…",
        "operator import operator.age --identity key.txt",
    ];

    /// A command as the runbook writes it: an operator types the names that a rehearsal fills in, and reads what it has judged.
    fn as_typed(written: &str) -> String {
        let names = [
            ("{sign_pub}", "HEX"),
            ("{c}", "NODE"),
            (" --confirm {cluster} --fleet {dir}", ""),
            (" --history {history}", ""),
            (" --since 1h", ""),
            (" --json", ""),
        ];
        names.iter().fold(written.to_owned(), |line, (name, typed)| line.replace(name, typed))
    }

    #[test]
    fn every_command_of_the_runbook_is_rehearsed() {
        let chapters = [
            grown(),
            rotated(),
            used(),
            mishaps::of_machines(),
            mishaps::of_releases(),
            aftermath(),
            vec![upgrade::there_and_back()],
        ]
        .into_iter()
        .flatten();
        let acts = chapters.flat_map(|chapter| chapter.acts).filter(|act| act.who == Who::Xtask);
        let rehearsed: Vec<String> = acts.map(|act| as_typed(&act.written())).chain(["build".to_owned()]).collect();
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        let runbook = std::fs::read_to_string(root.join("deploy/README.md")).unwrap();
        let commands = runbook.lines().filter_map(|line| line.trim_start().strip_prefix("cargo xtask "));
        // Those never end by themselves.
        let commands: Vec<&str> =
            commands.map(|line| line.trim_end_matches(" --watch").trim_end_matches(" --follow")).collect();
        assert!(commands.len() > 20, "the runbook has hardly any command: {commands:?}");
        let missing: Vec<&&str> = commands
            .iter()
            .filter(|command| !HERE.contains(command) && !rehearsed.iter().any(|line| line == **command))
            .collect();
        assert!(missing.is_empty(), "in the runbook, but not rehearsed: {missing:?}\nrehearsed: {rehearsed:#?}");
    }
}
