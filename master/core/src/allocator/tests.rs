//! What the allocator decides.
