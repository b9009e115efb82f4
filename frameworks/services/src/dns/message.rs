//! Pure: the bytes of a query in, the bytes of its response out.
//!
//! What cannot be understood is answered with an error, or not at all where there is nothing to answer to; nothing that
//! comes can do harm. RFC 1035, with 2181 (truncation), 2308 (negative answers), 2782 (SRV) and 6891 (EDNS).

use std::net::IpAddr;
use std::str::FromStr as _;

use domain::base::iana::{Class, Opcode, OptRcode, Rcode};
use domain::base::message_builder::{AdditionalBuilder, AnswerBuilder, PushError, RecordSectionBuilder};
use domain::base::opt::{Opt, OptRecord};
use domain::base::{HashCompressor, Message, MessageBuilder, Name, Rtype, Serial, ToName, Ttl};
use domain::rdata::{A, Aaaa, Ns, Soa, Srv};

use super::zone::{Answer, Kind, Record, Zone};
use crate::discovery::View;

/// The most that is sent in one datagram, to whoever takes more: what passes everywhere undivided.
const DATAGRAM_BYTES_MAX: u16 = 1_232;

/// The most that is sent in one to who does not say what it takes.
const DATAGRAM_BYTES: u16 = 512;

/// The bytes of an OPT record without options.
const OPT_BYTES: usize = 11;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// As a datagram.
    Udp,
    /// On a connection.
    Tcp,
}

/// A message that is being made.
type Target = HashCompressor<Vec<u8>>;

/// What the asker says of itself.
#[derive(Clone, Copy, Debug)]
struct Edns {
    version: u8,
    datagram_bytes: u16,
}

/// The response to a query; nothing where there is nothing to answer to. Without a view nothing is known yet. `chance`
/// gives any number.
pub fn respond(
    query: &[u8],
    transport: Transport,
    zone: &Zone,
    view: Option<&View>,
    chance: impl FnMut() -> u64,
) -> Option<Vec<u8>> {
    let message = Message::from_octets(query).ok()?;
    let header = message.header();
    if header.qr() {
        return None;
    }
    if header.opcode() != Opcode::QUERY {
        return Some(bare(&message, Rcode::NOTIMP));
    }
    let understood = message.sole_question().ok().zip(edns(&message));
    let Some((question, edns)) = understood else {
        return Some(bare(&message, Rcode::FORMERR));
    };
    let limit = match (transport, edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => usize::from(DATAGRAM_BYTES),
        (Transport::Udp, Some(edns)) => usize::from(edns.datagram_bytes.clamp(DATAGRAM_BYTES, DATAGRAM_BYTES_MAX)),
    };
    let reserve = if edns.is_some() { OPT_BYTES } else { 0 };
    let mut builder = MessageBuilder::from_target(HashCompressor::new(Vec::new())).ok()?;
    // One that is as long as the limit is refused by the builder, hence one more.
    builder.set_push_limit(limit + 1 - reserve);
    let answer = builder.start_error(&message, Rcode::NOERROR);
    let response = Response {
        zone,
        limit,
        edns,
        transport,
    };
    if edns.is_some_and(|edns| edns.version != 0) {
        return response.end(answer.additional(), OptRcode::BADVERS);
    }
    let name: Name<Vec<u8>> = question.qname().to_name();
    let labels: Vec<String> = name
        .iter()
        .filter(|label| !label.is_root())
        .map(|label| String::from_utf8_lossy(label.as_slice()).to_ascii_lowercase())
        .collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let wanted = kind(question.qtype()).filter(|_| matches!(question.qclass(), Class::IN | Class::ANY));
    let Some(wanted) = wanted.filter(|_| zone.holds(&labels)) else {
        return response.end(answer.additional(), OptRcode::REFUSED);
    };
    let Some(view) = view else {
        return response.end(answer.additional(), OptRcode::SERVFAIL);
    };
    response.fill(answer, &name, view, &zone.answer(view, &labels, wanted), chance)
}

/// What is asked for; nothing for what is refused.
fn kind(rtype: Rtype) -> Option<Kind> {
    Some(match rtype {
        Rtype::A => Kind::A,
        Rtype::AAAA => Kind::Aaaa,
        Rtype::SRV => Kind::Srv,
        Rtype::SOA => Kind::Soa,
        Rtype::NS => Kind::Ns,
        Rtype::ANY => Kind::Any,
        Rtype::AXFR | Rtype::IXFR => return None,
        _ => Kind::Other,
    })
}

/// A response of nothing but a header.
fn bare(message: &Message<&[u8]>, rcode: Rcode) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    let (header, asked) = (builder.header_mut(), message.header());
    header.set_id(asked.id());
    header.set_qr(true);
    header.set_opcode(asked.opcode());
    header.set_rd(asked.rd());
    header.set_rcode(rcode);
    builder.finish()
}

/// What the asker says of itself; an outer nothing where the message cannot be read, or says it twice.
#[allow(clippy::option_option)]
fn edns(message: &Message<&[u8]>) -> Option<Option<Edns>> {
    let mut found = None;
    for record in message.additional().ok()? {
        let record = record.ok()?;
        if record.rtype() != Rtype::OPT {
            continue;
        }
        let record = OptRecord::from_record(record.into_record::<Opt<_>>().ok()??);
        let edns = Edns {
            version: record.version(),
            datagram_bytes: record.udp_payload_size(),
        };
        if found.replace(edns).is_some() {
            return None;
        }
    }
    Some(found)
}

