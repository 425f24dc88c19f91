//! Attachments on a node on its own with a real engine: who may, in which order, what is left of what did not end well.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::nats::ask_engine;
use crate::common::requests::{
    API_PORT, answers, assert_closed, exchange, identity, job, python, seed_admin, signed, slug,
};
use crate::common::{self, Daemon, signal};
use crate::stores::engines::Kv;
use bytes::Bytes;
use data_encoding::BASE64;
use membershipd::blobs::{BlobError, BlobId, BlobName, Blobs, Swept, Upload, sweep};
use rustix::process::Signal;
use serde_json::{Value, json};
use time::OffsetDateTime;
use unibus_api_types::limits::BLOB_BYTES;
use unibus_client::identity::Identity;

/// More than a chunk, and no multiple of one.
const LONG: usize = 300_000;

fn content(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| seed.wrapping_add(u8::try_from(at % 251).unwrap())).collect()
}

/// Where `bytes` are in the room.
fn target(room: &str, bytes: &[u8]) -> String {
    format!("/v1/rooms/{room}/blobs/{}", BlobId::of(bytes))
}

/// An upload as it is sent.
fn upload(daemon: &Daemon, who: &Identity, target: &str, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().to_string();
    let fields = [("Content-Type", "application/octet-stream"), ("Content-Length", length.as_str())];
    signed(daemon, who, "PUT", target, bytes, &fields)
}

