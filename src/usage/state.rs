//! The file in which usage and quarantines outlive the process.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{
    Quarantine, SharedQuarantine, Stamp,
    ledger::{GrantName, Ledger, Mark},
    quarantine::{millis, of_millis},
};
use crate::{
    destination::{ApplicationName, DestinationId},
    small_file::{self, FileError},
    whole_file::{WholeFile, WriteError},
};

/// Says what the file is, to people and to the next broker.
const FORMAT: &str = "token-broker state";
/// The version that is written. The first one knew no releases, and nothing of the moment of a
/// stop below its second.
const VERSION: u32 = 2;
/// The oldest version that is read.
const OLDEST: u32 = 1;
/// The largest state file, in bytes: some hundred thousand grants.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// How long another writer to the same folder is waited for.
const PATIENCE: Duration = Duration::from_millis(300);

/// What a broker remembers over a restart.
#[derive(Debug, Default)]
pub struct State {
    /// When everything was used last.
    pub ledger: Ledger,
    /// What is stopped, and what was released.
    pub quarantines: Vec<SharedQuarantine>,
}

/// The file itself.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// What it holds, as far as is known. One writer at a time, so that an older state never
    /// replaces a newer one.
    holds: Mutex<Option<Vec<u8>>>,
}

/// Why a state file cannot be used. The file is as it was.
#[derive(Debug, thiserror::Error)]
#[error("the state file {}: {source}", .file.display())]
pub struct StateError {
    file: PathBuf,
    source: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("it {0}")]
    File(#[from] FileError),
    #[error(
        "it holds no state of a token broker, or not all of it: starting without it would end quarantines, so restore it, or move it away"
    )]
    Foreign,
    #[error(
        "it is of version {0}, and this broker reads versions {OLDEST} to {VERSION}: starting without it would end quarantines, so start the broker that wrote it, or move it away"
    )]
    Version(u32),
    #[error("it {0}")]
    Unwritten(#[from] WriteError),
    #[error(
        "somebody else has written it, and what they wrote stays: give each broker a file of its own, and start this one again"
    )]
    Taken,
}

/// The file as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    version: u32,
    quarantines: Vec<WrittenQuarantine>,
    #[serde(default)]
    releases: Vec<WrittenRelease>,
    grants: Vec<WrittenGrant>,
    credentials: Vec<WrittenCredential>,
}