/// What a response is made by.
struct Response<'z> {
    zone: &'z Zone,
    limit: usize,
    edns: Option<Edns>,
    transport: Transport,
}

impl Response<'_> {
    fn fill(
        &self,
        mut answer: AnswerBuilder<Target>,
        name: &Name<Vec<u8>>,
        view: &View,
        said: &Answer<'_>,
        mut chance: impl FnMut() -> u64,
    ) -> Option<Vec<u8>> {
        answer.header_mut().set_aa(true);
        let records = match said {
            Answer::Records(records) if !records.is_empty() => records,
            _ => {
                let rcode = match said {
                    Answer::Records(_) => Rcode::NOERROR,
                    Answer::NoName | Answer::Outside => Rcode::NXDOMAIN,
                };
                answer.header_mut().set_rcode(rcode);
                let mut authority = answer.authority();
                let domain = name_of(self.zone.domain())?;
                self.push(&mut authority, &domain, &Record::Soa, view).ok()?;
                return self.end(authority.additional(), OptRcode::from_rcode(rcode));
            }
        };
        let mut order: Vec<&Record<'_>> = records.iter().collect();
        shuffle(&mut order, &mut chance);
        let mut told = 0;
        for record in &order {
            if self.push(&mut answer, name, record, view).is_err() {
                // On a connection there is no room for more than fits, and no other way to ask.
                let cut = self.transport == Transport::Udp;
                answer.header_mut().set_tc(cut);
                break;
            }
            told += 1;
        }
        let mut additional = answer.additional();
        for record in &order[..told] {
            let pushed = match record {
                Record::Srv(service, found, _) => {
                    let target = name_of(&self.zone.instance_name(service, found.index))?;
                    self.addresses(&mut additional, &target, &found.addresses, view)
                }
                Record::Ns => {
                    let target = name_of(&self.zone.server_name())?;
                    self.addresses(&mut additional, &target, self.zone.servers(), view)
                }
                Record::Soa | Record::Address(_) => Ok(()),
            };
            // What is only for convenience may be missing.
            if pushed.is_err() {
                break;
            }
        }
        self.end(additional, OptRcode::NOERROR)
    }

    fn addresses(
        &self,
        section: &mut impl RecordSectionBuilder<Target>,
        name: &Name<Vec<u8>>,
        addresses: &[IpAddr],
        view: &View,
    ) -> Result<(), PushError> {
        let mut records = addresses.iter().copied().map(Record::Address);
        records.try_for_each(|record| self.push(section, name, &record, view))
    }

    fn push(
        &self,
        section: &mut impl RecordSectionBuilder<Target>,
        name: &Name<Vec<u8>>,
        record: &Record<'_>,
        view: &View,
    ) -> Result<(), PushError> {
        let ttl = Ttl::from_secs(self.zone.ttl_seconds());
        let within = |text: &str| name_of(text).ok_or(PushError::ShortBuf);
        match record {
            Record::Address(IpAddr::V4(address)) => section.push((name, ttl, A::new(*address))),
            Record::Address(IpAddr::V6(address)) => section.push((name, ttl, Aaaa::new(*address))),
            Record::Srv(service, found, port) => {
                // Of a host that was not found by this server, others may know more.
                let target = match found.addresses.is_empty() {
                    true => within(&found.host).unwrap_or_else(|_| Name::root_vec()),
                    false => within(&self.zone.instance_name(service, found.index))?,
                };
                section.push((name, ttl, Srv::new(1, 1, *port, target)))
            }
            Record::Ns => section.push((name, ttl, Ns::new(within(&self.zone.server_name())?))),
            Record::Soa => {
                let soa = Soa::new(
                    within(&self.zone.server_name())?,
                    within(&format!("hostmaster.{}", self.zone.domain()))?,
                    Serial::from(view.index as u32),
                    Ttl::from_secs(60),
                    Ttl::from_secs(10),
                    Ttl::from_secs(600),
                    ttl,
                );
                section.push((name, ttl, soa))
            }
        }
    }

    /// Ends a message, with what this side says of itself where the other did.
    fn end(&self, mut additional: AdditionalBuilder<Target>, rcode: OptRcode) -> Option<Vec<u8>> {
        additional.header_mut().set_rcode(rcode.rcode());
        if self.edns.is_some() {
            additional.as_builder_mut().set_push_limit(self.limit + 1);
            let said = additional.opt(|opt| {
                opt.set_udp_payload_size(DATAGRAM_BYTES_MAX);
                opt.set_rcode(rcode);
                Ok(())
            });
            said.ok()?;
        }
        Some(additional.finish().into_target())
    }
}

fn name_of(text: &str) -> Option<Name<Vec<u8>>> {
    Name::from_str(text).ok()
}

/// Brings things into any order.
fn shuffle<T>(things: &mut [T], chance: &mut impl FnMut() -> u64) {
    for last in (1..things.len()).rev() {
        let other = chance() % (last as u64 + 1);
        things.swap(last, other as usize);
    }
}

#[cfg(test)]
mod tests;
