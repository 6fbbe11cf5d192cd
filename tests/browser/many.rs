//! A thousand destinations.

use serde_json::json;
use token_broker::upstream::standin::Behaviour;
use tokio::time::Instant;

use crate::{
    desk::Desk,
    reader::Reader,
    trial::{ask, http},
};

const MANY: usize = 1000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium: tests/browser/run"]
async fn a_thousand_destinations_stay_usable() {
    let desk = Desk::with(MANY).await;
    let upstream = &desk.site.upstream;
    upstream.behave_for("d987", Some(Behaviour::status(401)));
    let mut cart = desk.cart().await;
    for n in 0..MANY {
        let asked = ask(&mut cart, &format!("d{n}")).await;
        assert_eq!(asked.is_ok(), n != 987, "d{n}");
    }
    let address = desk.app.http_address().unwrap();
    for path in ["/", "/?all=1"] {
        let began = Instant::now();
        let (_, page) = http(address, path).await.unwrap();
        let took = began.elapsed();
        println!("{path}: {} KiB in {took:?}", page.len() / 1024);
    }

    let mut reader = Reader::of(&format!("http://{address}"));
    reader.open("/");
    reader.until("#found", "The first 100 of 1001");
    // Whoever fails comes first, wherever it is in the file.
    let first = "document.querySelector('#rows > li').id";
    assert_eq!(reader.value(first), json!("d/d987/shop"));
    reader.picture("thousand");
    let rows = "document.querySelectorAll('#rows > li').length";
    assert_eq!(reader.value(rows), json!(100));
    reader.fill("#q", "d95");
    // d95, and d950 to d959.
    reader.until("#found", "11 found");
    assert_eq!(reader.value(rows), json!(11));
    reader.fill("#q", "");
    reader.until("#found", "The first 100 of 1001");
    reader.click("#found a");
    reader.until("[id=\"d/d999/shop\"]", "fresh");
    assert_eq!(reader.value(rows), json!(1001));
    // Each piece of news takes the browser less than the time until the next.
    let taking = "(async () => { const began = performance.now(); await look(); return performance.now() - began; })()";
    let took = reader.value(taking).as_f64().unwrap();
    println!("news of {MANY} destinations: {took:.0} ms");
    assert!(took < 2000.0, "{took} ms");
    reader.was_content(2);
}
