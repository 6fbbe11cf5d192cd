//! What a broker in a process of its own is given, and how it is reached.

use std::{fs, net::SocketAddr};

use tonic::transport::{Endpoint, Identity};

use crate::trial::{Site, endpoint, trusting};

impl Site {
    /// A broker at this address, as this caller connects to it.
    pub(crate) fn endpoint(&self, broker: SocketAddr, caller: &str) -> Endpoint {
        let signed = self.authority.client(caller).unwrap();
        let identity = Identity::from_pem(&signed.certificate, signed.key.expose());
        endpoint(broker, trusting(&self.authority).identity(identity))
    }

    /// Changes the configuration file, and returns what it was.
    pub(crate) fn configure(&self, change: impl FnOnce(&str) -> String) -> String {
        let before = fs::read_to_string(self.config()).unwrap();
        fs::write(self.config(), change(&before)).unwrap();
        before
    }
}
