//! The core's dependency tree holds nothing that could make it anything but a function of its inputs.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::process::Command;

/// Crates that read clocks, open sockets, start threads or make random numbers.
const FORBIDDEN: &[&str] = &[
    "async-std",
    "axum",
    "chrono",
    "fastrand",
    "getrandom",
    "h2",
    "hyper",
    "hyper-util",
    "libc",
    "mio",
    "nix",
    "polling",
    "quinn",
    "raft",
    "rand",
    "rand_core",
    "reqwest",
    "rustix",
    "sled",
    "smol",
    "socket2",
    "tempfile",
    "time",
    "tokio",
    "tokio-stream",
    "tonic",
    "tower",
    "tracing-subscriber",
    "uuid",
    "windows-sys",
];

// Build scripts run before there is a core, so the tree of what is linked is the one that counts.
#[test]
fn nothing_with_a_clock_or_a_socket_is_linked_into_the_core() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"])
        .args(["--package", "proffer-master-core", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && tree.starts_with("proffer-master-core "),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let linked: Vec<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let found: Vec<&&str> = linked.iter().filter(|name| FORBIDDEN.contains(name)).collect();
    assert!(found.is_empty(), "the core links {found:?}; all it links:\n{tree}");
}
