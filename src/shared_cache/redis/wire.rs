//! A connection to one server, or to the nodes of a cluster.

use ::redis::{
    Cmd, RedisError, Value,
    aio::MultiplexedConnection,
    cluster_async::ClusterConnection,
    cluster_routing::{RoutingInfo, SingleNodeRoutingInfo},
    cmd,
};

use super::{Trouble, trouble::trouble};

/// A connection. Many ask over it at once, and each gets the answer to its own question.
pub(super) enum Wire {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Wire {
    /// Asks whoever has the keys of this command.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, RedisError> {
        match self {
            Self::One(connection) => command.query_async(&mut connection.clone()).await,
            Self::Cluster(connection) => command.query_async(&mut connection.clone()).await,
        }
    }

    /// Hears what is said on a channel from now on.
    pub(super) async fn subscribe(&self, channel: &str) -> Result<(), RedisError> {
        match self {
            Self::One(connection) => connection.clone().subscribe(channel).await,
            Self::Cluster(connection) => connection.clone().subscribe(channel).await,
        }
    }

    /// Asks for a number that nobody knows: only the answer to this very question has it, so
    /// a wire on which answers went astray is noticed.
    pub(super) async fn probe(&self) -> Result<(), Trouble> {
        let number = format!("{:032x}", rand::random::<u128>());
        let mut ping = cmd("PING");
        ping.arg(&number);
        let answer = match self {
            Self::One(_) => self.ask(&ping).await,
            Self::Cluster(connection) => {
                let anybody = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
                let answer = connection.clone().route_command(ping, anybody).await;
                answer.and_then(Value::extract_error)
            }
        };
        match answer.map_err(|error| trouble(&error))? {
            Value::BulkString(echo) if echo == number.as_bytes() => Ok(()),
            _ => Err(Trouble::Garbage),
        }
    }

    /// Whether the server at the other end is in charge, as far as it tells.
    pub(super) async fn is_master(&self) -> Result<bool, Trouble> {
        let role = self.ask(&cmd("ROLE")).await;
        match role.map_err(|error| trouble(&error))? {
            Value::Array(role) => match role.first() {
                Some(Value::BulkString(role)) => Ok(role == b"master"),
                _ => Err(Trouble::Garbage),
            },
            _ => Err(Trouble::Garbage),
        }
    }

    /// Whether a failure of one server leaves others to ask.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}
