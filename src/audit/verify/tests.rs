//! Whatever is done to a file is found.

use std::io::Cursor;

use super::{super::event::Mark, *};

/// The lines of files, each as the kinds of its records. `close` ends a file.
fn files(kinds: &[&[&str]]) -> Vec<Vec<u8>> {
    let mut chain = Chain::default();
    let file = |kinds: &&[&str]| {
        let mut out = Vec::new();
        for kind in *kinds {
            let previous = chain.previous().map(|hash| hash.to_string());
            let open = |unclean| Mark::Open {
                previous: previous.as_deref(),
                unclean,
            };
            let body = match *kind {
                "open" => open(false).body(),
                "unclean" => open(true).body(),
                "close" => Mark::Close { reason: "stop" }.body(),
                "gap" => Mark::Gap { missed: 5 }.body(),
                kind => format!(r#""time":"2026-11-24T14:00:00.000Z","kind":"{kind}""#),
            };
            chain.seal(&body, &mut out);
        }
        out
    };
    kinds.iter().map(file).collect()
}

/// A closed file of ten records.
fn ten() -> Vec<u8> {
    let events = ["token"; 8];
    let kinds = [&["open"][..], &events, &["close"]].concat();
    files(&[&kinds]).remove(0)
}

fn lines(file: &[u8]) -> Vec<Vec<u8>> {
    file.split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

fn verify<F: AsRef<[u8]>>(files: &[F], still_written: bool) -> Result<Vec<Whole>, String> {
    let mut verifier = Verifier::default();
    let mut wholes = Vec::new();
    for (n, file) in files.iter().enumerate() {
        let name = PathBuf::from(format!("f{n}"));
        let whole = verifier.read_lines(&name, Cursor::new(file.as_ref()));
        wholes.push(whole.map_err(|broken| broken.to_string())?);
    }
    let finished = verifier.finish(still_written);
    finished.map_err(|broken| broken.to_string())?;
    Ok(wholes)
}

#[test]
fn a_whole_file_is_counted() {
    let whole = |records, first, last, missed, end| Whole {
        records,
        first,
        last,
        missed,
        end,
    };
    assert_eq!(
        verify(&[ten()], false).unwrap(),
        [whole(10, 1, 10, 0, End::Closed)]
    );
    let restarted = files(&[
        &["open", "token", "close", "open", "gap", "mint", "close"],
        &["open", "act"],
    ]);
    assert_eq!(
        verify(&restarted, true).unwrap(),
        [whole(7, 1, 7, 5, End::Closed), whole(2, 8, 9, 0, End::Open)]
    );
}

#[test]
fn a_cut_at_any_byte_is_found_unless_the_broker_may_still_write() {
    let file = ten();
    for cut in 0..file.len() {
        let rest = &file[..cut];
        assert!(verify(&[rest], false).is_err(), "cut at {cut}");
        let between = rest.ends_with(b"\n");
        assert_eq!(verify(&[rest], true).is_ok(), between, "cut at {cut}");
    }
    assert!(verify(&[file], false).is_ok());
}

#[test]
fn an_edit_of_any_byte_is_found() {
    let file = ten();
    for at in 0..file.len() {
        let byte = file[at];
        for other in [
            byte ^ 1,
            byte ^ 0x20,
            byte.wrapping_add(1),
            b'\n',
            b'"',
            0,
            255,
        ] {
            if other == byte {
                continue;
            }
            let mut edited = file.clone();
            edited[at] = other;
            for still_written in [false, true] {
                let found = verify(&[&edited], still_written);
                assert!(found.is_err(), "byte {at} from {byte} to {other}");
            }
        }
    }
}

#[test]
fn a_byte_more_or_less_is_found() {
    let file = ten();
    for at in 0..file.len() {
        let mut more = file.clone();
        more.insert(at, b'7');
        assert!(verify(&[more], true).is_err(), "one more at {at}");
        let mut less = file.clone();
        less.remove(at);
        assert!(verify(&[less], true).is_err(), "one less at {at}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let file = lines(&ten());
    let changed = |at: usize, from: &str, to: &str| {
        let mut lines = file.clone();
        let text = String::from_utf8(lines[at].clone()).unwrap();
        lines[at] = text.replacen(from, to, 1).into_bytes();
        lines.concat()
    };
    let rearranged = |order: &[usize]| {
        let lines: Vec<_> = order.iter().map(|at| file[*at].clone()).collect();
        lines.concat()
    };
    for (case, expected) in [
        (
            changed(4, "token", "mint"),
            "f0:5: seq 5: was changed, or the record before it was: the hash differs",
        ),
        (
            rearranged(&[0, 1, 2, 4, 5, 6, 7, 8, 9]),
            "f0:4: seq 5: records are missing before it: 4 was expected",
        ),
        (
            rearranged(&[0, 1, 3, 2, 4, 5, 6, 7, 8, 9]),
            "f0:3: seq 4: records are missing before it: 3 was expected",
        ),
        (
            rearranged(&[0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9]),
            "f0:4: seq 3: is out of order, or there twice: 4 was expected",
        ),
        (
            rearranged(&[0, 1, 2, 1, 3, 4, 5, 6, 7, 8, 9]),
            "f0:4: seq 2: is out of order, or there twice: 4 was expected",
        ),
        (
            rearranged(&[1, 2, 3, 4, 5, 6, 7, 8, 9]),
            "f0:1: seq 2: is not what a file begins with",
        ),
        (
            rearranged(&[0, 1, 2, 3, 4, 5, 6, 7, 8]),
            "f0:9: seq 9: is not closed: the broker still writes the file, was killed, or the end was cut off",
        ),
        (changed(9, "\n", ""), "f0:10: is torn: the line has no end"),
        (changed(3, "{", "["), "f0:4: is not a record"),
        (Vec::new(), "f0:1: is empty"),
        (b"\n".to_vec(), "f0:1: is not a record"),
        (vec![b'x'; 70_000], "f0:1: is not a record"),
        (vec![0xff; 100], "f0:1: is torn: the line has no end"),
    ] {
        assert_eq!(verify(&[case], false).unwrap_err(), expected);
    }
}

#[test]
fn a_file_goes_on_where_the_last_one_ended() {
    let closed: [&[&str]; 3] = [
        &["open", "token", "close"],
        &["open", "token", "close"],
        &["open", "token", "close"],
    ];
    let [one, two, three] = files(&closed).try_into().unwrap();
    assert!(verify(&[&one, &two, &three], false).is_ok());
    // Files may be taken away from the front, not from the middle, and not be exchanged.
    assert_eq!(verify(&[&two, &three], false).unwrap()[0].first, 4);
    let discontinued = "f1:1: seq 7: does not continue the previous file";
    assert_eq!(verify(&[&one, &three], false).unwrap_err(), discontinued);
    assert!(verify(&[&two, &one, &three], false).is_err());
    assert!(verify(&[&one, &one], false).is_err());
    // Nor is a cut of a file that is not the last one hidden by the next.
    for cut in 0..one.len() {
        assert!(verify(&[&one[..cut], &two], true).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_file_that_was_not_closed_is_vouched_for_by_the_next() {
    let killed: [&[&str]; 2] = [&["open", "token"], &["unclean", "token", "close"]];
    let [one, two] = files(&killed).try_into().unwrap();
    assert!(verify(&[&one, &two], false).is_ok());
    let torn = [&one, &b"{\"seq\":3,\"ti"[..]].concat();
    assert_eq!(verify(&[&torn, &two], false).unwrap()[0].end, End::Torn);
    assert!(verify(&[&torn], true).is_err());

    // A torn line is no excuse where the next file does not know of it.
    let quiet: [&[&str]; 2] = [&["open", "token"], &["open", "token", "close"]];
    let [one, two] = files(&quiet).try_into().unwrap();
    let torn = [&one, &b"{"[..]].concat();
    assert!(verify(&[&one, &two], false).is_ok());
    assert!(verify(&[&torn, &two], false).is_err());
}

#[test]
fn nothing_follows_the_end_of_a_file_but_its_beginning() {
    for (kinds, expected) in [
        (
            &["open", "close", "token", "close"][..],
            "f0:3: seq 3: follows the end of the file",
        ),
        (
            &["open", "open", "close"],
            "f0:2: seq 2: was opened again without having been closed",
        ),
    ] {
        assert_eq!(verify(&files(&[kinds]), false).unwrap_err(), expected);
    }
}

#[test]
fn folders_and_missing_files_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("none")] {
        let broken = Verifier::default().read(&path).unwrap_err();
        assert!(matches!(broken.fault, Fault::Unreadable(_)), "{broken}");
    }
}
