use std::sync::Arc;

use domain::base::message_builder::QuestionBuilder;
use proptest::prelude::*;

use super::*;
use crate::discovery::Directory;
use crate::discovery::directory::Addresses;
use crate::discovery::directory::tests::web;

fn zone() -> Zone {
    Zone::new("proffer", "*", 5, vec![IpAddr::from([127, 0, 0, 9])]).unwrap()
}

/// So many ready instances on hosts of their own.
fn view(instances: usize) -> View {
    let mut catalogue = web(&vec![true; instances]);
    let mut addresses = Addresses::new();
    for (number, instance) in catalogue
        .services
        .get_mut("web")
        .unwrap()
        .instances
        .iter_mut()
        .enumerate()
    {
        let number = u32::try_from(number + 1).unwrap();
        instance.host = format!("h{number}");
        addresses.insert(instance.host.clone(), Arc::from([IpAddr::from(number.to_be_bytes())]));
    }
    let mut directory = Directory::new(6);
    directory.update(&catalogue, &addresses);
    directory.ready
}

fn question(name: &str, rtype: Rtype) -> QuestionBuilder<Vec<u8>> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(77);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((name_of(name).unwrap(), rtype)).unwrap();
    builder
}

fn query(name: &str, rtype: Rtype) -> Vec<u8> {
    question(name, rtype).finish()
}

fn with_edns(name: &str, rtype: Rtype, bytes: u16, version: u8) -> Vec<u8> {
    let mut builder = question(name, rtype).additional();
    let opt = builder.opt(|opt| {
        opt.set_udp_payload_size(bytes);
        opt.set_version(version);
        Ok(())
    });
    opt.unwrap();
    builder.finish()
}

fn ask(query: &[u8], transport: Transport, view: &View) -> Message<Vec<u8>> {
    let mut number = 0;
    let mut chance = || {
        number += 7;
        number
    };
    let response = respond(query, transport, &zone(), Some(view), &mut chance).unwrap();
    Message::from_octets(response).unwrap()
}

/// The response in words: code, flags, and how many records each section has, OPT left out.
fn brief(response: &Message<Vec<u8>>) -> String {
    let (header, counts) = (response.header(), response.header_counts());
    let opt = u16::from(response.opt().is_some());
    let flag = |set: bool, name: &'static str| if set { name } else { "" };
    format!(
        "{}{}{}{} {} {} {}",
        response.opt_rcode(),
        flag(header.aa(), " aa"),
        flag(header.tc(), " tc"),
        flag(opt == 1, " opt"),
        counts.ancount(),
        counts.nscount(),
        counts.arcount() - opt
    )
}

#[test]
fn a_response_says_what_there_is_and_whose_word_it_is() {
    let view = view(2);
    for (name, rtype, expected) in [
        ("web.default.proffer", Rtype::A, "NOERROR aa 2 0 0"),
        ("WEB.Default.PROFFER", Rtype::A, "NOERROR aa 2 0 0"),
        ("web.default.proffer", Rtype::ANY, "NOERROR aa 2 0 0"),
        ("web.default.proffer", Rtype::AAAA, "NOERROR aa 0 1 0"),
        ("web.default.proffer", Rtype::TXT, "NOERROR aa 0 1 0"),
        ("_http._tcp.web.default.proffer", Rtype::SRV, "NOERROR aa 2 0 2"),
        ("none.default.proffer", Rtype::A, "NXDOMAIN aa 0 1 0"),
        ("proffer", Rtype::SOA, "NOERROR aa 1 0 0"),
        ("proffer", Rtype::NS, "NOERROR aa 1 0 1"),
        ("example.org", Rtype::A, "REFUSED 0 0 0"),
        ("proffer", Rtype::AXFR, "REFUSED 0 0 0"),
    ] {
        let query = query(name, rtype);
        let response = ask(&query, Transport::Udp, &view);
        assert_eq!(brief(&response), expected, "{name} {rtype}");
        assert_eq!((response.header().id(), response.header().rd()), (77, true));
        assert_eq!(
            &response.as_slice()[12..query.len()],
            &query[12..],
            "the question is as it was asked"
        );
    }
    let name = query("web.default.proffer", Rtype::A);
    let early = respond(&name, Transport::Udp, &zone(), None, || 0).unwrap();
    assert_eq!(brief(&Message::from_octets(early).unwrap()), "SERVFAIL 0 0 0");
}

#[test]
fn a_service_record_names_the_instance_and_comes_with_its_address() {
    let response = ask(
        &query("_http._tcp.web.default.proffer", Rtype::SRV),
        Transport::Udp,
        &view(1),
    );
    let said = response.answer().unwrap().limit_to::<Srv<_>>().next().unwrap().unwrap();
    assert_eq!((said.data().port(), said.ttl().as_secs()), (31_000, 5));
    assert_eq!(said.data().target().to_string(), "0.web.default.proffer");
    let address = response.additional().unwrap().limit_to::<A>().next().unwrap().unwrap();
    assert_eq!(
        (address.owner().to_string(), address.data().to_string()),
        ("0.web.default.proffer".to_owned(), "0.0.0.1".to_owned())
    );
    let nothing = ask(&query("none.default.proffer", Rtype::A), Transport::Udp, &view(1));
    let soa = nothing
        .authority()
        .unwrap()
        .limit_to::<Soa<_>>()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(
        (soa.owner().to_string(), soa.data().minimum().as_secs()),
        ("proffer".to_owned(), 5)
    );
    assert_eq!(soa.data().serial(), Serial::from(7));
}

