//! Servers that are silent, close, speak garbage or say no.

use std::{sync::Arc, time::Duration};

use tokio::time::{self, Instant};

use super::{
    super::{
        News, Sealed, Store, Trouble, Turn,
        news::encode,
        scripts::{BEGIN_STEP, FINISH_STEP, MAX_VALUE, Step},
    },
    fixture::{Replica, kept, local, name, sealed, settings},
    scripted::{Manner, Scripted, bulk},
    server::until,
};
use crate::{
    secret::Secret,
    shared_cache::{
        Settings, SharedToken,
        record::Kind,
        ring::Ring,
        settings::{Login, Servers},
        store::MOST_REPLICAS,
        tests::token,
    },
    token::Token,
};

const BUDGET: Duration = Duration::from_millis(50);
/// Timers are exact to a millisecond.
const TICK: Duration = Duration::from_millis(2);

fn strict(port: u16) -> Settings {
    Settings {
        timeout: BUDGET,
        ..settings(port)
    }
}

/// What each operation ends with, in turn.
async fn all(store: &dyn Store) -> [Result<(), Trouble>; 9] {
    let (name, turn) = (name(), Turn { owner: 7, fence: 7 });
    let outcome = Some(kept(Kind::Token, &sealed(), BUDGET));
    [
        store.look(&name).await.map(drop),
        store.begin(&name, &[], BUDGET).await.map(drop),
        store.finish(&name, Some(&turn), outcome).await.map(drop),
        store.forget(&name).await,
        store.pause(&name).await.map(drop),
        store.keep_pause(&name, sealed(), BUDGET).await,
        store.quarantines().await.map(drop),
        store.keep_quarantine(&[name], sealed()).await,
        store.beat(&[name], Some(sealed()), BUDGET).await.map(drop),
    ]
}

#[tokio::test]
async fn each_error_ends_each_operation_as_the_right_trouble_and_leaves_the_line_alone() {
    let server = Scripted::start(Manner::Well).await;
    let replica = Replica::connected(settings(server.port)).await;
    server.become_a("slave");
    for (error, trouble) in [
        (
            "LOADING Redis is loading the dataset in memory",
            Trouble::Loading,
        ),
        ("CLUSTERDOWN Hash slot not served", Trouble::Loading),
        ("MASTERDOWN Link with MASTER is down", Trouble::Loading),
        (
            "TRYAGAIN Multiple keys request during rehashing",
            Trouble::Loading,
        ),
        (
            "OOM command not allowed when used memory > 'maxmemory'.",
            Trouble::Full,
        ),
        (
            "READONLY You can't write against a read only replica.",
            Trouble::ReadOnly,
        ),
        (
            "MISCONF Redis is configured to save RDB snapshots",
            Trouble::Unsafe,
        ),
        (
            "NOREPLICAS Not enough good replicas to write.",
            Trouble::Unsafe,
        ),
        ("NOAUTH Authentication required.", Trouble::Denied),
        ("WRONGPASS invalid username-password pair", Trouble::Denied),
        (
            "NOPERM this user has no permissions to run 'get'",
            Trouble::Denied,
        ),
        (
            "ERR The user executing the script can't run this command or subcommand",
            Trouble::Denied,
        ),
        ("MOVED 3999 127.0.0.1:6381", Trouble::Moved),
        ("ASK 3999 127.0.0.1:6381", Trouble::Moved),
        ("BUSY Redis is busy running a script.", Trouble::Slow),
        ("WRONGTYPE Operation against a key", Trouble::Garbage),
        ("ERR unknown command", Trouble::Garbage),
        ("", Trouble::Garbage),
        (
            "ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed",
            Trouble::Full,
        ),
        (
            "ERR Error running script (call to f_1): @user_script: 1: -READONLY You can't write",
            Trouble::ReadOnly,
        ),
    ] {
        server.says_error(error);
        assert_eq!(all(&*replica.store).await, [Err(trouble); 9], "{error}");
        server.behave(Manner::Well);
        assert_eq!(all(&*replica.store).await, [Ok(()); 9], "after {error}");
    }
    assert_eq!(replica.count("connect", "unreachable"), 0);
    assert_eq!(server.open(), 1, "all renewals led to a replica");
}

