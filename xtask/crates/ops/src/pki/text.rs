//! PEM as people bring it: with the line ends of another system, a byte order mark, or what openssl says about each entry ("Bag
//! Attributes").

use pem::Pem;
use unibus_names::text::without_bom;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";

/// The blocks of a file. What stands around them says nothing; one that is damaged is named by the line on which it begins.
pub(super) fn blocks(text: &[u8]) -> Result<Vec<Pem>, String> {
    match text {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Err("not valid PEM: it is UTF-16; save it as UTF-8".to_owned()),
        [0x30, 0x80..=0xff, ..] => {
            return Err(
                "it is DER and not PEM: openssl x509, or openssl pkey for a key, -inform DER -in … -out …".to_owned()
            );
        }
        _ => {}
    }
    let begins: Vec<usize> =
        text.windows(BEGIN.len()).enumerate().filter(|(_, at)| *at == BEGIN).map(|(at, _)| at).collect();
    let ends = begins.iter().skip(1).copied().chain([text.len()]);
    let one = |(begin, end): (usize, usize)| {
        let line = 1 + text.iter().take(begin).filter(|byte| **byte == b'\n').count();
        pem::parse(text.get(begin..end).unwrap_or_default())
            .map_err(|error| format!("line {line}: not valid PEM: {error}"))
    };
    begins.iter().copied().zip(ends).map(one).collect()
}

/// The file as every reader understands it: its blocks, and nothing around them. One that is so already is unchanged.
pub(crate) fn tidy(text: &[u8]) -> Vec<u8> {
    let mut tidied = Vec::with_capacity(text.len());
    let mut inside = false;
    for line in without_bom(text).split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end) {
        inside |= line.starts_with(BEGIN);
        if inside {
            tidied.extend_from_slice(line);
            tidied.push(b'\n');
        }
        inside &= !line.starts_with(END);
    }
    tidied
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";

    #[test]
    fn what_other_systems_and_openssl_add_is_left_out() {
        let windows = format!("\u{feff}{}", ONE.replace('\n', "\r\n"));
        let bag = format!("Bag Attributes\n    friendlyName: CA\nsubject=CN = x\n\n{ONE}");
        for text in
            [ONE.to_owned(), windows.clone(), bag.clone(), ONE.replace("AQID\n", "AQID  \n"), ONE.trim_end().to_owned()]
        {
            assert_eq!(String::from_utf8(tidy(text.as_bytes())).unwrap(), ONE, "{text:?}");
            let found = blocks(text.as_bytes()).unwrap();
            assert_eq!((found.len(), found[0].contents()), (1, [1, 2, 3].as_slice()), "{text:?}");
        }
        let both = format!("{windows}{bag}");
        assert_eq!(tidy(both.as_bytes()), ONE.repeat(2).as_bytes());
        assert_eq!(blocks(both.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn what_is_damaged_is_named_by_its_line() {
        let refused = |text: &[u8]| blocks(text).unwrap_err();
        assert!(refused(format!("{ONE}# more\n{}", ONE.replace("AQID", "AQ!D")).as_bytes()).starts_with("line 5: "));
        assert!(refused(&ONE.as_bytes()[..40]).starts_with("line 1: "));
        assert!(refused(b"\xff\xfe-\0-\0").contains("UTF-8"));
        assert!(refused(&[0x30, 0x82, 1, 2]).contains("-inform DER"));
        assert_eq!(blocks(b"0 lines\n"), Ok(Vec::new()));
    }
}
