//! Steps as bytes: the agent's side of a plan.

use std::ffi::CStr;

use super::{InteriorNul, Step};

/// Steps under construction.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u32,
}

impl Steps {
    /// Appends a step.
    pub fn push(&mut self, step: &Step<'_>) {
        self.count += 1;
        let bytes = &mut self.bytes;
        match *step {
            Step::JoinCgroup(path) => tagged(bytes, 1, &[path]),
            Step::Mount {
                source,
                target,
                kind,
                flags,
                data,
            } => {
                tagged(bytes, 2, &[source, target, kind, data]);
                bytes.extend(flags.to_le_bytes());
            }
            Step::ReadOnly(path) => tagged(bytes, 3, &[path]),
            Step::Directory { path, mode } => {
                tagged(bytes, 4, &[path]);
                put_u32(bytes, &[mode]);
            }
            Step::Device {
                path,
                mode,
                major,
                minor,
            } => {
                tagged(bytes, 5, &[path]);
                put_u32(bytes, &[mode, major, minor]);
            }
            Step::Symlink { text, path } => tagged(bytes, 6, &[text, path]),
            Step::Hold(path) => tagged(bytes, 7, &[path]),
            Step::Attach(path) => tagged(bytes, 8, &[path]),
            Step::HoldBeneath {
                slot,
                root,
                path,
                resolve,
            } => {
                tagged(bytes, 40, &[root, path]);
                put_u32(bytes, &[slot]);
                bytes.extend(resolve.to_le_bytes());
            }
            Step::AttachBeneath {
                slot,
                root,
                path,
                resolve,
                read_only,
            } => {
                tagged(bytes, 41, &[root, path]);
                put_u32(bytes, &[slot, u32::from(read_only)]);
                bytes.extend(resolve.to_le_bytes());
            }
            Step::AttachShared(path) => tagged(bytes, 15, &[path]),
            Step::BoundCapabilities(kept) => put_u64(bytes, 9, &[kept]),
            Step::Capabilities(kept) => put_u64(bytes, 16, &[kept]),
            Step::NoNewPrivileges => bytes.push(10),
            Step::Credentials { uid, gid, groups } => {
                bytes.push(11);
                put_u32(bytes, &[uid, gid, groups.len() as u32]);
                bytes.extend(groups);
            }
            Step::WorkingDirectory(path) => tagged(bytes, 12, &[path]),
            Step::Stdio { descriptor, path } => {
                tagged(bytes, 13, &[path]);
                put_u32(bytes, &[descriptor]);
            }
            Step::Enter(namespaces) => {
                bytes.push(30);
                bytes.extend(namespaces.to_le_bytes());
            }
            Step::Stream(descriptor) => {
                bytes.push(31);
                put_u32(bytes, &[descriptor]);
            }
            Step::Terminal => bytes.push(32),
            Step::Console { rows, columns } => {
                bytes.push(33);
                put_u32(bytes, &[u32::from(rows) << 16 | u32::from(columns)]);
            }
            Step::ResourceLimit { resource, soft, hard } => {
                bytes.push(14);
                put_u32(bytes, &[resource]);
                bytes.extend(soft.to_le_bytes());
                bytes.extend(hard.to_le_bytes());
            }
            Step::WriteFile { path, text } => tagged(bytes, 17, &[path, text]),
            Step::Rules { files, scoped } => put_u64(bytes, 18, &[files, scoped]),
            Step::Allow { path, files } => {
                tagged(bytes, 19, &[path]);
                bytes.extend(files.to_le_bytes());
            }
            Step::Restrict => bytes.push(20),
            Step::FilterCalls(filter) => {
                bytes.push(21);
                put_u32(bytes, &[filter.len() as u32]);
                bytes.extend(filter);
            }
        }
    }

    /// Appends other steps.
    pub fn append(&mut self, other: &Steps) {
        self.bytes.extend(&other.bytes);
        self.count += other.count;
    }
}

fn tagged(bytes: &mut Vec<u8>, tag: u8, texts: &[&CStr]) {
    bytes.push(tag);
    for text in texts {
        put_u32(bytes, &[text.to_bytes().len() as u32]);
        bytes.extend(text.to_bytes_with_nul());
    }
}

pub(super) fn put_u32(bytes: &mut Vec<u8>, values: &[u32]) {
    for value in values {
        bytes.extend(value.to_le_bytes());
    }
}

fn put_u64(bytes: &mut Vec<u8>, tag: u8, values: &[u64]) {
    bytes.push(tag);
    for value in values {
        bytes.extend(value.to_le_bytes());
    }
}

pub(super) fn put_text(bytes: &mut Vec<u8>, text: &[u8]) -> Result<(), InteriorNul> {
    if text.contains(&0) {
        return Err(InteriorNul);
    }
    put_u32(bytes, &[text.len() as u32]);
    bytes.extend(text);
    bytes.push(0);
    Ok(())
}
