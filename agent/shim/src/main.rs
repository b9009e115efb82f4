//! The launcher of one container.
fn main() {}
