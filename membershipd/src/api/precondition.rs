//! Revisions as entity tags: what an answer is of, and which one a change is for (RFC 9110 sections 8.8.3 and 13.1.1).

use super::problem::Problem;
use super::problem::Refuse as _;
use unibus_api_types::problem::Kind;

/// The entity tag of something at a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ETag(pub(super) u64);

impl std::fmt::Display for ETag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// Which revisions a change is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// Whatever is there, if anything is.
    Any,
    /// One of these; none where all that was named never was a revision of ours.
    OneOf(Vec<u64>),
}

/// Most entity tags in one field.
const MOST: usize = 16;

impl IfMatch {
    /// Reads the value of an If-Match field.
    pub(super) fn parse(value: &[u8]) -> Result<Self, Problem> {
        let malformed = || Kind::PRECONDITION_MALFORMED.because("If-Match is '*' or a list of entity tags: \"17\"");
        let text = str::from_utf8(value).map_err(|_| malformed())?.trim_matches([' ', '\t']);
        if text == "*" {
            return Ok(Self::Any);
        }
        let mut revisions = Vec::new();
        let mut rest = text;
        for _ in 0..MOST {
            let (weak, tag) = match rest.strip_prefix("W/") {
                Some(tag) => (true, tag),
                None => (false, rest),
            };
            let (tag, after) = tag.strip_prefix('"').and_then(|tag| tag.split_once('"')).ok_or_else(malformed)?;
            // etagc: visible characters without the quote, and no space.
            if !tag.bytes().all(|byte| byte == b'!' || (b'#'..=b'~').contains(&byte) || byte >= 0x80) {
                return Err(malformed());
            }
            // Strong comparison: a weak tag is never equal, nor is one that we did not make.
            revisions.extend(tag.parse().ok().filter(|revision: &u64| !weak && revision.to_string() == tag));
            let after = after.trim_start_matches([' ', '\t']);
            if after.is_empty() {
                return Ok(Self::OneOf(revisions));
            }
            rest = after.strip_prefix(',').ok_or_else(malformed)?.trim_start_matches([' ', '\t']);
        }
        Err(malformed())
    }

    /// The revisions; none: any.
    pub(super) fn revisions(&self) -> Option<&[u64]> {
        match self {
            IfMatch::Any => None,
            IfMatch::OneOf(revisions) => Some(revisions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_give_out_comes_back() {
        for revision in [0, 1, 17, u64::MAX] {
            let field = ETag(revision).to_string();
            assert_eq!(IfMatch::parse(field.as_bytes()).unwrap(), IfMatch::OneOf(vec![revision]));
        }
        assert_eq!(IfMatch::parse(b" * ").unwrap(), IfMatch::Any);
        assert_eq!(IfMatch::parse(b"\"1\" ,\t\"2\"").unwrap(), IfMatch::OneOf(vec![1, 2]));
    }

    #[test]
    fn foreign_and_weak_tags_match_nothing() {
        for field in ["\"x\"", "W/\"7\"", "\"\"", "\"07\"", "\"+7\"", "\"-1\"", "\"18446744073709551616\"", "\"a,b\""] {
            assert_eq!(IfMatch::parse(field.as_bytes()).unwrap(), IfMatch::OneOf(vec![]), "{field}");
        }
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        let long = vec!["\"1\""; MOST + 1].join(",");
        for field in ["", "7", "\"7", "7\"", "\"7\"\"8\"", "\"7\",", ",\"7\"", "*,\"7\"", "w/\"7\"", "\"a b\"", &long] {
            assert!(IfMatch::parse(field.as_bytes()).is_err(), "{field}");
        }
        assert!(IfMatch::parse(b"\"\xff\"").is_err());
    }
}
