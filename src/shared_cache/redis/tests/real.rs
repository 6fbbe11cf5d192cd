//! One real server, in all that befalls it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    super::{Beginning, News, Settings, Trouble},
    fixture::{Replica, kept, name, sealed, settings},
    server::{Server, until},
};
use crate::{
    secret::Secret,
    shared_cache::{record::Kind, settings::Login},
};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn what_is_flushed_is_as_if_it_had_never_been() {
    let server = Server::start("");
    let replica = Replica::connected(settings(server.port)).await;
    let (name, token) = (name(), sealed());
    let turn = granted(&replica, &name).await;
    assert_eq!(server.cli(&["flushall"]), "OK");
    // The scripts as well are gone.
    assert_eq!(server.cli(&["script", "flush"]), "OK");
    let outcome = Some(kept(Kind::Token, &token, LONG));
    let finished = replica.store.finish(&name, Some(&turn), outcome).await;
    assert_eq!(finished, Ok(false));
    let entries = replica.store.look(&name).await.unwrap();
    assert_eq!(entries[0].sealed, token);
    assert_eq!(replica.count("connect", "ok"), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_server_that_is_restarted_is_found_and_heard_again() {
    let mut server = Server::start("");
    let mut replica = Replica::connected(settings(server.port)).await;
    connected(&mut replica).await;
    for _ in 0..3 {
        server.kill();
        until("it is noticed", async || !replica.is_up()).await;
        let asked = Instant::now();
        let answer = replica.store.look(&name()).await;
        assert_eq!(answer.unwrap_err(), Trouble::Unreachable);
        assert!(asked.elapsed() < Duration::from_millis(100));
        server.restart();
        replica.answers().await;
        connected(&mut replica).await;
        let (name, pause) = (name(), sealed());
        let kept = replica.store.keep_pause(&name, pause.clone(), LONG).await;
        assert_eq!(kept, Ok(()));
        match replica.hears().await {
            Some(News::Told(message)) => assert_eq!(message.sealed, pause),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_full_server_is_read_and_takes_turns_back() {
    let server = Server::start("maxmemory-policy noeviction\n");
    let replica = Replica::connected(settings(server.port)).await;
    let (name, token) = (name(), sealed());
    let turn = granted(&replica, &name).await;
    assert_eq!(server.cli(&["config", "set", "maxmemory", "1"]), "OK");
    let began = replica
        .store
        .begin(&super::fixture::name(), &[], LONG)
        .await;
    assert_eq!(began.unwrap_err(), Trouble::Full);
    let paused = replica.store.keep_pause(&name, sealed(), LONG).await;
    assert_eq!(paused, Err(Trouble::Full));
    let stopped = replica.store.keep_quarantine(&[name], sealed()).await;
    assert_eq!(stopped, Err(Trouble::Full));
    let told = replica.store.beat(&[name], Some(sealed()), LONG).await;
    assert_eq!(told, Err(Trouble::Full));
    assert_eq!(
        replica.store.beat(&[name], None, LONG).await,
        Ok(Vec::new())
    );
    let outcome = Some(kept(Kind::Token, &token, LONG));
    assert_eq!(
        replica.store.finish(&name, None, outcome).await,
        Err(Trouble::Full)
    );
    assert_eq!(replica.store.look(&name).await.unwrap().len(), 0);
    assert_eq!(replica.store.pause(&name).await, Ok(None));
    assert_eq!(
        replica.store.finish(&name, Some(&turn), None).await,
        Ok(true)
    );
    assert_eq!(server.cli(&["config", "set", "maxmemory", "0"]), "OK");
    granted(&replica, &name).await;
    assert_eq!(replica.count("connect", "ok"), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_server_that_became_a_replica_is_read() {
    let (master, server) = (Server::start(""), Server::start(""));
    let replica = Replica::connected(settings(server.port)).await;
    assert_eq!(
        server.cli(&["replicaof", "127.0.0.1", &master.port.to_string()]),
        "OK"
    );
    let began = replica.store.begin(&name(), &[], LONG).await;
    assert_eq!(began.unwrap_err(), Trouble::ReadOnly);
    until("reads go on", async || {
        replica.store.look(&name()).await.is_ok()
    })
    .await;
    assert_eq!(replica.store.forget(&name()).await, Err(Trouble::ReadOnly));
    for told in [Some(sealed()), None] {
        let told = replica.store.beat(&[name()], told, LONG).await;
        assert_eq!(told, Err(Trouble::ReadOnly));
    }
    assert_eq!(server.cli(&["replicaof", "no", "one"]), "OK");
    granted(&replica, &name()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_server_that_lacks_replicas_is_read_over_the_same_connection_until_it_has_them() {
    let server = Server::start("");
    let replica = Replica::connected(settings(server.port)).await;
    let few = ["config", "set", "min-replicas-to-write", "1"];
    assert_eq!(server.cli(&few), "OK");
    for _ in 0..100 {
        let began = replica.store.begin(&name(), &[], LONG).await;
        assert_eq!(began.unwrap_err(), Trouble::Unsafe);
        assert_eq!(replica.store.look(&name()).await.unwrap().len(), 0);
    }
    let enough = ["config", "set", "min-replicas-to-write", "0"];
    assert_eq!(server.cli(&enough), "OK");
    granted(&replica, &name()).await;
    assert_eq!(replica.count("connect", "ok"), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_server_that_stops_and_goes_on_is_used_again() {
    let server = Server::start("");
    let strict = Settings {
        timeout: Duration::from_millis(50),
        ..settings(server.port)
    };
    let replica = Replica::connected(strict).await;
    for _ in 0..2 {
        server.signal("STOP");
        let asked = Instant::now();
        let answer = replica.store.look(&name()).await;
        assert!(matches!(answer, Err(Trouble::Slow | Trouble::Unreachable)));
        assert!(
            asked.elapsed() < Duration::from_secs(1),
            "{:?}",
            asked.elapsed()
        );
        until("it is noticed", async || !replica.is_up()).await;
        let asked = Instant::now();
        replica.store.look(&name()).await.unwrap_err();
        assert!(asked.elapsed() < Duration::from_millis(40));
        server.signal("CONT");
        replica.answers().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_turn_that_is_granted_too_late_is_given_back() {
    let server = Server::start("");
    let strict = Settings {
        timeout: Duration::from_millis(300),
        ..settings(server.port)
    };
    let replica = Replica::connected(strict).await;
    // A server that does not know the script yet would not be sent it in time.
    granted(&replica, &name()).await;
    let name = name();
    server.signal("STOP");
    let began = replica.store.begin(&name, &[], LONG).await;
    assert_eq!(began.unwrap_err(), Trouble::Slow);
    server.signal("CONT");
    let (slot, turn) = (
        format!("fleet:{{{name}}}:slot"),
        format!("fleet:{{{name}}}:turn"),
    );
    until("it is granted", async || {
        server.cli(&["hget", &slot, "fence"]) == "1"
    })
    .await;
    until("it is given back", async || {
        server.cli(&["exists", &turn]) == "0"
    })
    .await;
    assert_eq!(replica.count("connect", "ok"), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_password_that_was_changed_is_denied_until_the_settings_follow() {
    let server = Server::start("user broker on >first ~* &* +@all\n");
    let with = |password: &str| Settings {
        login: Login {
            username: Some("broker".to_owned()),
            password: Some(Arc::new(Secret::new(password.to_owned()))),
        },
        ..settings(server.port)
    };
    let replica = Replica::connected(with("first")).await;
    let changed = server.cli(&["acl", "setuser", "broker", "resetpass", ">second"]);
    assert_eq!(changed, "OK");
    let killed = server.cli(&["client", "kill", "user", "broker"]);
    assert_eq!(killed, "1");
    until("it is denied", async || {
        replica.store.look(&name()).await.map(drop) == Err(Trouble::Denied)
    })
    .await;
    replica.settings.send_replace(Some(with("second")));
    replica.answers().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn what_is_kept_in_another_database_is_another_fleets() {
    let server = Server::start("");
    let second = Settings {
        database: 3,
        ..settings(server.port)
    };
    let (one, other) = (
        Replica::connected(settings(server.port)).await,
        Replica::connected(second).await,
    );
    let name = name();
    granted(&one, &name).await;
    granted(&other, &name).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn values_of_the_wrong_type_or_size_are_garbage() {
    let server = Server::start("");
    let replica = Replica::connected(settings(server.port)).await;
    let of_type = name();
    let slot = format!("fleet:{{{of_type}}}:slot");
    assert_eq!(server.cli(&["set", &slot, "x"]), "OK");
    let looked = replica.store.look(&of_type).await;
    assert_eq!(looked.unwrap_err(), Trouble::Garbage);
    let large = name();
    let slot = format!("fleet:{{{large}}}:slot");
    let fill = "redis.call('HSET', KEYS[1], 't', string.rep('x', 10000000), 't:until', '9e15', 'fence', '1e300', 'kept', 'nan') return 1";
    assert_eq!(server.cli(&["eval", fill, "1", &slot]), "1");
    let looked = replica.store.look(&large).await;
    assert_eq!(looked.unwrap_err(), Trouble::Garbage);
    let turn = granted(&replica, &large).await;
    assert_eq!(turn.fence, 1);
    let token = sealed();
    let outcome = Some(kept(Kind::Token, &token, LONG));
    assert_eq!(
        replica.store.finish(&large, Some(&turn), outcome).await,
        Ok(true)
    );
    assert_eq!(replica.store.look(&large).await.unwrap()[0].sealed, token);
    let pause = format!("fleet:{{{large}}}:pause");
    let fill = "redis.call('SET', KEYS[1], string.rep('x', 10000000)) return 1";
    assert_eq!(server.cli(&["eval", fill, "1", &pause]), "1");
    let before = sent(&server);
    assert_eq!(replica.store.pause(&large).await, Err(Trouble::Garbage));
    assert!(sent(&server) - before < 100_000);
    server.cli(&["hset", "fleet:quarantines", "odd", "x"]);
    let upper = name().to_string().to_uppercase();
    server.cli(&["hset", "fleet:quarantines", &upper, "x"]);
    let fill = "redis.call('HSET', KEYS[1], ARGV[1], string.rep('x', 10000000)) return 1";
    let too_large = name().to_string();
    let filled = server.cli(&["eval", fill, "1", "fleet:quarantines", &too_large]);
    assert_eq!(filled, "1");
    let stop = sealed();
    let kept = replica.store.keep_quarantine(&[large], stop.clone()).await;
    assert_eq!(kept, Ok(()));
    let before = sent(&server);
    let kept = replica.store.quarantines().await;
    assert_eq!(kept, Ok(vec![(large, stop)]));
    assert!(sent(&server) - before < 100_000);
    assert_eq!(replica.count("quarantines", "garbage"), 3);
    // More than anybody keeps.
    server.cli(&["hdel", "fleet:quarantines", "odd", &upper, &too_large]);
    let fill = "for i = 1, 10009 do redis.call('HSET', KEYS[1], string.format('%032x', i), 'x') end return 1";
    assert_eq!(server.cli(&["eval", fill, "1", "fleet:quarantines"]), "1");
    assert_eq!(replica.store.quarantines().await.unwrap().len(), 10_000);
    assert_eq!(replica.count("quarantines", "garbage"), 3 + 10);
    // A turn without an end, which nobody here would leave.
    let endless = name();
    server.cli(&["set", &format!("fleet:{{{endless}}}:turn"), "x"]);
    let began = replica
        .store
        .begin(&endless, &[], Duration::from_millis(200))
        .await;
    assert!(matches!(began, Ok(Beginning::Held(left)) if left <= Duration::from_millis(200)));
    until("it ends", async || {
        let began = replica.store.begin(&endless, &[], LONG).await;
        matches!(began, Ok(Beginning::Granted(_)))
    })
    .await;
    assert_eq!(replica.count("connect", "ok"), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn what_no_replica_tells_is_thrown_away_where_replicas_tell_of_themselves() {
    let server = Server::start("");
    let replica = Replica::connected(settings(server.port)).await;
    let (mine, others, told) = (name(), name(), sealed());
    let beat = async || replica.store.beat(&[mine], Some(sealed()), LONG).await;
    let key = "fleet:replicas";
    let fill = |lua: &str, argument: &str| {
        let lua = format!("local now = redis.call('TIME')[1] * 1000 {lua} return 1");
        assert_eq!(server.cli(&["eval", &lua, "1", key, argument]), "1");
    };
    let kept = || server.cli(&["hlen", key]).parse::<usize>().unwrap();
    let garbage = || replica.count("beat", "garbage");
    let store = &replica.store;
    let alone = store.beat(&[others], Some(told.clone()), LONG).await;
    assert_eq!(alone, Ok(Vec::new()));
    // No moment, one that is none, one that is never, and too much of it.
    for value in ["''", "'x'", "':x'", "'-1:x'", "'0:x'", "'9e15:x'"] {
        fill(
            &format!("redis.call('HSET', KEYS[1], ARGV[1], {value})"),
            &name().to_string(),
        );
    }
    for value in [
        "string.rep('9', 400) .. ':x'",
        "string.format('%.0f:x', now + 70000)",
        "string.format('%.0f:', now + 9000) .. string.rep('x', 10000000)",
    ] {
        fill(
            &format!("redis.call('HSET', KEYS[1], ARGV[1], {value})"),
            &name().to_string(),
        );
    }
    let alive = "redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f:x', now + 9000))";
    fill(alive, "odd");
    let odd = name().to_string().to_uppercase();
    fill(alive, &odd);
    let before = sent(&server);
    assert_eq!(beat().await, Ok(vec![(others, told.clone())]));
    assert!(sent(&server) - before < 100_000);
    // The server does not know that the last one is no name.
    assert_eq!((garbage(), kept()), (11, 3));
    assert_eq!(beat().await, Ok(vec![(others, told.clone())]));
    assert_eq!(garbage(), 12);
    // One whose time has passed is no garbage.
    fill(
        "redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f:x', now - 9000))",
        &name().to_string(),
    );
    assert_eq!(beat().await, Ok(vec![(others, told)]));
    assert_eq!((garbage(), kept()), (13, 3));
    // More than are told of, and more than there can be.
    let crowd = "for i = 1, tonumber(ARGV[1]) do redis.call('HSET', KEYS[1], string.format('%032x', i), string.format('%.0f:x', now + 9000)) end";
    // The one whose name is none could be among the thousand.
    server.cli(&["hdel", key, &odd]);
    fill(crowd, "1500");
    assert_eq!(beat().await.unwrap().len(), 1000);
    assert_eq!(kept(), 1502);
    fill(crowd, "3000");
    assert_eq!(beat().await, Ok(Vec::new()));
    assert_eq!(kept(), 1);
    // Something else altogether.
    assert_eq!(server.cli(&["set", key, "x"]), "OK");
    assert_eq!(beat().await, Ok(Vec::new()));
    assert_eq!(kept(), 1);
    let lasts: u64 = server.cli(&["pttl", key]).parse().unwrap();
    assert!((1..=60_000).contains(&lasts), "{lasts}");
    // And nobody is missed by whoever is left.
    assert!(replica.store.beat(&[mine], None, LONG).await.is_ok());
    assert_eq!(server.cli(&["exists", key]), "0");
    assert_eq!(replica.count("connect", "ok"), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn nothing_is_left_behind_for_ever_but_quarantines() {
    let server = Server::start("");
    let replica = Replica::connected(settings(server.port)).await;
    super::contract::run_all(&replica, settings(server.port)).await;
    for key in server.cli(&["keys", "*"]).lines() {
        let lasts: i64 = server.cli(&["pttl", key]).parse().unwrap();
        assert_eq!(lasts == -1, key == "fleet:quarantines", "{key}: {lasts}");
        let longest = Duration::from_secs(60 + 600).as_millis();
        assert!(u128::try_from(lasts).unwrap_or_default() <= longest);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn reads_that_are_dropped_at_every_poll_mix_up_no_values() {
    const ROUNDS: usize = 100_000;
    let server = Server::start("");
    let replica = Replica::connected(settings(server.port)).await;
    let mut known = Vec::new();
    for _ in 0..16 {
        let (name, token) = (name(), sealed());
        let outcome = Some(kept(Kind::Token, &token, LONG * 10));
        replica.store.finish(&name, None, outcome).await.unwrap();
        known.push((name, token));
    }
    let mut dropped = [0; 8];
    for round in 0..ROUNDS {
        let (victim, _) = &known[round % 16];
        let polls = round % 8;
        let mut read = replica.store.look(victim);
        for _ in 0..polls {
            if futures_util::poll!(&mut read).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
            dropped[polls] += 1;
        }
        drop(read);
        let (name, token) = &known[(round * 7 + 3) % 16];
        let entries = replica.store.look(name).await.unwrap();
        assert_eq!(entries.len(), 1, "round {round}");
        assert_eq!(entries[0].sealed, *token, "round {round}");
    }
    println!("{ROUNDS} reads dropped after 0 to 7 polls, none of the others wrong: {dropped:?}");
    assert_eq!(replica.count("connect", "ok"), 1);
}

async fn granted(replica: &Replica, name: &super::super::Name) -> super::super::Turn {
    match replica.store.begin(name, &[], LONG).await {
        Ok(Beginning::Granted(turn)) => turn,
        other => panic!("{other:?}"),
    }
}

/// How many bytes a server has sent to anybody.
fn sent(server: &Server) -> u64 {
    let info = server.cli(&["info", "stats"]);
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    line.unwrap().trim().parse().unwrap()
}

async fn connected(replica: &mut Replica) {
    match replica.hears().await {
        Some(News::Connected) => {}
        other => panic!("{other:?}"),
    }
}
