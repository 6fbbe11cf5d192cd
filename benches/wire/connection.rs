//! One connection of the load: TLS over a socket, with as few system calls as there can be.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Instant,
};

use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

use crate::talk::Talk;

/// What is read at once, in bytes: more than all answers under way.
const READ: usize = 256 * 1024;

/// A connection that has been greeted.
pub(crate) struct Connection {
    tls: ClientConnection,
    tcp: TcpStream,
    talk: Box<dyn Talk>,
    /// What was received and is not read yet: `filled` bytes of it.
    inbox: Vec<u8>,
    filled: usize,
    outbox: Vec<u8>,
    raw: Vec<u8>,
}

impl Connection {
    /// Connects, shakes hands, and waits until the server has greeted.
    pub(crate) fn open(
        server: SocketAddr,
        config: &Arc<ClientConfig>,
        talk: Box<dyn Talk>,
    ) -> io::Result<Self> {
        let tcp = TcpStream::connect(server)?;
        tcp.set_nodelay(true)?;
        let name = ServerName::from(server.ip());
        let tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut connection = Self {
            tls,
            tcp,
            talk,
            inbox: vec![0; READ],
            filled: 0,
            outbox: Vec::new(),
            raw: vec![0; READ],
        };
        connection.tls.set_buffer_limit(None);
        while connection.tls.is_handshaking() {
            connection.tls.complete_io(&mut connection.tcp)?;
        }
        connection.talk.greet(&mut connection.outbox);
        connection.flush()?;
        let mut answered = Vec::new();
        while !connection.talk.is_ready() {
            connection.receive_once(&mut answered)?;
        }
        connection.flush()?;
        connection.tcp.set_nonblocking(true)?;
        Ok(connection)
    }

    /// The socket, to be waited for.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.tcp
    }

    /// How many questions wait for their answer.
    pub(crate) fn under_way(&self) -> usize {
        self.talk.under_way()
    }

    /// Asks with the next flush.
    pub(crate) fn ask(&mut self, key: usize, asked: Instant) {
        self.talk.ask(key, asked, &mut self.outbox);
    }

    /// Sends what there is to send.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !self.outbox.is_empty() {
            self.tls.writer().write_all(&self.outbox)?;
            self.outbox.clear();
        }
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.tcp) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what has come. The moments of what is answered are added to `answered`.
    pub(crate) fn receive(&mut self, answered: &mut Vec<Instant>) -> io::Result<()> {
        match self.receive_once(answered) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    fn receive_once(&mut self, answered: &mut Vec<Instant>) -> io::Result<()> {
        let length = self.tcp.read(&mut self.raw)?;
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut raw = &self.raw[..length];
        while !raw.is_empty() {
            self.tls.read_tls(&mut raw)?;
            let state = self.tls.process_new_packets().map_err(io::Error::other)?;
            let length = state.plaintext_bytes_to_read();
            let end = self.filled + length;
            self.tls
                .reader()
                .read_exact(&mut self.inbox[self.filled..end])?;
            self.filled = end;
        }
        let read = self
            .talk
            .read(&self.inbox[..self.filled], &mut self.outbox, answered)
            .map_err(io::Error::other)?;
        self.inbox.copy_within(read..self.filled, 0);
        self.filled -= read;
        Ok(())
    }
}
