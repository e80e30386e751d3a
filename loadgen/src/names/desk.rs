//! What is answered to which question. Pure: datagrams in, datagrams and their delays out.

use super::faults::{Draw, NameCounts, NameFaults, Said};
use crate::clients::address::{Identities, address, other_address};
use engine::time::Instant;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType, rdata::A};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long an answer may be kept, seconds: short, so that the master asks again and again.
const TTL_S: u32 = 1;

/// Answers for the names of a run's clients.
#[derive(Debug)]
pub struct Desk {
    identities: Identities,
    faults: NameFaults,
    seed: u64,
    /// How often each client was asked for.
    asked: Vec<u32>,
    /// Late answers on their way, and when they are due.
    late: HashMap<u32, (Instant, Draw)>,
    counts: NameCounts,
}

/// What goes out for one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The datagram,
    pub bytes: Vec<u8>,
    /// sent so often,
    pub copies: u8,
    /// after this.
    pub after: Duration,
}

impl Desk {
    /// For so many clients.
    #[must_use]
    pub fn new(identities: Identities, clients: u32, faults: NameFaults, seed: u64) -> Self {
        let asked = vec![0; clients as usize];
        let (late, counts) = (HashMap::new(), NameCounts::default());
        Self { identities, faults, seed, asked, late, counts }
    }

    /// What was answered so far.
    #[must_use]
    pub fn counts(&self) -> NameCounts {
        self.counts
    }

    /// The answer to a datagram; `None` if that is no question.
    pub fn reply(&mut self, datagram: &[u8], now: Instant) -> Option<Reply> {
        let asked = Message::from_vec(datagram).ok()?;
        let is_question = asked.metadata.message_type == MessageType::Query
            && asked.metadata.op_code == OpCode::Query;
        let query = asked.queries.first().filter(|_| is_question && asked.queries.len() == 1)?;
        let mut answer = Message::response(asked.metadata.id, OpCode::Query);
        answer.metadata.authoritative = true;
        answer.metadata.recursion_desired = asked.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());

        let (mut copies, mut after) = (1, Duration::ZERO);
        let name = query.name().to_ascii().to_ascii_lowercase();
        let client = self.identities.index_of(name.trim_end_matches('.'));
        let client = client.filter(|index| (*index as usize) < self.asked.len());
        match client {
            None => {
                self.counts.strange += 1;
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            // It has no address of another kind.
            Some(_)
                if query.query_type() != RecordType::A || query.query_class() != DNSClass::IN => {}
            Some(client) => {
                let (due, draw) = self.draw(client, now);
                after = due.since(now);
                copies += u8::from(draw.duplicate);
                let record = |address: Ipv4Addr| {
                    Record::from_rdata(query.name().clone(), TTL_S, RData::A(A(address)))
                };
                match draw.said {
                    Said::Address => drop(answer.add_answer(record(address(client)))),
                    Said::Changed => drop(answer.add_answer(record(other_address(client)))),
                    Said::Wrong => drop(answer.add_answer(record(address(self.another(client))))),
                    Said::Nxdomain => answer.metadata.response_code = ResponseCode::NXDomain,
                }
            }
        }
        Some(Reply { bytes: answer.to_vec().ok()?, copies, after })
    }

    /// What becomes of a question for a client, and when. Who asks again while the answer is on
    /// its way, as resolvers do, gets no other one and none before.
    fn draw(&mut self, client: u32, now: Instant) -> (Instant, Draw) {
        if let Some((due, draw)) = self.late.get(&client).filter(|(due, _)| *due > now) {
            self.counts.again += 1;
            return (*due, *draw);
        }
        let nth = &mut self.asked[client as usize];
        let draw = self.faults.draw(self.seed, client, *nth);
        *nth = nth.wrapping_add(1);
        let counts = &mut self.counts;
        counts.questions += 1;
        counts.slow += u64::from(draw.slow);
        counts.duplicate += u64::from(draw.duplicate);
        match draw.said {
            Said::Address => {}
            Said::Nxdomain => counts.nxdomain += 1,
            Said::Wrong => counts.wrong += 1,
            Said::Changed => counts.changing += 1,
        }
        let due = if draw.slow { now + self.faults.slow_by } else { now };
        if draw.slow {
            self.late.insert(client, (due, draw));
        }
        (due, draw)
    }

