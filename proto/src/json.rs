//! The JSON mapping of the v1 messages, which is older than and differs from proto3's.
//!
//! Field names are those of the .proto files. 64-bit integers are written as numbers and read from numbers or numeric
//! strings; bytes are base64 strings; enums go by name (an unknown name is dropped where the field is optional and an
//! error where it is required); doubles also accept `"Infinity"`, `"-Infinity"` and `"NaN"`; `null` means unset; unknown
//! fields are ignored; a missing required field is an error that names it. Empty lists are left out; an unset optional
//! field that has a default and is not deprecated is written with its default.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Rejection;

/// An enum that goes by name in JSON.
pub trait NamedEnum: Copy + Into<i32> + TryFrom<i32> {
    /// The name as in the .proto file.
    fn name(self) -> &'static str;
    /// The value of that name, if there is one.
    fn from_name(name: &str) -> Option<Self>;
}

#[allow(deprecated)]
mod enums {
    include!(concat!(env!("OUT_DIR"), "/enums.rs"));
}

pub(crate) mod defaults {
    include!(concat!(env!("OUT_DIR"), "/json_defaults.rs"));
}

/// Decodes a message from JSON.
///
/// # Errors
/// Text that is no JSON, a value of the wrong type, an unknown enum name or a missing required field; by its path as far
/// as that is known, and with the line and column.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, Rejection> {
    // The path costs time, so it is looked for only where there is something to say.
    serde_json::from_slice(text).or_else(|_| {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let message = serde_path_to_error::deserialize(&mut deserializer).map_err(rejection)?;
        deserializer.end().map_err(|error| {
            Rejection::new("", format!("is followed by something else: {error}"), "one JSON object")
        })?;
        Ok(message)
    })
}

fn rejection(error: serde_path_to_error::Error<serde_json::Error>) -> Rejection {
    let path = error.path().to_string();
    let path = if path == "." { String::new() } else { path };
    let text = error.inner().to_string();
    let missing = text
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next());
    match missing {
        Some(field) if path.is_empty() => Rejection::missing(field),
        Some(field) => Rejection::missing(field).within(path),
        None => Rejection::new(path, format!("is wrong: {text}"), "JSON as the v1 API describes it"),
    }
}

/// Encodes a message as JSON.
pub fn to_vec<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("v1 messages have string keys and serialize without failing")
}

/// A number or the name of an enum value.
enum NameOrNumber {
    Number(i32),
    Name(String),
}

impl<'de> Deserialize<'de> for NameOrNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrNumberVisitor;
        impl Visitor<'_> for NameOrNumberVisitor {
            type Value = NameOrNumber;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name or number of an enum value")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                i32::try_from(value)
                    .map(NameOrNumber::Number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                i32::try_from(value)
                    .map(NameOrNumber::Number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(NameOrNumber::Name(value.to_owned()))
            }
        }
        deserializer.deserialize_any(NameOrNumberVisitor)
    }
}

/// A required enum.
pub(crate) struct Enum<T>(PhantomData<T>);

