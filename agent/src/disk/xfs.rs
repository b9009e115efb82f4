//! XFS: a project for each sandbox. Writes beyond its limit fail with `ENOSPC`, root's too.

use std::io;
use std::path::Path;

use super::{BackEnd, Limit, Unusable, project};

/// `XFS_SUPER_MAGIC`
const MAGIC: i64 = 0x5846_5342;

#[derive(Debug)]
pub(super) struct Xfs;

impl BackEnd for Xfs {
    fn name(&self) -> &'static str {
        "xfs"
    }

    fn probe(&self, sandboxes: &Path) -> Result<String, Unusable> {
        let advice = "xfs enforces limits where it is mounted with `prjquota`";
        project::probe(sandboxes, MAGIC, advice)?;
        Ok("project quotas, enforced by the kernel".into())
    }

    fn make(&self, sandbox: &Path, limit: Limit) -> io::Result<()> {
        project::make(sandbox, limit.bytes)
    }

    fn resize(&self, sandbox: &Path, bytes: u64) -> io::Result<()> {
        project::resize(sandbox, bytes, MAGIC)
    }

    fn has(&self, sandbox: &Path) -> bool {
        project::of(sandbox, MAGIC).is_some()
    }

    fn used(&self, sandbox: &Path) -> io::Result<Option<u64>> {
        project::used(sandbox, MAGIC)
    }

    fn remove(&self, sandbox: &Path) -> io::Result<()> {
        project::remove(sandbox, MAGIC)
    }
}
