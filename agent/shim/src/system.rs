//! Raw system calls on descriptors and C strings, as `Result`s of an error number.
//!
//! Every wrapper is safe: descriptors are plain numbers that the kernel checks, strings end with a NUL by their type, buffers are
//! slices.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proffer_shim::record::{self, Process};

/// An error number.
pub(crate) type Errno = libc::c_int;

/// An open file. Closed with the process.
#[derive(Clone, Copy)]
pub(crate) struct Descriptor(pub(crate) libc::c_int);

/// The calling thread's error number.
pub(crate) fn errno() -> Errno {
    // SAFETY: the location is valid for as long as the thread lives.
    unsafe { *libc::__errno_location() }
}

/// The result of a system call that says -1 for an error.
pub(crate) fn check<N: PartialOrd + Default>(result: N) -> Result<N, Errno> {
    if result < N::default() {
        Err(errno())
    } else {
        Ok(result)
    }
}

pub(crate) fn exit(code: libc::c_int) -> ! {
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(code) }
}

/// Blocks every signal and gives each its default action; what the agent ignores is not inherited by the program.
pub(crate) fn reset_signals() {
    // SAFETY: the set is initialised before it is used. The raw call, because the C library hides two signals, reads a `struct
    // sigaction` of the kernel's layout, for which four zeroes are `SIG_DFL`; the kernel refuses what cannot be set.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, ptr::null_mut());
        let default = [0u64; 4];
        for signal in 1..=64 {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                8,
            );
        }
    }
}

pub(crate) fn unblock_signals() -> Result<(), Errno> {
    // SAFETY: an empty set of signals is all zeroes.
    unsafe {
        let none: libc::sigset_t = std::mem::zeroed();
        check(libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut())).map(drop)
    }
}

pub(crate) fn close_from(first: u32) {
    // SAFETY: nothing in this process owns a descriptor from `first` on.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

fn length(file: Descriptor) -> Result<usize, Errno> {
    // SAFETY: all zeroes is a valid `stat`, and it outlives the call.
    let status = unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        check(libc::fstat(file.0, &mut status))?;
        status
    };
    usize::try_from(status.st_size).map_err(|_| libc::EINVAL)
}

/// No program that is executed from here on has other capabilities than these. Every capability costs a call, so what was
/// dropped is remembered.
pub(crate) fn bound_capabilities(kept: u64) -> Result<(), Errno> {
    let present = BOUNDING_SET.load(Relaxed);
    for capability in (0..64).filter(|capability| (present & !kept) >> capability & 1 == 1) {
        // SAFETY: a plain system call with numbers.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            Ok(_) => {}
            // Beyond the last capability that this kernel has.
            Err(libc::EINVAL) if capability > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    BOUNDING_SET.store(present & kept, Relaxed);
    Ok(())
}

/// What may be left in the bounding set of this process and those that it forks.
static BOUNDING_SET: AtomicU64 = AtomicU64::new(u64::MAX);

/// Maps a whole file; an empty one or one beyond `bytes_max` is an error.
pub(crate) fn map(file: Descriptor, bytes_max: usize) -> Result<&'static [u8], Errno> {
    // SAFETY: the mapping is private, never unmapped, and the agent does not write to the file once the launcher has it.
    unsafe {
        let length = length(file)?;
        if length == 0 || length > bytes_max {
            return Err(libc::EINVAL);
        }
        let address = libc::mmap(ptr::null_mut(), length, libc::PROT_READ, libc::MAP_PRIVATE, file.0, 0);
        if address == libc::MAP_FAILED {
            return Err(errno());
        }
        Ok(std::slice::from_raw_parts(address.cast(), length))
    }
}

/// Zeroed memory for `count` pointers.
pub(crate) fn pointers(count: usize) -> Result<&'static mut [*const libc::c_char], Errno> {
    let bytes = count
        .checked_mul(size_of::<*const libc::c_char>())
        .ok_or(libc::ENOMEM)?;
    // SAFETY: a fresh anonymous mapping is zeroed, page-aligned, exclusively ours and never unmapped; zero is a null pointer.
    unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let address = libc::mmap(
            ptr::null_mut(),
            bytes,
            protection,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if address == libc::MAP_FAILED {
            return Err(errno());
        }
        Ok(std::slice::from_raw_parts_mut(address.cast(), count))
    }
}

