//! Sets of numbers, such as ports, kept as intervals.

use std::fmt;

use crate::Rejection;

/// A set of numbers as inclusive intervals: sorted, disjoint, and never adjacent.
///
/// Every operation is linear in the number of intervals.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// The empty set.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The set of one number.
    pub fn of(value: u64) -> Self {
        Self(vec![(value, value)])
    }

    /// The union of inclusive intervals in any order.
    ///
    /// # Errors
    /// An interval that begins after its end, by its position.
    pub fn from_intervals(intervals: impl IntoIterator<Item = (u64, u64)>) -> Result<Self, Rejection> {
        let mut sorted = Vec::new();
        for (position, (begin, end)) in intervals.into_iter().enumerate() {
            if begin > end {
                let problem = format!("begins after its end ({begin}-{end})");
                return Err(Rejection::new("", problem, "begin <= end").at(position));
            }
            sorted.push((begin, end));
        }
        sorted.sort_unstable();
        let mut ranges = Self(Vec::with_capacity(sorted.len()));
        for interval in sorted {
            ranges.push(interval);
        }
        Ok(ranges)
    }

    /// Appends an interval that begins at or after the last one's begin.
    fn push(&mut self, (begin, end): (u64, u64)) {
        match self.0.last_mut() {
            Some(last) if begin <= last.1.saturating_add(1) => last.1 = last.1.max(end),
            _ => self.0.push((begin, end)),
        }
    }

    /// Whether the set holds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers the set holds; the set of all numbers counts as one less than it has.
    pub fn len(&self) -> u64 {
        self.0.iter().fold(0u64, |sum, (begin, end)| {
            sum.saturating_add((end - begin).saturating_add(1))
        })
    }

    /// The intervals, in order.
    pub fn intervals(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// The numbers, in order.
    pub fn values(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|&(begin, end)| begin..=end)
    }

    /// Whether the number is in the set.
    pub fn contains_value(&self, value: u64) -> bool {
        let after = self.0.partition_point(|&(begin, _)| begin <= value);
        after > 0 && self.0[after - 1].1 >= value
    }

    /// Whether the whole of `other` is in the set.
    pub fn contains(&self, other: &Self) -> bool {
        let mut own = self.0.iter();
        let mut current = own.next();
        other.0.iter().all(|&(begin, end)| {
            while current.is_some_and(|interval| interval.1 < begin) {
                current = own.next();
            }
            current.is_some_and(|interval| interval.0 <= begin && end <= interval.1)
        })
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut union = Self(Vec::with_capacity(self.0.len() + other.0.len()));
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let Some(&interval) = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) if a <= b => left.next(),
            (_, Some(_)) => right.next(),
            _ => left.next(),
        } {
            union.push(interval);
        }
        union
    }

    /// What is here and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut difference = Vec::with_capacity(self.0.len());
        let mut holes = other.0.iter().peekable();
        for &(begin, end) in &self.0 {
            let mut next = Some(begin);
            while let (Some(start), Some(&&(hole_begin, hole_end))) = (next, holes.peek()) {
                if hole_begin > end {
                    break;
                }
                if hole_begin > start {
                    difference.push((start, hole_begin - 1));
                }
                if hole_end >= end {
                    // The hole may reach into the next interval, so it is kept.
                    next = None;
                } else {
                    next = Some(start.max(hole_end + 1));
                    holes.next();
                }
            }
            if let Some(start) = next {
                difference.push((start, end));
            }
        }
        Self(difference)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Vec::new();
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(&&a), Some(&&b)) = (left.peek(), right.peek()) {
            let (begin, end) = (a.0.max(b.0), a.1.min(b.1));
            if begin <= end {
                both.push((begin, end));
            }
            if a.1 <= b.1 {
                left.next();
            } else {
                right.next();
            }
        }
        Self(both)
    }

    /// The lowest `count` numbers of the set, or `None` where it holds fewer.
    pub fn lowest(&self, count: u64) -> Option<Self> {
        let mut left = count;
        let mut lowest = Vec::new();
        for &(begin, end) in &self.0 {
            if left == 0 {
                break;
            }
            let taken_end = end.min(begin.saturating_add(left - 1));
            lowest.push((begin, taken_end));
            left -= taken_end - begin + 1;
        }
        (left == 0).then_some(Self(lowest))
    }
}

impl fmt::Display for Ranges {
    /// As operators write it: `[31000-31005,31007-31007]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, (begin, end)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{begin}-{end}")?;
        }
        f.write_str("]")
    }
}
