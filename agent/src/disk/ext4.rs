//! ext4: a project for each sandbox. Writes beyond its limit fail with `EDQUOT`, but for programs with `CAP_SYS_RESOURCE`, which
//! no task has unless the operator allows it.

use std::io;
use std::path::Path;

use super::{BackEnd, Limit, Unusable, project};

/// `EXT4_SUPER_MAGIC`
const MAGIC: i64 = 0xef53;

#[derive(Debug)]
pub(super) struct Ext4;

impl BackEnd for Ext4 {
    fn name(&self) -> &'static str {
        "ext4"
    }

    fn probe(&self, sandboxes: &Path) -> Result<String, Unusable> {
        let advice = "ext4 enforces limits itself where it is made with `-O project,quota` and mounted with `prjquota`";
        project::probe(sandboxes, MAGIC, advice)?;
        Ok("project quotas, enforced by the kernel for all without CAP_SYS_RESOURCE".into())
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
