//! Attachments of rooms over the API.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use bytes::Bytes;
use futures::{StreamExt, stream};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};

use super::audit;
use super::call::{Call, Reply};
use super::handler::Refused;
use super::paging::cursor;
use super::problem::Problem;
use super::routes;
use super::shared::Shared;
use super::target::{OneRoom, Target};
use crate::api::problem::Refuse as _;
use crate::blobs::{Added, BlobError, BlobId, BlobName, BlobRecord, Upload, read};
use crate::commands::audit::{About, Decided, Stage};
use unibus_api_types::bodies;
use unibus_api_types::problem::Kind;
use unibus_core::bus;
use unibus_core::clock;
use unibus_core::domain::{Action, Author, Records as _};
use unibus_core::random;
use unibus_store::{Operation, StoreError};

/// Records that are asked for at a time, for a list.
const AT_ONCE: usize = 16;

/// Bytes.
#[derive(Debug)]
pub(super) struct Octets;

impl utoipa::PartialSchema for Octets {
    fn schema() -> RefOr<Schema> {
        let bytes = ObjectBuilder::new().schema_type(Type::String);
        bytes.format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary))).into()
    }
}

impl ToSchema for Octets {}

impl From<BlobRecord> for bodies::Blob {
    fn from(BlobRecord { name, bytes, by, at_ms, .. }: BlobRecord) -> Self {
        Self { sha256: name.id, bytes, by, at_ms }
    }
}

/// The attachments of a room.
pub(super) async fn list(shared: Arc<Shared>, call: Call<OneRoom>) -> Result<Reply, Problem> {
    let paging = call.page::<BlobId>()?;
    let OneRoom(room) = &call.target;
    let _place = shared.lists.take_within(&call.parties(), 1, bus::ASK).await?;
    let names = shared.blobs.names().await?;
    let mut rest =
        names.into_iter().filter(|name| name.room == *room && paging.after.is_none_or(|after| name.id > after));
    let page: Vec<BlobName> = rest.by_ref().take(paging.size.get()).collect();
    let next = page.last().filter(|_| rest.next().is_some()).map(|last| cursor(&last.id));
    let found = stream::iter(page).map(|name| {
        let blobs = &shared.blobs;
        async move { blobs.find(&name).await }
    });
    let found: Vec<Result<Option<BlobRecord>, BlobError>> = found.buffered(AT_ONCE).collect().await;
    let found: Vec<Option<BlobRecord>> = found.into_iter().collect::<Result<_, _>>()?;
    // What was removed meanwhile is left out.
    let blobs = found.into_iter().flatten().map(bodies::Blob::from).collect();
    may(&shared, &call, Action::ListBlobs)?;
    Reply::json(&bodies::Blobs { blobs, next })
}

/// An attachment, piece by piece. Each is handed out only while the caller may read it.
pub(super) async fn download(shared: Arc<Shared>, call: Call<BlobName>) -> Result<Reply, Problem> {
    let slot = shared.downloads.take(&call.parties(), 1)?;
    let name = &call.target;
    let record = shared.blobs.find(name).await?.ok_or(Kind::NO_SUCH_BLOB.problem())?;
    let length = record.bytes;
    let pieces = read(shared.blobs.clone(), record);
    let pieces = pieces.map(move |piece: Result<Bytes, BlobError>| {
        let _held = &slot;
        let piece = piece.inspect_err(|error| tracing::warn!("a download ended early: {error}"))?;
        may(&shared, &call, Action::ReadBlob).map_err(|_| BlobError::from(revoked()))?;
        shared.metrics.blob_sent(piece.len());
        Ok(piece)
    });
    Ok(Reply::octets(length, pieces))
}

/// Whether the caller may do `action` at this moment.
fn may(shared: &Shared, call: &Call<impl Target>, action: Action) -> Result<(), Problem> {
    routes::still(shared, &call.caller, action, &call.target, Instant::now()).map_err(Refused::problem)
}

/// The right to read has ended, or the proof of it.
fn revoked() -> StoreError {
    let operation = Operation::on("read", bus::Bucket::Blobs);
    StoreError::Unavailable { operation, why: "who asked may not read it any more".to_owned() }
}

