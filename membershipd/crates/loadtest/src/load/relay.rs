//! A node's daemon, asked through a command that relays lines: one child that is kept, and started again when it dies.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

use super::kinds::Failure;
use super::orders::NodeOrder;
use unibus_api_types::control::{ANSWER_BYTES, Answer, Request};

/// Pause between two starts of the command.
const BACK_OFF: Duration = Duration::from_secs(1);
/// Requests that wait to be written; more means that the command does not read.
const WAITING: usize = 256;
/// Bytes of a complaint that are kept.
const COMPLAINT_BYTES: u64 = 16 << 10;
/// Codes of answers after which the request certainly had no effect.
const CERTAIN: [&str; 7] =
    ["unavailable", "refused", "not_found", "conflict", "bad_request", "forbidden", "not_running"];

type Reply = oneshot::Sender<Result<Value, Failure>>;

#[derive(Serialize)]
struct Question<'a> {
    id: u64,
    request: &'a Request,
}

#[derive(Deserialize)]
struct Answered {
    id: u64,
    answer: Answer,
}

/// The way to one node's daemon.
pub(super) struct Relay {
    /// The node.
    pub(super) node: String,
    command: Vec<String>,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    session: Option<Arc<Session>>,
    started: Option<Instant>,
}

struct Session {
    lines: mpsc::Sender<String>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// The last thing the command said on its standard error.
    said: Mutex<String>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    replies: HashMap<u64, Reply>,
    over: bool,
}

impl Relay {
    /// The way that the orders describe.
    pub(super) fn new(order: &NodeOrder) -> Self {
        Self { node: order.name.clone(), command: order.control.clone(), slot: Mutex::default() }
    }

    /// Asks the daemon, and waits so long at most.
    pub(super) async fn ask(&self, request: &Request, within: Duration) -> Result<Value, Failure> {
        let session = self.session()?;
        let (reply, answer) = oneshot::channel();
        let id = {
            let mut waiting = lock(&session.shared.waiting);
            if waiting.over {
                return Err(self.away("it has just ended"));
            }
            waiting.next += 1;
            let id = waiting.next;
            waiting.replies.insert(id, reply);
            id
        };
        let _forget = Forget { shared: &session.shared, id };
        let line = serde_json::to_string(&Question { id, request }).map_err(|e| Failure::certain(e.to_string()))?;
        if session.lines.try_send(line + "\n").is_err() {
            return Err(self.away("it takes no more requests"));
        }
        match tokio::time::timeout(within, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Failure::unknown(format!("the relay to {} ended", self.node))),
            Err(_) => Err(Failure::unknown(format!("no answer from {} within {} s", self.node, within.as_secs_f32()))),
        }
    }

    /// The child that runs, or a new one if the last was not started a moment ago.
    fn session(&self) -> Result<Arc<Session>, Failure> {
        let mut slot = lock(&self.slot);
        let mut why = String::new();
        if let Some(session) = &slot.session {
            if !lock(&session.shared.waiting).over {
                return Ok(session.clone());
            }
            why.clone_from(&lock(&session.shared.said));
        }
        if slot.started.is_some_and(|started| started.elapsed() < BACK_OFF) {
            return Err(self.away(&why));
        }
        slot.started = Some(Instant::now());
        let session = Arc::new(self.start().map_err(|error| self.away(&error.to_string()))?);
        slot.session = Some(session.clone());
        Ok(session)
    }

    fn away(&self, why: &str) -> Failure {
        Failure::certain(format!(
            "{} cannot be asked: {}",
            self.node,
            if why.is_empty() { "no reason given" } else { why }
        ))
    }

    fn start(&self) -> std::io::Result<Session> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(std::io::Error::other("there is no command"));
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (lines, mut written) = mpsc::channel::<String>(WAITING);
        let shared = Arc::new(Shared::default());
        if let Some(mut input) = child.stdin.take() {
            tokio::spawn(async move {
                while let Some(line) = written.recv().await {
                    if input.write_all(line.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
        if let Some(complaints) = child.stderr.take() {
            let shared = shared.clone();
            tokio::spawn(async move {
                let mut complaints = BufReader::new(complaints);
                while let Some(line) = next_line(&mut complaints, COMPLAINT_BYTES).await {
                    line.trim().clone_into(&mut lock(&shared.said));
                }
            });
        }
        tokio::spawn(hear(child, shared.clone()));
        Ok(Session { lines, shared })
    }
}

/// The next line of a node, or as much of it as `most` bytes: what has no end is no answer.
async fn next_line(from: &mut (impl AsyncBufRead + Unpin), most: u64) -> Option<String> {
    let mut line = Vec::new();
    let count = from.take(most).read_until(b'\n', &mut line).await.ok()?;
    (count > 0).then(|| String::from_utf8_lossy(&line).into_owned())
}

/// Hands the answers out until the child ends; who still waits then is told that nobody knows.
async fn hear(mut child: Child, shared: Arc<Shared>) {
    if let Some(output) = child.stdout.take() {
        let mut answers = BufReader::new(output);
        while let Some(line) = next_line(&mut answers, ANSWER_BYTES).await {
            let Ok(Answered { id, answer }) = serde_json::from_str(&line) else { continue };
            let reply = lock(&shared.waiting).replies.remove(&id);
            if let Some(reply) = reply {
                // Nobody listens any more where the request has taken too long.
                let _ = reply.send(understood(answer));
            }
        }
    }
    // It has closed its output: whatever it still does is of no use.
    let _ = child.kill().await;
    let replies = {
        let mut waiting = lock(&shared.waiting);
        waiting.over = true;
        std::mem::take(&mut waiting.replies)
    };
    let said = lock(&shared.said).clone();
    for reply in replies.into_values() {
        let _ = reply.send(Err(Failure::unknown(format!("the relay ended: {said}"))));
    }
}

fn understood(answer: Answer) -> Result<Value, Failure> {
    match answer {
        Answer::Ok(value) => Ok(value),
        Answer::Error(failure) => {
            let certain = CERTAIN.contains(&failure.code.as_str());
            Err(Failure { code: failure.code, certain, why: failure.message })
        }
    }
}

/// Takes a request back that nobody waits for any more.
struct Forget<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.shared.waiting).replies.remove(&self.id);
    }
}

