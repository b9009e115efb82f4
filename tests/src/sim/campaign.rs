//! Many seeds, side by side.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Options, Report, SimFailure, run};

/// What many runs did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Campaign {
    /// The runs in which everything held, added up.
    pub report: Report,
    /// The runs in which something did not.
    pub violations: u64,
}

impl Campaign {
    /// Runs the seeds on so many threads. Each failure is told as it comes.
    pub fn run(
        seeds: Range<u64>,
        options: &Options,
        threads: usize,
        mut failed: impl FnMut(&SimFailure) + Send,
    ) -> Self {
        let next = AtomicU64::new(seeds.start);
        let sum = Mutex::new((Campaign::default(), &mut failed));
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            break;
                        }
                        let result = run(seed, options);
                        let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        match result {
                            Ok(report) => sum.0.report.add(&report),
                            Err(failure) => {
                                sum.0.violations += 1;
                                (sum.1)(&failure);
                            }
                        }
                    }
                });
            }
        });
        sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    /// Adds another campaign.
    pub fn add(&mut self, other: &Campaign) {
        self.report.add(&other.report);
        self.violations += other.violations;
    }
}