/// Memory that is not there before it is written to.
pub(crate) fn buffer(bytes: usize) -> Result<&'static mut [u8], Errno> {
    // SAFETY: a fresh anonymous mapping is zeroed, exclusively ours and never unmapped.
    unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let address = libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0);
        if address == libc::MAP_FAILED {
            return Err(errno());
        }
        Ok(std::slice::from_raw_parts_mut(address.cast(), bytes))
    }
}

/// Moves a value to memory that stays shared with children.
pub(crate) fn shared<T>(value: T) -> Result<&'static T, Errno> {
    // SAFETY: a fresh anonymous mapping of at least a page is large enough and aligned for what fits a page, exclusively ours
    // before it is lent out, and never unmapped.
    unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let address = libc::mmap(ptr::null_mut(), size_of::<T>(), protection, flags, -1, 0);
        if address == libc::MAP_FAILED {
            return Err(errno());
        }
        let place = address.cast::<T>();
        place.write(value);
        Ok(&*place)
    }
}

pub(crate) fn open(path: &CStr, flags: libc::c_int, mode: libc::mode_t) -> Result<Descriptor, Errno> {
    open_at(Descriptor(libc::AT_FDCWD), path, flags, mode)
}

/// Opens a file, closed on `execve`.
pub(crate) fn open_at(
    directory: Descriptor,
    path: &CStr,
    flags: libc::c_int,
    mode: libc::mode_t,
) -> Result<Descriptor, Errno> {
    // SAFETY: the path is a C string.
    check(unsafe { libc::openat(directory.0, path.as_ptr(), flags | libc::O_CLOEXEC, mode) }).map(Descriptor)
}

pub(crate) fn close(file: Descriptor) {
    // SAFETY: callers close what they opened.
    unsafe { libc::close(file.0) };
}

/// Writes all bytes at once; less is an error.
pub(crate) fn write(file: Descriptor, bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: the pointer and the length are a slice's.
    let written = check(unsafe { libc::write(file.0, bytes.as_ptr().cast(), bytes.len()) })?;
    if written as usize == bytes.len() {
        Ok(())
    } else {
        Err(libc::EIO)
    }
}

/// The most descriptors of one message.
const DESCRIPTORS_MAX: usize = 6;

/// The descriptors that came with a message.
#[derive(Clone, Copy)]
pub(crate) struct Descriptors {
    list: [Descriptor; DESCRIPTORS_MAX],
    count: usize,
}

impl Descriptors {
    pub(crate) fn as_slice(&self) -> &[Descriptor] {
        &self.list[..self.count]
    }
}

/// Writes what can be written at once.
pub(crate) fn write_some(file: Descriptor, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the pointer and the length are a slice's.
    check(unsafe { libc::write(file.0, bytes.as_ptr().cast(), bytes.len()) }).map(|length| length as usize)
}

/// A pipe: where it is read, and where it is written.
pub(crate) fn pipe() -> Result<(Descriptor, Descriptor), Errno> {
    let mut ends = [0; 2];
    // SAFETY: the array has room for both ends.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((Descriptor(ends[0]), Descriptor(ends[1])))
}

pub(crate) fn set_nonblocking(file: Descriptor) -> Result<(), Errno> {
    // SAFETY: a plain system call with numbers.
    check(unsafe { libc::fcntl(file.0, libc::F_SETFL, libc::O_NONBLOCK) }).map(drop)
}

pub(crate) fn change_owner(file: Descriptor, uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: a plain system call with numbers.
    check(unsafe { libc::fchown(file.0, uid, gid) }).map(drop)
}

