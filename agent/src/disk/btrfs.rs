//! btrfs: a subvolume for each sandbox, with the limit of its quota group. Writes beyond it fail with `EDQUOT`, root's too.
//!
//! Quotas are not turned on here: that costs all who use the file system, and is the operator's to decide.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use proffer_shim::btrfs;
use rustix::fs::Mode;

use super::{BackEnd, Limit, Unusable, file_system, open_directory};

/// `BTRFS_SUPER_MAGIC`
const MAGIC: i64 = 0x9123_683e;
/// What the subvolume is called that shows whether limits can be set.
const PROBE: &str = ".probe";

#[derive(Debug)]
pub(super) struct Btrfs;

impl BackEnd for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn probe(&self, sandboxes: &Path) -> Result<String, Unusable> {
        if file_system(sandboxes) != MAGIC {
            return Err(String::new());
        }
        let probe = sandboxes.join(format!("{PROBE}-{}", std::process::id()));
        let tried = self.make(&probe, Limit::fixed(1 << 20));
        tried.map_err(|error| {
            let place = sandboxes.display();
            format!("btrfs enforces limits after `btrfs quota enable {place}`: {error}")
        })?;
        self.remove(&probe)
            .map_err(|error| format!("remove {}: {error}", probe.display()))?;
        Ok("a subvolume with the limit of its quota group for each sandbox, enforced by the kernel".into())
    }

    fn make(&self, sandbox: &Path, limit: Limit) -> io::Result<()> {
        let (parent, name) = parts(sandbox)?;
        btrfs::create(parent.as_fd(), &name)?;
        let limited = open_directory(sandbox).and_then(|directory| {
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o700))?;
            let number = btrfs::number(directory.as_fd())?;
            btrfs::set_limit(directory.as_fd(), number, limit.bytes)
        });
        if limited.is_err() {
            let _ = btrfs::destroy(parent.as_fd(), &name);
        }
        limited
    }

    fn resize(&self, sandbox: &Path, bytes: u64) -> io::Result<()> {
        let directory = open_directory(sandbox)?;
        btrfs::set_limit(directory.as_fd(), btrfs::number(directory.as_fd())?, bytes)
    }

    fn has(&self, sandbox: &Path) -> bool {
        let is_root = std::fs::symlink_metadata(sandbox).is_ok_and(|status| status.ino() == btrfs::ROOT_NUMBER);
        is_root && file_system(sandbox) == MAGIC
    }

    fn used(&self, sandbox: &Path) -> io::Result<Option<u64>> {
        let directory = open_directory(sandbox)?;
        btrfs::used(directory.as_fd(), btrfs::number(directory.as_fd())?)
    }

    fn remove(&self, sandbox: &Path) -> io::Result<()> {
        let (parent, name) = parts(sandbox)?;
        let number = btrfs::number(open_directory(sandbox)?.as_fd())?;
        match btrfs::destroy(parent.as_fd(), &name) {
            // Somebody made a subvolume in it.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                crate::sandbox::remove::remove(sandbox)?;
            }
            result => result?,
        }
        // Newer kernels do so themselves, others only when the subvolume is cleaned up. What is left costs nothing but its line.
        let _ = btrfs::forget(parent.as_fd(), number);
        Ok(())
    }
}

fn parts(sandbox: &Path) -> io::Result<(std::os::fd::OwnedFd, CString)> {
    let parent = open_directory(sandbox.parent().unwrap_or(Path::new("/")))?;
    let name = CString::new(sandbox.file_name().unwrap_or_default().as_encoded_bytes())?;
    Ok((parent, name))
}