/// Status and body of an answer.
fn read(said: &str) -> (u16, Value) {
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {said:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

fn ask(daemon: &Daemon, who: &Identity, method: &str, target: &str) -> (u16, Value) {
    read(&exchange(daemon, &signed(daemon, who, method, target, b"", &[])))
}

fn put(daemon: &Daemon, who: &Identity, target: &str, bytes: &[u8]) -> (u16, Value) {
    read(&exchange(daemon, &upload(daemon, who, target, bytes)))
}

fn change(daemon: &Daemon, who: &Identity, method: &str, target: &str, body: &Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len().to_string();
    let mut fields = vec![("Content-Length", length.as_str())];
    if !body.is_empty() {
        fields.push(("Content-Type", "application/json"));
    }
    let (status, answer) = read(&exchange(daemon, &signed(daemon, who, method, target, body.as_bytes(), &fields)));
    assert!(status < 300, "{method} {target}: {answer}");
}

/// A node with the room `hall`, whose owner is alice; bob is a member, rita a reader, and eve is not in it.
fn hall() -> (Daemon, [Identity; 4]) {
    let daemon = Daemon::start_with_secrets(&[]);
    let root = seed_admin(&daemon);
    let people = ["alice", "bob", "rita", "eve"].map(|handle| {
        let who = identity(&daemon, handle);
        let body = json!({ "sign_pub": who.sign_pub });
        change(&daemon, &root, "PUT", &format!("/v1/users/{handle}"), &body);
        who
    });
    change(&daemon, &people[0], "PUT", "/v1/rooms/hall", &json!({ "subject": "room.hall" }));
    for (who, role) in [(&people[1], "member"), (&people[2], "reader")] {
        let place = format!("/v1/rooms/hall/members/{}", who.handle);
        change(&daemon, &people[0], "PUT", &place, &json!({ "role": role }));
        change(&daemon, who, "PUT", &format!("{place}/acceptance"), &Value::Null);
    }
    daemon.wait("bucket of attachments", || state(&daemon).is_some());
    (daemon, people)
}

/// Messages and bytes of the stream of attachments, by the engine's own word.
fn state(daemon: &Daemon) -> Option<(u64, u64)> {
    let answer = ask_engine(daemon, "JSZ", &json!({ "account": "CTL", "streams": true }));
    let streams = answer.pointer("/account_details/0/stream_detail")?.as_array()?;
    let stream = streams.iter().find(|stream| stream["name"] == "OBJ_UNIBUS_blobs")?;
    Some((stream["state"]["messages"].as_u64()?, stream["state"]["bytes"].as_u64()?))
}

/// The bytes of a download, however far they came.
fn download(daemon: &Daemon, who: &Identity, target: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect((daemon.address, API_PORT)).unwrap();
    stream.write_all(&signed(daemon, who, "GET", target, b"", &[])).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    let head = said.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let text = String::from_utf8_lossy(&said[..head]).to_lowercase();
    assert!(text.contains("content-type: application/octet-stream"), "{text}");
    said.split_off(head)
}

#[test]
fn an_attachment_is_for_the_members_of_its_room() {
    let (daemon, [alice, bob, rita, eve]) = hall();
    let (long, short) = (content(1, LONG), content(2, 1));
    let place = target("hall", &long);
    let (status, added) = put(&daemon, &bob, &place, &long);
    assert_eq!((status, &added["changed"], &added["blob"]["by"]), (201, &json!(true), &json!("bob")), "{added}");
    assert_eq!(added["blob"]["bytes"], LONG);
    let stored = state(&daemon).unwrap();
    assert_eq!(stored.0, 4, "three chunks and a record");
    let (status, again) = put(&daemon, &alice, &place, &long);
    assert_eq!((status, &again["changed"], &again["blob"]), (200, &json!(false), &added["blob"]));
    assert_eq!(state(&daemon).unwrap(), stored, "stored once");

    for reader in [&alice, &rita] {
        assert!(download(&daemon, reader, &place) == long);
    }
    let head = exchange(&daemon, &signed(&daemon, &rita, "HEAD", &place, b"", &[])).to_lowercase();
    assert!(head.contains(&format!("content-length: {LONG}")) && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(put(&daemon, &alice, &target("hall", &short), &short).0, 201);
    let (_, first) = ask(&daemon, &rita, "GET", "/v1/rooms/hall/blobs?limit=1");
    let next = format!("/v1/rooms/hall/blobs?limit=1&after={}", first["next"].as_str().unwrap());
    let (_, second) = ask(&daemon, &rita, "GET", &next);
    let listed = [&first, &second].map(|page| page["blobs"][0]["sha256"].as_str().unwrap().to_owned());
    let mut wanted = [BlobId::of(&long), BlobId::of(&short)].map(|id| id.to_string());
    wanted.sort();
    assert_eq!((listed, &second["next"]), (wanted, &Value::Null));

    // Who may not is told before anything that he sends is read: what he says he sends never comes.
    for (who, room, wanted) in
        [(&rita, "hall", "role-too-low"), (&eve, "hall", "not-member"), (&bob, "none", "no-such-room")]
    {
        let whole = upload(&daemon, who, &target(room, &long), &long);
        let said = exchange(&daemon, &whole[..whole.len() - LONG]);
        assert_eq!(slug(&read(&said).1), wanted);
    }
    for (method, wanted) in [("GET", "not-member"), ("DELETE", "not-member")] {
        assert_eq!(slug(&ask(&daemon, &eve, method, &place).1), wanted, "{method}");
    }
    assert_eq!(slug(&ask(&daemon, &eve, "GET", "/v1/rooms/hall/blobs").1), "not-member");
    assert_eq!(slug(&ask(&daemon, &rita, "DELETE", &place).1), "role-too-low");
    assert_eq!(slug(&ask(&daemon, &bob, "GET", &target("hall", b"nothing")).1), "no-such-blob");
    assert_eq!(slug(&ask(&daemon, &bob, "GET", "/v1/rooms/hall/blobs/abc").1), "bad-path");

    // A member who was removed reads nothing any more; an owner removes what another has added, and again.
    change(&daemon, &alice, "DELETE", "/v1/rooms/hall/members/bob", &Value::Null);
    assert_eq!(slug(&ask(&daemon, &bob, "GET", &place).1), "not-member");
    assert_eq!(slug(&put(&daemon, &bob, &target("hall", b"late"), b"late").1), "not-member");
    for changed in [true, false] {
        assert_eq!(ask(&daemon, &alice, "DELETE", &place), (200, json!({ "changed": changed })));
    }
    assert_eq!(slug(&ask(&daemon, &alice, "GET", &place).1), "no-such-blob");
    assert_eq!(state(&daemon).unwrap().0, 2, "nothing of it is left");
    let audit = common::said(&daemon.ask(&["audit", "--json"]));
    assert!(audit.contains("blob.remove") && audit.contains(&BlobId::of(&long).to_string()), "{audit}");

    // What a removed room had goes when it is next swept, here after a restart.
    change(&daemon, &alice, "DELETE", "/v1/rooms/hall", &Value::Null);
    let address = daemon.address;
    let daemon = Daemon::launch(daemon.stop(), address, &["--secrets-dir", "secrets"]);
    daemon.wait_for_lease();
    daemon.wait("sweep", || state(&daemon).is_some_and(|(messages, _)| messages == 0));
}

#[test]
fn what_does_not_end_well_leaves_nothing() {
    let (daemon, [alice, bob, ..]) = hall();
    let (kept, long) = (content(3, 10), content(4, LONG));
    assert_eq!(put(&daemon, &alice, &target("hall", &kept), &kept).0, 201);
    let before = state(&daemon).unwrap();
    let place = target("hall", &long);
    let begin = |bytes: &[u8]| {
        let mut stream = TcpStream::connect((daemon.address, API_PORT)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    let written = || daemon.wait("chunk", || state(&daemon).unwrap().0 > before.0);
    let cleared = || daemon.wait("end of it", || state(&daemon).unwrap() == before);

    // A client that stops in the middle, and is given up; meanwhile it is looked at others.
    let whole = upload(&daemon, &bob, &place, &long);
    let stalled = begin(&whole[..whole.len() - 1000]);
    written();
    let begun = Instant::now();

    // One that goes away, after chunks of it were written.
    let away = begin(&upload(&daemon, &alice, &place, &long)[..200_000]);
    let two = before.0 + 3;
    daemon.wait("chunk of the second", || state(&daemon).unwrap().0 >= two);
    drop(away);
    daemon.wait("end of the second", || state(&daemon).unwrap().0 < two);

    // Bytes that are not those that were signed; of a digest that is not that of the path; too many; without a length.
    let mut other = upload(&daemon, &alice, &place, &long);
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(slug(&read(&exchange(&daemon, &other)).1), "digest-mismatch");
    let named_otherwise = upload(&daemon, &alice, &target("hall", b"other"), &long);
    let head = named_otherwise.len() - LONG;
    assert_eq!(slug(&read(&exchange(&daemon, &named_otherwise[..head])).1), "other-digest");
    let more = (BLOB_BYTES + 1).to_string();
    let fields = [("Content-Type", "application/octet-stream"), ("Content-Length", more.as_str())];
    let large = exchange(&daemon, &signed(&daemon, &alice, "PUT", &place, b"", &fields));
    assert_eq!((read(&large).0, slug(&read(&large).1)), (413, "too-large"), "before any of it was sent");
    let fields = [("Content-Type", "application/octet-stream"), ("Transfer-Encoding", "chunked")];
    let endless = exchange(&daemon, &signed(&daemon, &alice, "PUT", &place, b"", &fields));
    assert_eq!((read(&endless).0, slug(&read(&endless).1)), (411, "length-required"));
    let fields = [("Content-Type", "application/json"), ("Content-Length", "300000")];
    let json = signed(&daemon, &alice, "PUT", &place, &long, &fields);
    assert_eq!(slug(&read(&exchange(&daemon, &json[..json.len() - LONG])).1), "media-type");

    // The head of an upload counts once, whatever became of it. Sent with its body it would race: the refusal comes before that
    // is read, and a connection that is closed with unread bytes may take the answer along.
    assert_eq!(slug(&read(&exchange(&daemon, &other[..other.len() - LONG])).1), "nonce-used");
    let said = assert_closed(stalled, Duration::from_secs(20));
    assert_eq!((read(&said).0, slug(&read(&said).1)), (408, "too-slow"));
    assert!(begun.elapsed() > Duration::from_secs(5));
    cleared();
    assert_eq!(put(&daemon, &bob, &place, &long).0, 201, "the same bytes are taken afterwards");

    // Without an engine that answers nothing is added, and that is said.
    let engine = daemon.engine_pid().unwrap();
    signal(engine, Signal::STOP);
    let refused = put(&daemon, &alice, &target("hall", b"x"), b"x");
    signal(engine, Signal::CONT);
    assert_eq!((refused.0, slug(&refused.1)), (503, "unavailable"), "{}", refused.1);
}

#[test]
fn python_uploads_and_downloads() {
    let (daemon, [alice, ..]) = hall();
    let text = "sealed by somebody else".repeat(10_000);
    let place = target("hall", text.as_bytes());
    let ask = |method: &str, body: &str| {
        let mut job = job(&daemon, &alice, method, &place, &Value::Null);
        job["url"] = json!(format!("http://{}:{API_PORT}{place}", daemon.address));
        job["body"] = json!(BASE64.encode(body.as_bytes()));
        if !body.is_empty() {
            job["headers"]["Content-Type"] = json!("application/octet-stream");
        }
        job
    };
    let mut twice = ask("PUT", &text);
    twice["times"] = json!(2);
    let answered = python(&[twice, ask("GET", "")]);
    let [added, replayed] = answers(&answered[0]).try_into().unwrap();
    assert_eq!((&added["changed"], slug(&replayed)), (&json!(true), "nonce-used"));
    assert!(answered[1][0] == text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_takes_what_is_left_and_nothing_else() {
    let kv = Kv::new().await;
    let blobs = Blobs::new(kv.link.subscribe());
    let name = |room: &str, bytes: &[u8]| BlobName { room: room.parse().unwrap(), id: BlobId::of(bytes) };
    let by = || "alice".parse().unwrap();
    let fine = || Ok::<(), BlobError>(());
    let mut uploads = 0;
    let mut begin = async |room: &str, number: u8| {
        uploads += 1;
        let bytes = content(number, LONG);
        let mut upload = Upload::begin(&blobs, name(room, &bytes), bytes.len() as u64, [uploads; 16]).await.unwrap();
        upload.push(Bytes::from(bytes)).await.unwrap();
        upload
    };
    let whole = begin("hall", 1).await.finish(by(), 1, fine).await.unwrap();
    let gone = begin("gone", 2).await.finish(by(), 2, fine).await.unwrap();
    // A daemon that is killed here leaves chunks.
    drop(begin("hall", 3).await);
    drop(begin("hall", 1).await);
    let refused: Result<_, BlobError> = begin("hall", 4).await.finish(by(), 4, || Err(BlobError::OtherDigest)).await;
    assert_eq!(refused, Err(BlobError::OtherDigest), "what is not allowed any more at the last moment leaves nothing");
    let again = begin("hall", 1).await.finish(by(), 5, fine).await.unwrap();
    assert_eq!((again.changed, &again.record), (false, &whole.record));
    let keys = async || blobs.usage().await.unwrap().keys;
    assert_eq!(keys().await, 6);

    let removed = |room: &unibus_core::domain::RoomId| room.as_str() == "gone";
    let now = OffsetDateTime::now_utc();
    assert_eq!(sweep(&blobs, |_| false, now).await, Ok(Swept::default()), "an upload may be under way");
    let later = now + Duration::from_secs(2 * 60 * 60);
    assert_eq!(sweep(&blobs, removed, later).await, Ok(Swept { attachments: 1, uploads: 2 }));
    assert_eq!((keys().await, blobs.find(&gone.record.name).await), (2, Ok(None)));
    assert_eq!(sweep(&blobs, removed, later).await, Ok(Swept::default()));
    let pieces: Vec<_> =
        futures::StreamExt::collect(membershipd::blobs::read(blobs.clone(), whole.record.clone())).await;
    let read: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap().to_vec()).collect();
    assert!(read == content(1, LONG));

    // One that was damaged never looks complete.
    let link = kv.current();
    let stream = link.jetstream.get_stream("OBJ_UNIBUS_blobs").await.unwrap();
    let first = stream.cached_info().state.first_sequence;
    stream.delete_message(first).await.unwrap();
    let pieces: Vec<_> =
        futures::StreamExt::collect(membershipd::blobs::read(blobs.clone(), whole.record.clone())).await;
    assert!(matches!(pieces.last(), Some(Err(BlobError::Damaged { .. }))) && pieces.len() == 3, "{pieces:?}");
}

#[test]
fn a_copy_has_the_attachments_wherever_it_goes() {
    let (daemon, [alice, bob, ..]) = hall();
    let (long, short) = (content(5, LONG), content(6, 1));
    for (who, bytes) in [(&alice, &long), (&bob, &short)] {
        assert_eq!(put(&daemon, who, &target("hall", bytes), bytes).0, 201);
    }
    let list = |daemon: &Daemon| ask(daemon, &alice, "GET", "/v1/rooms/hall/blobs").1["blobs"].clone();
    let before = list(&daemon);
    let export = |daemon: &Daemon, name: &str| -> (String, Value) {
        let path = daemon.dir.path().join(name).display().to_string();
        let output = daemon.ask(&["export", "--db", &path, "--json"]);
        assert!(output.status.success(), "{}", common::said(&output));
        (path, serde_json::from_slice(&output.stdout).unwrap())
    };
    let (path, copied) = export(&daemon, "copy.db");
    assert_eq!(copied["entries"]["OBJ_UNIBUS_blobs"], 2);

    let kv = Daemon::start(&["--store", "kv"]);
    let migrate = || {
        let output = kv.ask(&["migrate-to-kv", "--db", &path, "--json"]);
        assert!(output.status.success(), "{}", common::said(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let carried = migrate();
    assert_eq!(carried["content_sha256"], copied["content_sha256"]);
    assert_eq!(migrate()["written"], 0, "and again changes nothing");
    kv.wait("view of the copy", || ask(&kv, &alice, "GET", "/v1/rooms/hall").0 == 200);
    assert_eq!(list(&kv), before, "who added what, and when");
    assert!(download(&kv, &bob, &target("hall", &long)) == long);
    assert_eq!(export(&kv, "again.db").1["content_sha256"], copied["content_sha256"]);

    // A node that goes on with the file brings them into its engine, once: what is removed then stays removed.
    let alone = Daemon::start(&["--db", &path]);
    alone.wait("attachments of the file", || list(&alone) == before);
    assert!(download(&alone, &alice, &target("hall", &long)) == long);
    alone.wait("end of that", || alone.log().contains("are in the engine now"));
    let tables = rusqlite::Connection::open(&path).unwrap();
    let left: i64 = tables.query_row("SELECT count(*) FROM blob_pieces", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

#[test]
fn what_the_tool_seals_only_members_open() {
    let (daemon, [alice, bob, _, eve]) = hall();
    let run = |who: &Identity, arguments: &[&str]| {
        let identity = format!("{}.toml", who.handle);
        let url = format!("http://{}:{API_PORT}", daemon.address);
        let mut command = common::membershipd(daemon.dir.path());
        command.arg("blob").args(arguments).args(["--identity", &identity, "--url", &url, "--json"]).output().unwrap()
    };
    let put = |who: &Identity, file: &str| {
        let output = run(who, &["put", "hall", file]);
        let answer: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", common::said(&output)));
        answer["blob"]["sha256"].as_str().unwrap().to_owned()
    };
    let path = |name: &str| daemon.dir.path().join(name);
    daemon.dir.write("letter", "a secret between us", 0o644);
    daemon.dir.write("answer", "and nobody else", 0o644);
    // Who has never shown his key cannot be sealed for; who shows it is, from the next epoch on.
    let alone = put(&alice, "letter");
    let answer = put(&bob, "answer");
    let letter = put(&alice, "letter");
    assert_ne!(alone, letter, "no seal is like another");
    for (who, sha256, out, wanted) in
        [(&alice, &answer, "one", "and nobody else"), (&bob, &letter, "two", "a secret between us")]
    {
        let output = run(who, &["get", "hall", sha256, "--out", out]);
        assert!(output.status.success(), "{}", common::said(&output));
        assert_eq!(std::fs::read_to_string(path(out)).unwrap(), wanted);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path(out)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
    let again = common::said(&run(&bob, &["get", "hall", &letter, "--out", "two"]));
    assert!(again.contains("ever written over it"), "{again}");
    for (who, wanted) in [(&bob, "not-sealed"), (&eve, "not-member")] {
        let refused = common::said(&run(who, &["get", "hall", &alone, "--out", "three"]));
        assert!(refused.contains(wanted), "{refused}");
    }
    assert!(!path("three").exists());
    let kept = download(&daemon, &alice, &format!("/v1/rooms/hall/blobs/{letter}"));
    assert!(!kept.windows(6).any(|part| part == b"secret"), "the servers never see it");
    let listed = common::said(&run(&bob, &["list", "hall"]));
    assert!([&alone, &answer, &letter].iter().all(|sha256| listed.contains(*sha256)), "{listed}");
    assert!(common::said(&run(&bob, &["remove", "hall", &letter])).contains("role-too-low"));
    assert!(run(&bob, &["remove", "hall", &answer]).status.success());
}
