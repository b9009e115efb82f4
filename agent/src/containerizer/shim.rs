//! The launcher's binary, carried inside the agent and unpacked at start.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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

/// Unpacks the launcher under the name of its content: a binary that other containers run is never written to. Those of former
/// versions are unlinked, which running ones do not notice.
pub(super) fn unpack(runtime_dir: &Path) -> io::Result<PathBuf> {
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
