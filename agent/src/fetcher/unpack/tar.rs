//! Tar: the old format, ustar, and the extensions of GNU and POSIX for long names.
//!
//! The `tar` crate reads the headers only. Its own handling of extensions reads names of any length into memory.

use std::io::{self, Read};
use std::path::Path;

use tar::{Archive, EntryType, PaxExtensions};

use super::{Budget, named, path_of};
use crate::sandbox::beneath::Destination;

/// The longest extension: names of 4096 bytes, and what else a POSIX header says.
const EXTENSION_BYTES_MAX: u64 = 256 << 10;

/// What may follow the end: tar fills the last of its blocks.
const REST_BYTES_MAX: u64 = 16 << 20;

/// What extensions say of the entry that follows.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

pub(super) fn unpack(input: impl Read, destination: &Destination, budget: &mut Budget<'_>) -> io::Result<()> {
    let mut archive = Archive::new(input);
    let mut extensions = Extensions::default();
    let mut entries = 0;
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        entries += 1;
        budget.entry()?;
        match entry.header().entry_type() {
            EntryType::GNULongName => extensions.path = Some(long_name(&mut entry)?),
            EntryType::GNULongLink => extensions.link = Some(long_name(&mut entry)?),
            EntryType::XHeader => extensions.read_pax(&read_extension(&mut entry)?)?,
            EntryType::XGlobalHeader => {}
            _ => {
                let extensions = std::mem::take(&mut extensions);
                let name = extensions
                    .path
                    .clone()
                    .unwrap_or_else(|| entry.path_bytes().into_owned());
                one(&mut entry, &name, extensions, destination, budget).map_err(|error| named(&name, &error))?;
            }
        }
    }
    if entries == 0 {
        return Err(io::Error::other("has no entries: is it a tar archive?"));
    }
    // What packs an archive checks it at its very end.
    let rest = io::copy(&mut archive.into_inner().take(REST_BYTES_MAX), &mut io::sink())?;
    if rest == REST_BYTES_MAX {
        return Err(io::Error::other("goes on after its end"));
    }
    Ok(())
}

fn one<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    name: &[u8],
    extensions: Extensions,
    destination: &Destination,
    budget: &mut Budget<'_>,
) -> io::Result<()> {
    let path = path_of(name)?;
    let kind = entry.header().entry_type();
    if kind.is_dir() || (kind.is_file() && name.ends_with(b"/")) {
        return destination.directory(&path);
    }
    if path.as_os_str().is_empty() {
        return Err(io::Error::other("has no name"));
    }
    let link = || {
        let target = extensions
            .link
            .clone()
            .or_else(|| entry.link_name_bytes().map(|name| name.into_owned()));
        target.ok_or_else(|| io::Error::other("is a link that leads nowhere"))
    };
    match kind {
        EntryType::Regular | EntryType::Continuous => {
            if extensions.size.is_some_and(|size| size != entry.size()) {
                return Err(io::Error::other("is larger than its header can say (8 GiB)"));
            }
            let mode = entry.header().mode().unwrap_or(0o644);
            let mut file = destination.replace(&path)?;
            let (size, copied) = (entry.size(), budget.copy(entry, &mut file)?);
            if copied != size {
                return Err(io::Error::other("is cut short"));
            }
            destination.give(&file, mode | 0o600)
        }
        EntryType::Symlink => {
            use std::os::unix::ffi::OsStrExt;
            destination.symlink(&path, Path::new(std::ffi::OsStr::from_bytes(&link()?)))
        }
        EntryType::Link => destination.hard_link(&path, &path_of(&link()?)?),
        EntryType::Char | EntryType::Block | EntryType::Fifo => {
            Err(io::Error::other("is a device or a pipe, which are not unpacked"))
        }
        EntryType::GNUSparse => Err(io::Error::other("is a sparse file, which is not unpacked")),
        _ => Err(io::Error::other("is of a kind that is not known")),
    }
}

impl Extensions {
    /// POSIX.1-2001, pax Extended Header.
    fn read_pax(&mut self, text: &[u8]) -> io::Result<()> {
        for extension in PaxExtensions::new(text) {
            let extension = extension?;
            let value = extension.value_bytes();
            match extension.key_bytes() {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|size| size.parse().ok());
                    self.size = Some(size.ok_or_else(|| io::Error::other("a header says no size"))?);
                }
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(io::Error::other("holds a sparse file, which is not unpacked"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn long_name<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Vec<u8>> {
    let mut name = read_extension(entry)?;
    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
    Ok(name)
}

fn read_extension<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Vec<u8>> {
    if entry.size() > EXTENSION_BYTES_MAX {
        return Err(io::Error::other(format!(
            "a header is longer than {EXTENSION_BYTES_MAX} bytes"
        )));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}
