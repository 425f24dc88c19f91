//! Limits and forms of names that `membershipd` and `xtask` both check, so that they check the same.
//!
//! A rule belongs here when both programs apply it to what one of them writes and the other reads. It never depends on another
//! crate, reads no file and knows no type of either program: it says whether a text is such a name, and why not.
