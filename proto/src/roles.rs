//! Roles: to whom resources are allocated and for whom they are reserved, a tree by `/`.

use crate::Rejection;

/// The role of everybody: unreserved resources belong to it, and nothing can be reserved for it.
pub const ANY: &str = "*";

/// Checks the name of a role.
///
/// # Errors
/// Empty; longer than 255 bytes; or a part between slashes that is empty, `.`, `..`, begins with `-`, or holds `*`
/// (the role `*` itself is accepted), a backslash, white space or a control character.
pub fn check(role: &str, field: &str) -> Result<(), Rejection> {
    if role == ANY {
        return Ok(());
    }
    let problem = if role.is_empty() {
        Some("is empty".to_owned())
    } else if role.len() > 255 {
        Some(format!("is {} bytes long", role.len()))
    } else {
        role.split('/').find_map(|part| {
            let bad = |c: char| matches!(c, '*' | '\\') || c.is_whitespace() || c.is_control();
            match part {
                "" => Some(format!("has an empty part ({role:?})")),
                "." | ".." => Some(format!("has the part {part:?} ({role:?})")),
                part if part.starts_with('-') => Some(format!("has a part that begins with `-` ({role:?})")),
                part => part.chars().find(|c| bad(*c)).map(|found| format!("holds {found:?}")),
            }
        })
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(Rejection::new(
            field,
            problem,
            "`*`, or 1 to 255 bytes in parts separated by `/`, without `*`, `\\`, white space and control characters, \
             no part empty, `.`, `..` or beginning with `-`",
        )),
    }
}

/// Whether `role` lies strictly below `ancestor`: `a/b` below `a`.
pub fn is_below(role: &str, ancestor: &str) -> bool {
    role.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_paths_of_plain_names() {
        for good in ["*", "web", "a/b/c", "a-b", "ünïcode"] {
            assert_eq!(check(good, "role"), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            ".",
            "a/..",
            "-a",
            "a/*",
            "a b",
            "a\\b",
            &"r".repeat(256),
        ] {
            assert_eq!(check(bad, "role").expect_err(bad).field, "role");
        }
        assert!(is_below("a/b", "a"));
        assert!(!is_below("ab", "a"));
        assert!(!is_below("a", "a"));
    }
}
