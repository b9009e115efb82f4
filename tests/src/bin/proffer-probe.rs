//! What a test runs inside a container to see what the kernel lets it do.
//!
//! `proffer-probe bind tcp4|udp4|tcp6|mapped PORT…` prints a line for each port: `bound`, or the error number.
//! `proffer-probe fill PORT` takes more and more memory, and sends the time before each 256 KiB to a UDP port of the loopback.
//! `proffer-probe talk PORT` sends ten datagrams of a hundred bytes from a UDP port to itself.
//! `proffer-probe hog MIB` takes that much memory, uses it, and stays.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bind", kind, ref ports @ ..] => bind_each(kind, ports),
        ["fill", port] => fill(port.parse().expect("a port is a number")),
        ["talk", port] => talk(port.parse().expect("a port is a number")),
        ["hog", mib] => hog(mib.parse().expect("an amount is a number")),
        _ => {
            eprintln!("usage: proffer-probe bind tcp4|udp4|tcp6|mapped PORT… | fill PORT | talk PORT | hog MIB");
            std::process::exit(2);
        }
    }
}

fn fill(port: u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut held = Vec::new();
    loop {
        let now = proffer_tests::bench::monotonic_nanos().to_le_bytes();
        socket.send_to(&now, (Ipv4Addr::LOCALHOST, port)).expect("send");
        held.push(std::hint::black_box(vec![1_u8; 256 << 10]));
    }
}

fn talk(port: u16) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).expect("bind");
    for _ in 0..10 {
        socket.send_to(&[1; 100], (Ipv4Addr::LOCALHOST, port)).expect("send");
        socket.recv(&mut [0; 100]).expect("receive");
    }
}

fn hog(mib: usize) {
    let memory = vec![1_u8; mib << 20];
    std::hint::black_box(&memory);
    std::thread::park();
}

#[allow(clippy::print_stdout)]
fn bind_each(kind: &str, ports: &[&str]) {
    for port in ports {
        let port: u16 = port.parse().expect("a port is a number");
        match bind(kind, port) {
            Ok(()) => println!("bound"),
            Err(error) => println!("{}", error.raw_os_error().unwrap_or_default()),
        }
    }
}

fn bind(kind: &str, port: u16) -> std::io::Result<()> {
    match kind {
        "tcp4" => TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map(drop),
        "udp4" => UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map(drop),
        "tcp6" => TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).map(drop),
        // std makes every IPv6 socket that is bound to :: accept IPv4 too.
        "mapped" => TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port))).map(drop),
        other => panic!("unknown kind {other}"),
    }
}
