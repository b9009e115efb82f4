//! The cgroup in which a TCP socket of this host was made: sock_diag(7), `INET_DIAG_CGROUP_ID` (Linux 5.8).

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const IPPROTO_TCP: u8 = 6;
const INET_DIAG_CGROUP_ID: u16 = 21;
/// `struct nlmsghdr`
const HEADER_BYTES: usize = 16;
/// `struct inet_diag_req_v2`
const REQUEST_BYTES: usize = 56;
/// `struct inet_diag_msg`
const ANSWER_BYTES: usize = 72;

/// Asks for the socket with these two ends, of which the first is its own.
pub(super) fn cgroup(own: SocketAddr, other: SocketAddr) -> io::Result<u64> {
    let flags = SocketFlags::CLOEXEC;
    let kernel = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        flags,
        Some(netlink::SOCK_DIAG),
    )?;
    send(&kernel, &request(own, other), SendFlags::empty())?;
    let mut answer = [0; 4096];
    let (length, _) = recv(&kernel, &mut answer, RecvFlags::empty())?;
    read(&answer[..length])
}

fn request(own: SocketAddr, other: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + REQUEST_BYTES);
    bytes.extend(((HEADER_BYTES + REQUEST_BYTES) as u32).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    // The sequence number and the port: of no interest.
    bytes.extend([0; 8]);
    let family = if own.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    bytes.extend([family.as_raw() as u8, IPPROTO_TCP, 0, 0]);
    // In any state.
    bytes.extend(u32::MAX.to_ne_bytes());
    for address in [own, other] {
        bytes.extend(address.port().to_be_bytes());
    }
    for address in [own, other] {
        let mut field = [0; 16];
        match address.ip() {
            IpAddr::V4(ip) => field[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => field.copy_from_slice(&ip.octets()),
        }
        bytes.extend(field);
    }
    let interface = match own {
        SocketAddr::V6(own) => own.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    bytes.extend(interface.to_ne_bytes());
    // `INET_DIAG_NOCOOKIE`
    bytes.extend([0xff; 8]);
    bytes
}

fn read(answer: &[u8]) -> io::Result<u64> {
    let torn = || io::Error::other("the kernel's answer is torn");
    let word = |at: usize| {
        answer
            .get(at..at + 4)
            .map(|bytes| i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let half = |at: usize| {
        answer
            .get(at..at + 2)
            .map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]))
    };
    if half(4) == Some(NLMSG_ERROR) {
        let errno = word(HEADER_BYTES).ok_or_else(torn)?;
        return Err(io::Error::from_raw_os_error(-errno));
    }
    let mut at = HEADER_BYTES + ANSWER_BYTES;
    while let (Some(length), Some(kind)) = (half(at), half(at + 2)) {
        let length = usize::from(length);
        if length < 4 {
            return Err(torn());
        }
        if kind == INET_DIAG_CGROUP_ID {
            let id = answer.get(at + 4..at + 12).ok_or_else(torn)?;
            return id.try_into().map(u64::from_ne_bytes).map_err(|_| torn());
        }
        at += length.next_multiple_of(4);
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this kernel does not tell the cgroups of sockets",
    ))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_cgroup_of_a_connection_is_told() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                eprintln!("skipped: no {address}");
                continue;
            };
            let other = listener.local_addr().unwrap();
            let stream = TcpStream::connect(other).unwrap();
            let own = stream.local_addr().unwrap();
            match cgroup(own, other) {
                Ok(id) => assert_ne!(id, 0),
                Err(error) => {
                    eprintln!("skipped: the kernel does not tell: {error}");
                    return;
                }
            }
            drop(listener);
            let nobody = SocketAddr::new(own.ip(), 1);
            let error = cgroup(nobody, own).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        }
    }

    #[test]
    fn an_answer_may_be_anything() {
        for length in 0..200 {
            for byte in [0, 1, 21, 0xff] {
                assert!(read(&vec![byte; length]).is_err());
            }
        }
    }
}
