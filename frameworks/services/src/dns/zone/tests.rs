use super::*;
use crate::discovery::directory::tests::{addresses, web};
use crate::discovery::{Directory, directory::Addresses};

fn view(ready: &[bool]) -> View {
    let mut directory = Directory::new(6);
    let known: Addresses = addresses();
    directory.update(&web(ready), &known);
    directory.ready
}

fn zone(role: &str) -> Zone {
    Zone::new("proffer.", role, 5, vec![IpAddr::from([127, 0, 0, 9])]).unwrap()
}

/// What is said of a name, as text.
fn said(zone: &Zone, view: &View, name: &str, kind: Kind) -> String {
    let labels: Vec<_> = name.split('.').collect();
    let record = |record: &Record<'_>| match record {
        Record::Soa => "SOA".to_owned(),
        Record::Ns => "NS".to_owned(),
        Record::Address(address) => address.to_string(),
        Record::Srv(service, found, port) => format!("{service}.{}:{port}", found.index),
    };
    match zone.answer(view, &labels, kind) {
        Answer::Outside => "outside".to_owned(),
        Answer::NoName => "no name".to_owned(),
        Answer::Records(records) => records.iter().map(record).collect::<Vec<_>>().join(" "),
    }
}

#[test]
fn names_have_what_the_directory_says() {
    let (zone, view) = (zone("*"), view(&[true, false, true]));
    for (name, kind, answer) in [
        ("web.default.proffer", Kind::A, "10.0.0.1 10.0.0.3"),
        ("web.default.proffer", Kind::Aaaa, ""),
        ("web.default.proffer", Kind::Other, ""),
        ("0.web.default.proffer", Kind::A, "10.0.0.1"),
        ("2.web.default.proffer", Kind::Any, "10.0.0.3"),
        ("1.web.default.proffer", Kind::A, "no name"),
        ("00.web.default.proffer", Kind::A, "no name"),
        ("x.web.default.proffer", Kind::A, "no name"),
        ("_http._tcp.web.default.proffer", Kind::Srv, "web.0:31000 web.2:31000"),
        ("_http._udp.web.default.proffer", Kind::Srv, "web.0:31000 web.2:31000"),
        ("_http._tcp.2.web.default.proffer", Kind::Srv, "web.2:31000"),
        ("_http._tcp.web.default.proffer", Kind::A, ""),
        ("_tcp.web.default.proffer", Kind::Srv, ""),
        ("_http._sctp.web.default.proffer", Kind::Srv, "no name"),
        ("_admin._tcp.web.default.proffer", Kind::Srv, "no name"),
        ("http._tcp.web.default.proffer", Kind::Srv, "no name"),
        ("a._http._tcp.web.default.proffer", Kind::Srv, "no name"),
        ("db.default.proffer", Kind::A, "no name"),
        ("default.proffer", Kind::A, ""),
        ("other.proffer", Kind::A, "no name"),
        ("web.other.proffer", Kind::A, "no name"),
        ("proffer", Kind::Any, "SOA NS"),
        ("proffer", Kind::Ns, "NS"),
        ("proffer", Kind::A, ""),
        ("ns.proffer", Kind::A, "127.0.0.9"),
        ("example", Kind::A, "outside"),
        ("proffer.example", Kind::A, "outside"),
        ("xproffer", Kind::A, "outside"),
    ] {
        assert_eq!(said(&zone, &view, name, kind), answer, "{name} {kind:?}");
    }
}

#[test]
fn the_group_is_the_role_from_the_inside_out() {
    let view = view(&[true]);
    let zone = zone("eng/Web_front");
    assert_eq!(said(&zone, &view, "web.web-front.eng.proffer", Kind::A), "10.0.0.1");
    assert_eq!(said(&zone, &view, "eng.proffer", Kind::A), "");
    assert_eq!(said(&zone, &view, "web.eng.proffer", Kind::A), "no name");
    assert_eq!(said(&zone, &view, "web.default.proffer", Kind::A), "no name");
    assert_eq!(zone.instance_name("web", 3), "3.web.web-front.eng.proffer");
}

#[test]
fn a_domain_that_is_none_is_rejected_by_its_flag() {
    let long = format!("{}.{}", "a".repeat(63), "b".repeat(63));
    for domain in ["", ".", "a..b", "a b", "é", &"a".repeat(64), &long] {
        let rejection = Zone::new(domain, "*", 5, Vec::new()).unwrap_err();
        assert_eq!(rejection.field, "dns-domain", "{domain}");
    }
    assert_eq!(Zone::new("a", "*", u32::MAX, Vec::new()).unwrap_err().field, "dns-ttl");
    assert_eq!(
        Zone::new("A.Example.", "*", 5, Vec::new()).unwrap().domain(),
        "a.example"
    );
}
