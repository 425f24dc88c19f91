//! Private keys as openssl writes them (PKCS#8, SEC1, PKCS#1), turned into the PKCS#8 that ring reads.

use rcgen::KeyPair;

/// What ring can sign with.
const USABLE: &str = "use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits";

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const PARAMETERS: u8 = 0xa0;
const PUBLIC_KEY: u8 = 0xa1;

/// rsaEncryption, RFC 8017 appendix A.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// id-ecPublicKey, RFC 5480 section 2.1.1
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// secp256r1, RFC 5480 section 2.1.1.1
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// secp384r1
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

/// Reads a private key. `public` is the key in the certificate it should belong to: a SEC1 key may lack its own.
pub(super) fn read(text: &[u8], public: &[u8]) -> Result<KeyPair, String> {
    let blocks = super::text::blocks(text)?;
    let mut keys = blocks.iter().filter(|block| block.tag().ends_with("PRIVATE KEY"));
    let key = keys.next().ok_or("it holds no private key in PEM form")?;
    if keys.next().is_some() {
        return Err("it holds more than one private key".to_owned());
    }
    let encrypted = key.tag().starts_with("ENCRYPTED") || key.headers().get("DEK-Info").is_some();
    if encrypted {
        return Err("the key is encrypted; decrypt it first (openssl pkey -in … -out …, then chmod 600)".to_owned());
    }
    let der = key.contents();
    let pkcs8 = match key.tag() {
        "PRIVATE KEY" => normal(der, public)?,
        "RSA PRIVATE KEY" => wrap(&[tlv(OID, RSA), tlv(NULL, &[])].concat(), der),
        "EC PRIVATE KEY" => {
            let named = blocks.iter().find(|block| block.tag() == "EC PARAMETERS").map(pem::Pem::contents);
            ec(der, named, public)?
        }
        other => return Err(format!("a key of the form {other:?} cannot be used; {USABLE}")),
    };
    KeyPair::try_from(pkcs8).map_err(|_| {
        format!("the key is damaged, of a kind that cannot be used, or its public half is another's; {USABLE}")
    })
}

/// PKCS#8 with an EC key inside is rebuilt, for ring reads only one of the shapes it may have.
fn normal(der: &[u8], public: &[u8]) -> Result<Vec<u8>, String> {
    let (algorithm, key) = pkcs8_parts(der).ok_or("the key is not valid PKCS#8")?;
    match take(algorithm) {
        Some((OID, EC, curve)) => ec(key, Some(curve), public),
        _ => Ok(der.to_vec()),
    }
}

fn pkcs8_parts(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (SEQUENCE, body, _) = take(der)? else { return None };
    let (INTEGER, _, rest) = take(body)? else { return None };
    let (SEQUENCE, algorithm, rest) = take(rest)? else { return None };
    let (OCTET_STRING, key, _) = take(rest)? else { return None };
    Some((algorithm, key))
}

/// An ECPrivateKey (RFC 5915); `named` is the curve if something around the key says it.
fn ec(der: &[u8], named: Option<&[u8]>, public: &[u8]) -> Result<Vec<u8>, String> {
    let broken = "the key is not a valid EC private key";
    let Some((SEQUENCE, body, _)) = take(der) else { return Err(broken.to_owned()) };
    let Some((INTEGER, _, rest)) = take(body) else { return Err(broken.to_owned()) };
    let Some((OCTET_STRING, secret, mut rest)) = take(rest) else { return Err(broken.to_owned()) };
    let (mut inner, mut own) = (None, None);
    while let Some((tag, content, after)) = take(rest) {
        match tag {
            PARAMETERS => inner = Some(content),
            // The first byte of a bit string counts its unused bits: none here.
            PUBLIC_KEY => {
                own = take(content).filter(|(tag, _, _)| *tag == BIT_STRING).and_then(|(_, bits, _)| bits.get(1..));
            }
            _ => return Err(broken.to_owned()),
        }
        rest = after;
    }
    let curve = inner.or(named).ok_or("the key does not say its curve")?;
    let (curve, length) = match take(curve) {
        Some((OID, P256, _)) => (P256, 32),
        Some((OID, P384, _)) => (P384, 48),
        Some((SEQUENCE, _, _)) => {
            return Err("the key spells its curve out; make it again with a named curve".to_owned());
        }
        _ => return Err(format!("the key is on another curve; {USABLE}")),
    };
    let padding = usize::checked_sub(length, secret.len()).ok_or(broken)?;
    let secret = [vec![0; padding], secret.to_vec()].concat();
    let point = [&[0], own.unwrap_or(public)].concat();
    let key = tlv(
        SEQUENCE,
        &[tlv(INTEGER, &[1]), tlv(OCTET_STRING, &secret), tlv(PUBLIC_KEY, &tlv(BIT_STRING, &point))].concat(),
    );
    Ok(wrap(&[tlv(OID, EC), tlv(OID, curve)].concat(), &key))
}

