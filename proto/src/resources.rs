//! Exact arithmetic on resources.
