//! Bytes of a fixed length that documents carry as text, in one way.

/// A type of so many bytes, with its name, its encoding and what its text has to be.
macro_rules! encoded {
    ($(#[$doc:meta])* $name:ident[$length:expr], $what:literal, $encoding:ident, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; $length]);

        impl $name {
            /// With these bytes.
            pub fn from_bytes(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub fn to_bytes(self) -> [u8; $length] {
                self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = unibus_core::domain::InvalidValue;

            fn from_str(value: &str) -> Result<Self, Self::Err> {
                let bytes = data_encoding::$encoding.decode(value.as_bytes()).ok();
                bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| unibus_core::domain::InvalidValue {
                    what: $what,
                    value: value.chars().take(80).collect(),
                    rule: $rule,
                })
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&data_encoding::$encoding.encode(&self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = unibus_core::domain::InvalidValue;

            fn try_from(value: String) -> Result<Self, Self::Error> {
                value.parse()
            }
        }
    };
}

pub(super) use encoded;
