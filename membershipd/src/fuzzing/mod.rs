//! What is fuzzed: everything that strangers write and that is read before anybody knows whose it is.
//!
//! A target is a function of bytes that panics when something does not hold. It is run in two ways: by libFuzzer (the crate in
//! `membershipd/fuzz`, which has one line for each target), for as long as somebody wants, and by an ordinary test (`replay`),
//! which gives it all seeds and some thousand changes of them. Seeds and dictionaries lie in `membershipd/fuzz`; the
//! seeds are what real programs have sent.

#[cfg(test)]
mod replay;
mod subjects;

pub use crate::api::bodies;
pub use crate::callout::callouts;
pub use subjects::subjects;
pub use unibus_crypto::frames;
pub use unibus_http_signature::headers;

/// Looks at some bytes, and panics when something does not hold.
pub type Target = fn(&[u8]);

/// Every target, by the name of its binary, of its seeds and of its dictionary.
pub const TARGETS: [(&str, Target); 5] =
    [("headers", headers), ("bodies", bodies), ("callouts", callouts), ("subjects", subjects), ("frames", frames)];
