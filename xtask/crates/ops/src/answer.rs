//! JSON that a node answers, with all text in it made harmless: a node may say anything, and what it says is shown.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use unibus_names::printable::one_line_of;

/// Characters of one text of an answer, at most. The longest that is meant is a remedy.
const MOST_TEXT: usize = 4096;

/// Reads an answer. Each text in it is one line, bounded, and without anything that a terminal would act on.
pub fn read<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    serde_json::from_value(harmless(serde_json::from_slice(json)?))
}

fn harmless(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(harmless_text(&text)),
        Value::Array(values) => Value::Array(values.into_iter().map(harmless).collect()),
        Value::Object(map) => {
            let pairs = map.into_iter().map(|(name, value)| (harmless_text(&name), harmless(value)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        other => other,
    }
}

fn harmless_text(text: &str) -> String {
    one_line_of(text, MOST_TEXT).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_harmless_wherever_they_stand() {
        let json = r#"{"a\u001b[2J":["\u202ex",{"b":"two\nlines"}],"n":7}"#;
        let read: Value = read(json.as_bytes()).unwrap();
        assert_eq!(read.to_string(), r#"{"a\\u001b[2J":["\\u202ex",{"b":"two\\nlines"}],"n":7}"#);
        let long: String = super::read(format!("\"{}\"", "x".repeat(MOST_TEXT + 5)).as_bytes()).unwrap();
        assert!(long.ends_with("x… (5 bytes more)"), "{}", &long[MOST_TEXT - 5..]);
        assert!(super::read::<Value>(b"{").is_err());
    }
}
