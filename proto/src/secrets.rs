//! Secrets: what they hold, and messages without them for those who only look.

use crate::v1;
use crate::v1::secret::Type;

/// What a secret holds.
///
/// # Errors
/// What is wrong with it, to be appended to the name of its field.
pub fn value(secret: &v1::Secret) -> Result<&[u8], String> {
    match secret.r#type() {
        Type::Value => match &secret.value {
            Some(value) => Ok(&value.data),
            None => Err(".value: must be set".into()),
        },
        Type::Reference => Err(
            ".type: REFERENCE is not supported, as there is no store of secrets to look in; VALUE is accepted".into(),
        ),
        Type::Unknown => Err(".type: must be VALUE".into()),
    }
}

/// What a variable of the environment holds: its own value, or its secret's.
///
/// # Errors
/// What is wrong with it, to be appended to the name of the variable's field.
pub fn variable(variable: &v1::environment::Variable) -> Result<&str, String> {
    use v1::environment::variable::Type as Kind;
    let text = match (variable.r#type(), &variable.secret) {
        (Kind::Secret, Some(secret)) => {
            let bytes = value(secret).map_err(|problem| format!(".secret{problem}"))?;
            std::str::from_utf8(bytes).map_err(|_| ".secret.value.data: is not UTF-8 text".to_owned())?
        }
        (Kind::Secret, None) => return Err(".secret: must be set where the type is SECRET".into()),
        (_, Some(_)) => return Err(".type: must be SECRET where `secret` is set".into()),
        (_, None) => variable.value(),
    };
    match text.contains('\0') {
        true => Err(": holds a NUL character, which no variable can".into()),
        false => Ok(text),
    }
}

/// A secret with this value.
pub fn of(data: &[u8]) -> v1::Secret {
    v1::Secret {
        r#type: Some(Type::Value.into()),
        reference: None,
        value: Some(v1::secret::Value { data: data.to_vec() }),
    }
}

/// The container without what its secrets hold.
#[must_use]
pub fn hidden(mut container: v1::ContainerInfo) -> v1::ContainerInfo {
    for volume in &mut container.volumes {
        let secret = volume.source.as_mut().and_then(|source| source.secret.as_mut());
        if let Some(value) = secret.and_then(|secret| secret.value.as_mut()) {
            value.data.clear();
        }
    }
    container
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_one_value() {
        use v1::environment::variable::Type as Kind;
        let make = |kind: Option<Kind>, value: Option<&str>, secret: Option<v1::Secret>| v1::environment::Variable {
            name: "N".into(),
            r#type: kind.map(Into::into),
            value: value.map(Into::into),
            secret,
        };
        assert_eq!(variable(&make(None, Some("v"), None)).unwrap(), "v");
        assert_eq!(variable(&make(Some(Kind::Secret), None, Some(of(b"s")))).unwrap(), "s");
        for bad in [
            make(Some(Kind::Secret), Some("v"), None),
            make(None, None, Some(of(b"s"))),
            make(Some(Kind::Secret), None, Some(of(&[0xff]))),
            make(Some(Kind::Secret), None, Some(of(b"a\0b"))),
            make(Some(Kind::Secret), None, Some(v1::Secret::default())),
            make(None, Some("a\0b"), None),
        ] {
            assert!(variable(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn those_who_look_see_no_secret() {
        let source = v1::volume::Source {
            secret: Some(of(b"s3cret")),
            ..Default::default()
        };
        let volume = v1::Volume {
            source: Some(source),
            ..Default::default()
        };
        let container = v1::ContainerInfo {
            volumes: vec![volume],
            ..Default::default()
        };
        let shown = hidden(container);
        let secret = shown.volumes[0]
            .source
            .as_ref()
            .and_then(|source| source.secret.as_ref());
        assert_eq!(
            secret
                .and_then(|secret| secret.value.as_ref())
                .map(|value| value.data.len()),
            Some(0)
        );
    }
}
