//! The server with real programs before it.

// A test that is skipped says why.
#![allow(clippy::print_stdout)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream as StdStream;
use std::process::Command;

use super::*;
use crate::discovery::Directory;
use crate::discovery::directory::tests::{addresses, web};

/// A server that knows a service with so many ready instances.
fn start(instances: usize) -> (Server, watch::Sender<Known>) {
    let mut directory = Directory::new(0);
    let mut catalogue = web(&vec![true; instances]);
    let mut known = addresses();
    for (number, instance) in catalogue
        .services
        .get_mut("web")
        .unwrap()
        .instances
        .iter_mut()
        .enumerate()
    {
        let number = u32::try_from(number).unwrap();
        instance.host = format!("h{number}");
        known.insert(
            instance.host.clone(),
            Arc::from([(0x0A00_0000 + number).to_be_bytes().into()]),
        );
    }
    directory.update(&catalogue, &known);
    let (sender, receiver) = watch::channel(Some(Arc::new(directory)));
    let config = DnsConfig::new(([127, 0, 0, 1], 0).into());
    (Server::start(&config, "*", receiver).unwrap(), sender)
}

/// What `dig` prints; nothing where there is no such program.
fn dig(server: &Server, arguments: &str) -> Option<String> {
    let port = server.address().port().to_string();
    let output = Command::new("dig")
        .args(["@127.0.0.1", "-p", &port, "+tries=1", "+time=10"])
        .args(arguments.split(' '))
        .output();
    match output {
        Ok(output) => {
            assert!(output.status.success(), "{arguments}: {output:?}");
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn dig_finds_instances() {
    let (server, _sender) = start(3);
    for (arguments, says) in [
        (
            "web.default.proffer A +short",
            &["10.0.0.0\n", "10.0.0.1\n", "10.0.0.2\n"][..],
        ),
        (
            "WEB.default.proffer. A",
            &["status: NOERROR", "flags: qr aa rd;", "udp: 1232", "ANSWER: 3"],
        ),
        ("2.web.default.proffer A +short", &["10.0.0.2\n"]),
        (
            "_http._tcp.web.default.proffer SRV",
            &[
                "1 1 31000 2.web.default.proffer.",
                "ADDITIONAL: 4",
                "2.web.default.proffer.\t5\tIN\tA\t10.0.0.2",
            ],
        ),
        (
            "web.default.proffer AAAA",
            &["status: NOERROR", "ANSWER: 0", "AUTHORITY: 1", "SOA\tns.proffer."],
        ),
        ("db.default.proffer A", &["status: NXDOMAIN", "AUTHORITY: 1"]),
        ("proffer NS +short", &["ns.proffer.\n"]),
        ("ns.proffer A +short", &["127.0.0.1\n"]),
        ("web.default.proffer A +tcp", &["(TCP)", "ANSWER: 3"]),
        ("example.org A", &["status: REFUSED"]),
        ("web.default.proffer A +edns=1 +noednsneg", &["status: BADVERS"]),
        (
            "web.default.proffer A +noedns",
            &["ANSWER: 3, AUTHORITY: 0, ADDITIONAL: 0"],
        ),
        ("web.default.proffer A +opcode=UPDATE", &["status: NOTIMP"]),
    ] {
        let Some(said) = dig(&server, arguments) else {
            println!("skipped: no dig here");
            return;
        };
        assert!(says.iter().all(|words| said.contains(words)), "{arguments}: {said}");
    }
}

#[test]
fn dig_asks_again_on_a_connection_for_what_a_datagram_does_not_hold() {
    let (server, _sender) = start(300);
    let Some(said) = dig(&server, "web.default.proffer A") else {
        println!("skipped: no dig here");
        return;
    };
    assert!(
        said.contains("Truncated, retrying in TCP mode") && said.contains("ANSWER: 300"),
        "{said}"
    );
    let cut = dig(&server, "web.default.proffer A +ignore +bufsize=512").unwrap();
    assert!(cut.contains("flags: qr aa tc rd;"), "{cut}");
}

#[test]
fn a_server_that_was_told_nonsense_still_answers() {
    let (server, sender) = start(1);
    let socket = StdSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address()).unwrap();
    let mut jitter = Jitter::new(9);
    for _ in 0..2_000 {
        let length = jitter.next() % 600;
        let bytes: Vec<u8> = (0..length).map(|_| jitter.next() as u8).collect();
        socket.send(&bytes).unwrap();
    }
    let query = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03web\x07default\x07proffer\0\0\x01\0\x01";
    // Of a connection that sends nonsense nothing is heard any more; others go on.
    let mut broken = StdStream::connect(server.address()).unwrap();
    broken.write_all(b"\0\x04abcd").unwrap();
    assert_eq!(broken.read(&mut [0; 9]).unwrap(), 0);
    let mut stream = StdStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let framed = [&[0, query.len() as u8], &query[..]].concat();
    stream.write_all(&[framed.clone(), framed].concat()).unwrap();
    for _ in 0..2 {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut response = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut response).unwrap();
        assert_eq!((&response[..2], response[7]), (&query[..2], 1));
    }
    drop(sender);
    // What was answered to the nonsense fills the other socket, and datagrams may be lost.
    let socket = StdSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut buffer = [0; 1_500];
    let answered = (0..30).find_map(|_| {
        socket.send(query).unwrap();
        socket.recv(&mut buffer).ok()
    });
    let length = answered.expect("the server answers");
    assert_eq!((&buffer[..2], buffer[7]), (&query[..2], 1));
    assert_eq!(&buffer[length - 4..length], &[10, 0, 0, 0]);
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let taken = StdListener::bind("127.0.0.1:0").unwrap();
    listen(taken.local_addr().unwrap()).unwrap_err();
}
