//! Loop devices: a file as a block device. `loop(4)`.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};

const GET_FREE: libc::Ioctl = 0x4c82;
const CONFIGURE: libc::Ioctl = 0x4c0a;
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
/// How often another device is tried because somebody was faster.
const TRIES_MAX: u32 = 64;

/// `struct loop_info64`
#[repr(C)]
struct Information {
    numbers: [u64; 5],
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    names: [u8; 64 + 64 + 32],
    initial: [u64; 2],
}

/// `struct loop_config`
#[repr(C)]
struct Configuration {
    descriptor: u32,
    block_bytes: u32,
    information: Information,
    reserved: [u64; 8],
}

/// A device that is given back when the last who uses it, as a mount does, lets go of it.
#[derive(Debug)]
pub struct Loopback {
    /// Its number: `/dev/loop<number>`.
    pub number: u32,
    /// Held until it is used.
    pub device: File,
}

/// Makes a file a block device.
pub fn attach(image: BorrowedFd<'_>, read_only: bool) -> io::Result<Loopback> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    for _ in 0..TRIES_MAX {
        // SAFETY: a system call without further arguments.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE) };
        let number = u32::try_from(number).map_err(|_| io::Error::last_os_error())?;
        let device = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .open(format!("/dev/loop{number}"))?;
        // SAFETY: zeros are values of all its fields.
        let mut configuration: Configuration = unsafe { zeroed() };
        configuration.descriptor = image.as_raw_fd().unsigned_abs();
        configuration.block_bytes = 4096;
        configuration.information.flags = AUTOCLEAR | if read_only { READ_ONLY } else { 0 };
        // SAFETY: the kernel reads a structure of this size and layout, which lives.
        match unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, &configuration) } {
            -1 => {
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::EBUSY) {
                    return Err(error);
                }
            }
            _ => return Ok(Loopback { number, device }),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_large_as_the_kernel_s() {
        assert_eq!(size_of::<Information>(), 232);
        assert_eq!(size_of::<Configuration>(), 304);
    }
}