pub(crate) fn set_attribute(file: Descriptor, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: the name is a C string; the pointer and the length are a slice's.
    check(unsafe { libc::fsetxattr(file.0, name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }).map(drop)
}

pub(crate) fn rename(directory: Descriptor, from: &CStr, to: &CStr) -> Result<(), Errno> {
    // SAFETY: both names are C strings.
    check(unsafe { libc::renameat(directory.0, from.as_ptr(), directory.0, to.as_ptr()) }).map(drop)
}

pub(crate) fn unlink(directory: Descriptor, name: &CStr) -> Result<(), Errno> {
    // SAFETY: the name is a C string.
    check(unsafe { libc::unlinkat(directory.0, name.as_ptr(), 0) }).map(drop)
}

/// The next message of a socket, cut to the buffer, with the descriptors that come along; none when the other end is closed.
/// What comes without any is passed over.
pub(crate) fn receive(socket: Descriptor, buffer: &mut [u8]) -> Result<Option<Descriptors>, Errno> {
    loop {
        // As the kernel aligns it.
        let mut control = [0u64; 8];
        // SAFETY: all zeroes is valid for a message header. The pointers and lengths are those of the buffers, which outlive the
        // call; the header of a control message is read only where the kernel says that a whole one is, and its data have
        // `cmsg_len` bytes less the header's, of which whole numbers are read.
        unsafe {
            let mut part = libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: buffer.len(),
            };
            let mut message: libc::msghdr = std::mem::zeroed();
            (message.msg_iov, message.msg_iovlen) = (&mut part, 1);
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control) as _;
            if check(libc::recvmsg(socket.0, &mut message, libc::MSG_CMSG_CLOEXEC))? == 0 {
                return Ok(None);
            }
            let header = libc::CMSG_FIRSTHDR(&message);
            if header.is_null() || ((*header).cmsg_level, (*header).cmsg_type) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                continue;
            }
            let bytes = ((*header).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            let mut files = Descriptors {
                list: [Descriptor(-1); DESCRIPTORS_MAX],
                count: (bytes / size_of::<libc::c_int>()).min(DESCRIPTORS_MAX),
            };
            let data = libc::CMSG_DATA(header).cast::<libc::c_int>();
            for at in 0..files.count {
                files.list[at] = Descriptor(data.add(at).read_unaligned());
            }
            return Ok(Some(files));
        }
    }
}

/// Sends descriptors over a socket.
pub(crate) fn send(socket: Descriptor, files: [Descriptor; 2]) -> Result<(), Errno> {
    const BYTES: libc::c_uint = size_of::<[libc::c_int; 2]>() as libc::c_uint;
    // As the kernel aligns it.
    let mut control = [0u64; 8];
    let mut byte = 0u8;
    // SAFETY: all zeroes is valid for a message header. The pointers and lengths are those of the buffers, which outlive the call;
    // the buffer has room for a control message of two numbers, which is where the header's macros say.
    unsafe {
        let mut part = libc::iovec {
            iov_base: ptr::from_mut(&mut byte).cast(),
            iov_len: 1,
        };
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&mut part, 1);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(BYTES) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        if header.is_null() {
            return Err(libc::EINVAL);
        }
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(BYTES) as _;
        libc::CMSG_DATA(header)
            .cast::<[libc::c_int; 2]>()
            .write_unaligned(files.map(|file| file.0));
        check(libc::sendmsg(socket.0, &message, libc::MSG_NOSIGNAL)).map(drop)
    }
}

/// Two sockets that are connected, or the two ends of a pipe: the first is read.
pub(crate) fn pair(pipe: bool) -> Result<[Descriptor; 2], Errno> {
    let mut ends = [-1; 2];
    // SAFETY: the array has room for the two descriptors.
    check(unsafe {
        if pipe {
            libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC)
        } else {
            let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
            libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr())
        }
    })?;
    Ok(ends.map(Descriptor))
}

/// Gives a descriptor another number, closed on `execve`.
pub(crate) fn renumber(file: Descriptor, to: Descriptor) -> Result<(), Errno> {
    // SAFETY: a plain system call with numbers.
    check(unsafe { libc::dup3(file.0, to.0, libc::O_CLOEXEC) })?;
    close(file);
    Ok(())
}

/// Joins namespaces of a process (`CLONE_NEW*`), which a pidfd holds, or the one that a file of `/proc/PID/ns` is.
pub(crate) fn join(namespaces: Descriptor, kinds: libc::c_int) -> Result<(), Errno> {
    // SAFETY: a plain system call with numbers.
    check(unsafe { libc::setns(namespaces.0, kinds) }).map(drop)
}

/// Kills a process by its directory in `/proc`, whatever its number is in the caller's namespace.
pub(crate) fn kill(process: Descriptor) {
    let none = ptr::null::<libc::siginfo_t>();
    // SAFETY: a null `siginfo` is allowed; the rest are numbers.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.0, libc::SIGKILL, none, 0) };
}