/// PrivateKeyInfo (RFC 5208 section 5).
fn wrap(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[tlv(INTEGER, &[0]), tlv(SEQUENCE, algorithm), tlv(OCTET_STRING, key)].concat())
}

/// One DER value.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => out.push(short),
        _ => {
            let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            // A usize has eight bytes at most.
            out.push(0x80 | u8::try_from(bytes.len()).unwrap_or(8));
            out.extend(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

/// Splits one DER value off: its tag, its content, and what follows it.
fn take(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = der.split_first_chunk::<2>()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) {
            return None;
        }
        let (bytes, after) = rest.split_at_checked(count)?;
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_survives_a_round_trip_at_every_kind_of_length() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let der = [tlv(SEQUENCE, &content), vec![9, 9]].concat();
            assert_eq!(take(&der), Some((SEQUENCE, content.as_slice(), [9, 9].as_slice())), "{length}");
        }
    }

    #[test]
    fn der_that_is_cut_short_is_refused() {
        let der = tlv(SEQUENCE, &vec![7; 300]);
        for end in 0..der.len() {
            assert_eq!(take(&der[..end]), None, "{end}");
        }
        assert_eq!(take(&[SEQUENCE, 0x80, 0, 0]), None);
        assert_eq!(take(&[SEQUENCE, 0xff, 0, 0]), None);
    }

    #[test]
    fn a_key_without_its_public_half_takes_the_certificates() {
        let pair = KeyPair::generate().unwrap();
        let (_, sec1) = pkcs8_parts(pair.serialized_der()).unwrap();
        let (_, body, _) = take(sec1).unwrap();
        let (_, _, rest) = take(body).unwrap();
        let (_, secret, _) = take(rest).unwrap();
        let bare = tlv(SEQUENCE, &[tlv(INTEGER, &[1]), tlv(OCTET_STRING, secret)].concat());
        let curve = pem::encode(&pem::Pem::new("EC PARAMETERS", tlv(OID, P256)));
        let text = format!("{curve}{}", pem::encode(&pem::Pem::new("EC PRIVATE KEY", bare)));
        let read_back = read(text.as_bytes(), pair.public_key_raw()).unwrap();
        assert_eq!(read_back.public_key_raw(), pair.public_key_raw());
        let other = KeyPair::generate().unwrap();
        assert!(read(text.as_bytes(), other.public_key_raw()).is_err());
    }

    #[test]
    fn what_is_no_usable_key_is_refused_with_a_reason() {
        let refused = |text: &str| read(text.as_bytes(), &[]).err().unwrap();
        assert!(refused("").contains("no private key"));
        assert!(refused("-----BEGIN PRIVATE KEY-----\nAAAA").contains("PEM") || refused("x").contains("no private"));
        let block = |tag: &str, der: &[u8]| pem::encode(&pem::Pem::new(tag, der));
        assert!(refused(&block("ENCRYPTED PRIVATE KEY", &[1])).contains("encrypted"));
        assert!(refused(&block("PRIVATE KEY", &[1, 2, 3])).contains("PKCS#8"));
        assert!(refused(&block("DSA PRIVATE KEY", &[1, 2, 3])).contains("DSA"));
        let two = block("RSA PRIVATE KEY", &[1]).repeat(2);
        assert!(refused(&two).contains("more than one"));
    }
}
