//! Which servers hold what is shared, and how they are reached.

use std::{fmt, slice, sync::Arc, time::Duration};

use super::Ring;
use crate::secret::Secret;

/// Where and how replicas share.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Which servers.
    pub servers: Servers,
    /// Who the broker is to them.
    pub login: Login,
    /// How connections are encrypted, to sentinels as well; `None` for plain TCP.
    pub tls: Option<Tls>,
    /// The number of the database, which is 0 in a cluster.
    pub database: u16,
    /// What all names and channels begin with, so that fleets can share a server.
    pub namespace: String,
    /// How long one answer may take.
    pub timeout: Duration,
    /// What is kept is sealed with these keys.
    pub ring: Arc<Ring>,
}

/// The servers of one store.
#[derive(Clone, Debug, PartialEq)]
pub enum Servers {
    /// One server, or a name that always leads to the one in charge.
    One(HostPort),
    /// Some nodes of a Redis Cluster, which tell of the others.
    Cluster(Vec<HostPort>),
    /// Sentinels, which tell where the master is.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<HostPort>,
        /// What they call the master.
        master: String,
        /// Who the broker is to the sentinels.
        login: Login,
    },
}

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// An ACL user, or nobody in particular.
#[derive(Clone, Default)]
pub struct Login {
    /// The name; `default` if `None`.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Arc<Secret>>,
}

/// How connections are encrypted. Everything was read and checked already.
#[derive(Clone)]
pub struct Tls {
    /// The authorities that are believed, in PEM; the public ones if `None`.
    pub ca: Option<Vec<u8>>,
    /// The broker's own certificate chain and private key, in PEM.
    pub client: Option<(Vec<u8>, Arc<Secret>)>,
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username && is_same(self.password.as_ref(), other.password.as_ref())
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        let parts = |tls: &Self| match &tls.client {
            Some((cert, key)) => (Some(cert.clone()), Some(Arc::clone(key))),
            None => (None, None),
        };
        let ((cert, key), (other_cert, other_key)) = (parts(self), parts(other));
        self.ca == other.ca && cert == other_cert && is_same(key.as_ref(), other_key.as_ref())
    }
}

fn is_same(one: Option<&Arc<Secret>>, other: Option<&Arc<Secret>>) -> bool {
    one.map(|secret| secret.expose()) == other.map(|secret| secret.expose())
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("client", &self.client.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, all) = match self {
            Self::One(server) => ("", slice::from_ref(server)),
            Self::Cluster(nodes) => ("cluster of ", nodes.as_slice()),
            Self::Sentinel {
                sentinels, master, ..
            } => {
                write!(f, "{master} of ")?;
                ("sentinels ", sentinels.as_slice())
            }
        };
        f.write_str(before)?;
        for (position, server) in all.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{server}")?;
        }
        Ok(())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