/// What every version of the file begins with.
#[derive(Deserialize)]
struct Header {
    format: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenQuarantine {
    destination: String,
    /// Not written where all of them are stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    application: Option<String>,
    since: Stamp,
    /// When it was told to other replicas, in milliseconds; the first version has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<u64>,
    administrator: String,
    comment: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRelease {
    destination: String,
    /// Not written where all of them were released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    application: Option<String>,
    /// In milliseconds.
    at: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGrant {
    grant: WrittenName,
    known_since: Stamp,
    last_used: Option<Stamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenName {
    destination: String,
    callers: String,
    application: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCredential {
    credential: String,
    known_since: Stamp,
    last_used: Option<Stamp>,
}

impl StateFile {
    /// Reads a file; nothing is remembered where there is none yet.
    ///
    /// # Errors
    /// [`StateError`] for a file that is not whole, of another kind or of another version.
    pub fn open(path: &Path) -> Result<(Self, State), StateError> {
        let named = |source| StateError {
            file: path.to_owned(),
            source,
        };
        let (state, holds) = match small_file::read(path, MAX_FILE) {
            Ok(bytes) => (decode(&bytes).map_err(named)?, Some(bytes.to_vec())),
            Err(FileError::Missing) => (State::default(), None),
            Err(error) => return Err(named(error.into())),
        };
        let file = Self {
            path: path.to_owned(),
            holds: Mutex::new(holds),
        };
        Ok((file, state))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what is remembered, if that is not what the file holds. It blocks the thread.
    /// It is taken up when it is this writer's turn, so that the newest one stays.
    ///
    /// # Errors
    /// [`StateError`]; the file is then as it was before.
    pub fn write(
        &self,
        state: impl FnOnce() -> (Arc<Ledger>, Vec<SharedQuarantine>),
    ) -> Result<(), StateError> {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        let (ledger, quarantines) = state();
        let bytes = encode(&ledger, quarantines);
        if holds.as_ref() == Some(&bytes) {
            return Ok(());
        }
        let written = self.replace(holds.as_deref(), &bytes);
        written.map_err(|source| StateError {
            file: self.path.clone(),
            source,
        })?;
        *holds = Some(bytes);
        Ok(())
    }

    /// Replaces what the file holds, unless that is not what it held before: another broker
    /// would lose its quarantines.
    fn replace(&self, held: Option<&[u8]>, bytes: &[u8]) -> Result<(), Problem> {
        let file = WholeFile::lock(&self.path, PATIENCE)?;
        match small_file::read(&self.path, MAX_FILE) {
            Ok(there) if held != Some(&there[..]) => return Err(Problem::Taken),
            // Whoever moved it away wants another one.
            Ok(_) | Err(FileError::Missing) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(file.write(bytes)?)
    }
}

fn encode(ledger: &Ledger, acts: Vec<SharedQuarantine>) -> Vec<u8> {
    let grants = ledger.grants().map(|(grant, mark)| WrittenGrant {
        grant: WrittenName {
            destination: grant.destination.to_string(),
            callers: grant.callers.to_string(),
            application: grant.application.as_deref().map(str::to_owned),
        },
        known_since: mark.known_since(),
        last_used: mark.last_used(),
    });
    let credentials = ledger.credentials();
    let credentials = credentials.map(|(credential, mark)| WrittenCredential {
        credential: credential.to_owned(),
        known_since: mark.known_since(),
        last_used: mark.last_used(),
    });
    let (mut quarantines, mut releases) = (Vec::new(), Vec::new());
    for act in acts {
        match act.quarantine {
            Some(quarantine) => quarantines.push(written(quarantine, act.at)),
            None => releases.push(WrittenRelease {
                destination: act.destination.to_string(),
                application: act.application.map(|name| name.to_string()),
                at: millis(act.at),
            }),
        }
    }
    let written = Written {
        format: FORMAT.to_owned(),
        version: VERSION,
        quarantines,
        releases,
        grants: grants.collect(),
        credentials: credentials.collect(),
    };
    // There is nothing in it that JSON cannot say.
    let mut bytes = serde_json::to_vec_pretty(&written).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn decode(bytes: &[u8]) -> Result<State, Problem> {
    let header: Header = serde_json::from_slice(bytes).map_err(|_| Problem::Foreign)?;
    if header.format != FORMAT {
        return Err(Problem::Foreign);
    }
    if !(OLDEST..=VERSION).contains(&header.version) {
        return Err(Problem::Version(header.version));
    }
    let written: Written = serde_json::from_slice(bytes).map_err(|_| Problem::Foreign)?;
    let grants = written.grants.into_iter().map(|written| {
        let name = GrantName {
            destination: written.grant.destination.into(),
            callers: written.grant.callers.into(),
            application: written.grant.application.map(Arc::from),
        };
        (name, Mark::of(written.known_since, written.last_used))
    });
    let credentials = written.credentials.into_iter().map(|written| {
        let mark = Mark::of(written.known_since, written.last_used);
        (written.credential.into(), mark)
    });
    let ledger = Ledger::restored(grants, credentials);
    let quarantines = written.quarantines.into_iter().map(read_quarantine);
    let releases = written.releases.into_iter().map(read_release);
    let quarantines: Option<_> = quarantines.chain(releases).collect();
    Ok(State {
        ledger,
        quarantines: quarantines.ok_or(Problem::Foreign)?,
    })
}

fn written(quarantine: Quarantine, at: SystemTime) -> WrittenQuarantine {
    WrittenQuarantine {
        destination: quarantine.destination.to_string(),
        application: quarantine.application.map(|name| name.to_string()),
        since: quarantine.since,
        at: Some(millis(at)),
        administrator: quarantine.administrator,
        comment: quarantine.comment,
    }
}

fn read_quarantine(written: WrittenQuarantine) -> Option<SharedQuarantine> {
    let (destination, application) = read_names(&written.destination, written.application)?;
    let WrittenQuarantine {
        since,
        at,
        administrator,
        comment,
        ..
    } = written;
    Some(SharedQuarantine {
        at: at.map_or(Some(since.wall()), of_millis)?,
        quarantine: Some(Quarantine {
            destination: destination.clone(),
            application: application.clone(),
            since,
            administrator,
            comment,
        }),
        destination,
        application,
    })
}

fn read_release(written: WrittenRelease) -> Option<SharedQuarantine> {
    let (destination, application) = read_names(&written.destination, written.application)?;
    Some(SharedQuarantine {
        destination,
        application,
        at: of_millis(written.at)?,
        quarantine: None,
    })
}

fn read_names(
    destination: &str,
    application: Option<String>,
) -> Option<(DestinationId, Option<ApplicationName>)> {
    let destination = DestinationId::parse(destination).ok()?;
    let application = application.map(|name| ApplicationName::parse(&name));
    Some((destination, application.transpose().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn quarantine() -> SharedQuarantine {
        stop(Some("shop"))
    }

    fn stop(application: Option<&str>) -> SharedQuarantine {
        let release = release(application);
        SharedQuarantine {
            at: of_millis(7_123).unwrap(),
            quarantine: Some(Quarantine {
                destination: release.destination.clone(),
                application: release.application.clone(),
                since: Stamp(7),
                administrator: "spiffe://td/ops".to_owned(),
                comment: "leaked: \"ä\"\n".to_owned(),
            }),
            ..release
        }
    }

    fn release(application: Option<&str>) -> SharedQuarantine {
        SharedQuarantine {
            destination: DestinationId::parse("d").unwrap(),
            application: application.map(|name| ApplicationName::parse(name).unwrap()),
            at: of_millis(9_876).unwrap(),
            quarantine: None,
        }
    }

    fn ledger() -> Arc<Ledger> {
        let grants = [
            ("spiffe://td/a", Some("shop"), Some(Stamp(9))),
            ("spiffe://td/*", None, None),
        ];
        let grants = grants.map(|(callers, application, last)| {
            let name = GrantName {
                destination: "d".into(),
                callers: callers.into(),
                application: application.map(Arc::from),
            };
            (name, Mark::of(Stamp(5), last))
        });
        let credentials = [("file:shop".into(), Mark::of(Stamp(5), Some(Stamp(9))))];
        let ledger = Ledger::restored(grants, credentials);
        Arc::new(ledger)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let (file, empty) = StateFile::open(&path).unwrap();
        assert!(empty.quarantines.is_empty() && empty.ledger.grants().next().is_none());
        file.write(|| (ledger(), vec![quarantine()])).unwrap();
        let written = fs::read(&path).unwrap();

        let (file, state) = StateFile::open(&path).unwrap();
        assert_eq!(state.quarantines, [quarantine()]);
        assert_eq!(encode(&state.ledger, state.quarantines), written);
        // What the file holds already is not written again.
        fs::remove_file(&path).unwrap();
        file.write(|| (ledger(), vec![quarantine()])).unwrap();
        assert!(!path.exists());
        file.write(|| (ledger(), Vec::new())).unwrap();
        assert_eq!(fs::read(&path).unwrap(), encode(&ledger(), Vec::new()));
        let acts = vec![
            stop(None),
            quarantine(),
            release(None),
            release(Some("depot")),
        ];
        file.write(|| (ledger(), acts.clone())).unwrap();
        let (_, state) = StateFile::open(&path).unwrap();
        assert_eq!(state.quarantines, acts);
    }

    #[test]
    fn the_first_version_is_read_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let whole = encode(&ledger(), vec![stop(None), quarantine()]);
        let whole = String::from_utf8(whole).unwrap();
        let first = whole
            .replace("\"version\": 2", "\"version\": 1")
            .replace("  \"releases\": [],\n", "")
            .replace("      \"at\": 7123,\n", "");
        assert!(!first.contains("\"at\"") && !first.contains("releases"));
        fs::write(&path, &first).unwrap();
        let (file, state) = StateFile::open(&path).unwrap();
        let whole_seconds = |act| SharedQuarantine {
            at: Stamp(7).wall(),
            ..act
        };
        let expected = [stop(None), quarantine()].map(whole_seconds);
        assert_eq!(state.quarantines, expected);
        file.write(|| (ledger(), state.quarantines)).unwrap();
        let second = fs::read_to_string(&path).unwrap();
        assert!(second.contains("\"version\": 2"), "{second}");
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused_by_name_or_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let whole = encode(&ledger(), vec![quarantine(), release(None)]);
        let mut read = 0;
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            match StateFile::open(&path) {
                Ok((_, state)) => {
                    read += 1;
                    assert_eq!(
                        encode(&state.ledger, state.quarantines),
                        whole,
                        "cut at {cut}"
                    );
                }
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("state.json: it holds no state"), "{error}");
                }
            }
            assert_eq!(fs::read(&path).unwrap(), whole[..cut], "it is left alone");
        }
        assert_eq!(read, 2, "all of it, with or without the last line's end");
    }

    #[test]
    fn a_foreign_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let whole = String::from_utf8(encode(&ledger(), vec![quarantine()])).unwrap();
        for (content, expected) in [
            ("{}".to_owned(), "holds no state"),
            ("[server]".to_owned(), "holds no state"),
            (
                whole.replace("token-broker state", "other"),
                "holds no state",
            ),
            (
                whole.replace("\"since\": 7", "\"since\": -7"),
                "holds no state",
            ),
            (whole.replace("\"since\"", "\"sins\""), "holds no state"),
            (whole.replace("\"shop\"", "\"sh op\""), "holds no state"),
            (
                whole.replace("\"version\": 2", "\"version\": 3"),
                "of version 3",
            ),
            (
                r#"{"format":"token-broker state","version":9,"more":[]}"#.to_owned(),
                "of version 9",
            ),
        ] {
            fs::write(&path, &content).unwrap();
            let error = StateFile::open(&path).unwrap_err().to_string();
            assert!(
                error.starts_with("the state file /") && error.contains(expected),
                "{error}"
            );
        }
        let error = StateFile::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is not a regular file"), "{error}");
    }

    #[test]
    fn what_another_broker_wrote_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let [(old, _), (new, _)] = [&path, &path].map(|path| StateFile::open(path).unwrap());
        old.write(|| (ledger(), Vec::new())).unwrap();
        // The second one knew of no file when it was started.
        let error = new.write(|| (ledger(), vec![quarantine()])).unwrap_err();
        assert!(error.to_string().contains("somebody else has written it"));

        let (new, _) = StateFile::open(&path).unwrap();
        new.write(|| (ledger(), vec![quarantine()])).unwrap();
        let error = old.write(|| (Arc::default(), Vec::new())).unwrap_err();
        assert!(error.to_string().contains("somebody else has written it"));
        let (_, state) = StateFile::open(&path).unwrap();
        assert_eq!(state.quarantines, [quarantine()]);

        // Who moved it away wants another one.
        fs::remove_file(&path).unwrap();
        old.write(|| (Arc::default(), Vec::new())).unwrap();
        let expected = encode(&Ledger::default(), Vec::new());
        assert_eq!(fs::read(&path).unwrap(), expected);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let (file, _) = StateFile::open(&path).unwrap();
        let _other = WholeFile::lock(&path, Duration::ZERO).unwrap();
        let error = file.write(|| (ledger(), Vec::new())).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("state.json: it is being written"), "{error}");
    }
}
