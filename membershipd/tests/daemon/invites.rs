//! Somebody new, from the link to the room: the real program and a Python client against a real daemon.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use crate::common::requests::{API_PORT, answers, identity, job, python, seed_admin, slug};
use crate::common::{Daemon, membershipd, said};
use serde_json::{Value, json};
use unibus_client::api::{InviteLink, NodeUrl};
use unibus_core::domain::Token;

/// What people type, each on a machine where nothing is but what he made himself.
struct People<'a>(&'a Daemon);

impl People<'_> {
    /// Says `line` as `who`, with his files.
    fn run(&self, who: &str, line: &str, stdin: &str) -> Output {
        let (dir, of) = (self.0.dir.path(), if who == "root" { "ca.crt".to_owned() } else { format!("{who}.ca.crt") });
        let mut child = membershipd(dir)
            .args(line.split_whitespace())
            .env("UNIBUS_IDENTITY", format!("{who}.toml"))
            .env("UNIBUS_URL", format!("https://{}:{API_PORT}", self.0.address))
            .env("UNIBUS_CA", of)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that reads nothing may have ended.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn done(&self, who: &str, line: &str, stdin: &str) -> String {
        let output = self.run(who, line, stdin);
        assert!(output.status.success(), "{who}: {line}: {}\n{}", said(&output), self.0.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// A line that fails; the word for programs.
    fn fails(&self, who: &str, line: &str, stdin: &str) -> String {
        let output = self.run(who, &format!("{line} --json"), stdin);
        assert_eq!(output.status.code(), Some(1), "{who}: {line}: {}", said(&output));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        answer["error"]["code"].as_str().unwrap().to_owned()
    }

    /// A link of `who` for `handle`.
    fn link(&self, who: &str, handle: &str, role: &str) -> String {
        let link = self.done(who, &format!("invite new {handle} --role {role}"), "");
        assert_eq!(link.lines().count(), 1, "{link}");
        link
    }
}

#[test]
fn a_link_makes_a_user_of_one_person() {
    let daemon = Daemon::start_tls();
    seed_admin(&daemon);
    let people = People(&daemon);
    let output = people.run("root", "invite new alice", "");
    let (link, told) = (String::from_utf8(output.stdout.clone()).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("secret") && told.contains("membershipd register - --out alice.toml"), "{told}");
    let read: InviteLink = link.parse().unwrap();

    // Nobody is there whom the link names: the keys stay, and go with the same token to those who are.
    let nowhere: NodeUrl = format!("https://{}:1", daemon.address).parse().unwrap();
    let astray = InviteLink { urls: vec![nowhere], ..read.clone() }.reveal().unwrap();
    assert_eq!(people.fails("alice", "register - --out alice.toml", &astray), "unavailable");
    let path = |name: &str| daemon.dir.path().join(name);
    let keys = std::fs::read_to_string(path("alice.toml")).unwrap();
    assert_eq!(std::fs::metadata(path("alice.toml")).unwrap().permissions().mode() & 0o777, 0o600);
    let welcome = people.done("alice", "register - --out alice.toml", &link.replace("unibus", "\n unibus"));
    assert!(welcome.contains("You are alice now") && welcome.contains("export UNIBUS_CA="), "{welcome}");
    assert_eq!(std::fs::read_to_string(path("alice.toml")).unwrap(), keys);
    assert_eq!(
        std::fs::read_to_string(path("alice.ca.crt")).unwrap().lines().next().unwrap(),
        "-----BEGIN CERTIFICATE-----"
    );
    people.done("alice", "room create kitchen --subject room.kitchen", "");

    // Again with the same keys it is as it was; with any others, or into a file that is another's, it is refused.
    let again: Value =
        serde_json::from_str(&people.done("alice", "register - --out alice.toml --json", &link)).unwrap();
    assert_eq!((&again["changed"], &again["user"]["handle"]), (&json!(false), &json!("alice")));
    assert_eq!(people.fails("mallory", "register - --out mallory.toml", &link), "invite-refused");
    let over = people.run("alice", "register - --out root.toml", &link);
    assert!(!over.status.success() && said(&over).contains("never overwritten"), "{}", said(&over));
    let hurt = people.run("alice", "register - --out x.toml", &link[..link.len() - 9]);
    assert!(said(&hurt).contains("not whole") && !path("x.toml").exists(), "{}", said(&hurt));

    // A link that was taken back, and one of an admin who was.
    let bob = people.link("root", "bob", "user");
    let listed = people.done("root", "invite list", "");
    assert!(listed.lines().any(|line| line.contains("alice") && line.contains("spent")), "{listed}");
    let id = listed.lines().find(|line| line.contains("bob")).unwrap().split_whitespace().next().unwrap();
    assert!(people.done("root", &format!("invite revoke {id}"), "").contains("revoked"));
    assert_eq!(people.fails("bob", "register - --out bob.toml", &bob), "invite-refused");
    people.done("chief", "register - --out chief.toml", &people.link("root", "chief", "admin"));
    let dave = people.link("chief", "dave", "user");
    assert!(daemon.ask(&["user", "remove", "chief"]).status.success());
    assert_eq!(people.fails("dave", "register - --out dave.toml", &dave), "invite-refused");
    assert!(daemon.log().contains("who made the invite is no admin any more"), "{}", daemon.log());

    // Who is removed is out of his rooms, and neither the handle nor the key comes back.
    assert!(daemon.ask(&["user", "remove", "alice"]).status.success());
    assert_eq!(people.fails("alice", "room show kitchen", ""), "user-disabled");
    assert_eq!(people.fails("alice", "register - --out alice.toml", &link), "user-disabled");
    assert_eq!(people.fails("root", "invite new alice", ""), "handle-taken");

    // The bus never had more of a token than its hash.
    for link in [&link, &bob, &dave] {
        let token = link.parse::<InviteLink>().unwrap().token.reveal();
        assert!(!daemon.log().contains(&token));
        for file in
            std::fs::read_dir(path("local_files")).unwrap().filter(|file| file.as_ref().unwrap().path().is_file())
        {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(token.len()).any(|window| window == token.as_bytes()));
        }
    }
}

#[test]
fn a_python_client_registers_and_only_its_key_does() {
    let daemon = Daemon::start_tls();
    let root = seed_admin(&daemon);
    let [carol, mallory] = ["carol", "mallory"].map(|handle| identity(&daemon, handle));
    let token = Token::from_entropy([5; 32]);
    let invite = format!("/v1/invites/{}", token.id());
    let register = |who| job(&daemon, who, "PUT", "/v1/register", &json!({ "token": token.reveal() }));
    let mut twice = register(&carol);
    twice["times"] = json!(2);
    let done = python(&[
        register(&carol),
        job(&daemon, &root, "PUT", &invite, &json!({ "handle": "carol" })),
        twice,
        register(&carol),
        register(&mallory),
        job(&daemon, &carol, "GET", "/v1/me", &Value::Null),
        job(&daemon, &carol, "GET", "/v1/invites", &Value::Null),
        job(&daemon, &root, "GET", "/v1/invites", &Value::Null),
    ]);
    let done: Vec<Value> = done.iter().flat_map(answers).collect();
    assert_eq!(slug(&done[0]), "invite-refused", "there is none yet");
    assert_eq!(done[1]["invite"]["state"], "open");
    assert_eq!((&done[2]["user"]["handle"], &done[2]["changed"]), (&json!("carol"), &json!(true)), "{}", done[2]);
    assert_eq!(slug(&done[3]), "nonce-used");
    assert_eq!((&done[4]["user"], &done[4]["changed"]), (&done[2]["user"], &json!(false)), "an answer that was lost");
    assert_eq!(slug(&done[5]), "invite-refused");
    assert_eq!(done[6]["handle"], "carol");
    assert_eq!(slug(&done[7]), "not-admin");
    assert_eq!(done[8]["invites"][0]["key"], json!(carol.sign_pub), "{}", done[8]);
}
