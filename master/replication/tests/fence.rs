//! The dependency tree of the member holds no runtime, no socket and no store. It has `rand`, which raft-rs brings: what that
//! draws is replaced (see `chance`).

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::process::Command;

/// Crates that read clocks, open sockets, touch files or start threads.
const FORBIDDEN: &[&str] = &[
    "async-std",
    "axum",
    "chrono",
    "fastrand",
    "h2",
    "hyper",
    "hyper-util",
    "mio",
    "nix",
    "polling",
    "quinn",
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

// Build scripts run before there is a member, so the tree of what is linked is the one that counts.
#[test]
fn nothing_with_a_clock_or_a_socket_is_linked_into_the_member() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"])
        .args(["--package", "proffer-replication", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && tree.starts_with("proffer-replication "),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let linked: Vec<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let found: Vec<&&str> = linked.iter().filter(|name| FORBIDDEN.contains(name)).collect();
    assert!(found.is_empty(), "the member links {found:?}; all it links:\n{tree}");
}
