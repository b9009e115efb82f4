//! Builds the launcher a second time, static and small, so that the agent can carry it inside itself.
//!
//! Cargo cannot depend on another crate's static binary, so this runs cargo once more, in a target directory of its own.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=shim/Cargo.toml");
    println!("cargo:rerun-if-changed=shim/src");
    let target_dir = PathBuf::from(env::var("OUT_DIR")?).join("shim");
    let target = env::var("TARGET")?;
    // Without the static C library (a package of its own on some distributions) a dynamic launcher does the same with more memory.
    let static_flags = "-C target-feature=+crt-static -C relocation-model=static";
    let mut output = cargo(&target_dir, &target, static_flags)?;
    if !output.status.success() {
        let first = String::from_utf8_lossy(&output.stderr).into_owned();
        output = cargo(&target_dir, &target, "")?;
        if !output.status.success() {
            return Err(format!("the launcher could not be built:\n{first}").into());
        }
        println!(
            "cargo:warning=the launcher is not static, since the C library is missing in its static form (libc.a)"
        );
    }
    let binary = target_dir.join(&target).join("release").join("proffer-shim");
    println!("cargo:rustc-env=PROFFER_SHIM={}", binary.display());
    println!("cargo:rustc-env=PROFFER_SHIM_HASH={:016x}", hash(&binary)?);
    println!("cargo:rustc-env=PROFFER_SHIM_FORMAT={:016x}", format(&binary)?);
    Ok(())
}

/// The format of plans that the launcher reads: `FORMAT_MARK` of its library. The agent compares it with its own, since the
/// sources may have changed between the two builds.
fn format(path: &Path) -> Result<u64, Box<dyn Error>> {
    const PREFIX: &[u8] = b"proffer-shim plan-format";
    let binary = fs::read(path)?;
    let found = binary.windows(PREFIX.len()).position(|window| window == PREFIX);
    let mark = found.and_then(|at| binary.get(at + PREFIX.len()..)?.first_chunk());
    let mark = mark.ok_or_else(|| format!("{} does not say which plans it reads", path.display()))?;
    Ok(u64::from_le_bytes(*mark))
}

fn cargo(target_dir: &Path, target: &str, flags: &str) -> Result<Output, Box<dyn Error>> {
    let mut command = Command::new(env::var("CARGO")?);
    // What the outer cargo says to this script must not reach the inner one: flags, wrappers (clippy), profiles, directories.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let leaks = text.starts_with("CARGO_PROFILE_")
            || text.starts_with("CARGO_FEATURE_")
            || text.starts_with("CARGO_CFG_")
            || text.starts_with("CARGO_BUILD_")
            || text.starts_with("CARGO_PKG_")
            || matches!(
                &*text,
                "CARGO_ENCODED_RUSTFLAGS" | "CARGO_TARGET_DIR" | "CARGO_MAKEFLAGS" | "MAKEFLAGS"
            )
            || matches!(
                &*text,
                "RUSTC_WRAPPER" | "RUSTC_WORKSPACE_WRAPPER" | "RUSTFLAGS" | "CLIPPY_ARGS"
            )
            || matches!(
                &*text,
                "TARGET" | "HOST" | "PROFILE" | "OPT_LEVEL" | "DEBUG" | "NUM_JOBS" | "OUT_DIR"
            );
        if leaks {
            command.env_remove(&name);
        }
    }
    command
        .args([
            "build",
            "--offline",
            "--quiet",
            "--release",
            "--bin",
            "proffer-shim",
            "--manifest-path",
        ])
        .arg(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("shim/Cargo.toml"))
        .args(["--target", target, "--target-dir"])
        .arg(target_dir)
        .env("RUSTFLAGS", flags)
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    Ok(command.output()?)
}

/// FNV-1a: names the binary's version, guards nothing.
fn hash(path: &Path) -> Result<u64, Box<dyn Error>> {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    Ok(fs::read(path)?.iter().fold(0xcbf2_9ce4_8422_2325, step))
}