#[test]
fn what_is_too_large_for_a_datagram_is_cut_and_whole_on_a_connection() {
    let view = view(500);
    for (query, transport, length_max, expected) in [
        (query("web.default.proffer", Rtype::A), Transport::Udp, 512, " aa tc"),
        (
            with_edns("web.default.proffer", Rtype::A, 100, 0),
            Transport::Udp,
            512,
            " aa tc opt",
        ),
        (
            with_edns("web.default.proffer", Rtype::A, 900, 0),
            Transport::Udp,
            900,
            " aa tc opt",
        ),
        (
            with_edns("web.default.proffer", Rtype::A, 60_000, 0),
            Transport::Udp,
            1_232,
            " aa tc opt",
        ),
        (
            query("web.default.proffer", Rtype::A),
            Transport::Tcp,
            65_535,
            " aa 500 0 0",
        ),
        (
            with_edns("_http._tcp.web.default.proffer", Rtype::SRV, 512, 0),
            Transport::Tcp,
            65_535,
            " aa opt 500 0 500",
        ),
    ] {
        let response = ask(&query, transport, &view);
        let length = response.as_slice().len();
        assert!(
            length <= length_max && length + 40 > length_max.min(1_232),
            "{length} of {length_max}"
        );
        assert!(brief(&response).contains(expected), "{}", brief(&response));
    }
    let all = super::tests::view(2_000);
    let response = ask(
        &query("_http._tcp.web.default.proffer", Rtype::SRV),
        Transport::Tcp,
        &all,
    );
    assert!(response.as_slice().len() <= 65_535 && !response.header().tc());
}

#[test]
fn answers_come_in_any_order() {
    let view = view(8);
    let query = query("web.default.proffer", Rtype::A);
    let mut jitter = crate::plan::failures::Jitter::new(5);
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let response = respond(&query, Transport::Udp, &zone(), Some(&view), || jitter.next()).unwrap();
        let response = Message::from_octets(response).unwrap();
        let addresses: Vec<_> = response
            .answer()
            .unwrap()
            .limit_to::<A>()
            .map(|a| a.unwrap().data().addr())
            .collect();
        assert_eq!(addresses.iter().collect::<std::collections::BTreeSet<_>>().len(), 8);
        firsts.insert(addresses[0]);
    }
    assert_eq!(firsts.len(), 8);
}

#[test]
fn what_is_no_query_is_refused_or_dropped() {
    let view = view(1);
    let good = query("web.default.proffer", Rtype::A);
    let changed = |place: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[place] = byte;
        bytes
    };
    let edns = with_edns("web.default.proffer", Rtype::A, 512, 0);
    let mut twice = edns.clone();
    twice.extend(&edns[good.len()..]);
    twice[11] = 2;
    for (bytes, expected) in [
        (good[..11].to_vec(), None),
        (changed(2, 0x80), None),
        (changed(2, 0x28), Some("NOTIMP 0 0 0")),
        (good[..good.len() - 1].to_vec(), Some("FORMERR 0 0 0")),
        (changed(5, 0), Some("FORMERR 0 0 0")),
        (changed(5, 2), Some("FORMERR 0 0 0")),
        (changed(7, 1), Some("FORMERR 0 0 0")),
        (changed(12, 0xC0), Some("FORMERR 0 0 0")),
        (changed(good.len() - 1, 3), Some("REFUSED 0 0 0")),
        (
            with_edns("web.default.proffer", Rtype::A, 512, 1),
            Some("BADVERS opt 0 0 0"),
        ),
        (twice, Some("FORMERR 0 0 0")),
    ] {
        let response = respond(&bytes, Transport::Udp, &zone(), Some(&view), || 0);
        let response = response.map(|bytes| brief(&Message::from_octets(bytes).unwrap()));
        assert_eq!(response.as_deref(), expected, "{bytes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600), flips in proptest::collection::vec((0..80usize, any::<u8>()), 0..6)) {
        static VIEW: std::sync::LazyLock<View> = std::sync::LazyLock::new(|| view(3));
        let mut near = with_edns("_http._tcp.web.default.proffer", Rtype::SRV, 1_232, 0);
        for (place, byte) in flips {
            let place = place % near.len();
            near[place] = byte;
        }
        for bytes in [&bytes, &near] {
            for transport in [Transport::Udp, Transport::Tcp] {
                if let Some(response) = respond(bytes, transport, &zone(), Some(&VIEW), || 3) {
                    prop_assert!(transport == Transport::Tcp || response.len() <= 1_232);
                    let response = Message::from_octets(response).unwrap();
                    prop_assert!(response.header().qr());
                }
            }
        }
    }
}
