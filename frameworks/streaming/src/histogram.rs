//! A small mergeable histogram of durations, exact below 64 and within 1/64 above.
//!
//! Buckets are log-linear: each power of two is cut into 64 equal parts. Only the span of buckets between the smallest and
//! the largest value seen is held, which for one route's latencies is a few hundred bytes.

const PART_BITS: u32 = 6;
const PARTS: u64 = 1 << PART_BITS;

/// Counts values by log-linear bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The bucket that `counts[0]` stands for.
    first: usize,
    counts: Vec<u32>,
    total: u64,
    max: u64,
}

impl Histogram {
    /// Adds one value.
    pub fn record(&mut self, value: u64) {
        self.add(bucket(value), 1);
        self.max = self.max.max(value);
    }

    /// Adds all that `other` has counted.
    pub fn merge(&mut self, other: &Histogram) {
        for (offset, &count) in other.counts.iter().enumerate() {
            if count > 0 {
                self.add(other.first + offset, count);
            }
        }
        self.max = self.max.max(other.max);
    }

    /// How many values were added.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The largest value, exactly. Zero when nothing was added.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that `quantile` (0 to 1) of all values do not exceed, by nearest rank; never below the true one, and at
    /// most 1/64 above it. Zero when nothing was added.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let rank = ((quantile * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (offset, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return upper(self.first + offset).min(self.max);
            }
        }
        self.max
    }

    fn add(&mut self, bucket: usize, count: u32) {
        if self.counts.is_empty() {
            self.first = bucket;
        } else if bucket < self.first {
            let missing = self.first - bucket;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = bucket;
        }
        let offset = bucket - self.first;
        if offset >= self.counts.len() {
            self.counts.resize(offset + 1, 0);
        }
        self.counts[offset] = self.counts[offset].saturating_add(count);
        self.total += u64::from(count);
    }
}

fn bucket(value: u64) -> usize {
    if value < PARTS {
        return value as usize;
    }
    let power = value.ilog2() - PART_BITS;
    // The value's top seven bits are 64..128, which is the place within its power of two.
    (u64::from(power) * PARTS + (value >> power)) as usize
}

/// The largest value that falls in `bucket`.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * PARTS {
        return bucket;
    }
    let power = bucket / PARTS - 1;
    let place = PARTS + bucket % PARTS;
    (place << power) | ((1 << power) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_bucket_holds_its_own_upper_value_and_not_the_next() {
        for index in 0..bucket(u64::MAX) {
            assert_eq!(bucket(upper(index)), index);
            assert_eq!(bucket(upper(index) + 1), index + 1);
        }
        assert_eq!(upper(bucket(u64::MAX)), u64::MAX);
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        assert_eq!(Histogram::default().quantile(0.99), 0);
    }

    proptest! {
        #[test]
        fn quantiles_are_close_and_merging_is_adding(
            mut values in proptest::collection::vec(prop_oneof![0u64..200, 0u64..5_000_000, any::<u64>()], 1..300),
            cut in 0usize..300,
        ) {
            let cut = cut.min(values.len());
            let (mut left, mut right, mut whole) = (Histogram::default(), Histogram::default(), Histogram::default());
            values[..cut].iter().for_each(|&v| left.record(v));
            values[cut..].iter().for_each(|&v| right.record(v));
            values.iter().for_each(|&v| whole.record(v));
            left.merge(&right);
            prop_assert_eq!(left.total(), whole.total());
            values.sort_unstable();
            for quantile in [0.0, 0.5, 0.9, 0.99, 1.0] {
                let rank = ((quantile * values.len() as f64).ceil() as usize).clamp(1, values.len());
                let exact = values[rank - 1];
                for got in [left.quantile(quantile), whole.quantile(quantile)] {
                    prop_assert!(got >= exact && got - exact <= exact / 64, "{} for {}", got, exact);
                }
            }
        }
    }
}
