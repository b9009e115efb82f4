//! Finds the user of a task in the host's user database.

use std::path::Path;

use crate::containerizer::User;

/// A user that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is none of that name.
    #[error("user `{}` does not exist on this agent's host; create it, or start the agent with --default-user", .0.escape_debug())]
    Unknown(String),
    /// The user database cannot be read.
    #[error("cannot read {path}: {source}")]
    Database {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// The user of that name with all groups; the default one where the name is empty or unknown and there is a default.
///
/// # Errors
/// There is no such user.
pub(crate) fn find(name: &str, default: Option<&str>) -> Result<User, Error> {
    let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
    let names = std::iter::once(name).chain(default).filter(|name| !name.is_empty());
    let mut users = names.filter_map(|name| lookup(name, &passwd, &group));
    users.next().ok_or_else(|| Error::Unknown(name.to_owned()))
}

fn lookup(name: &str, passwd: &str, group: &str) -> Option<User> {
    let line = passwd
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let mut fields = line.split(':').skip(1);
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let mut groups = vec![gid];
    for line in group.lines() {
        let mut fields = line.split(':').skip(2);
        let id: Option<u32> = fields.next().and_then(|id| id.parse().ok());
        let is_member = fields
            .next()
            .is_some_and(|members| members.split(',').any(|member| member == name));
        groups.extend(id.filter(|id| is_member && *id != gid));
    }
    Some(User { uid, gid, groups })
}

fn read(path: &str) -> Result<String, Error> {
    std::fs::read(Path::new(path))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|source| Error::Database {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000:Ada:/home/ada:/bin/sh\nadam:x:7:8::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\naudio:x:29:adam,ada\nada:x:1000:ada\nvideo:x:44:adam\n";

    #[test]
    fn a_user_has_its_primary_and_its_other_groups() {
        let ada = User {
            uid: 1000,
            gid: 1000,
            groups: vec![1000, 29],
        };
        assert_eq!(lookup("ada", PASSWD, GROUP), Some(ada));
        assert_eq!(lookup("ad", PASSWD, GROUP), None);
        assert_eq!(lookup("ada:x", PASSWD, GROUP), None);
    }

    #[test]
    fn the_default_user_stands_in_for_an_unknown_one_only() {
        assert_eq!(find("root", Some("nobody")).unwrap().uid, 0);
        assert!(find("no-such-user", Some("root")).is_ok());
        assert!(matches!(find("no-such-user", None), Err(Error::Unknown(_))));
        assert!(matches!(find("", None), Err(Error::Unknown(_))));
    }
}
