//! What `mkfs.ext4` writes: the few blocks of an empty file system that are not zero. Written into a sparse file they make it again,
//! in a fraction of a millisecond.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::BLOCK_BYTES;

/// The most that is kept of one: that of a file system of 8 TiB.
const BYTES_MAX: usize = 8 << 20;

/// An empty file system, as bytes in memory.
#[derive(Debug)]
pub(super) struct Template {
    length: u64,
    blocks: Vec<(u64, Box<[u8]>)>,
}

impl Template {
    /// Takes it from a file that `mkfs.ext4` has just made. None where it is large, or its own file system does not tell where it is empty.
    pub(super) fn read(image: &File) -> io::Result<Option<Self>> {
        let length = image.metadata()?.len();
        let mut blocks = Vec::new();
        let mut at = 0;
        let mut read = 0;
        while at < length {
            let data = match rustix::fs::seek(image, SeekFrom::Data(at)) {
                Err(Errno::NXIO) => break,
                data => data?,
            };
            let hole = rustix::fs::seek(image, SeekFrom::Hole(data))?;
            read += usize::try_from(hole - data).unwrap_or(usize::MAX);
            if read > BYTES_MAX {
                return Ok(None);
            }
            at = data;
            while at < hole {
                let mut block = vec![0; (hole - at).min(BLOCK_BYTES) as usize];
                image.read_exact_at(&mut block, at)?;
                let offset = at;
                at += block.len() as u64;
                if block.iter().any(|byte| *byte != 0) {
                    blocks.push((offset, block.into()));
                }
            }
        }
        Ok(Some(Template { length, blocks }))
    }

    /// Makes the file system in an empty file.
    pub(super) fn write(&self, image: &File) -> io::Result<()> {
        image.set_len(self.length)?;
        self.blocks
            .iter()
            .try_for_each(|(offset, block)| image.write_all_at(block, *offset))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_written_is_what_was_read_and_as_sparse() {
        let (made, again) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        made.set_len(1 << 30).unwrap();
        let block = |byte| [byte; BLOCK_BYTES as usize];
        for (offset, byte) in [(0, 1), (1 << 20, 0), (3 << 20, 2), ((1 << 30) - BLOCK_BYTES, 3)] {
            made.write_all_at(&block(byte), offset).unwrap();
        }
        let template = Template::read(&made).unwrap().unwrap();
        assert_eq!(template.blocks.len(), 3, "what is zero is left out");
        template.write(&again).unwrap();
        let mut found = block(9);
        for (offset, byte) in [(0, 1), (1 << 20, 0), (3 << 20, 2), ((1 << 30) - BLOCK_BYTES, 3)] {
            again.read_exact_at(&mut found, offset).unwrap();
            assert_eq!(found, block(byte), "at {offset}");
        }
        let metadata = again.metadata().unwrap();
        assert_eq!(metadata.len(), 1 << 30);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    }

    #[test]
    fn what_is_large_is_not_kept() {
        let made = tempfile::tempfile().unwrap();
        let block = vec![1; 1 << 20];
        for place in 0..=(BYTES_MAX >> 20) as u64 {
            made.write_all_at(&block, place << 20).unwrap();
        }
        assert!(Template::read(&made).unwrap().is_none());
    }
}
