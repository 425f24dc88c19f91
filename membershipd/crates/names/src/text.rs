//! Text files that people bring: some editors of other systems begin them with a byte order mark, which says nothing.

/// U+FEFF as UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The same without a byte order mark at its beginning.
pub fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// What a file of one line says: without a byte order mark, and without its line end, whichever system wrote it.
pub fn only_line(text: &[u8]) -> &[u8] {
    let text = without_bom(text);
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_and_line_end_are_no_part_of_what_is_said() {
        for text in ["ab", "ab\n", "ab\r\n", "\u{feff}ab", "\u{feff}ab\r\n"] {
            assert_eq!(only_line(text.as_bytes()), b"ab", "{text:?}");
        }
        // Anything else is for the reader to judge.
        assert_eq!(only_line(b" ab \n\n"), b" ab \n");
        assert_eq!(only_line("a\u{feff}b".as_bytes()), "a\u{feff}b".as_bytes());
        assert_eq!(without_bom(b"\xef\xbb"), b"\xef\xbb");
        assert_eq!(without_bom(b"\xef\xbb\xbf\r\n"), b"\r\n");
    }
}