impl<T: NamedEnum> Enum<T> {
    pub(crate) fn serialize<S: Serializer>(value: &i32, serializer: S) -> Result<S::Ok, S::Error> {
        match T::try_from(*value) {
            Ok(known) => serializer.serialize_str(known.name()),
            Err(_) => serializer.serialize_i32(*value),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
        match NameOrNumber::deserialize(deserializer)? {
            NameOrNumber::Number(number) => Ok(number),
            NameOrNumber::Name(name) => T::from_name(&name)
                .map(Into::into)
                .ok_or_else(|| de::Error::custom(format!("unknown enum value {name:?}"))),
        }
    }
}

/// An optional enum.
pub(crate) struct EnumOption<T>(PhantomData<T>);

impl<T: NamedEnum> EnumOption<T> {
    pub(crate) fn serialize<S: Serializer>(value: &Option<i32>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(number) => Enum::<T>::serialize(number, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
        Ok(match Option::<NameOrNumber>::deserialize(deserializer)? {
            None => None,
            Some(NameOrNumber::Number(number)) => Some(number),
            Some(NameOrNumber::Name(name)) => T::from_name(&name).map(Into::into),
        })
    }
}

/// A list of enum values; unknown names are dropped.
pub(crate) struct EnumList<T>(PhantomData<T>);

impl<T: NamedEnum> EnumList<T> {
    pub(crate) fn serialize<S: Serializer>(values: &[i32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|&number| match T::try_from(number) {
            Ok(known) => serde_json::Value::from(known.name()),
            Err(_) => serde_json::Value::from(number),
        }))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<i32>, D::Error> {
        let values = Option::<Vec<NameOrNumber>>::deserialize(deserializer)?.unwrap_or_default();
        Ok(values
            .into_iter()
            .filter_map(|value| match value {
                NameOrNumber::Number(number) => Some(number),
                NameOrNumber::Name(name) => T::from_name(&name).map(Into::into),
            })
            .collect())
    }
}

/// Reads `null` as the empty value.
pub(crate) fn null_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A number, or a string that holds one.
struct Flexible<T>(T);

impl<'de, T> Deserialize<'de> for Flexible<T>
where
    T: std::str::FromStr + TryFrom<i64> + TryFrom<u64>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlexibleVisitor<T>(PhantomData<T>);
        impl<T: std::str::FromStr + TryFrom<i64> + TryFrom<u64>> Visitor<'_> for FlexibleVisitor<T> {
            type Value = Flexible<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "an integer of type {} or a string that holds one",
                    std::any::type_name::<T>()
                )
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                T::try_from(value)
                    .map(Flexible)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                T::try_from(value)
                    .map(Flexible)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
                // Programs whose only number is a double write 5.0 for 5.
                if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
                    return self.visit_i64(value as i64);
                }
                Err(E::invalid_value(de::Unexpected::Float(value), &self))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                value
                    .parse()
                    .map(Flexible)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(FlexibleVisitor(PhantomData))
    }
}

pub(crate) fn integer<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<T, D::Error>
where
    T: std::str::FromStr + TryFrom<i64> + TryFrom<u64>,
{
    Ok(Flexible::deserialize(deserializer)?.0)
}

pub(crate) fn integer_option<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: std::str::FromStr + TryFrom<i64> + TryFrom<u64>,
{
    Ok(Option::<Flexible<T>>::deserialize(deserializer)?.map(|value| value.0))
}

pub(crate) fn list<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: std::str::FromStr + TryFrom<i64> + TryFrom<u64>,
{
    let values = Option::<Vec<Flexible<T>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(values.into_iter().map(|value| value.0).collect())
}

/// Base64 text for raw bytes.
pub(crate) mod bytes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD
            .decode(&text)
            .map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&text), &"base64 text"))
    }
}

pub(crate) mod bytes_option {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::bytes::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else {
            return Ok(None);
        };
        STANDARD
            .decode(&text)
            .map(Some)
            .map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&text), &"base64 text"))
    }
}

/// A double; infinities and NaN are strings.
struct Double(f64);

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DoubleVisitor;
        impl Visitor<'_> for DoubleVisitor {
            type Value = Double;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, \"Infinity\", \"-Infinity\" or \"NaN\"")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Double(value as f64))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Double(value as f64))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
                Ok(Double(value))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                value
                    .parse()
                    .map(Double)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(DoubleVisitor)
    }
}

pub(crate) mod double {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() {
            serializer.serialize_f64(*value)
        } else if value.is_nan() {
            serializer.serialize_str("NaN")
        } else {
            serializer.serialize_str(if *value > 0.0 { "Infinity" } else { "-Infinity" })
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Double::deserialize(deserializer)?.0)
    }
}

pub(crate) mod double_option {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::double::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<Double>::deserialize(deserializer)?.map(|value| value.0))
    }
}

/// `google.protobuf.Duration` as text, `"3.5s"`.
pub(crate) mod duration_option {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<prost_types::Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<prost_types::Duration>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&text), &"a duration such as \"3.5s\""))
    }
}
