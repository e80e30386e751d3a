//! Which client a connection belongs to.

use engine::ids::ConnId;

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// A client delivers to the master.
    ByClient,
    /// The master delivers to a client.
    ByMaster,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    conn: ConnId,
    client: u32,
    opened: Opened,
}

/// The owners of all open connections, by the index that the reactor gave each.
#[derive(Debug, Default)]
pub(super) struct Conns(Vec<Option<Entry>>);

impl Conns {
    pub(super) fn opened(&mut self, conn: ConnId, client: u32, opened: Opened) {
        if self.0.len() <= conn.index() {
            self.0.resize(conn.index() + 1, None);
        }
        self.0[conn.index()] = Some(Entry { conn, client, opened });
    }

    /// The owner of a connection that is open.
    pub(super) fn client(&self, conn: ConnId) -> Option<u32> {
        self.entry(conn).map(|entry| entry.client)
    }

    /// All that are open, with their clients.
    pub(super) fn open(&self) -> impl Iterator<Item = (ConnId, u32)> {
        self.0.iter().flatten().map(|entry| (entry.conn, entry.client))
    }

    /// Forgets a connection.
    pub(super) fn closed(&mut self, conn: ConnId) -> Option<(u32, Opened)> {
        let entry = self.entry(conn)?;
        self.0[conn.index()] = None;
        Some((entry.client, entry.opened))
    }

    fn entry(&self, conn: ConnId) -> Option<Entry> {
        // The index is used again by later connections, the id never.
        self.0.get(conn.index()).copied().flatten().filter(|entry| entry.conn == conn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_id_does_not_reach_the_new_owner_of_its_index() {
        let mut conns = Conns::default();
        let (old, new) = (ConnId::new(3, 1), ConnId::new(3, 2));
        conns.opened(old, 7, Opened::ByClient);
        assert_eq!(conns.client(old), Some(7));
        assert_eq!(conns.closed(old), Some((7, Opened::ByClient)));
        assert_eq!(conns.closed(old), None);
        conns.opened(new, 8, Opened::ByMaster);
        assert_eq!(conns.client(old), None);
        assert_eq!(conns.client(new), Some(8));
        assert_eq!(conns.client(ConnId::new(99, 1)), None);
    }
}
