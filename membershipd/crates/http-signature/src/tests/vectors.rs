//! The examples of RFC 9421, reproduced with the code that builds our own signatures.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ed25519_dalek::{Signer, SigningKey};
use sfv::{KeyRef, RefBareItem, StringRef};

use crate::base::{SignatureBase, signature_base};
use crate::dictionary::{self, Value};
use unibus_core::domain::SignPub;

/// Key `test-key-ed25519` (appendix B.1.4), of its JWK form.
const PRIVATE: &str = "n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU";
const PUBLIC: &str = "JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs";

fn key() -> SigningKey {
    SigningKey::from_bytes(&BASE64URL_NOPAD.decode(PRIVATE.as_bytes()).unwrap().try_into().unwrap())
}

/// The base for a Signature-Input and the values of the components that it covers.
fn rebuild(input: &str, values: &[&str]) -> SignatureBase {
    let members = dictionary::parse(input.as_bytes()).unwrap();
    let Value::List(covered) = &members[0].value else { panic!("{input}") };
    assert_eq!(covered.len(), values.len());
    let names = covered.iter().map(|item| item.value.as_string().unwrap());
    let components: Vec<(&StringRef, &str)> = names.zip(values.iter().copied()).collect();
    let parameters = members[0].parameters.iter().map(|(name, value)| (*name, RefBareItem::from(value)));
    signature_base(&components, parameters).unwrap()
}

#[test]
fn appendix_b_2_6_is_reproduced() {
    let params = "(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\")\
                  ;created=1618884473;keyid=\"test-key-ed25519\"";
    let values = ["Tue, 20 Apr 2021 02:07:55 GMT", "POST", "/foo", "example.com", "application/json", "18"];
    let wanted = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\
                  \"@method\": POST\n\
                  \"@path\": /foo\n\
                  \"@authority\": example.com\n\
                  \"content-type\": application/json\n\
                  \"content-length\": 18\n\
                  \"@signature-params\": (\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \
                  \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"";
    let base = rebuild(&format!("sig-b26={params}"), &values);
    assert_eq!((base.text.as_str(), base.params.as_str()), (wanted, params));

    let public: SignPub = HEXLOWER.encode(&BASE64URL_NOPAD.decode(PUBLIC.as_bytes()).unwrap()).parse().unwrap();
    assert_eq!(key().verifying_key().as_bytes()[..], BASE64URL_NOPAD.decode(PUBLIC.as_bytes()).unwrap());
    let field = b"sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:";
    let members = dictionary::parse(field).unwrap();
    let Value::Item(signature) = &members[0].value else { panic!("no item") };
    let signature = signature.as_byte_sequence().unwrap();
    assert_eq!(key().sign(base.text.as_bytes()).to_bytes()[..], *signature);
    assert!(public.verifies(base.text.as_bytes(), signature));
    assert!(!public.verifies(base.text.replace("POST", "PUT").as_bytes(), signature));
}

#[test]
fn parameters_are_serialised_as_the_standard_writes_them() {
    // White space and numbers are free in a field and are not in the base (RFC 9421 section 2.3).
    let loose = "sig=(  \"@method\"   \"@path\" ); created=007;  nonce=\"a\\\"b\\\\\"";
    let base = rebuild(loose, &["GET", "/"]);
    assert_eq!(base.params, "(\"@method\" \"@path\");created=7;nonce=\"a\\\"b\\\\\"");
    // RFC 9421 section 2.2.6 and 2.2.7: derived components stand in the base as they are.
    assert!(base.text.starts_with("\"@method\": GET\n\"@path\": /\n\"@signature-params\": ("), "{}", base.text);
}

#[test]
fn a_value_cannot_add_a_line() {
    let name = StringRef::from_str("@path").unwrap();
    for bad in ["/\n\"@method\": GET", "/\r", "/\t", "/\u{7f}", "/é", "/\0"] {
        let none: [(&KeyRef, RefBareItem<'_>); 0] = [];
        assert_eq!(signature_base(&[(name, bad)], none), Err("@path"), "{bad:?}");
    }
}
