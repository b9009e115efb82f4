//! Copies artifacts of the host into a sandbox.
//!
//! The agent reads as root what the task's user may not be allowed to read: a file is copied only when the mode bits of the
//! file and of every directory on its way let that user read it.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use proffer_proto::v1;
use rustix::fs::OFlags;

use crate::checkpoint::layout;
use crate::containerizer::User;

const ARCHIVES: [&str; 9] = [
    ".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".zip", ".gz",
];

/// Copies one artifact.
///
/// # Errors
/// What is wrong, naming the artifact.
pub(crate) fn copy(uri: &v1::command_info::Uri, sandbox: &Path, user: &User) -> Result<(), String> {
    let failed = |problem: String| format!("command.uris: `{}`: {problem}", uri.value);
    let source = Path::new(uri.value.strip_prefix("file://").unwrap_or(&uri.value));
    let name = source.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = uri
        .output_file
        .clone()
        .or(name)
        .ok_or_else(|| failed("names no file".into()))?;
    layout::component("command.uris.output_file", &name).map_err(|error| failed(error.to_string()))?;
    let is_archive = ARCHIVES
        .iter()
        .any(|suffix| name.to_ascii_lowercase().ends_with(suffix));
    if uri.extract() && !uri.executable() && is_archive {
        return Err(failed(
            "archives cannot be extracted yet; set `extract` to false to copy it as it is".into(),
        ));
    }
    let mut from = open(source, user).map_err(|error| failed(error.to_string()))?;
    let mode = if uri.executable() { 0o750 } else { 0o640 };
    // The sandbox belongs to the user, but no program of the user runs in it yet.
    let to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(sandbox.join(&name));
    let mut to = to.map_err(|error| failed(format!("cannot make `{name}` in the sandbox: {error}")))?;
    io::copy(&mut from, &mut to).map_err(|error| failed(format!("cannot be copied: {error}")))?;
    fchown(&to, Some(user.uid), Some(user.gid)).map_err(|error| failed(format!("cannot be given away: {error}")))
}

fn open(source: &Path, user: &User) -> io::Result<File> {
    let denied = |text: String| io::Error::new(io::ErrorKind::PermissionDenied, text);
    let source = source.canonicalize()?;
    for directory in source.ancestors().skip(1) {
        if !permits(&directory.metadata()?, user, 1) {
            return Err(denied(format!(
                "the task's user may not pass through {}",
                directory.display()
            )));
        }
    }
    // Without blocking on a pipe, and not through a link that was put in the place of the file meanwhile.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&source)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(denied("is not a regular file".into()));
    }
    if !permits(&metadata, user, 4) {
        return Err(denied("the task's user may not read it".into()));
    }
    Ok(file)
}

/// Whether the mode bits grant `bits` (4 read, 1 pass through) to the user.
fn permits(metadata: &Metadata, user: &User, bits: u32) -> bool {
    let shift = if user.uid == 0 {
        return true;
    } else if metadata.uid() == user.uid {
        6
    } else if metadata.gid() == user.gid || user.groups.contains(&metadata.gid()) {
        3
    } else {
        0
    };
    metadata.mode() >> shift & bits == bits
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_what_the_user_may_read_is_copied() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().metadata().unwrap();
        let me = User {
            uid: own.uid(),
            gid: own.gid(),
            groups: vec![],
        };
        let stranger = User {
            uid: 54_321,
            gid: 54_321,
            groups: vec![],
        };
        let source = directory.path().join("artifact");
        let sandbox = directory.path().join("sandbox");
        std::fs::create_dir(&sandbox).unwrap();
        std::fs::write(&source, "content").unwrap();
        set_mode(directory.path(), 0o755);
        set_mode(&source, 0o640);
        let uri = |name: &str| v1::command_info::Uri {
            value: format!("file://{}", source.display()),
            output_file: Some(name.into()),
            ..Default::default()
        };
        copy(&uri("a"), &sandbox, &me).unwrap();
        assert_eq!(std::fs::read_to_string(sandbox.join("a")).unwrap(), "content");
        assert!(
            copy(&uri("b"), &sandbox, &stranger)
                .unwrap_err()
                .contains("may not read")
        );
        set_mode(&source, 0o644);
        set_mode(directory.path(), 0o700);
        assert!(
            copy(&uri("b"), &sandbox, &stranger)
                .unwrap_err()
                .contains("may not pass")
        );
        assert!(copy(&uri("../c"), &sandbox, &me).is_err());
        assert!(copy(&uri("d.tar.gz"), &sandbox, &me).unwrap_err().contains("archives"));
        assert!(copy(&uri("a"), &sandbox, &me).unwrap_err().contains("cannot make"));
    }
}
