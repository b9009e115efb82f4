//! What the disk gives: a loop that writes a batch and syncs it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// A value of 256 bytes with its key, namespace and framing.
const RECORD_BYTES: usize = 320;
const PREALLOCATED_BYTES: u64 = 8 << 20;

/// Where the batches are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Growth {
    /// To the end of the file, which grows.
    Appended,
    /// Into a file that has its length from the start, round and round.
    Preallocated,
}

/// Records a second, in batches of so many.
pub(crate) fn measure(directory: &Path, batch: usize, window: Duration, growth: Growth) -> anyhow::Result<f64> {
    let path = directory.join("bare");
    let file = File::create(&path)?;
    if growth == Growth::Preallocated {
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, PREALLOCATED_BYTES)?;
    }
    file.sync_all()?;
    let records = vec![0xa5; batch * RECORD_BYTES];
    let (mut offset, mut count) = (0, 0);
    let began = Instant::now();
    while began.elapsed() < window {
        if growth == Growth::Preallocated && offset + records.len() as u64 > PREALLOCATED_BYTES {
            offset = 0;
        }
        file.write_all_at(&records, offset)?;
        file.sync_data()?;
        offset += records.len() as u64;
        count += batch;
    }
    let per_second = count as f64 / began.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(path)?;
    Ok(per_second)
}
