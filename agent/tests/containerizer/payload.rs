//! What runs inside the containers: this binary again, told by its environment what to do.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::{AddressFamily, SocketType};

/// The variable with the work to do.
pub(crate) const VARIABLE: &str = "PROFFER_TEST_PAYLOAD";

/// Not a test when it is run by the harness: it then does nothing.
#[test]
fn payload() {
    let Ok(work) = std::env::var(VARIABLE) else { return };
    let mut words = work.split(' ');
    // The harness has begun a line.
    writeln!(io::stdout()).expect("stdout");
    match words.next() {
        Some("bind") => words.for_each(bind_all),
        Some("deny") => deny_all(words),
        Some("memory") => fill_memory(),
        Some("traffic") => send_to_itself(words.next().expect("a port").parse().expect("a port")),
        Some("sockets") => open_sockets(),
        work => panic!("unknown work: {work:?}"),
    }
    std::process::exit(0);
}

/// Prints a line `kind port result` for each kind of socket.
fn bind_all(port: &str) {
    let port: u16 = port.parse().expect("a port");
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    let kinds = [
        ("tcp4", SocketType::STREAM, IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ("udp4", SocketType::DGRAM, IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ("tcp6", SocketType::STREAM, IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ("udp6", SocketType::DGRAM, IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ("mapped", SocketType::STREAM, IpAddr::V6(mapped)),
    ];
    for (name, kind, address) in kinds {
        for reuse in [false, true] {
            let result = match bind(SocketAddr::new(address, port), kind, reuse) {
                Ok(()) => "ok".to_owned(),
                Err(error) => format!("{:?}", error.raw_os_error()),
            };
            let suffix = if reuse { "-reuse" } else { "" };
            writeln!(io::stdout(), "{name}{suffix} {port} {result}").expect("stdout");
        }
    }
}

fn bind(address: SocketAddr, kind: SocketType, reuse: bool) -> io::Result<()> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket(family, kind, None)?;
    if reuse {
        rustix::net::sockopt::set_socket_reuseport(&socket, true)?;
    }
    Ok(rustix::net::bind(&socket, &address)?)
}

/// Tries ports that are none of those between the first two, as often as the third says, and prints how many were denied.
fn deny_all(words: std::str::Split<'_, char>) {
    let numbers: Vec<u32> = words.map(|word| word.parse().expect("a number")).collect();
    let [first, last, tries] = numbers[..] else {
        panic!("expected three numbers")
    };
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    let addresses: [IpAddr; 3] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), mapped.into()];
    let (mut denied, mut state) = (0, 12_345_u32);
    for number in 0..tries {
        // Over all ports, privileged ones too.
        let port = loop {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let port = state >> 16;
            if port > 0 && !(first..=last).contains(&port) {
                break port;
            }
        };
        let address = addresses[number as usize % 3];
        let kind = [SocketType::STREAM, SocketType::DGRAM][number as usize / 3 % 2];
        let reuse = number / 6 % 2 == 1;
        let bound = bind(SocketAddr::new(address, port as u16), kind, reuse);
        denied += u32::from(bound.is_err_and(|error| error.raw_os_error() == Some(1)));
    }
    writeln!(io::stdout(), "denied {denied} of {tries}").expect("stdout");
}

/// Sends a hundred datagrams of a thousand bytes.
fn send_to_itself(port: u16) {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", port)).expect("bind");
    let mut buffer = [0; 1000];
    for _ in 0..100 {
        socket.send_to(&[1; 1000], ("127.0.0.1", port)).expect("send");
        socket.recv(&mut buffer).expect("receive");
    }
    writeln!(io::stdout(), "sent").expect("stdout");
}

/// Prints a line `family protocol result` for each kind of socket.
fn open_sockets() {
    let sctp = rustix::net::ipproto::SCTP;
    let kinds = [
        (AddressFamily::UNIX, SocketType::STREAM, None),
        (AddressFamily::INET, SocketType::STREAM, None),
        (AddressFamily::INET6, SocketType::DGRAM, None),
        (AddressFamily::NETLINK, SocketType::DGRAM, None),
        (AddressFamily::INET, SocketType::STREAM, Some(sctp)),
        (AddressFamily::from_raw(38), SocketType::SEQPACKET, None),
        (AddressFamily::VSOCK, SocketType::STREAM, None),
    ];
    for (family, kind, protocol) in kinds {
        let result = match rustix::net::socket(family, kind, protocol) {
            Err(rustix::io::Errno::PERM) => "denied",
            _ => "passes",
        };
        let protocol = protocol.map_or(0, |protocol| protocol.as_raw().get());
        writeln!(io::stdout(), "{} {protocol} {result}", family.as_raw()).expect("stdout");
    }
}

fn fill_memory() {
    let mut held = Vec::new();
    loop {
        held.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
}
