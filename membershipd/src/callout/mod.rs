//! The auth callout: the engine asks about every connection, the gate decides, the answer is signed and sealed.

#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod jwt;
mod request;
mod responder;

#[cfg(any(test, feature = "fuzzing"))]
pub use fuzzing::callouts;
pub use responder::Responder;
