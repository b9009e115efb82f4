//! Path patterns: which files a source names.
//!
//! Within a component `*` stands for any run of characters and `?` for one; `**` as a whole component stands for any number
//! of directories. As in a shell, neither matches a leading dot. Symbolic links are followed, except below `**`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// How many directories deep `**` goes.
const DEPTH_MAX: usize = 16;

/// A path in which components may be patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    root: PathBuf,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Plain(String),
    Wild(String),
    AnyDepth,
}

impl Pattern {
    /// Parses an absolute path or pattern. The error says what would be accepted.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let path = Path::new(text);
        if !path.is_absolute() {
            return Err(format!(
                "source {text:?}: expected an absolute path, in which * ? and ** may be used"
            ));
        }
        let mut parts = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => {
                    let name = name.to_str().unwrap_or_default();
                    parts.push(match name {
                        "**" => Part::AnyDepth,
                        _ if name.contains(['*', '?']) => Part::Wild(name.to_owned()),
                        _ => Part::Plain(name.to_owned()),
                    });
                }
                Component::RootDir => {}
                _ => return Err(format!("source {text:?}: expected a path without `..`")),
            }
        }
        if !matches!(parts.last(), Some(Part::Plain(_) | Part::Wild(_))) {
            return Err(format!("source {text:?}: expected the name of a file at its end"));
        }
        Ok(Pattern {
            root: PathBuf::from("/"),
            parts,
        })
    }

    /// Adds the paths that exist now. What cannot be read is left out: it may be there at the next look.
    pub fn find(&self, found: &mut BTreeSet<PathBuf>) {
        walk(&self.root, &self.parts, found);
    }
}

fn walk(at: &Path, parts: &[Part], found: &mut BTreeSet<PathBuf>) {
    // Plain components need no listing of their directory.
    let plain = parts.iter().take_while(|part| matches!(part, Part::Plain(_))).count();
    let mut path = at.to_path_buf();
    path.extend(parts[..plain].iter().map(|part| match part {
        Part::Plain(name) => name.as_str(),
        Part::Wild(_) | Part::AnyDepth => unreachable!("counted as plain"),
    }));
    match parts[plain..].split_first() {
        None => {
            if path.exists() {
                found.insert(path);
            }
        }
        Some((Part::AnyDepth, rest)) => descend(&path, rest, DEPTH_MAX, found),
        Some((Part::Wild(pattern), rest)) => {
            for entry in entries(&path) {
                if entry.file_name().to_str().is_some_and(|name| matches(pattern, name)) {
                    walk(&entry.path(), rest, found);
                }
            }
        }
        Some((Part::Plain(_), _)) => unreachable!("counted as plain"),
    }
}

fn descend(at: &Path, rest: &[Part], depth: usize, found: &mut BTreeSet<PathBuf>) {
    walk(at, rest, found);
    if depth == 0 {
        return;
    }
    for entry in entries(at) {
        let hidden = entry.file_name().as_encoded_bytes().first() == Some(&b'.');
        if !hidden && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            descend(&entry.path(), rest, depth - 1, found);
        }
    }
}

fn entries(at: &Path) -> impl Iterator<Item = std::fs::DirEntry> {
    std::fs::read_dir(at).into_iter().flatten().flatten()
}

/// Matches one name against one component's pattern, in time proportional to the product of their lengths.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if p < pattern.len() && pattern[p] == '*' {
            retry = Some((p, n));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == name[n]) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((star, from)) = retry {
            // The last star takes one character more.
            retry = Some((star, from + 1));
            (p, n) = (star + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// The file name for messages.
pub(crate) fn display(path: &Path) -> String {
    path.as_os_str()
        .to_str()
        .map_or_else(|| format!("{:?}", OsStr::new(path)), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_within_a_name() {
        assert!(matches("*.log", "access.log"));
        assert!(matches("a*s?.l*g", "access.log"));
        assert!(!matches("*.log", "access.log.1"));
        assert!(!matches("*", ".hidden"));
        assert!(matches(".*", ".hidden"));
        assert!(matches("**b", "aab"));
    }

    #[test]
    fn patterns_find_what_is_there_now() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap().to_owned();
        for path in [
            "runs/1/access.log",
            "runs/2/access.log",
            "runs/2/stdout",
            "runs/deep/er/access.log",
        ] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let find = |pattern: &str| {
            let mut found = BTreeSet::new();
            Pattern::parse(&format!("{root}/{pattern}")).unwrap().find(&mut found);
            found.len()
        };
        assert_eq!(find("runs/*/access.log"), 2);
        assert_eq!(find("runs/1/access.log"), 1);
        assert_eq!(find("runs/3/access.log"), 0);
        assert_eq!(find("**/access.log"), 3);
        assert_eq!(find("runs/**/access.*"), 3);
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_a_reason() {
        for (text, hint) in [
            ("access.log", "absolute"),
            ("/a/../b", "`..`"),
            ("/a/**", "name of a file"),
            ("/", "name of a file"),
        ] {
            assert!(Pattern::parse(text).unwrap_err().contains(hint), "{text}");
        }
    }
}
