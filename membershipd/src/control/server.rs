//! The answering side of the control socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::copying::Copying;
use super::repairing::Repairing;
use super::{Answer, Failure, REQUEST_BYTES, Request, socket};

use crate::blobs::Blobs;
use crate::commands::{Commands, Principal};
use crate::domain::{Author, State, User};
use crate::posture::{Observer, SCHEMA};
use crate::probe::Probes;
use crate::users::{self, UserChange, UserPatch};
use crate::{probe_routes, scale};

/// Time to send the request after connecting.
const ASKING: Duration = Duration::from_secs(5);

/// What the requests act on.
#[derive(Debug)]
struct Service {
    observer: Observer,
    commands: Arc<Commands>,
    probes: Probes,
    copying: Copying,
    repairing: Repairing,
}

/// Binds the socket in `runtime_dir`, mode 0600, and returns the task that serves it.
pub fn serve(
    runtime_dir: &Path,
    observer: Observer,
    commands: Arc<Commands>,
    blobs: Blobs,
    probes: Probes,
    repairing: Repairing,
) -> Result<impl Future<Output = ()> + use<>> {
    let path = socket(runtime_dir);
    // The lock on the store was taken before: whoever left this socket behind is gone.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace the control socket {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("cannot make the control socket {} (a path of at most 107 bytes)", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect the control socket {}", path.display()))?;
    let copying = Copying { observer: observer.clone(), store: repairing.store.clone(), blobs };
    let service = Arc::new(Service { observer, commands, probes, copying, repairing });
    let own_uid = rustix::process::geteuid().as_raw();
    Ok(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let service = service.clone();
                    tokio::spawn(async move {
                        if let Err(error) = one(&service, stream, own_uid).await {
                            tracing::debug!("control request: {error:#}");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!("control socket: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    })
}

async fn one(service: &Service, mut stream: UnixStream, own_uid: u32) -> Result<()> {
    let peer = stream.peer_cred().context("who asks?")?;
    let answer = if peer.uid() != 0 && peer.uid() != own_uid {
        Answer::Error(failure("forbidden", "only root and the daemon's own user may ask", "run this as root"))
    } else {
        let (reading, _) = stream.split();
        let mut line = String::new();
        let mut reader = BufReader::new(reading.take(REQUEST_BYTES));
        tokio::time::timeout(ASKING, reader.read_line(&mut line)).await.context("the request did not come")??;
        match serde_json::from_str(&line) {
            Ok(request) => service.answer(request).await,
            Err(error) => {
                let problem = format!("the request is not understood: {error}");
                Answer::Error(failure("bad_request", &problem, "use the membershipd of the running version"))
            }
        }
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    stream.write_all(text.as_bytes()).await?;
    Ok(())
}

impl Service {
    async fn answer(&self, request: Request) -> Answer {
        let answer = match request {
            Request::Status => Ok(json!(self.observer.posture().await)),
            Request::UserList | Request::UserShow { .. } | Request::UserAdd { .. } | Request::UserSet { .. } => {
                return of_users(&self.commands, &self.repairing.by, request).await;
            }
            Request::Repair => return self.repairing.run().await.map_or_else(Answer::Error, Answer::Ok),
            Request::CopyOut { part, after } => {
                return self.copying.read(part, after).await.map_or_else(Answer::Error, Answer::Ok);
            }
            Request::CopyRooms => return self.copying.rooms().await.map_or_else(Answer::Error, Answer::Ok),
            Request::CopySaid { room, after } => {
                return self.copying.said(&room, after).await.map_or_else(Answer::Error, Answer::Ok);
            }
            Request::CopyKeep { room, there, bytes, messages } => {
                let kept = self.copying.keep(&room, there, bytes, messages).await;
                return kept.map_or_else(Answer::Error, Answer::Ok);
            }
            Request::CopyIn { part, items } => {
                return self.copying.write(part, items).await.map_or_else(Answer::Error, Answer::Ok);
            }
            Request::CopyBlobs { ask } => {
                return self.copying.blobs(ask).await.map_or_else(Answer::Error, Answer::Ok);
            }
            Request::ProbeWrite { key, value, expected } => {
                let written = self.probes.write(key, &value, expected).await;
                written.map(|revision| json!({ "schema": SCHEMA, "revision": revision }))
            }
            Request::ProbeRead { key } => self.probes.read(key).await.map(|found| {
                let (value, revision) = found.map_or((None, 0), |v| (Some(v.value), v.revision));
                json!({ "schema": SCHEMA, "value": value, "revision": revision })
            }),
            Request::ProbeRoutes => {
                let Some(cluster) = &self.observer.config.cluster else {
                    return Answer::Error(failure("bad_request", "a node on its own has no routes", "ask a cluster's"));
                };
                let routes = probe_routes::probe(cluster).await;
                Ok(json!({ "schema": SCHEMA, "routes": routes }))
            }
            Request::Scale { copies } => {
                return scale::raise(&self.observer, copies).await.map_or_else(
                    |error| Answer::Error(failure(error.code(), &error.to_string(), error.remedy())),
                    Answer::Ok,
                );
            }
        };
        answer.map_or_else(|error| Answer::Error((&error).into()), Answer::Ok)
    }
}

/// What a request of `root` about users comes to; any other is refused.
pub async fn of_users(commands: &Commands, root: &Author, request: Request) -> Answer {
    let change = async |what| commands.change_user(Principal::root(root.clone()), what).await.map(outcome);
    let answer = match request {
        Request::UserList => users::list(commands.state()).map(|users| json!({ "schema": SCHEMA, "users": users })),
        Request::UserShow { handle } => {
            users::show(commands.state(), &handle).map(|user| json!({ "schema": SCHEMA, "user": user }))
        }
        Request::UserAdd { handle, sign_pub, role } => {
            change(UserChange::Add(User { handle, sign_pub, role, state: State::Active }, None)).await
        }
        Request::UserSet { handle, state, last_admin } => {
            let patch = UserPatch { state: Some(state), role: None, last_admin };
            change(UserChange::Set(handle, patch, None)).await
        }
        _ => return Answer::Error(failure("bad_request", "this is not about users", "ask the running daemon")),
    };
    answer.map_or_else(|error| Answer::Error((&error).into()), Answer::Ok)
}

fn outcome(outcome: users::Outcome) -> Value {
    let users::Outcome { user, changed, waited_ms, fence, .. } = outcome;
    json!({ "schema": SCHEMA, "user": user, "changed": changed, "waited_ms": waited_ms, "fence": fence })
}

fn failure(code: &str, message: &str, remedy: &str) -> Failure {
    Failure::new(code, message, remedy)
}
