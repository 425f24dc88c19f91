//! Text of others made harmless for a terminal or a log: users, nodes and the programs there may say anything.
//!
//! A character that moves the cursor, changes the order of others or cannot be seen is shown as JSON writes it: `\u001b`, `\u202e`. So
//! nothing is hidden, and JSON that is printed stays what it was.

use std::borrow::Cow;

/// The colours of both programs, as a terminal is told them: SGR with one of these numbers.
const OWN_COLOURS: [&str; 6] = ["0", "1", "2", "31", "32", "33"];
/// Marks above and below one letter, at most: more of them cover the lines around it.
const MARKS: usize = 8;

/// `text` for a terminal. Line breaks, tabs and the programs' own colours stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    clean(text, true)
}

/// `text` on one line, without colours: a line break is shown as `\n`.
pub fn one_line(text: &str) -> Cow<'_, str> {
    clean(text, false)
}

/// The same of `most` characters; what was left out is told.
pub fn one_line_of(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => one_line(text),
        Some((end, _)) => {
            let (kept, left) = text.split_at(end);
            Cow::Owned(format!("{}… ({} bytes more)", one_line(kept), left.len()))
        }
    }
}

/// `text` of several lines, of which no other one than the first can be taken for a line of the program that shows it.
pub fn continued(text: &str) -> String {
    let lines = text.split('\n').map(|line| one_line(line.strip_suffix('\r').unwrap_or(line)));
    lines.collect::<Vec<_>>().join(CONTINUES)
}

/// How a line begins that belongs to the one before.
pub const CONTINUES: &str = "\n    | ";

fn clean(text: &str, lines: bool) -> Cow<'_, str> {
    let stays = |c: char| lines && matches!(c, '\n' | '\t');
    if text.chars().all(|c| c == ' ' || c.is_ascii_graphic() || stays(c)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len().saturating_add(16));
    let (mut rest, mut marks) = (text.chars(), 0_usize);
    while let Some(c) = rest.next() {
        if let Some(colour) = own_colour(c, rest.as_str()).filter(|_| lines) {
            shown.push_str("\u{1b}[");
            shown.push_str(colour);
            shown.push('m');
            rest = rest.as_str().get(colour.len().saturating_add(2)..).unwrap_or_default().chars();
            continue;
        }
        marks = if is_mark(c) { marks.saturating_add(1) } else { 0 };
        match c {
            c if stays(c) => shown.push(c),
            // A line break as others write it.
            '\r' if lines && rest.as_str().starts_with('\n') => {}
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if is_harmless(c) && marks <= MARKS => shown.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    shown.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    Cow::Owned(shown)
}

/// The number of the colour that begins with `c`, and goes on with `rest`.
fn own_colour(c: char, rest: &str) -> Option<&'static str> {
    let (number, _) = rest.strip_prefix('[').filter(|_| c == '\u{1b}')?.split_once('m')?;
    OWN_COLOURS.into_iter().find(|own| *own == number)
}

/// Whether a character is seen, and changes nothing but its own place.
fn is_harmless(c: char) -> bool {
    match c {
        c if c.is_ascii() => !c.is_ascii_control(),
        // Letters and marks by their class, and seen by no one: joiners, fillers, selectors of variants but those of emoji.
        '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{3164}'
        | '\u{ffa0}' => false,
        '\u{fe00}'..='\u{fe0d}' | '\u{e0000}'..='\u{e0fff}' => false,
        '\u{85}' | '\u{2028}' | '\u{2029}' => false,
        c => c.is_whitespace() || is_printed(c),
    }
}

