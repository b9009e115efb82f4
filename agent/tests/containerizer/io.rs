//! A disk is written no faster than the operator says, and what is written is counted.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use proffer_agent::containerizer::{IoMax, Policy};

use crate::host::{Host, block_on, until};

const RATE: u64 = 512 << 10;
/// At the limit's rate a second and a half.
const BLOCKS: u64 = 12;
const BLOCK: u64 = 64 << 10;
/// The kernel lets a tenth of a second's worth through at once.
const LEAST: Duration = Duration::from_millis(1_200);

/// One of them may be on a disk; the second is where the emulated machine has one.
const PLACES: [&str; 2] = ["/var/tmp", "/mnt"];

/// The disk on which a directory lies, as `major:minor`; none of a file system that is on no disk or on several.
fn disk_of(path: &str) -> Option<String> {
    let device = fs::metadata(path).ok()?.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let entry = Path::new("/sys/dev/block").join(&device).canonicalize().ok()?;
    if !entry.join("partition").exists() {
        return Some(device);
    }
    let disk = fs::read_to_string(entry.parent()?.join("dev")).ok()?;
    Some(disk.trim().to_owned())
}

#[test]
fn a_disk_is_written_no_faster_than_it_may_and_what_is_written_is_counted() {
    let found = PLACES.iter().find_map(|place| Some((place, disk_of(place)?)));
    let Some((place, device)) = found else {
        eprintln!("skipped: io: neither of {PLACES:?} is on one disk");
        return;
    };
    let limit = IoMax {
        device,
        write_bytes: Some(RATE),
        ..IoMax::default()
    };
    let policy = Policy {
        io_max: vec![limit],
        ..Policy::default()
    };
    let Some(host) = Host::with_policy(place, "io", policy) else {
        return;
    };
    block_on(async move {
        if !host.enforces("io") {
            return host.finish().await;
        }
        // Synchronous, since version 1 does not limit what is written behind.
        let script =
            format!("dd if=/dev/zero of=file bs={BLOCK} count={BLOCKS} conv=fsync && echo done; exec sleep 1000");
        let spec = host.shell("c", &script);
        let began = Instant::now();
        host.launch(&spec).await;
        host.output_with("c", "done\n").await;
        let took = began.elapsed();
        assert!(took >= LEAST, "{} bytes were written in {took:?}", BLOCKS * BLOCK);
        let written = || host.containerizer().usage(&spec.id).unwrap().io_written_bytes;
        until(|| (written() >= Some(BLOCKS * BLOCK)).then_some(()), "all is counted").await;
        host.containerizer().destroy(&spec.id).unwrap();
        host.finish().await;
    });
}
