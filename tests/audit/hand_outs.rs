//! Every token that a caller received has exactly one record, which was there first.

use std::{env, fs, path::Path};

use token_broker::api::v1::{
    GetTokenRequest, WatchTokenRequest, token_broker_client::TokenBrokerClient,
    watch_token_response::Event,
};
use tokio::task::JoinSet;
use tonic::{Request, transport::Channel};

use crate::{
    trail::{fault, hand_outs, kinds, verify},
    trial::{CART, Setup, Trial, ask},
};

const DESTINATIONS: usize = 5;
const CONNECTIONS: usize = 8;
const TASKS: usize = 8;
const WATCHERS: usize = 10;

/// What a caller received, and how long the file was then.
struct Received {
    request: String,
    token: String,
    length: u64,
}

/// How many tokens are handed out over connections. Another test hands out ten times as
/// many within one process.
fn count() -> usize {
    env::var("TOKEN_BROKER_HANDOUTS").map_or(10_000, |count| {
        count.parse::<usize>().expect("a number of hand-outs") / 10
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_that_was_received_has_one_record_that_was_there_first() {
    let trial = Trial::start(Setup {
        destinations: DESTINATIONS,
        server: "max_calls_per_second = 1000000",
        audit: "file = \"audit.jsonl\"\nmax_file_size = \"100GiB\"\nstall_timeout = \"30s\"",
        ..Setup::default()
    })
    .await;
    let file = trial.folder.path().join("audit.jsonl");
    let each = count().div_ceil(CONNECTIONS * TASKS);
    let mut callers = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let client = trial.client(&format!("{CART}-{connection}")).await;
        for task in 0..TASKS {
            let (client, file) = (client.clone(), file.clone());
            let name = format!("{connection}.{task}");
            callers.spawn(async move { call(client, &file, &name, each).await });
        }
        if connection == 0 {
            for watcher in 0..WATCHERS {
                let (client, file) = (client.clone(), file.clone());
                callers.spawn(async move { watch(client, &file, watcher).await });
            }
        }
    }
    let received: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    assert_eq!(received.len(), CONNECTIONS * TASKS * each + WATCHERS);

    let (app, site) = trial.into_parts();
    app.stop().await;
    let recorded = hand_outs(&file);
    assert_eq!(recorded.len(), received.len(), "one record a request");
    for Received {
        request,
        token,
        length,
    } in received
    {
        let [one] = recorded[&request].as_slice() else {
            panic!("{request} has {} records", recorded[&request].len())
        };
        assert_eq!(one.record["token_id"], token, "{request}");
        assert!(
            one.end <= length,
            "{request} got its token before its record"
        );
    }
    let text = fs::read_to_string(&file).unwrap();
    for secret in ["canary-secret", "access_token", "Bearer"] {
        assert!(!text.contains(secret), "{secret} is recorded");
    }
    assert_eq!(text.matches("\"kind\":\"mint\"").count(), DESTINATIONS);
    let output = verify(&[file]);
    let told = String::from_utf8(output.stdout).unwrap();
    print!("{told}");
    assert!(output.status.success(), "{told}");
    assert_faults_are_found(site.folder.path(), &text);
}

/// Asks one time after the other, each in a request of its own name.
async fn call(
    mut client: TokenBrokerClient<Channel>,
    file: &Path,
    name: &str,
    count: usize,
) -> Vec<Received> {
    let mut received = Vec::with_capacity(count);
    for n in 0..count {
        let request = format!("{name}.{n}");
        let mut call = Request::new(GetTokenRequest {
            destination_id: format!("d{}", n % DESTINATIONS),
            min_validity: None,
        });
        let metadata = call.metadata_mut();
        metadata.insert("x-request-id", request.parse().unwrap());
        let reply = client.get_token(call).await.unwrap();
        received.push(Received {
            request,
            token: reply.into_inner().token_id,
            length: fs::metadata(file).unwrap().len(),
        });
    }
    received
}

/// Watches until there is a token.
async fn watch(mut client: TokenBrokerClient<Channel>, file: &Path, n: usize) -> Vec<Received> {
    let request = format!("watcher-{n}");
    let mut call = Request::new(WatchTokenRequest {
        destination_id: format!("d{}", n % DESTINATIONS),
    });
    let metadata = call.metadata_mut();
    metadata.insert("x-request-id", request.parse().unwrap());
    let mut events = client.watch_token(call).await.unwrap().into_inner();
    let event = events.message().await.unwrap().unwrap().event.unwrap();
    let Event::Token(token) = event else {
        panic!("{event:?} instead of a token")
    };
    vec![Received {
        request,
        token: token.token_id,
        length: fs::metadata(file).unwrap().len(),
    }]
}

/// Does to copies of a file what somebody might do to hide something.
fn assert_faults_are_found(folder: &Path, text: &str) {
    assert_eq!(fault(folder, text.as_bytes()), None);
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let middle = lines.len() / 2;
    let seq = middle + 1;
    let without = [&lines[..middle], &lines[middle + 1..]].concat().concat();
    let mut exchanged = lines.clone();
    exchanged.swap(middle, middle + 1);
    let twice = [&lines[..=middle], &lines[middle..]].concat().concat();
    let edited = lines[middle].replace("\"caller\":\"spiffe", "\"caller\":\"spiff3");
    let edited = [&lines[..middle], &[&*edited], &lines[middle + 1..]];
    for (content, found) in [
        (
            without,
            format!("copy:{seq}: seq {}: records are missing", seq + 1),
        ),
        (
            exchanged.concat(),
            format!("copy:{seq}: seq {}: records are missing", seq + 1),
        ),
        (
            twice,
            format!(
                "copy:{}: seq {seq}: is out of order, or there twice",
                seq + 1
            ),
        ),
        (
            edited.concat().concat(),
            format!("copy:{seq}: seq {seq}: was changed"),
        ),
        (
            lines[..middle].concat(),
            format!("copy:{middle}: seq {middle}: is not closed"),
        ),
        (
            text[..text.len() - 1].to_owned(),
            format!("copy:{}: is torn", lines.len()),
        ),
    ] {
        let fault = fault(folder, content.as_bytes()).expect("a fault is found");
        assert!(fault.starts_with(&found), "{fault} instead of {found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_says_who_got_what_and_where_from() {
    let trial = Trial::start(Setup {
        destinations: 1,
        audit: "file = \"audit.jsonl\"\nstall_timeout = \"30s\"",
        ..Setup::default()
    })
    .await;
    let file = trial.folder.path().join("audit.jsonl");
    let mut client = trial.client(CART).await;
    for given in ["r-1", "r-2", "not a name", ""] {
        let mut call = Request::new(GetTokenRequest {
            destination_id: "name-of-d0".to_owned(),
            min_validity: None,
        });
        let metadata = call.metadata_mut();
        metadata.insert("x-request-id", given.parse().unwrap());
        client.get_token(call).await.unwrap();
    }
    // Nothing is recorded of what is refused.
    ask(&mut client, "public").await.unwrap_err();
    let (app, site) = trial.into_parts();
    app.stop().await;
    let told = ["open", "mint", "token", "token", "token", "token", "close"];
    assert_eq!(kinds(&file), told);
    let recorded = hand_outs(&file);
    assert_eq!(recorded.len(), 4, "a name of its own for each request");
    for (request, cache) in [("r-1", "miss"), ("r-2", "hit")] {
        let record = &recorded[request][0].record;
        for (member, value) in [
            ("caller", CART),
            ("destination", "d0"),
            ("application", "shop"),
            ("credential", "file:d0"),
            ("cache", cache),
            ("door", "grpc"),
        ] {
            assert_eq!(record[member], value, "{member}");
        }
    }
    // A broker that is started again goes on where this one ended.
    let app = token_broker::app::App::start(&site.config()).await.unwrap();
    app.stop().await;
    assert_eq!(kinds(&file), [&told[..], &["open", "close"]].concat());
    assert!(verify(&[file]).status.success());
}