/// Whether the standard library prints a character as it is: it is then neither control nor format (bidirectional, of no width), nor
/// private, nor one that Unicode does not have (`core::unicode::printable`).
fn is_printed(c: char) -> bool {
    // After a letter: a mark at the beginning would be escaped, too.
    let mut text = [b'a'; 5];
    let length = c.encode_utf8(text.get_mut(1..).unwrap_or_default()).len();
    let text = text.get(..=length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.is_some_and(|text| text.escape_debug().count() == 2)
}

/// Whether it stands above or below the letter before it.
fn is_mark(c: char) -> bool {
    !c.is_ascii() && is_printed(c) && !c.is_whitespace() && c.escape_debug().count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind that hides, moves or reorders: C0, DEL, C1, bidirectional, of no width, tags, selectors, private.
    const HARMFUL: [char; 44] = [
        '\0',
        '\u{7}',
        '\u{8}',
        '\u{b}',
        '\u{c}',
        '\u{1b}',
        '\u{7f}',
        '\u{80}',
        '\u{85}',
        '\u{9b}',
        '\u{9d}',
        '\u{ad}',
        '\u{34f}',
        '\u{61c}',
        '\u{180e}',
        '\u{200b}',
        '\u{200c}',
        '\u{200d}',
        '\u{200e}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{202b}',
        '\u{202c}',
        '\u{202d}',
        '\u{202e}',
        '\u{2060}',
        '\u{2064}',
        '\u{2066}',
        '\u{2067}',
        '\u{2068}',
        '\u{2069}',
        '\u{206f}',
        '\u{3164}',
        '\u{feff}',
        '\u{fff9}',
        '\u{e000}',
        '\u{e0001}',
        '\u{e0041}',
        '\u{115f}',
        '\u{180b}',
        '\u{fe00}',
        '\u{e0101}',
    ];

    #[test]
    fn harmful_characters_are_shown_and_cannot_act() {
        for c in HARMFUL {
            for shown in [printable(&format!("a{c}b")), one_line(&format!("a{c}b"))] {
                assert!(!shown.contains(c) && shown.starts_with("a\\u") && shown.ends_with('b'), "{c:?}: {shown}");
            }
        }
        assert_eq!(printable("\u{1b}[2Jall hold \u{202e}x\u{e0041}"), r"\u001b[2Jall hold \u202ex\udb40\udc41");
        assert_eq!(printable("a\rb\r\nc"), "a\\rb\nc");
    }

    #[test]
    fn text_of_people_stays_as_it_is() {
        for text in [
            "",
            "plain\ttext\nof two lines",
            "é ü ß – „so“",
            "日本語　です",
            "שלום",
            "нет",
            "e\u{301}",
            "❤\u{fe0f} 👍🏽",
            "a\u{a0}b",
        ] {
            assert_eq!(printable(text), text);
        }
        let piled = format!("a{}", "\u{301}".repeat(40));
        assert_eq!(printable(&piled).matches('\u{301}').count(), MARKS);
    }

    #[test]
    fn own_colours_pass_and_nothing_else_after_an_escape() {
        assert_eq!(printable("\u{1b}[31mno\u{1b}[0m"), "\u{1b}[31mno\u{1b}[0m");
        for other in ["\u{1b}[8mx", "\u{1b}[1;31mx", "\u{1b}[mx", "\u{1b}]0;x\u{7}", "\u{1b}[31", "\u{1b}"] {
            assert!(!printable(other).contains('\u{1b}'), "{other:?}");
        }
        assert!(!one_line("\u{1b}[31m").contains('\u{1b}'));
    }

    #[test]
    fn one_line_is_one_line_of_bounded_length() {
        assert_eq!(one_line("a\nb\tc\r"), r"a\nb\tc\r");
        assert_eq!(one_line_of("aé日x", 3), "aé日… (1 bytes more)");
        assert_eq!(one_line_of("aé日", 3), "aé日");
    }

    #[test]
    fn no_later_line_begins_where_a_line_of_the_program_does() {
        assert_eq!(continued("a\r\nb\n\u{1b}c"), "a\n    | b\n    | \\u001bc");
    }

    #[test]
    fn json_that_is_printed_stays_what_it_was() {
        // As serde_json writes it: control characters are escaped already, and nothing else.
        assert_eq!(printable("{\"a\":\"\\u001b\u{202e}\u{e0041}\"}"), r#"{"a":"\u001b\u202e\udb40\udc41"}"#);
    }
}
