//! What the write-ahead log asks of a file system; tests record it and replay crashes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const CHUNK: usize = 16 << 10;

/// One directory of files.
pub trait Disk: Send {
    /// An open file.
    type File: Send;
    /// The names of the files.
    ///
    /// # Errors
    /// As the file system says; so for every method.
    fn list(&self) -> io::Result<Vec<String>>;
    /// The content of a file; zeros at its end may be left out.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Creates a file that must not exist; its first `reserve` bytes are to be reserved where that is possible.
    fn create(&self, name: &str, reserve: u64) -> io::Result<Self::File>;
    /// Opens an existing file for writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Writes at a place.
    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts or extends; an extension reads as zeros.
    fn set_length(&self, file: &Self::File, length: u64) -> io::Result<()>;
    /// Returns once the content is on the medium.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Returns once creations and removals are on the medium.
    fn sync_directory(&self) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A directory of the file system.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Uses the directory, and makes it where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            std::fs::create_dir_all(path)?;
            if let Some(parent) = path.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(Self {
            path: path.to_path_buf(),
        })
    }
}

impl Disk for Directory {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.path.join(name))?;
        let mut content = Vec::new();
        let mut chunk = [0; CHUNK];
        let mut zeros = 0;
        loop {
            let length = file.read(&mut chunk)?;
            if length == 0 {
                return Ok(content);
            }
            // Most of a new segment is reserved and empty: it should cost no memory.
            if chunk[..length].iter().all(|byte| *byte == 0) {
                zeros += length;
            } else {
                content.resize(content.len() + zeros, 0);
                content.extend_from_slice(&chunk[..length]);
                zeros = 0;
            }
        }
    }

    fn create(&self, name: &str, reserve: u64) -> io::Result<File> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(self.path.join(name))?;
        // Reserved space makes the later syncs cheaper; without it the file grows as it is written.
        let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, reserve);
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join(name))
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }
}