/// Adds an attachment. Whatever ends it early leaves nothing.
pub(super) async fn upload(shared: Arc<Shared>, mut call: Call<BlobName>) -> Result<Reply, Problem> {
    let mut arriving = call.arriving.take().ok_or(Kind::INTERNAL.problem())?;
    let _slot = shared.uploads.take(&call.parties(), 1)?;
    let name = &call.target;
    if let Some(record) = shared.blobs.find(name).await? {
        // What is sent is received all the same: a client that is not read does not listen either.
        let mut digest = Digest::default();
        while let Some(piece) = arriving.next().await? {
            digest.add(&piece);
        }
        digest.check(name)?;
        return Reply::json(&bodies::AddedBlob { blob: record.into(), changed: false });
    }
    let no_randomness =
        |error: random::NoRandomness| Problem { cause: Some(error.to_string().into()), ..Kind::INTERNAL.problem() };
    let entropy = random::bytes().map_err(no_randomness)?;
    let mut upload = Upload::begin(&shared.blobs, name.clone(), arriving.length(), entropy).await?;
    loop {
        let pushed = match arriving.next().await {
            Ok(None) => break,
            Ok(Some(piece)) => {
                shared.metrics.blob_received(piece.len());
                upload.push(piece).await.map_err(Problem::from)
            }
            Err(problem) => Err(problem),
        };
        if let Err(problem) = pushed {
            upload.discard().await;
            return Err(not_added(problem));
        }
    }
    let still = || may(&shared, &call, Action::WriteBlob);
    let Added { record, changed } = upload.finish(call.caller.handle.clone(), clock::unix_ms(), still).await?;
    let status = if changed { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Reply::json(&bodies::AddedBlob { blob: record.into(), changed })?.status(status))
}

/// Before its record is written nothing of an attachment is there, whatever is unknown about its chunks.
fn not_added(problem: Problem) -> Problem {
    if problem.kind == Kind::UNKNOWN_OUTCOME {
        return Problem {
            cause: problem.cause,
            store: true,
            ..Kind::UNAVAILABLE.because("the store did not take it; nothing was added").soon()
        };
    }
    problem
}

/// The digest of what arrives.
#[derive(Default)]
struct Digest(sha2::Sha256);

impl Digest {
    fn add(&mut self, piece: &[u8]) {
        sha2::Digest::update(&mut self.0, piece);
    }

    fn check(self, name: &BlobName) -> Result<(), BlobError> {
        let digest = BlobId::new(sha2::Digest::finalize(self.0).into());
        if digest == name.id { Ok(()) } else { Err(BlobError::OtherDigest) }
    }
}

/// Removes an attachment, with its records in the audit: who removes what another has added leaves no other trace.
pub(super) async fn remove(shared: Arc<Shared>, call: Call<BlobName>) -> Result<Reply, Problem> {
    let name = &call.target;
    let Some(record) = shared.blobs.find(name).await? else {
        return Reply::json(&bodies::RemovedBlob { changed: false });
    };
    let action = if record.by == call.caller.handle { Action::RemoveOwnBlob } else { Action::RemoveBlob };
    match routes::still(&shared, &call.caller, action, &call.target, Instant::now()) {
        Ok(()) => {}
        Err(Refused::Problem(problem)) => return Err(problem),
        Err(Refused::Denied(denied)) => {
            let why = denied.why;
            audit::denied(&shared, *denied, call.address).await;
            return Err(why.into());
        }
    }
    let journal = shared.commands.journal();
    let id = journal.number();
    let about = About::new(Author::User(call.caller.handle.clone()), action.name());
    let about = About { room: Some(name.room.clone()), with: Some(format!("sha256={}", name.id)), ..about };
    let own = shared.gate.view(|view| view.membership(&name.room, &call.caller.handle).map(|own| own.role));
    journal.begin(id, &about, Decided { bus: Some(call.caller.role), room: own }).await?;
    let removed = shared.blobs.remove(name).await;
    let stage = match &removed {
        Ok(_) => Stage::Done(Vec::new()),
        Err(error) if error.is_unknown() => Stage::Unknown(error.to_string()),
        Err(error) => Stage::Failed(error.to_string()),
    };
    // That it is missing is logged: the attachment is gone all the same.
    let _ = journal.end(id, &about, stage).await;
    Reply::json(&bodies::RemovedBlob { changed: removed?.is_some() })
}
