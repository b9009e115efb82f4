//! Archives of friends and of enemies.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, symlink};

use ::tar::{EntryType, Header};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::containerizer::User;

const TREES: [(&[u8], Format); 5] = [
    (include_bytes!("../fixtures/tree.tar.gz"), Format::TarGz),
    (include_bytes!("../fixtures/tree-pax.tar.gz"), Format::TarGz),
    (include_bytes!("../fixtures/tree.tar.xz"), Format::TarXz),
    (include_bytes!("../fixtures/tree.tar.zst"), Format::TarZst),
    (include_bytes!("../fixtures/tree.zip"), Format::Zip),
];

/// A sandbox beside a secret.
struct Sandbox {
    directory: tempfile::TempDir,
}

impl Sandbox {
    fn new() -> Self {
        let sandbox = Sandbox {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(sandbox.root()).unwrap();
        fs::write(sandbox.secret(), "secret").unwrap();
        sandbox
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn secret(&self) -> PathBuf {
        self.directory.path().join("secret")
    }

    fn unpack(&self, archive: &[u8], format: Format, bytes_max: u64) -> io::Result<()> {
        let own = self.root().metadata()?;
        let user = User {
            uid: own.uid(),
            gid: own.gid(),
            groups: vec![],
        };
        let mut file = tempfile::tempfile()?;
        file.write_all(archive)?;
        file.seek(SeekFrom::Start(7))?;
        let destination = Destination::open(&self.root(), &user)?;
        let mut budget = Budget::new(bytes_max, &|| true);
        unpack(&mut file, format, Path::new("name.gz"), &destination, &mut budget)
    }

    fn is_unharmed(&self) -> bool {
        fs::read_to_string(self.secret()).unwrap() == "secret"
            && fs::read_dir(self.directory.path()).unwrap().count() == 2
    }
}

/// A tar archive of headers that no honest program writes.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o6777);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, name, "", content)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A zip archive of one stored entry.
fn zip(name: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(content);
    let size = (content.len() as u32).to_le_bytes();
    let middle = [&[0; 8][..], &crc.sum().to_le_bytes(), &size, &size].concat();
    let mut archive = [
        b"PK\x03\x04\x14\0".as_slice(),
        &middle,
        &(name.len() as u16).to_le_bytes(),
        &[0; 2],
    ]
    .concat();
    archive.extend(name.as_bytes());
    archive.extend(content);
    let directory = archive.len();
    archive.extend(
        [
            b"PK\x01\x02\x14\x03\x14\0".as_slice(),
            &middle,
            &(name.len() as u16).to_le_bytes(),
        ]
        .concat(),
    );
    archive.extend([&[0; 8][..], &(mode << 16).to_le_bytes(), &[0; 4]].concat());
    archive.extend(name.as_bytes());
    let length = (archive.len() - directory) as u32;
    archive.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    archive.extend([&length.to_le_bytes()[..], &(directory as u32).to_le_bytes(), &[0; 2]].concat());
    archive
}

#[test]
fn every_format_is_unpacked() {
    for (archive, format) in TREES {
        let sandbox = Sandbox::new();
        sandbox
            .unpack(archive, format, 100)
            .unwrap_or_else(|error| panic!("{format:?}: {error}"));
        let read = |name: &str| fs::read_to_string(sandbox.root().join("a").join(name)).unwrap();
        assert_eq!(read("file"), "hello\n", "{format:?}");
        assert_eq!(read("same"), "hello\n");
        assert_eq!(read("link"), "#!/bin/sh\necho run\n");
        assert_eq!(read(&"n".repeat(150)), "long\n");
        let mode = |name: &str| sandbox.root().join("a").join(name).metadata().unwrap().mode() & 0o7777;
        assert_eq!((mode("bin/run"), mode("file")), (0o755, 0o644), "{format:?}");
        // Over what is there.
        sandbox
            .unpack(archive, format, 100)
            .unwrap_or_else(|error| panic!("{format:?}: {error}"));
    }
    let sandbox = Sandbox::new();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(b"text").unwrap();
    sandbox.unpack(&packed.finish().unwrap(), Format::Gz, 4).unwrap();
    assert_eq!(fs::read_to_string(sandbox.root().join("name")).unwrap(), "text");
}

#[test]
fn nothing_leaves_the_directory() {
    let (link, hard) = (EntryType::Symlink, EntryType::Link);
    let file = |name: &str| Tar::default().file(name, b"evil");
    for (what, archive) in [
        ("parent", file("../secret")),
        ("parent inside", file("a/../../secret")),
        ("absolute", file("/tmp/proffer-evil")),
        (
            "absolute link",
            Tar::default().entry(link, "l", "/etc", b"").file("l/x", b"evil"),
        ),
        (
            "link out",
            Tar::default().entry(link, "l", "..", b"").file("l/secret", b"evil"),
        ),
        ("deep link", Tar::default().entry(link, "a/l", "../../secret", b"")),
        (
            "link over link",
            Tar::default()
                .entry(link, "a/b", ".", b"")
                .entry(link, "a/b/c", "../..", b"")
                .file("a/b/c/secret", b"evil"),
        ),
        (
            "hard link out",
            Tar::default().entry(hard, "h", "../secret", b"").file("h", b"evil"),
        ),
        (
            "hard link absolute",
            Tar::default().entry(hard, "h", "/etc/passwd", b""),
        ),
        (
            "long name",
            Tar::default()
                .entry(EntryType::GNULongName, "@", "", b"../secret\0")
                .file("x", b"evil"),
        ),
        (
            "pax name",
            Tar::default()
                .entry(EntryType::XHeader, "@", "", b"18 path=../secret\n")
                .file("x", b"evil"),
        ),
        (
            "endless name",
            Tar::default()
                .entry(EntryType::GNULongName, "@", "", &vec![b'x'; 300 << 10])
                .file("x", b""),
        ),
        ("device", Tar::default().entry(EntryType::Char, "d", "", b"")),
        ("block device", Tar::default().entry(EntryType::Block, "d", "", b"")),
        ("pipe", Tar::default().entry(EntryType::Fifo, "d", "", b"")),
        ("sparse", Tar::default().entry(EntryType::GNUSparse, "d", "", b"")),
        ("no name", Tar::default().file("./", b"").file(".", b"evil")),
        ("nothing", Tar::default()),
    ] {
        let sandbox = Sandbox::new();
        let result = sandbox.unpack(&archive.end(), Format::Tar, 1 << 20);
        assert!(result.is_err(), "{what} is unpacked");
        assert!(sandbox.is_unharmed(), "{what}");
    }
    for (what, archive) in [
        ("parent", zip("../secret", 0o100_644, b"evil")),
        ("absolute", zip("/tmp/proffer-evil", 0o100_644, b"evil")),
        ("link out", zip("l", 0o120_777, b"../secret")),
        ("absolute link", zip("l", 0o120_777, b"/etc/passwd")),
        ("device", zip("d", 0o020_666, b"")),
        ("pipe", zip("d", 0o010_666, b"")),
    ] {
        let sandbox = Sandbox::new();
        assert!(
            sandbox.unpack(&archive, Format::Zip, 100).is_err(),
            "{what} is unpacked"
        );
        assert!(sandbox.is_unharmed(), "{what}");
    }
}

#[test]
fn links_that_were_there_before_lead_nowhere() {
    let sandbox = Sandbox::new();
    symlink("..", sandbox.root().join("l")).unwrap();
    symlink(sandbox.secret(), sandbox.root().join("s")).unwrap();
    let archive = Tar::default().file("l/secret", b"evil").end();
    assert!(sandbox.unpack(&archive, Format::Tar, 100).is_err());
    // A link in the place of a file is replaced, not written through.
    sandbox
        .unpack(&Tar::default().file("s", b"mine").end(), Format::Tar, 100)
        .unwrap();
    assert_eq!(fs::read_to_string(sandbox.root().join("s")).unwrap(), "mine");
    assert!(sandbox.is_unharmed());
}

#[test]
fn special_bits_are_dropped() {
    let sandbox = Sandbox::new();
    sandbox
        .unpack(&Tar::default().file("program", b"x").end(), Format::Tar, 100)
        .unwrap();
    sandbox
        .unpack(&zip("zipped", 0o106_755, b"x"), Format::Zip, 100)
        .unwrap();
    for name in ["program", "zipped"] {
        assert_eq!(
            sandbox.root().join(name).metadata().unwrap().mode() & 0o7000,
            0,
            "{name}"
        );
    }
}

#[test]
fn there_is_an_end_to_what_comes_out() {
    let bomb = Tar::default().file("zeros", &vec![0; 1 << 20]).end();
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&bomb).unwrap();
    let packed = packed.finish().unwrap();
    assert!(packed.len() < 4096);
    let error = Sandbox::new()
        .unpack(&packed, Format::TarGz, (1 << 20) - 1)
        .unwrap_err();
    assert!(error.to_string().contains("larger than"), "{error}");
    Sandbox::new().unpack(&packed, Format::TarGz, 1 << 20).unwrap();
    // What an entry says of its size does not matter.
    let error = Sandbox::new()
        .unpack(&zip("z", 0o100_644, &[0; 200]), Format::Zip, 100)
        .unwrap_err();
    assert!(error.to_string().contains("larger than"), "{error}");
}

#[test]
fn what_is_damaged_is_refused_wherever_it_is_cut() {
    for (archive, format) in TREES {
        for length in (0..archive.len().saturating_sub(24)).step_by(7) {
            let cut = Sandbox::new().unpack(&archive[..length], format, 1 << 20);
            assert!(
                cut.is_err(),
                "{format:?} cut at {length} of {} is unpacked",
                archive.len()
            );
        }
        let mut seed = 1_u32;
        for _ in 0..200 {
            let mut damaged = archive.to_vec();
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = seed as usize / 256 % damaged.len();
            damaged[at] ^= (seed >> 3) as u8 | 1;
            let sandbox = Sandbox::new();
            let _ = sandbox.unpack(&damaged, format, 1 << 20);
            assert!(sandbox.is_unharmed(), "{format:?} damaged at {at}");
        }
    }
    let mut wrong = zip("z", 0o100_644, b"content");
    wrong[31] ^= 1;
    assert!(
        Sandbox::new()
            .unpack(&wrong, Format::Zip, 100)
            .unwrap_err()
            .to_string()
            .contains("damaged")
    );
}
