//! Feeds parsers with inputs that nobody thought of, in the ordinary test run.
//!
//! A [`Target`] is a parser together with what must hold whatever it is given. Inputs are
//! bytes, so that each can be a file: those in `tests/corpus/NAME` are tried first, then
//! random edits of them, and what the target's own strategy invents. A target tries 256
//! inputs, or goes on for `TOKEN_BROKER_FUZZ_SECONDS` where that is set:
//!
//! ```sh
//! TOKEN_BROKER_FUZZ_SECONDS=600 cargo test --lib fuzz:: -- --nocapture
//! ```
//!
//! An input that breaks a promise is made as small as possible and kept as a file, which
//! belongs into the corpus together with the mending.

use std::{
    cell::Cell,
    collections::hash_map::DefaultHasher,
    env, fmt, fs,
    hash::{Hash as _, Hasher as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestError, TestRunner},
};

/// How many inputs are tried when no time is set.
const CASES: u64 = 256;
const SECONDS: &str = "TOKEN_BROKER_FUZZ_SECONDS";

/// What trips many parsers, whatever they read.
const COMMON_WORDS: [&str; 16] = [
    "",
    "0",
    "-1",
    "2147483648",
    "9223372036854775808",
    "18446744073709551616",
    "1e999",
    " ",
    "\0",
    "\n",
    "\r\n",
    "\u{feff}",
    "\u{e9}",
    "..",
    "*",
    "%2f",
];

/// A parser to be fed.
pub(crate) struct Target {
    name: &'static str,
    corpus: Vec<Vec<u8>>,
    words: &'static [&'static str],
    inventions: BoxedStrategy<Vec<u8>>,
}

/// What one run came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    name: &'static str,
    seeds: usize,
    cases: u64,
    accepted: u64,
}

/// An input that breaks a promise.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    input: Vec<u8>,
    reason: String,
}

impl Target {
    /// The target whose corpus is `tests/corpus/NAME`.
    pub(crate) fn new(name: &'static str) -> Self {
        let folder = corpus_folder(name);
        let mut files: Vec<PathBuf> = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        Self {
            name,
            corpus: files.iter().map(|file| fs::read(file).unwrap()).collect(),
            words: &[],
            inventions: vec(any::<u8>(), 0..200).boxed(),
        }
    }

    /// One more input to begin with, which is a file elsewhere already.
    pub(crate) fn seed(mut self, input: &str) -> Self {
        self.corpus.push(input.into());
        self
    }

    /// Words that mean something to this parser.
    pub(crate) fn words(mut self, words: &'static [&'static str]) -> Self {
        self.words = words;
        self
    }

    /// Inputs that edits of the corpus would hardly come to.
    pub(crate) fn inventing<S>(mut self, inventions: S) -> Self
    where
        S: Strategy + 'static,
        S::Value: Into<Vec<u8>>,
    {
        self.inventions = inventions.prop_map(Into::into).boxed();
        self
    }

    /// Tries inputs, and panics at the first that breaks a promise. The property says
    /// whether the parser accepted its input, and panics if it should not have.
    pub(crate) fn holds(self, property: impl Fn(&[u8]) -> bool) {
        let verdicts: Vec<_> = self.corpus.iter().map(|input| property(input)).collect();
        assert!(
            verdicts.contains(&true) && verdicts.contains(&false),
            "{}: a corpus without an accepted and a refused input shows little: {verdicts:?}",
            self.name
        );
        let name = self.name;
        match self.run(&Budget::from_environment(), &property) {
            Ok(figures) => println!("{figures}"),
            Err(finding) => panic!("{}", finding.kept(name)),
        }
    }

    fn run(self, budget: &Budget, property: &dyn Fn(&[u8]) -> bool) -> Result<Figures, Finding> {
        let mut runner = TestRunner::new(Config {
            failure_persistence: None, // the corpus persists
            max_shrink_iters: 20_000,
            ..Config::default()
        });
        let mut figures = Figures {
            name: self.name,
            seeds: self.corpus.len(),
            ..Figures::default()
        };
        let strategy = prop_oneof![edited(self.corpus, self.words), self.inventions];
        while budget.allows(figures.cases) {
            let tree = strategy.new_tree(&mut runner).unwrap();
            let accepted = Cell::new(false);
            let tried = runner.run_one(tree, |input| {
                accepted.set(property(&input));
                Ok(())
            });
            figures.cases += 1;
            figures.accepted += u64::from(accepted.get());
            if let Err(TestError::Fail(reason, input)) = tried {
                let reason = reason.message().to_owned();
                return Err(Finding { input, reason });
            }
        }
        Ok(figures)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "fuzz {}: {} cases from {} seeds, {} accepted",
            self.name, self.cases, self.seeds, self.accepted
        )
    }
}

impl Finding {
    /// Writes the input to a file, and says how to keep it.
    fn kept(&self, name: &str) -> String {
        let mut hasher = DefaultHasher::new();
        self.input.hash(&mut hasher);
        let file = env::temp_dir().join(format!("{name}-{:016x}", hasher.finish()));
        let reason = &self.reason;
        let shown = self.input.escape_ascii();
        match fs::write(&file, &self.input) {
            Ok(()) => format!(
                "{name}: {reason}\nwith the input \"{shown}\"\nkeep it: mv {} {}/",
                file.display(),
                corpus_folder(name).display()
            ),
            Err(error) => {
                format!("{name}: {reason}\nwith the input \"{shown}\" (not kept: {error})")
            }
        }
    }
}

