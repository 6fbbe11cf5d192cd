//! A slot that was found once is found again, and no other one is.

use super::*;

/// The slot that a caller would meet without looking it up.
fn recalled(cache: &Cache, registration: &Registration) -> Option<Arc<Entry>> {
    let last = cache.changes.last();
    registration.whereabouts.recall(last, Instant::now())
}

#[tokio::test(start_paused = true)]
async fn after_every_change_the_slot_is_looked_up_anew() {
    type Change = fn(&Cache, &Arc<Registration>);
    let changes: [(&str, Change); 5] = [
        ("dropped", |cache, one| cache.slots.invalidate(&one.key)),
        ("stopped", |cache, one| {
            cache.quarantine(&one.key.destination, None);
        }),
        ("released", |cache, one| {
            cache.release(&one.key.destination, None);
        }),
        ("released elsewhere", |cache, one| {
            cache.end(&one.key.destination, None, &[], clock::wall());
        }),
        ("reloaded", |cache, one| {
            cache.adopt(one.edition, [one].into_iter());
        }),
    ];
    for (name, change) in changes {
        let source = steady();
        let (cache, _guard, one) = one(&source);
        assert!(recalled(&cache, &one).is_none(), "{name}: nobody asked");
        cache.token(&one, Duration::ZERO).await.unwrap();
        // Somebody else has it, so that it outlives its place in the cache.
        let found = recalled(&cache, &one).unwrap();
        assert!(Arc::ptr_eq(&found, &cache.slots.get(&one.key).unwrap()));

        change(&cache, &one);
        assert!(recalled(&cache, &one).is_none(), "{name}");
        let _ = cache.token(&one, Duration::ZERO).await;
        let again = recalled(&cache, &one).unwrap();
        assert!(Arc::ptr_eq(&again, &cache.slots.get(&one.key).unwrap()));
        assert_eq!(Arc::ptr_eq(&again, &found), name != "dropped", "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_in_use_is_looked_up_before_the_cache_takes_it_for_idle() {
    let (cache, _guard, one) = one(&steady());
    cache.token(&one, Duration::ZERO).await.unwrap();
    assert!(recalled(&cache, &one).is_some());
    advance(HOUR).await;
    assert!(recalled(&cache, &one).is_none());
    assert!(HOUR < IDLE_OUT);
}

#[tokio::test(start_paused = true)]
async fn a_registration_of_two_caches_has_a_slot_in_each() {
    let source = steady();
    let (first, _guard, one) = one(&source);
    let (second, _other_guard) = cache();
    for _ in 0..2 {
        for cache in [&first, &second] {
            cache.token(&one, Duration::ZERO).await.unwrap();
            let found = recalled(cache, &one).unwrap();
            assert!(Arc::ptr_eq(&found, &cache.slots.get(&one.key).unwrap()));
        }
    }
    assert_eq!(source.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_slot_whose_key_is_gone() {
    let source = steady();
    let (cache, _guard, one) = one(&source);
    cache.token(&one, Duration::ZERO).await.unwrap();
    let _found = recalled(&cache, &one).unwrap();
    cache.adopt(one.edition.next(), std::iter::empty());
    let missing = cache.find(&one, Duration::ZERO, &NOBODY).await;
    assert_eq!(missing.unwrap_err(), Missing::Outdated);
}
