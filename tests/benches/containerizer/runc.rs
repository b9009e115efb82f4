//! The peer: `runc run` of the same payload, with namespaces, limits and no capabilities as ours.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use proffer_tests::bench::{Stamp, monotonic_nanos};
use serde_json::json;
use tokio::process::Command;

/// A bundle that is launched again and again.
pub(crate) struct Runc {
    bundle: PathBuf,
    state: PathBuf,
}

impl Runc {
    /// None where it is not installed.
    pub(crate) fn find(directory: &Path, stamp: &Stamp) -> anyhow::Result<Option<Self>> {
        let version = std::process::Command::new("runc").arg("--version").output();
        let Ok(version) = version else { return Ok(None) };
        let text = String::from_utf8_lossy(&version.stdout).into_owned();
        eprintln!("peer: {}", text.lines().next().unwrap_or_default());
        let bundle = directory.join("bundle");
        let root = bundle.join("root");
        std::fs::create_dir_all(&root)?;
        std::fs::copy(&stamp.program, root.join("stamp"))?;
        Ok(Some(Runc {
            bundle,
            state: directory.join("runc"),
        }))
    }

    /// From before its process is started to the payload's first instruction, in milliseconds; returns when it has ended.
    pub(crate) async fn launch(&self, stamp: &mut Stamp, id: &str) -> anyhow::Result<f64> {
        let text = serde_json::to_vec(&configuration(stamp, id))?;
        std::fs::write(self.bundle.join("config.json"), text)?;
        let sent = monotonic_nanos();
        let status = Command::new("runc")
            .arg("--root")
            .arg(&self.state)
            .args(["run", "--bundle"])
            .arg(&self.bundle)
            .arg(format!("proffer-bench-{}-{id}", std::process::id()))
            .status();
        let status = status.await.context("cannot run runc")?;
        ensure!(status.success(), "runc: {status}");
        let (_, first, _) = stamp.receive().await?;
        Ok(first.saturating_sub(sent) as f64 / 1e6)
    }
}

/// The host's network, as our tasks have.
fn configuration(stamp: &Stamp, id: &str) -> serde_json::Value {
    let namespace = |kind: &str| json!({ "type": kind });
    let mut args = vec!["/stamp".to_owned()];
    args.extend(stamp.arguments(id, 0));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 65534, "gid": 65534 },
            "args": args,
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": {},
            "noNewPrivileges": true,
        },
        "root": { "path": "root", "readonly": true },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
        ],
        "linux": {
            "resources": {
                "memory": { "limit": 48 << 20 },
                "cpu": { "shares": 102, "quota": 10_000, "period": 100_000 },
                "pids": { "limit": 4096 },
            },
            "namespaces": [namespace("pid"), namespace("ipc"), namespace("mount")],
        },
    })
}