/// How long a target goes on.
enum Budget {
    Cases(u64),
    Until(Instant),
}

impl Budget {
    fn from_environment() -> Self {
        match env::var(SECONDS) {
            Err(_) => Self::Cases(CASES),
            Ok(seconds) => {
                let seconds = seconds
                    .parse()
                    .unwrap_or_else(|_| panic!("{SECONDS} must be a number of seconds"));
                Self::Until(Instant::now() + Duration::from_secs(seconds))
            }
        }
    }

    fn allows(&self, cases: u64) -> bool {
        match self {
            Self::Cases(most) => cases < *most,
            Self::Until(end) => Instant::now() < *end,
        }
    }
}

/// One change of an input; what lies outside of the input is left out.
#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u32),
    Cut(Index, usize),
    Repeat(Index, usize),
    Insert(Index, Vec<u8>),
    Overwrite(Index, Vec<u8>),
    /// From there on it is another input of the corpus.
    Graft(Index, Index, Index),
}

impl Edit {
    fn apply(&self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let place = |index: &Index| index.index(input.len() + 1);
        match self {
            Self::Flip(at, bit) => {
                let at = place(at);
                input
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|byte| *byte ^= 1 << bit);
            }
            Self::Cut(at, length) => {
                let at = place(at);
                input.drain(at..(at + length).min(input.len()));
            }
            Self::Repeat(at, length) => {
                let at = place(at);
                let part = input[at..(at + length).min(input.len())].to_vec();
                input.splice(at..at, part);
            }
            Self::Insert(at, piece) => {
                let at = place(at);
                input.splice(at..at, piece.iter().copied());
            }
            Self::Overwrite(at, piece) => {
                let at = place(at);
                input.splice(
                    at..(at + piece.len()).min(input.len()),
                    piece.iter().copied(),
                );
            }
            Self::Graft(at, other, from) => {
                let at = place(at);
                let other = other.get(corpus);
                input.truncate(at);
                input.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
    }
}

/// Inputs of the corpus with a few changes.
fn edited(corpus: Vec<Vec<u8>>, words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&str> = COMMON_WORDS.iter().chain(words).copied().collect();
    let piece = prop_oneof![
        1 => vec(any::<u8>(), 1..6),
        1 => "\\PC{1,4}".prop_map(String::into_bytes),
        4 => select(words).prop_map(|word| word.as_bytes().to_vec()),
    ];
    let at = any::<Index>;
    let edit = prop_oneof![
        (at(), 0..8_u32).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        (at(), 1..40_usize).prop_map(|(at, length)| Edit::Cut(at, length)),
        (at(), 1..200_usize).prop_map(|(at, length)| Edit::Repeat(at, length)),
        (at(), piece.clone()).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        (at(), piece).prop_map(|(at, piece)| Edit::Overwrite(at, piece)),
        (at(), at(), at()).prop_map(|(at, other, from)| Edit::Graft(at, other, from)),
    ];
    (select(corpus.clone()), vec(edit, 1..6)).prop_map(move |(mut input, edits)| {
        for edit in edits {
            edit.apply(&mut input, &corpus);
        }
        input
    })
}

fn corpus_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(name)
}

mod tests {
    use super::*;

    fn target() -> Target {
        Target {
            name: "itself",
            corpus: vec![b"good".to_vec(), b"bad".to_vec()],
            words: &["canary"],
            inventions: Just(b"invented".to_vec()).boxed(),
        }
    }

    #[test]
    fn a_target_tries_as_many_inputs_as_it_may() {
        let seen = Cell::new(0);
        let property = |input: &[u8]| {
            seen.set(seen.get() + 1);
            input == b"invented"
        };
        let figures = target().run(&Budget::Cases(500), &property).unwrap();
        assert_eq!((figures.cases, seen.get(), figures.seeds), (500, 500, 2));
        assert!((100..400).contains(&figures.accepted), "{figures}");
    }

    #[test]
    fn an_input_that_breaks_a_promise_is_made_small_and_kept() {
        let property = |input: &[u8]| {
            let broken = input.windows(6).any(|part| part == b"canary");
            assert!(!broken, "a bird");
            true
        };
        let findings = (0..3).map(|_| target().run(&Budget::Cases(10_000), &property).unwrap_err());
        // How it shrinks is drawn at random, and one of them may end early.
        let finding = findings.min_by_key(|finding| finding.input.len()).unwrap();
        assert!(finding.input.len() <= 10, "{finding:?}");
        let shown = finding.kept("itself");
        let file = shown
            .split_once("mv ")
            .unwrap()
            .1
            .split(' ')
            .next()
            .unwrap();
        assert_eq!(fs::read(file).unwrap(), finding.input);
        assert!(shown.starts_with("itself: a bird\n"), "{shown}");
        fs::remove_file(file).unwrap();
    }
}
