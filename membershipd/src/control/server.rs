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
use crate::commands::{CommandError, Commands, Principal};
use crate::config::StoreKind;
use crate::fence::Ledger;
use crate::level::{self, LevelError, RaiseLevel};
use crate::posture::{Observer, SCHEMA};
use crate::probe::Probes;
use crate::transfer::Whole;
use crate::users::{self, UserChange, UserPatch};
use crate::{probe_routes, scale};
use unibus_core::domain::{Author, State, User};

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
    ledger: Arc<Ledger>,
}

/// Binds the socket in `runtime_dir`, mode 0600, and returns the task that serves it.
pub fn serve(
    runtime_dir: &Path,
    observer: Observer,
    commands: Arc<Commands>,
    blobs: Blobs,
    probes: Probes,
    repairing: Repairing,
    ledger: Arc<Ledger>,
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
    let service = Arc::new(Service { observer, commands, probes, copying, repairing, ledger });
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
        Answer::Error(Failure::new("forbidden", "only root and the daemon's own user may ask", "run this as root"))
    } else {
        let (reading, _) = stream.split();
        let mut line = String::new();
        let mut reader = BufReader::new(reading.take(REQUEST_BYTES));
        tokio::time::timeout(ASKING, reader.read_line(&mut line)).await.context("the request did not come")??;
        match serde_json::from_str(&line) {
            Ok(request) => service.answer(request).await.map_or_else(Answer::Error, Answer::Ok),
            Err(error) => {
                let problem = format!("the request is not understood: {error}");
                Answer::Error(Failure::new("bad_request", &problem, "use the membershipd of the running version"))
            }
        }
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    stream.write_all(text.as_bytes()).await?;
    Ok(())
}

impl Service {
    async fn answer(&self, request: Request) -> Result<Value, Failure> {
        match request {
            Request::Status => Ok(json!(self.observer.posture().await)),
            Request::UserList { .. }
            | Request::UserShow { .. }
            | Request::UserAdd { .. }
            | Request::UserSet { .. }
            | Request::UserRole { .. } => of_users(&self.commands, &self.repairing.by, request).await,
            Request::Repair => self.repairing.run(&self.observer.copies.rooms().damaged).await,
            Request::Level | Request::LevelRaise => self.level(&request).await,
            Request::Mend { room, without_unreadable } => {
                self.buckets_are_well().await?;
                let mended = self.repairing.mend(&room, without_unreadable).await?;
                if let Some(link) = self.link_now() {
                    let buckets = self.observer.replicas(&link).await;
                    self.observer.copies.look_at_rooms(&link, &buckets).await;
                }
                Ok(mended)
            }
            Request::CopyOut { part, after } => self.copying.read(part, after).await,
            Request::CopyRooms { after, limit } => self.copying.rooms(after.as_ref(), limit).await,
            Request::CopySaid { room, after } => self.copying.said(&room, after).await,
            Request::CopyKeep { room, there, bytes, above, messages } => {
                self.copying.keep(&room, there, Whole { bytes, above }, messages).await
            }
            Request::CopyIn { part, items } => self.copying.write(part, items).await,
            Request::CopyBlobs { ask } => self.copying.blobs(ask).await,
            Request::ProbeWrite { key, value, expected } => {
                let revision = self.probes.write(key, &value, expected).await?;
                Ok(json!({ "schema": SCHEMA, "revision": revision }))
            }
            Request::ProbeRead { key } => {
                let found = self.probes.read(key).await?;
                let (value, revision) = found.map_or((None, 0), |v| (Some(v.value), v.revision));
                Ok(json!({ "schema": SCHEMA, "value": value, "revision": revision }))
            }
            Request::ProbeRoutes => {
                let none = || Failure::new("bad_request", "a node on its own has no routes", "ask a cluster's");
                let routes = probe_routes::probe(self.observer.config.cluster.as_ref().ok_or_else(none)?).await;
                Ok(json!({ "schema": SCHEMA, "routes": routes }))
            }
            Request::Scale { copies } => {
                let raised = scale::raise(&self.observer, copies).await;
                raised.map_err(|error| Failure::new(error.code(), &error.to_string(), error.remedy()))
            }
        }
    }

    /// Shows the feature level of the cluster, after raising it where that is asked for.
    async fn level(&self, request: &Request) -> Result<Value, Failure> {
        let failed = |error: LevelError| Failure::new(error.code(), &error.to_string(), error.remedy());
        let raised = if matches!(request, Request::LevelRaise) {
            let (by, ledger) = (self.repairing.by.clone(), self.ledger.clone());
            let raise = RaiseLevel { by, ledger, nodes: self.observer.config.expected_nodes() };
            Some(self.commands.raise_level(&raise).await.map_err(failed)?)
        } else {
            None
        };
        let status = level::status(self.commands.state(), &self.ledger);
        let status = status.map_err(|error| failed(CommandError::from(error).into()))?;
        Ok(json!({ "schema": SCHEMA, "status": status, "raised": raised }))
    }
}

impl Service {
    fn link_now(&self) -> Option<Arc<unibus_store::link::Link>> {
        self.observer.link.borrow().clone()
    }

    /// A copy on a node that is down may have what no other has: a history is replaced only while all nodes are there.
    async fn buckets_are_well(&self) -> Result<(), Failure> {
        let (StoreKind::Kv, Some(link)) = (&self.observer.config.store, self.link_now()) else { return Ok(()) };
        let buckets = self.observer.replicas(&link).await;
        match buckets.iter().find(|bucket| bucket.current.is_none_or(|current| current < bucket.want)) {
            None => Ok(()),
            Some(bucket) => {
                let message = format!(
                    "not all copies of {} are current, so a copy of the history may be away, too",
                    bucket.bucket
                );
                Err(Failure::new("unavailable", &message, "start the nodes that are down, and run it again"))
            }
        }
    }
}

/// What a request of `root` about users comes to; any other is refused.
pub async fn of_users(commands: &Commands, root: &Author, request: Request) -> Result<Value, Failure> {
    let change = match request {
        Request::UserList { after, limit } => {
            let (users, next) = users::list(commands.state(), after.as_ref(), limit)?;
            return Ok(json!({ "schema": SCHEMA, "users": users, "next": next }));
        }
        Request::UserShow { handle } => {
            return Ok(json!({ "schema": SCHEMA, "user": users::show(commands.state(), &handle)? }));
        }
        Request::UserAdd { handle, sign_pub, role } => {
            UserChange::Add(User { handle, sign_pub, role, state: State::Active }, None)
        }
        Request::UserSet { handle, state, last_admin } => {
            UserChange::Set(handle, UserPatch { state: Some(state), role: None, last_admin }, None)
        }
        Request::UserRole { handle, role, last_admin } => {
            UserChange::Set(handle, UserPatch { state: None, role: Some(role), last_admin }, None)
        }
        _ => return Err(Failure::new("bad_request", "this is not about users", "ask the running daemon")),
    };
    let outcome = commands.change_user(Principal::root(root.clone()), change).await?;
    let users::Outcome { user, changed, waited_ms, fence, .. } = outcome;
    Ok(json!({ "schema": SCHEMA, "user": user, "changed": changed, "waited_ms": waited_ms, "fence": fence }))
}
