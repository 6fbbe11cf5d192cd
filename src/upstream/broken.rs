//! Where an exchange with a token endpoint broke.

/// Where an exchange broke. It says nothing of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// DNS knows no address.
    #[error("its name has no address")]
    NoAddress,
    /// Its address is one that must not be asked.
    #[error("its address is not allowed")]
    AddressRefused,
    /// Nobody listens there, or no packet comes through.
    #[error("there is no connection")]
    NoConnection,
    /// It is somebody else, or its authority is not known.
    #[error("its certificate is not trusted")]
    Untrusted,
    /// The two sides have no TLS in common.
    #[error("the TLS handshake failed")]
    Handshake,
    /// It went away in the middle.
    #[error("the exchange broke off")]
    Off,
}

impl Broken {
    /// The word for it in metrics.
    pub fn class(self) -> &'static str {
        match self {
            Self::NoAddress => "dns",
            Self::AddressRefused => "address_refused",
            Self::NoConnection => "connect",
            Self::Untrusted => "certificate_untrusted",
            Self::Handshake => "tls",
            Self::Off => "broken_off",
        }
    }
}
