//! Amounts in exact thousandths.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use crate::Rejection;

/// An amount of a resource, fixed-point in thousandths and never negative.
///
/// A sum that would not fit stays at the largest value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scalar(u64);

impl Scalar {
    /// Nothing.
    pub const ZERO: Scalar = Scalar(0);
    /// The largest amount that is accepted from outside: up to it, doubles tell the thousandths apart with rounding to spare.
    pub const ACCEPTED_MAX: Scalar = Scalar(1 << 51);

    /// An amount given in thousandths.
    pub const fn from_thousandths(thousandths: u64) -> Self {
        Self(thousandths)
    }

    /// A whole amount.
    pub const fn from_whole(value: u32) -> Self {
        Self(value as u64 * 1000)
    }

    /// An amount from the wire, rounded to the nearest thousandth.
    ///
    /// # Errors
    /// NaN, an infinity, a negative number, or one above [`Scalar::ACCEPTED_MAX`].
    pub fn from_f64(value: f64) -> Result<Self, Rejection> {
        let problem = if value.is_nan() {
            "is NaN".to_owned()
        } else if value < 0.0 {
            format!("is negative ({value})")
        } else if value * 1000.0 > Self::ACCEPTED_MAX.0 as f64 {
            format!("is too large ({value})")
        } else {
            return Ok(Self((value * 1000.0).round() as u64));
        };
        let accepted = format!("a number from 0 to {}", Self::ACCEPTED_MAX);
        Err(Rejection::new("", problem, accepted))
    }

    /// The amount in thousandths.
    pub const fn thousandths(self) -> u64 {
        self.0
    }

    /// The amount as the wire carries it.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Whether this is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The difference, or `None` where it would be negative.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// The difference, or zero where it would be negative.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The amount taken `times` times.
    #[must_use]
    pub const fn saturating_mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl Add for Scalar {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Scalar {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Scalar {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1000, self.0 % 1000);
        if part == 0 {
            return f.pad(&whole.to_string());
        }
        f.pad(format!("{whole}.{part:03}").trim_end_matches('0'))
    }
}
