//! The containerizer on the kernel of this host. Needs root and cgroups; says `skipped: <reason>` where they are missing.
//!
//! The binary is its own payload (see `payload`), so that it also runs, linked statically, in a machine that has nothing but a
//! shell.

mod confinement;
mod devices;
mod enter;
mod host;
mod io;
mod isolation;
mod launch;
mod legacy;
mod logs;
mod payload;
mod ports;
mod recovery;
mod usage;
