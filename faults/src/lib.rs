//! Named places at which a test can make a process fail: end at once, get an error of the system, or wait.
//!
//! A place costs nothing in a release: without the feature `armed` it is an empty inline function. With it nothing happens
//! either until [`armed::arm`] is called, which no program but the tests' own does.
//!
//! The `fail` crate was weighed: of its actions none ends the process (a panic ends one thread, and runs what is dropped), it
//! reads the environment by itself, and it brings `rand`.

#[cfg(feature = "armed")]
pub mod armed;

/// One place. Places are declared in lists by [`places!`], so that a test can go through all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(pub &'static str);

impl Place {
    /// Passes the place.
    ///
    /// # Errors
    /// The error of the system that a test wants here.
    #[cfg(not(feature = "armed"))]
    #[inline(always)]
    pub fn reach(self) -> std::io::Result<()> {
        Ok(())
    }

    /// Passes the place.
    ///
    /// # Errors
    /// The error of the system that a test wants here.
    #[cfg(feature = "armed")]
    pub fn reach(self) -> std::io::Result<()> {
        armed::reach(self)
    }

    /// Passes a place where nothing can go wrong but that the process ends.
    #[inline(always)]
    pub fn pass(self) {
        // An error would mean nothing here.
        let _ = self.reach();
    }
}

/// Declares places as constants, and all of them together as `ALL`.
#[macro_export]
macro_rules! places {
    ($($(#[$text:meta])* $name:ident = $value:literal;)*) => {
        $($(#[$text])* pub const $name: $crate::Place = $crate::Place($value);)*

        /// All places.
        pub const ALL: &[$crate::Place] = &[$($name),*];
    };
}