/// Makes `to` another descriptor of the file; it is not closed on `execve`.
pub(crate) fn duplicate(file: Descriptor, to: Descriptor) -> Result<(), Errno> {
    // SAFETY: a plain system call with numbers.
    check(unsafe { libc::dup2(file.0, to.0) }).map(drop)
}

pub(crate) fn read(file: Descriptor, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the pointer and the length are a slice's.
    check(unsafe { libc::read(file.0, buffer.as_mut_ptr().cast(), buffer.len()) }).map(|length| length as usize)
}

/// Writes to a file that exists.
pub(crate) fn write_file(path: &CStr, bytes: &[u8]) -> Result<(), Errno> {
    let file = open(path, libc::O_WRONLY, 0)?;
    let result = write(file, bytes);
    close(file);
    result
}

/// Reads the start of a small file of the kernel's.
pub(crate) fn read_file<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let file = open(path, libc::O_RDONLY, 0)?;
    let result = read(file, buffer);
    close(file);
    Ok(&buffer[..result?])
}

pub(crate) fn change_directory(path: &CStr) -> Result<(), Errno> {
    // SAFETY: the path is a C string.
    check(unsafe { libc::chdir(path.as_ptr()) }).map(drop)
}

/// `fork` with further flags, and without what a C library does around it.
pub(crate) fn fork(flags: libc::c_int) -> Result<i64, Errno> {
    let null = ptr::null::<libc::c_void>();
    // SAFETY: without `CLONE_VM` the child runs on a copy of this stack; this process has one thread.
    check(unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, null, null, null, null) })
}

/// Beyond the 32 bits that the C library's binding has for it.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// `clone3(2)` of a child with its own memory, in namespaces and perhaps a cgroup of its own.
pub(crate) fn clone(flags: u64, cgroup: Option<Descriptor>) -> Result<i64, Errno> {
    // SAFETY: all zeroes is valid and means "none" for every argument.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.0 as u64;
    }
    // SAFETY: the arguments and their size belong together. Without `CLONE_VM` the child runs on a copy of this stack; this
    // process has one thread.
    check(unsafe { libc::syscall(libc::SYS_clone3, &arguments, size_of::<libc::clone_args>()) })
}

/// The caller, as the processes outside its pid namespace name it: `/proc` is still the host's.
pub(crate) fn myself() -> Result<Process, Errno> {
    let mut buffer = [0; 1024];
    // SAFETY: the pointer and the length are an array's.
    let length = unsafe { libc::readlink(c"/proc/self".as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let pid = record::number(&buffer[..check(length)? as usize]).ok_or(libc::ESRCH)?;
    let stat = read_file(c"/proc/self/stat", &mut buffer)?;
    let start_time = record::start_time(stat).ok_or(libc::ESRCH)?;
    Ok(Process {
        pid: pid as u32,
        start_time,
    })
}

/// Leaves a record under its name only when it is whole.
pub(crate) fn write_record(
    directory: Descriptor,
    (temporary, name): (&CStr, &CStr),
    bytes: &[u8],
    (durable, replace): (bool, bool),
) -> Result<(), Errno> {
    let file = open_at(directory, temporary, libc::O_WRONLY | libc::O_CREAT, 0o644)?;
    write(file, bytes)?;
    // The agent leaves used files under the temporary name, since new ones are dear. They are cut afterwards: some file systems
    // write a file that was emptied to the disk at once when it is closed.
    if length(file)? != bytes.len() {
        // SAFETY: a plain system call with numbers.
        check(unsafe { libc::ftruncate(file.0, bytes.len() as libc::off_t) })?;
    }
    let flags = if replace { 0 } else { libc::RENAME_NOREPLACE };
    // SAFETY: the names are C strings; the rest are numbers.
    unsafe {
        if durable {
            check(libc::fsync(file.0))?;
        }
        let (from, to) = (temporary.as_ptr(), name.as_ptr());
        check(libc::syscall(
            libc::SYS_renameat2,
            directory.0,
            from,
            directory.0,
            to,
            flags,
        ))?;
        if durable {
            check(libc::fsync(directory.0))?;
        }
    }
    close(file);
    Ok(())
}
