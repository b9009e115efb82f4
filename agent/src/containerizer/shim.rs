//! The launcher's binary, carried inside the agent and unpacked at start.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

const BINARY: &[u8] = include_bytes!(env!("PROFFER_SHIM"));
const NAME_PREFIX: &str = "shim-";
const NAME: &str = concat!("shim-", env!("PROFFER_SHIM_HASH"));

const _: () = assert!(
    reads_our_plans(env!("PROFFER_SHIM_FORMAT").as_bytes(), proffer_shim::plan::FORMAT),
    "the embedded launcher was built from other sources than the agent: they changed during the build; build again"
);

/// Whether these hexadecimal digits are the format.
const fn reads_our_plans(digits: &[u8], format: u64) -> bool {
    let (mut at, mut number) = (0, 0);
    while at < digits.len() {
        let digit = match digits[at] {
            digit @ b'0'..=b'9' => digit - b'0',
            digit => digit - b'a' + 10,
        };
        number = number << 4 | digit as u64;
        at += 1;
    }
    number == format
}

/// Unpacks the launcher into the first directory whose file system allows execution, which is created where it is missing; none
/// where neither does.
pub(super) fn place(runtime_dir: &Path, launcher_dir: &Path) -> io::Result<Option<PathBuf>> {
    for directory in [runtime_dir, launcher_dir] {
        fs::create_dir_all(directory)?;
        if !statvfs(directory)?.f_flag.contains(StatVfsMountFlags::NOEXEC) {
            return unpack(directory).map(Some);
        }
    }
    Ok(None)
}

/// Unpacks the launcher under the name of its content: a binary that other containers run is never written to. Those of former
/// versions are unlinked, which running ones do not notice.
fn unpack(runtime_dir: &Path) -> io::Result<PathBuf> {
    let path = runtime_dir.join(NAME);
    if fs::read(&path).is_ok_and(|present| present == BINARY) {
        return Ok(path);
    }
    for entry in fs::read_dir(runtime_dir)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(NAME_PREFIX) {
            fs::remove_file(entry.path())?;
        }
    }
    let temporary = runtime_dir.join("shim-new");
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(&temporary)?;
    file.write_all(BINARY)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

    use super::*;

    #[test]
    fn the_launcher_is_not_placed_where_nothing_may_be_executed() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: not root");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let (run, work) = (root.path().join("run"), root.path().join("work"));
        fs::create_dir(&run).unwrap();
        mount("proffer-test", &run, "tmpfs", MountFlags::NOEXEC, None).unwrap();
        let placed = (place(&run, &work), place(&run, &run));
        unmount(&run, UnmountFlags::empty()).unwrap();
        assert_eq!(placed.0.unwrap(), Some(work.join(NAME)));
        assert_eq!(placed.1.unwrap(), None);
        assert_eq!(place(&run, &work).unwrap(), Some(run.join(NAME)));
    }
}
