//! Takes the fields out of a parsed object one by one, and rejects what is left.

use serde::de::DeserializeOwned;

use super::{Map, Rejection, Value};

/// The fields of one object that were not taken yet, and the names of all that were asked for.
pub(super) struct Fields {
    left: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    pub(super) fn of(value: Value) -> Result<Self, Rejection> {
        match value {
            Value::Object(left) => Ok(Self {
                left,
                known: Vec::new(),
            }),
            other => Err(Rejection::new("", format!("is {}", kind(&other)), "a map of fields")),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    pub(super) fn optional<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        accepted: &str,
    ) -> Result<Option<T>, Rejection> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let found = shown(&value);
        let parsed = if value.is_null() {
            None
        } else {
            serde_json::from_value(value).ok()
        };
        parsed
            .map(Some)
            .ok_or_else(|| Rejection::new(name, format!("is {found}"), accepted))
    }

    /// The same for formats in which null is no value.
    pub(super) fn nullable<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        accepted: &str,
    ) -> Result<Option<T>, Rejection> {
        if self.left.get(name).is_some_and(Value::is_null) {
            self.take(name);
        }
        self.optional(name, accepted)
    }

    /// A list whose elements are read later.
    pub(super) fn values(&mut self, name: &'static str) -> Result<Vec<Value>, Rejection> {
        Ok(self.nullable(name, "a list")?.unwrap_or_default())
    }

    /// What nobody asked for.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.left
    }

    pub(super) fn required<T: DeserializeOwned>(&mut self, name: &'static str, accepted: &str) -> Result<T, Rejection> {
        self.optional(name, accepted)?
            .ok_or_else(|| Rejection::new(name, "is missing", accepted))
    }

    pub(super) fn nested<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Result<T, Rejection>,
    ) -> Result<Option<T>, Rejection> {
        let value = self.take(name);
        value
            .map(|value| read(value).map_err(|rejection| rejection.within(name)))
            .transpose()
    }

    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(Value) -> Result<T, Rejection>,
    ) -> Result<Vec<T>, Rejection> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => {
                let elements = values.into_iter().enumerate();
                elements
                    .map(|(index, value)| read(value).map_err(|rejection| rejection.at(index).within(name)))
                    .collect()
            }
            Some(other) => Err(Rejection::new(name, format!("is {}", kind(&other)), "a list")),
        }
    }

    /// Rejects the first field that nobody asked for.
    pub(super) fn end(self) -> Result<(), Rejection> {
        match self.left.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(Rejection::new(
                name,
                "is not a field",
                format!("the fields {}", self.known.join(", ")),
            )),
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.left.remove(name)
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// The value where it is short, or else of what kind it is.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= 40 { text } else { kind(value).to_owned() }
}
