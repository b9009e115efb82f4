//! What the disk gives: a loop that appends a batch of records to a file and syncs it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::masters::Batch;

/// Records a second, of so many loops at the same time: of the slowest of them, in files of their own.
pub(crate) fn measure(directory: &Path, batch: Batch, window: Duration, loops: usize) -> anyhow::Result<f64> {
    let rates = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..loops)
            .map(|number| scope.spawn(move || append(&directory.join(format!("bare-{number}")), batch, window)))
            .collect();
        let rates = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        rates.collect::<anyhow::Result<Vec<f64>>>()
    })?;
    Ok(rates.into_iter().fold(f64::INFINITY, f64::min))
}

fn append(path: &Path, batch: Batch, window: Duration) -> anyhow::Result<f64> {
    let file = File::create(path)?;
    file.sync_all()?;
    let records = vec![0xa5; batch.records * batch.record_bytes];
    let (mut offset, mut count) = (0, 0);
    let began = Instant::now();
    while began.elapsed() < window {
        file.write_all_at(&records, offset)?;
        file.sync_data()?;
        offset += records.len() as u64;
        count += batch.records;
    }
    let per_second = count as f64 / began.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(path)?;
    Ok(per_second)
}