    /// Whose address is given in the place of this client's: its neighbour's. One alone has
    /// none, and then it is an address that nobody has.
    fn another(&self, client: u32) -> u32 {
        let clients = u32::try_from(self.asked.len()).unwrap_or(u32::MAX);
        if clients > 1 { (client + 1) % clients } else { client + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::address::DEFAULT_SUFFIX;
    use hickory_proto::op::Query;
    use hickory_proto::rr::Name;

    const NOW: Instant = Instant(1_000_000_000);

    fn desk(faults: &str) -> Desk {
        let faults = match faults {
            "" => NameFaults::default(),
            some => NameFaults::parse(some).unwrap(),
        };
        Desk::new(Identities::new(DEFAULT_SUFFIX).unwrap(), 3, faults, 1)
    }

    fn question(name: &str, of: RecordType) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), of));
        message.to_vec().unwrap()
    }

    /// The reply, and what it says: its code and its addresses.
    fn ask(desk: &mut Desk, name: &str) -> (Reply, ResponseCode, Vec<Ipv4Addr>) {
        let reply = desk.reply(&question(name, RecordType::A), NOW).unwrap();
        let message = Message::from_vec(&reply.bytes).unwrap();
        assert_eq!((message.metadata.id, message.queries.len()), (7, 1));
        let addrs = message.answers.iter().map(|record| match &record.data {
            RData::A(A(addr)) if record.ttl == TTL_S => *addr,
            other => panic!("{other:?}"),
        });
        (reply.clone(), message.metadata.response_code, addrs.collect())
    }

    #[test]
    fn a_client_has_its_address_whatever_the_case_of_its_name() {
        let mut desk = desk("");
        for name in ["lg-00002.load.test.", "LG-00002.Load.Test."] {
            let (reply, code, addrs) = ask(&mut desk, name);
            assert_eq!((code, addrs), (ResponseCode::NoError, vec![address(1)]));
            assert_eq!((reply.copies, reply.after), (1, Duration::ZERO));
        }
        let other = desk.reply(&question("lg-00002.load.test.", RecordType::AAAA), NOW).unwrap();
        let other = Message::from_vec(&other.bytes).unwrap();
        assert_eq!(other.metadata.response_code, ResponseCode::NoError, "the name is there");
        assert!(other.answers.is_empty(), "{other:?}");
        assert_eq!(desk.counts(), NameCounts { questions: 2, ..NameCounts::default() });
    }

    #[test]
    fn names_that_no_client_has_are_not_there() {
        let mut desk = desk("");
        for name in ["lg-00004.load.test.", "lg-2.load.test.", "www.load.test.", "load.test.", "."]
        {
            let (_, code, addrs) = ask(&mut desk, name);
            assert_eq!((code, addrs), (ResponseCode::NXDomain, vec![]), "{name}");
        }
        assert_eq!(desk.counts(), NameCounts { strange: 5, ..NameCounts::default() });
    }

    #[test]
    fn each_fault_is_what_it_says_and_is_counted() {
        let none = NameCounts { questions: 1, ..NameCounts::default() };
        let mut slow = desk("slow=100%@2s");
        let (reply, _, addrs) = ask(&mut slow, "lg-00001.load.test.");
        assert_eq!((reply.after, addrs), (Duration::from_secs(2), vec![address(0)]));
        assert_eq!(slow.counts(), NameCounts { slow: 1, ..none });
        let later = NOW + Duration::from_millis(1500);
        let again = slow.reply(&question("lg-00001.load.test.", RecordType::A), later).unwrap();
        assert_eq!(again.after, Duration::from_millis(500), "it comes when the first one does");
        assert_eq!(slow.counts(), NameCounts { slow: 1, again: 1, ..none });

        let mut absent = desk("nxdomain=100%");
        let (_, code, addrs) = ask(&mut absent, "lg-00001.load.test.");
        assert_eq!((code, addrs), (ResponseCode::NXDomain, vec![]));
        assert_eq!(absent.counts(), NameCounts { nxdomain: 1, ..none });

        let mut wrong = desk("wrong=100%");
        let (_, code, addrs) = ask(&mut wrong, "lg-00003.load.test.");
        assert_eq!((code, addrs), (ResponseCode::NoError, vec![address(0)]), "another client's");
        assert_eq!(wrong.counts(), NameCounts { wrong: 1, ..none });

        let mut twice = desk("duplicate=100%");
        let (reply, _, addrs) = ask(&mut twice, "lg-00001.load.test.");
        assert_eq!((reply.copies, addrs), (2, vec![address(0)]));
        assert_eq!(twice.counts(), NameCounts { duplicate: 1, ..none });

        let mut changing = desk("changing=50%");
        let said: Vec<_> =
            (0..20).flat_map(|_| ask(&mut changing, "lg-00001.load.test.").2).collect();
        assert!(said.contains(&address(0)) && said.contains(&other_address(0)), "{said:?}");
        let changed = said.iter().filter(|addr| **addr == other_address(0)).count() as u64;
        let wanted = NameCounts { questions: 20, changing: changed, ..NameCounts::default() };
        assert_eq!(changing.counts(), wanted);
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        let mut desk = desk("");
        let mut answer = Message::response(7, OpCode::Query);
        answer.add_query(Query::query(Name::from_ascii("a.").unwrap(), RecordType::A));
        for datagram in [vec![], vec![0xff; 30], answer.to_vec().unwrap()] {
            assert_eq!(desk.reply(&datagram, NOW), None, "{datagram:?}");
        }
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..10_000 {
            let mut bytes = question("lg-00001.load.test.", RecordType::A);
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
            bytes.truncate(rng.usize(..=bytes.len()));
            let _ = desk.reply(&bytes, NOW);
        }
    }
}