// Every change under these locks is a single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(script: &str) -> Relay {
        Relay::new(&NodeOrder {
            name: "a".to_owned(),
            url: String::new(),
            api: String::new(),
            control: ["sh", "-c", script].map(str::to_owned).to_vec(),
        })
    }

    const SECOND: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn answers_find_their_questions_in_any_order() {
        // Answers the second question first.
        let both = relay(
            r#"read one; read two
               echo '{"id":2,"answer":{"ok":{"n":2}}}'; echo '{"id":1,"answer":{"ok":{"n":1}}}'; cat"#,
        );
        let (first, second) = futures::join!(
            both.ask(&Request::Status, SECOND),
            both.ask(&Request::UserList { after: None, limit: Some(1) }, SECOND)
        );
        assert_eq!((first.unwrap()["n"].clone(), second.unwrap()["n"].clone()), (1.into(), 2.into()));
    }

    #[tokio::test]
    async fn what_is_certain_and_what_is_not() {
        let refusing =
            r#"read line; echo '{"id":1,"answer":{"error":{"code":"CODE","message":"m","remedy":""}}}'; cat"#;
        for (code, certain) in [("unavailable", true), ("conflict", true), ("unknown", false), ("io", false)] {
            let failure = relay(&refusing.replace("CODE", code)).ask(&Request::Status, SECOND).await.unwrap_err();
            assert_eq!((failure.certain, failure.code.as_str()), (certain, code));
        }
        let silent = relay("cat >/dev/null").ask(&Request::Status, Duration::from_millis(50)).await.unwrap_err();
        assert!(!silent.certain, "{silent}");
        let dying = relay("read line; echo gone >&2; exit 1").ask(&Request::Status, SECOND).await.unwrap_err();
        assert!(!dying.certain, "{dying}");
        let absent = Relay { command: vec!["/nonexistent/x".to_owned()], ..relay("") };
        assert!(absent.ask(&Request::Status, SECOND).await.unwrap_err().certain, "nothing was ever asked");
    }

    #[tokio::test]
    async fn a_child_that_died_is_started_again() {
        let once = relay(r#"read line; echo '{"id":1,"answer":{"ok":{}}}'"#);
        once.ask(&Request::Status, SECOND).await.unwrap();
        let begun = Instant::now();
        while let Err(failure) = once.ask(&Request::Status, SECOND).await {
            assert!(begun.elapsed() < SECOND, "{failure}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