#[tokio::test]
async fn a_silent_server_costs_each_operation_its_budget_and_later_ones_nothing() {
    let server = Scripted::start(Manner::Well).await;
    let replica = Replica::connected(strict(server.port)).await;
    server.behave(Manner::Silent);
    time::pause();
    let asked = Instant::now();
    assert_eq!(
        replica.store.look(&name()).await.unwrap_err(),
        Trouble::Slow
    );
    let took = asked.elapsed();
    assert!((BUDGET..=BUDGET + TICK).contains(&took), "{took:?}");
    // It is given up after three silences, with a rest after each.
    until("the line is given up", async || !replica.is_up()).await;
    assert!(asked.elapsed() < 8 * BUDGET, "{:?}", asked.elapsed());
    assert_eq!(replica.count("probe", "slow"), 3);
    let asked = Instant::now();
    assert_eq!(all(&*replica.store).await, [Err(Trouble::Slow); 9]);
    assert_eq!(asked.elapsed(), Duration::ZERO);
    // Nobody answers those who connect, either.
    until("an attempt has failed", async || {
        replica.count("connect", "unreachable") > 0
    })
    .await;
    assert_eq!(all(&*replica.store).await, [Err(Trouble::Unreachable); 9]);
    time::resume();
    server.behave(Manner::Well);
    replica.answers().await;
}

#[tokio::test]
async fn whoever_waits_for_a_line_hears_of_the_first_failure_and_attempts_grow_rare() {
    let server = Scripted::start(Manner::Closes).await;
    let replica = Replica::start(Some(strict(server.port)));
    replica.store.settled().await;
    assert_eq!(all(&*replica.store).await, [Err(Trouble::Unreachable); 9]);
    time::pause();
    time::sleep(Duration::from_secs(60)).await;
    let attempts = server.accepted();
    assert!((10..100).contains(&attempts), "{attempts}");
    time::resume();
    server.behave(Manner::Well);
    replica.answers().await;
}

#[tokio::test]
async fn a_server_that_opens_and_closes_does_not_make_the_link_spin() {
    let server = Scripted::start(Manner::Well).await;
    let replica = Replica::connected(settings(server.port)).await;
    for _ in 0..3 {
        let before = server.accepted();
        server.behave(Manner::Closes);
        until("the line is given up", async || !replica.is_up()).await;
        assert_eq!(replica.store.trouble(), Some(Trouble::Unreachable));
        server.behave(Manner::Well);
        replica.answers().await;
        assert_eq!(replica.store.trouble(), None);
        assert!(server.accepted() <= before + 10, "{}", server.accepted());
    }
}

