//! Attachments of a copy through the control socket: what goes over it, and either end.

use bytes::Bytes;
use data_encoding::BASE64;
use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::copying::{Copying, OverSocket, explain};
use super::{Failure, Request};
use crate::blobs::BlobName;
use crate::posture::SCHEMA;
use crate::transfer::{Answer, BlobEnd, Kept, Piece, TransferError, random};
use unibus_api_types::control::{BlobCopy, Name, SentBlob};

impl From<&BlobName> for Name {
    fn from(name: &BlobName) -> Self {
        Self { room: name.room.clone(), sha256: name.id }
    }
}

impl From<Name> for BlobName {
    fn from(Name { room, sha256 }: Name) -> Self {
        Self { room, id: sha256 }
    }
}

impl From<&Kept> for SentBlob {
    fn from(Kept { name, by, at_ms, bytes }: &Kept) -> Self {
        Self { name: name.into(), by: by.clone(), at_ms: *at_ms, bytes: *bytes }
    }
}

impl From<SentBlob> for Kept {
    fn from(SentBlob { name, by, at_ms, bytes }: SentBlob) -> Self {
        Self { name: name.into(), by, at_ms, bytes }
    }
}

#[derive(Debug, Deserialize)]
struct Listed {
    blobs: Vec<SentBlob>,
}

#[derive(Debug, Deserialize)]
struct SentPiece {
    /// Base64; none: there is no more.
    piece: Option<String>,
    next: u64,
}

#[derive(Debug, Deserialize)]
struct Taken {
    #[expect(dead_code, reason = "that it is there says all")]
    kept: bool,
}

impl Copying {
    /// Answers a copy, by the word of a node that can prove its view.
    pub(super) async fn blobs(&self, ask: BlobCopy) -> Result<Value, Failure> {
        self.proven()?;
        let blobs = &self.blobs;
        match ask {
            BlobCopy::List { after } => {
                let listed = blobs.list(after.map(BlobName::from)).await.map_err(explain)?;
                let listed: Vec<SentBlob> = listed.iter().map(SentBlob::from).collect();
                Ok(json!({ "schema": SCHEMA, "blobs": listed }))
            }
            BlobCopy::Read { name, from } => {
                let piece = BlobEnd::read(blobs, &name.into(), from).await.map_err(explain)?;
                let (piece, next) = piece.map(|Piece { bytes, next }| (BASE64.encode(&bytes), next)).unzip();
                Ok(json!({ "schema": SCHEMA, "piece": piece, "next": next.unwrap_or_default() }))
            }
            BlobCopy::Write { name, upload, piece } => {
                let (upload, piece) = (self.writable(&upload)?, decoded(&piece)?);
                blobs.write(&name.into(), upload, piece.into()).await.map_err(explain)?;
                Ok(json!({ "schema": SCHEMA, "kept": true }))
            }
            BlobCopy::Commit { kept, upload, pieces } => {
                let upload = self.writable(&upload)?;
                blobs.commit(&kept.into(), upload, pieces).await.map_err(explain)?;
                Ok(json!({ "schema": SCHEMA, "kept": true }))
            }
        }
    }

    /// The attempt, where anything may be carried in at all.
    fn writable(&self, upload: &str) -> Result<[u8; 16], Failure> {
        self.takes()?;
        decoded(upload)?.try_into().map_err(|_| strange("an attempt is 16 bytes"))
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, Failure> {
    BASE64.decode(text.as_bytes()).map_err(|error| strange(&format!("no base64: {error}")))
}

fn strange(why: &str) -> Failure {
    let message = format!("what is said of an attachment is not understood: {why}");
    Failure::new("bad_request", &message, "use the membershipd of the running version")
}

impl BlobEnd for OverSocket {
    fn list(&self, after: Option<BlobName>) -> Answer<'_, Vec<Kept>> {
        async move {
            let ask = BlobCopy::List { after: after.as_ref().map(Name::from) };
            let listed: Listed = self.ask(Request::CopyBlobs { ask }).await?;
            Ok(listed.blobs.into_iter().map(Kept::from).collect())
        }
        .boxed()
    }

    fn read<'a>(&'a self, name: &'a BlobName, from: u64) -> Answer<'a, Option<Piece>> {
        async move {
            let ask = BlobCopy::Read { name: name.into(), from };
            let SentPiece { piece, next } = self.ask(Request::CopyBlobs { ask }).await?;
            let bytes = piece.map(|piece| BASE64.decode(piece.as_bytes())).transpose();
            let bytes =
                bytes.map_err(|error| TransferError::NotUnderstood(format!("a piece is no base64: {error}")))?;
            Ok(bytes.map(|bytes| Piece { bytes: bytes.into(), next }))
        }
        .boxed()
    }

    fn upload(&self) -> Result<[u8; 16], TransferError> {
        random()
    }

    fn write<'a>(&'a self, name: &'a BlobName, upload: [u8; 16], piece: Bytes) -> Answer<'a, ()> {
        async move {
            let (upload, piece) = (BASE64.encode(&upload), BASE64.encode(&piece));
            let ask = BlobCopy::Write { name: name.into(), upload, piece };
            self.ask::<Taken>(Request::CopyBlobs { ask }).await.map(drop)
        }
        .boxed()
    }

    fn commit<'a>(&'a self, kept: &'a Kept, upload: [u8; 16], pieces: u64) -> Answer<'a, ()> {
        async move {
            let ask = BlobCopy::Commit { kept: kept.into(), upload: BASE64.encode(&upload), pieces };
            self.ask::<Taken>(Request::CopyBlobs { ask }).await.map(drop)
        }
        .boxed()
    }
}
