//! The auth callout: the engine asks about every connection, the gate decides, the answer is signed and sealed.

mod jwt;
mod request;
mod responder;

pub use responder::Responder;
