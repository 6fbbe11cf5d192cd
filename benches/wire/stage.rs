//! The servers that are compared, all with the same certificates.

use std::{io, net::SocketAddr, rc::Rc};

use token_broker::api::v1::{
    GetTokenRequest, GetTokenResponse, token_broker_client::TokenBrokerClient,
};
use tokio::runtime::Runtime;

use crate::{
    bare::Bare,
    connection::Connection,
    contender::Contender,
    http2::{Http2, Questions},
    load::Load,
    options::Options,
    redis::Redis,
    resp::Resp,
    site::{Broker, Cores, Policy, Site},
    talk::Talk,
    tls,
};

/// What is asked of the broker.
const POLICY: Policy = Policy {
    destinations: 200,
    callers: 200,
};

/// Brokers whose tokens are all at hand, and others who answer as much.
pub(crate) struct Stage {
    pub(crate) bare: Bare,
    /// The broker, and the one beside it if there is one.
    pub(crate) brokers: Vec<Warm>,
    redis: Option<Redis>,
}

/// A broker whose tokens are all at hand.
pub(crate) struct Warm {
    pub(crate) name: &'static str,
    pub(crate) site: Site,
    pub(crate) broker: Broker,
    replies: Vec<GetTokenResponse>,
}

impl Stage {
    pub(crate) fn set(runtime: &Runtime, cores: &Cores, options: &Options) -> Self {
        let warm = |name, start: &dyn Fn(&Site) -> Broker| {
            let site = runtime.block_on(Site::new(POLICY));
            let broker = start(&site);
            let replies = runtime.block_on(warm(&site, broker.address));
            Warm {
                name,
                site,
                broker,
                replies,
            }
        };
        let this = warm("broker", &|site| Broker::start(site, cores));
        let beside = options.beside.as_ref();
        let beside =
            beside.map(|program| warm("beside", &|site| Broker::run(program, site, cores)));
        let reply = &this.replies[0];
        Self {
            bare: Bare::start(&this.site, reply, cores),
            redis: Redis::start(&this.site, reply, cores),
            brokers: [this].into_iter().chain(beside).collect(),
        }
    }

    /// Everybody who is compared, the bare service first.
    pub(crate) fn contenders(
        &self,
        options: &Options,
        cores: &Cores,
    ) -> io::Result<Vec<Contender<'_>>> {
        let count = options.connections;
        let Warm { site, replies, .. } = &self.brokers[0];
        let only = Questions::new(POLICY.destinations, |_| replies[0].access_token.clone());
        let talk = || Box::new(Http2::new(&only)) as _;
        let load = connect(site, self.bare.address, count, cores, &talk)?;
        let mut contenders = vec![Contender::new("bare tonic", &self.bare.process, load)];
        for warm in &self.brokers {
            let questions = questions(&warm.replies);
            let talk = || Box::new(Http2::new(&questions)) as _;
            let load = connect(&warm.site, warm.broker.address, count, cores, &talk)?;
            contenders.push(Contender::new(warm.name, &warm.broker.process, load));
        }
        if let Some(redis) = &self.redis {
            let talk = || Box::new(Resp::new(&redis.value)) as _;
            let load = connect(site, redis.address, count, cores, &talk)?;
            contenders.push(Contender::new("redis", &redis.process, load));
        } else {
            println!("There is no redis-server here, so it is left out.");
        }
        Ok(contenders)
    }
}

/// Asks for each token once, as an ordinary client, and looks at all of the answer.
pub(crate) async fn warm(site: &Site, broker: SocketAddr) -> Vec<GetTokenResponse> {
    let channel = site.endpoint(broker, 0).connect().await.unwrap();
    let mut client = TokenBrokerClient::new(channel);
    let mut replies = Vec::new();
    for n in 0..site.policy.destinations {
        let request = GetTokenRequest {
            destination_id: Policy::destination(n),
            min_validity: None,
        };
        let reply = client.get_token(request).await.unwrap().into_inner();
        let minted_for = site.upstream.minted_for(&reply.access_token).unwrap();
        assert_eq!(minted_for.destination, Policy::destination(n));
        assert_eq!(reply.access_token.len(), Site::TOKEN);
        replies.push(reply);
    }
    replies
}

/// Questions for the destinations of these replies.
pub(crate) fn questions(replies: &[GetTokenResponse]) -> Rc<Questions> {
    Questions::new(replies.len(), |n| replies[n].access_token.clone())
}

/// So many connections to a server, each with the certificate of another caller as far as
/// there are so many.
pub(crate) fn connect(
    site: &Site,
    server: SocketAddr,
    connections: usize,
    cores: &Cores,
    talk: &dyn Fn() -> Box<dyn Talk>,
) -> io::Result<Load> {
    let Policy {
        destinations,
        callers,
    } = site.policy;
    let open = |n| {
        let config = tls::client(site, n * callers / connections, tls::Care::Full);
        Connection::open(server, &config, talk())
    };
    let connections = (0..connections).map(open).collect::<io::Result<_>>()?;
    Ok(Load::new(connections, destinations, cores.are_two()))
}