#[tokio::test]
async fn garbage_ends_the_line_and_the_next_one_works() {
    let server = Scripted::start(Manner::Well).await;
    let replica = Replica::connected(settings(server.port)).await;
    for garbage in [
        b"\0\x01\x02\r\n".as_slice(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$-7\r\n:x\r\n",
        b"*x\r\n",
        b"\xff\xff\xff\xff",
    ] {
        let lines = replica.count("connect", "ok");
        server.behave(Manner::Says(garbage.to_vec()));
        let answer = replica.store.look(&name()).await;
        assert_eq!(answer.unwrap_err(), Trouble::Garbage, "{garbage:?}");
        server.behave(Manner::Well);
        until("a new line", async || {
            replica.count("connect", "ok") > lines
        })
        .await;
        replica.answers().await;
    }
}

#[tokio::test]
async fn an_answer_of_the_wrong_kind_is_garbage_and_the_line_goes_on() {
    let server = Scripted::start(Manner::Well).await;
    let replica = Replica::connected(settings(server.port)).await;
    let too_large = [
        b"*2\r\n$1\r\nt\r\n".as_slice(),
        &bulk(&vec![1; MAX_VALUE + 1]),
    ]
    .concat();
    for odd in [
        b":5\r\n".as_slice(),
        b"+OK\r\n",
        b"#t\r\n",
        b",1.5\r\n",
        b"*1\r\n$1\r\nt\r\n",
        b"*2\r\n$1\r\nx\r\n$1\r\nx\r\n",
        b"*2\r\n$2\r\ntt\r\n$1\r\nx\r\n",
        b"*2\r\n$1\r\nt\r\n:1\r\n",
        b"*2\r\n$7\r\ngranted\r\n:-1\r\n",
        b"*2\r\n$4\r\nheld\r\n$1\r\nx\r\n",
        &too_large,
    ] {
        server.behave(Manner::Says(odd.to_vec()));
        let looked = replica.store.look(&name()).await;
        assert_eq!(looked.unwrap_err(), Trouble::Garbage);
        let began = replica.store.begin(&name(), &[], BUDGET).await;
        assert_eq!(began.unwrap_err(), Trouble::Garbage);
        let stopped = replica.store.quarantines().await;
        assert_eq!(stopped, Err(Trouble::Garbage));
        let others = replica.store.beat(&[name()], None, BUDGET).await;
        assert_eq!(others, Err(Trouble::Garbage));
    }
    // More than anybody would leave out.
    server.behave(Manner::Says(b"*1\r\n:9223372036854775807\r\n".to_vec()));
    assert_eq!(replica.store.quarantines().await, Ok(Vec::new()));
    assert_eq!(replica.count("quarantines", "garbage"), 10_000);
    // More replicas than anybody is told of, and some that are none.
    let crowd = [
        format!("*{}\r\n:1\r\n", 1 + 2 * (MOST_REPLICAS + 9)).into_bytes(),
        [bulk(b"odd"), bulk(b"x")].concat(),
        (0..MOST_REPLICAS + 8)
            .flat_map(|_| [bulk(name().to_string().as_bytes()), bulk(b"x")].concat())
            .collect(),
    ];
    server.behave(Manner::Says(crowd.concat()));
    let others = replica.store.beat(&[name()], Some(sealed()), BUDGET).await;
    assert_eq!(others.unwrap().len(), MOST_REPLICAS);
    assert_eq!(replica.count("beat", "garbage"), 2);
    let large = bulk(&vec![1; MAX_VALUE + 1]);
    server.behave(Manner::Says(large));
    let pause = replica.store.pause(&name()).await;
    assert_eq!(pause, Err(Trouble::Garbage));
    server.behave(Manner::Well);
    assert_eq!(all(&*replica.store).await, [Ok(()); 9]);
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_length_that_is_a_lie_takes_no_memory_and_time_within_the_budget() {
    let server = Scripted::start(Manner::Well).await;
    let replica = Replica::connected(strict(server.port)).await;
    for lie in [
        b"*2147483647\r\n".as_slice(),
        b"*9223372036854775807\r\n",
        b"$9223372036854775807\r\n",
        b"%9223372036854775807\r\n",
        b">9223372036854775807\r\n",
    ] {
        server.behave(Manner::Says(lie.to_vec()));
        let answer = replica.store.look(&name()).await;
        println!("{:?}: {answer:?}", String::from_utf8_lossy(lie));
        assert!(answer.is_err());
        server.behave(Manner::Well);
        replica.answers().await;
    }
}

#[tokio::test]
async fn a_line_whose_answers_are_to_other_questions_is_given_up() {
    let server = Scripted::start(Manner::Well).await;
    let replica = Replica::connected(settings(server.port)).await;
    // It would pass for an answer to anything that asks for a text.
    server.behave(Manner::OnlySays(bulk(b"PONG")));
    until("it is given up", async || !replica.is_up()).await;
    let looked = replica.store.look(&name()).await;
    assert_eq!(looked.unwrap_err(), Trouble::Garbage);
    server.behave(Manner::Well);
    replica.answers().await;
    assert_eq!(all(&*replica.store).await, [Ok(()); 9]);
}

#[tokio::test]
async fn a_refused_login_and_a_foreign_protocol_are_told_apart() {
    for (answer, trouble) in [
        (
            "-WRONGPASS invalid username-password pair\r\n",
            Trouble::Denied,
        ),
        (
            "-NOAUTH HELLO must be called with AUTH\r\n",
            Trouble::Denied,
        ),
        ("-ERR max number of clients reached\r\n", Trouble::Denied),
        ("-LOADING Redis is loading\r\n", Trouble::Loading),
        (
            "-ERR unknown command `HELLO`, with args\r\n",
            Trouble::Garbage,
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n", Trouble::Garbage),
    ] {
        let server = Scripted::start(Manner::OnlySays(answer.into())).await;
        let replica = Replica::start(Some(settings(server.port)));
        replica.store.settled().await;
        assert_eq!(
            replica.store.look(&name()).await.unwrap_err(),
            trouble,
            "{answer}"
        );
        server.behave(Manner::Well);
        replica.answers().await;
    }
}

#[tokio::test]
async fn messages_are_read_strictly_and_what_finds_no_room_is_counted_and_made_up_for() {
    let server = Scripted::start(Manner::Well).await;
    let mut replica = Replica::with_room_for(2, Some(settings(server.port)));
    replica.answers().await;
    assert!(matches!(replica.hears().await, Some(News::Connected)));
    let good = encode(Kind::Pause, &name(), &sealed());
    let mut of_no_kind = good.clone();
    of_no_kind[0] = b'x';
    let large = encode(Kind::Token, &name(), &Sealed(vec![1; MAX_VALUE + 1]));
    for bad in [
        b"".as_slice(),
        b"t",
        &good[..17],
        &good[..33],
        &of_no_kind,
        &large,
    ] {
        server.publish("fleet:news", bad);
    }
    server.publish("other:news", &good);
    server.say(b">2\r\n+message\r\n+x\r\n");
    for _ in 0..4 {
        server.publish("fleet:news", &good);
    }
    until("all was heard", async || {
        replica.count("news", "dropped") == 2
    })
    .await;
    assert_eq!(replica.count("news", "garbage"), 8);
    assert_eq!(replica.count("news", "ok"), 2);
    for _ in 0..2 {
        match replica.hears().await {
            Some(News::Told(message)) => assert_eq!(message.sealed.0, good[17..]),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(replica.hears().await, Some(News::Connected)));
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_server_that_is_no_longer_in_charge_serves_readers_until_another_is_found() {
    let server = Scripted::start(Manner::Well).await;
    let mut replica = Replica::connected(settings(server.port)).await;
    assert!(matches!(replica.hears().await, Some(News::Connected)));
    server.says_error("READONLY You can't write against a read only replica.");
    let began = replica.store.begin(&name(), &[], BUDGET).await;
    assert_eq!(began.unwrap_err(), Trouble::ReadOnly);
    // Its name leads to a master by now.
    until("another line", async || {
        server.accepted() == 2 && server.open() == 1
    })
    .await;
    assert!(matches!(replica.hears().await, Some(News::Connected)));
    assert!(replica.is_up());
    assert_eq!(replica.count("connect", "ok"), 2);
}

#[tokio::test]
async fn a_server_that_says_that_it_is_in_charge_and_takes_no_writes_is_not_connected_to_all_the_time()
 {
    for (error, lines) in [
        ("MISCONF Redis is configured to save RDB snapshots", 1..=1),
        ("NOREPLICAS Not enough good replicas to write.", 1..=1),
        // The heartbeat sees each second whether it is time to look for another.
        (
            "READONLY You can't write against a read only replica.",
            2..=4,
        ),
    ] {
        let server = Scripted::start(Manner::Well).await;
        let replica = Replica::connected(settings(server.port)).await;
        server.says_error(error);
        let began = Instant::now();
        while began.elapsed() < 30 * BUDGET {
            let forgot = replica.store.forget(&name()).await;
            assert_eq!(forgot.unwrap_err().code(), "read_only");
        }
        assert!(lines.contains(&server.accepted()), "{}", server.accepted());
        assert!(replica.is_up());
    }
}

#[tokio::test]
async fn a_sentinel_that_names_a_silent_server_does_not_keep_the_master_from_being_found() {
    let silent = Scripted::start(Manner::Silent).await;
    let master = Scripted::start(Manner::Well).await;
    let names = |server: &Scripted| {
        let (host, port) = (bulk(b"127.0.0.1"), bulk(server.port.to_string().as_bytes()));
        Manner::Says([b"*2\r\n".as_slice(), &host, &port].concat())
    };
    let mistaken = Scripted::start(names(&silent)).await;
    let right = [
        Scripted::start(Manner::Waits).await,
        Scripted::start(Manner::Waits).await,
    ];
    let sentinels = [&mistaken, &right[0], &right[1]];
    let replica = Replica::start(Some(Settings {
        servers: Servers::Sentinel {
            sentinels: sentinels.map(|one| local(one.port)).to_vec(),
            master: "tokens".to_owned(),
            login: Login::default(),
        },
        ..settings(0)
    }));
    until("the silent one is tried", async || silent.open() == 1).await;
    for sentinel in &right {
        sentinel.behave(names(&master));
    }
    replica.store.settled().await;
    assert!(replica.store.look(&name()).await.is_ok());
    assert_eq!(replica.count("connect", "ok"), 1);
    assert_eq!(
        master.accepted(),
        1,
        "it is tried once, whoever else names it"
    );
    until("the silent one is left", async || silent.open() == 0).await;
}

#[tokio::test]
async fn a_turn_whose_answer_nobody_heard_is_given_back() {
    let server = Scripted::start(Manner::Well).await;
    let patient = Settings {
        timeout: 4 * BUDGET,
        ..settings(server.port)
    };
    let replica = Replica::connected(patient).await;
    for is_dropped in [false, true] {
        let before = server.asked().len();
        server.behave(Manner::Waits);
        let name = name();
        let begin = replica.store.begin(&name, &[], BUDGET);
        if is_dropped {
            assert!(time::timeout(BUDGET, begin).await.is_err());
        } else {
            assert_eq!(begin.await.unwrap_err(), Trouble::Slow);
        }
        // It grants the turn now.
        server.behave(Manner::Well);
        let owner = |step: &Step, at: usize| {
            let asked = server.asked().split_off(before);
            let mut of_step = asked.into_iter().filter(|question| {
                question
                    .get(1)
                    .is_some_and(|hash| hash == step.hash.as_bytes())
            });
            of_step.next().map(|question| question[at].clone())
        };
        until("it is given back", async || {
            owner(&FINISH_STEP, 6).is_some()
        })
        .await;
        assert_eq!(owner(&FINISH_STEP, 6), owner(&BEGIN_STEP, 5));
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn turns_that_are_not_given_back_before_a_line_breaks_are_left_to_end_by_themselves() {
    let server = Scripted::start(Manner::Well).await;
    let replica = Replica::connected(settings(server.port)).await;
    let abandon = || {
        for fence in 0..100 {
            replica.store.abandon(&name(), &Turn { owner: 7, fence });
        }
    };
    let finishes = || {
        let hash = FINISH_STEP.hash.as_bytes();
        let asked = server.asked();
        let finishes = asked
            .iter()
            .filter(|question| question.get(1).is_some_and(|one| one == hash));
        finishes.count()
    };
    server.behave(Manner::Closes);
    abandon();
    until("the line is given up", async || !replica.is_up()).await;
    abandon();
    server.behave(Manner::Well);
    replica.answers().await;
    let last = Turn { owner: 8, fence: 8 };
    replica.store.abandon(&name(), &last);
    until("the last one is given back", async || finishes() > 0).await;
    assert_eq!(finishes(), 1);
}

#[test]
fn the_longest_token_is_not_too_large() {
    let token = Token {
        access_token: Arc::new(Secret::new("t".repeat(16 * 1024))),
        ..token()
    };
    let (value, _) = SharedToken::encode(&token);
    let sealed = Ring::sample(&[1]).seal(b"context", &value).unwrap();
    let room = MAX_VALUE - sealed.0.len();
    // For the names of a client and of a credential.
    assert!((3 * 1024..4 * 1024).contains(&room), "{room}");
}

#[tokio::test]
async fn settings_come_and_go() {
    let (one, other) = (
        Scripted::start(Manner::Well).await,
        Scripted::start(Manner::Well).await,
    );
    let mut replica = Replica::start(None);
    replica.store.settled().await;
    assert_eq!(all(&*replica.store).await, [Err(Trouble::Unreachable); 9]);
    for (server, idle) in [(&one, &other), (&other, &one)] {
        replica.settings.send_replace(Some(settings(server.port)));
        replica.answers().await;
        assert!(matches!(replica.hears().await, Some(News::Connected)));
        until("the other is left", async || idle.open() == 0).await;
        assert_eq!(server.open(), 1);
    }
    replica.settings.send_replace(None);
    until("nothing is shared", async || {
        !replica.is_up() && other.open() == 0
    })
    .await;
    assert_eq!(all(&*replica.store).await, [Err(Trouble::Unreachable); 9]);
    replica.stop().await;
}

#[tokio::test]
async fn a_link_that_is_stopped_ends_at_once_whatever_it_does() {
    for manner in [Manner::Well, Manner::Silent, Manner::Closes] {
        let server = Scripted::start(manner.clone()).await;
        let replica = Replica::start(Some(strict(server.port)));
        until("a connection", async || server.accepted() > 0).await;
        let store = Arc::clone(&replica.store);
        time::pause();
        let stopped = Instant::now();
        replica.stop().await;
        assert_eq!(stopped.elapsed(), Duration::ZERO, "{manner:?}");
        assert_eq!(store.look(&name()).await.unwrap_err(), Trouble::Unreachable);
        drop(store);
        time::resume();
        until("nothing is open", async || server.open() == 0).await;
    }
}
