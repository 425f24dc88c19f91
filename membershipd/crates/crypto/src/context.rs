//! What a signature or a seal covers: a label of its own, then every part with its length.

/// Bytes to be signed, or to be bound to a seal.
///
/// The label comes first and each part has its length before it, four bytes, most significant first. So two contexts are the
/// same bytes only if they are the same; and none is a string that the engine or RFC 9421 has signed, since it begins with a
/// zero byte.
#[derive(Debug, Clone)]
pub(super) struct Context(Vec<u8>);

impl Context {
    /// One with this label; a label is used for one purpose only.
    pub(super) fn new(label: &'static str) -> Self {
        Self(Vec::new()).and(label)
    }

    /// The same with one part more. Parts are far shorter than 4 GiB: the longest is a frame's payload.
    pub(super) fn and(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(part);
        self
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of = |parts: &[&str]| parts.iter().fold(Context::new("l"), |context, part| context.and(part)).0;
        assert_eq!(of(&["ab"]), b"\0\0\0\x01l\0\0\0\x02ab");
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["", "a"]), of(&["a"]));
    }
}
