//! Bytes as steps, without allocating: the launcher's side of a plan.

use std::ffi::CStr;

use super::{COUNT_MAX, Step};

/// A list of strings inside a plan.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    /// How many there are.
    pub count: u32,
    reader: Reader<'a>,
}

impl<'a> Texts<'a> {
    /// The strings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a CStr> + use<'a> {
        let mut reader = self.reader;
        (0..self.count).map_while(move |_| reader.text())
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.bytes.split_at_checked(count)?;
        self.bytes = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'a CStr> {
        let length = self.u32()? as usize;
        CStr::from_bytes_with_nul(self.take(length.checked_add(1)?)?).ok()
    }

    pub(super) fn texts(&mut self) -> Option<Texts<'a>> {
        let count = self.u32()?;
        if count > COUNT_MAX {
            return None;
        }
        let texts = Texts { count, reader: *self };
        for _ in 0..count {
            self.text()?;
        }
        Some(texts)
    }

    pub(super) fn step(&mut self) -> Option<Step<'a>> {
        Some(match self.u8()? {
            1 => Step::JoinCgroup(self.text()?),
            2 => {
                let (source, target, kind, data) = (self.text()?, self.text()?, self.text()?, self.text()?);
                Step::Mount {
                    source,
                    target,
                    kind,
                    data,
                    flags: self.u64()?,
                }
            }
            3 => Step::ReadOnly(self.text()?),
            4 => Step::Directory {
                path: self.text()?,
                mode: self.u32()?,
            },
            5 => Step::Device {
                path: self.text()?,
                mode: self.u32()?,
                major: self.u32()?,
                minor: self.u32()?,
            },
            6 => Step::Symlink {
                text: self.text()?,
                path: self.text()?,
            },
            7 => Step::Hold(self.text()?),
            8 => Step::Attach(self.text()?),
            40 => Step::HoldBeneath {
                root: self.text()?,
                path: self.text()?,
                slot: self.u32()?,
                resolve: self.u64()?,
            },
            41 => Step::AttachBeneath {
                root: self.text()?,
                path: self.text()?,
                slot: self.u32()?,
                read_only: self.u32()? != 0,
                resolve: self.u64()?,
            },
            15 => Step::AttachShared(self.text()?),
            9 => Step::BoundCapabilities(self.u64()?),
            16 => Step::Capabilities(self.u64()?),
            10 => Step::NoNewPrivileges,
            11 => {
                let (uid, gid, length) = (self.u32()?, self.u32()?, self.u32()? as usize);
                Step::Credentials {
                    uid,
                    gid,
                    groups: self.take(length)?,
                }
            }
            12 => Step::WorkingDirectory(self.text()?),
            13 => Step::Stdio {
                path: self.text()?,
                descriptor: self.u32()?,
            },
            14 => Step::ResourceLimit {
                resource: self.u32()?,
                soft: self.u64()?,
                hard: self.u64()?,
            },
            30 => Step::Enter(self.u64()?),
            31 => Step::Stream(self.u32()?),
            32 => Step::Terminal,
            17 => Step::WriteFile {
                path: self.text()?,
                text: self.text()?,
            },
            18 => Step::Rules {
                files: self.u64()?,
                scoped: self.u64()?,
            },
            19 => Step::Allow {
                path: self.text()?,
                files: self.u64()?,
            },
            20 => Step::Restrict,
            21 => {
                let length = self.u32()? as usize;
                Step::FilterCalls(self.take(length)?)
            }
            33 => {
                let size = self.u32()?;
                Step::Console {
                    rows: (size >> 16) as u16,
                    columns: size as u16,
                }
            }
            _ => return None,
        })
    }
}
