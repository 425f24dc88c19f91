//! The routes about the attachments of rooms.

use axum::http::{Method, StatusCode};
use futures::FutureExt;

use super::{Access, Precondition, Route, Signed};
use crate::api::blobs;
use crate::api::call::{AFTER, LIMIT};
use crate::api::document::schema_of;
use crate::api::handler::Acts;
use crate::api::target::OneRoom;
use crate::blobs::BlobName;
use unibus_api_types::bodies;
use unibus_core::domain::Action;

const BLOB: &str = "/v1/rooms/{room}/blobs/{sha256}";

/// The routes about attachments.
pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        template: "/v1/rooms/{room}/blobs",
        id: "listBlobs",
        summary: "The attachments of a room, by sha256",
        access: Access::Signed(Signed {
            query: &[AFTER, LIMIT],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Blobs>)],
            handler: &Acts::<OneRoom>(Action::ListBlobs, |shared, call| blobs::list(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::GET,
        template: BLOB,
        id: "downloadBlob",
        summary: "An attachment, as it was added. Where the connection ends before Content-Length bytes came, it is damaged",
        access: Access::Download(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<blobs::Octets>)],
            handler: &Acts::<BlobName>(Action::ReadBlob, |shared, call| blobs::download(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::PUT,
        template: BLOB,
        id: "uploadBlob",
        summary: "Adds an attachment of 16 MiB at most, sealed by the client; content-digest is the sha256 of the path. Again changes nothing",
        access: Access::Upload(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: Some(schema_of::<blobs::Octets>),
            answers: &[
                (StatusCode::OK, schema_of::<bodies::AddedBlob>),
                (StatusCode::CREATED, schema_of::<bodies::AddedBlob>),
            ],
            handler: &Acts::<BlobName>(Action::WriteBlob, |shared, call| blobs::upload(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::DELETE,
        template: BLOB,
        id: "removeBlob",
        summary: "Removes an attachment: one's own, or for moderators and owners any; again changes nothing",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::RemovedBlob>)],
            handler: &Acts::<BlobName>(Action::RemoveOwnBlob, |shared, call| blobs::remove(shared, call).boxed()),
        }),
    },
];
