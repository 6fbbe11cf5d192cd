//! `token-broker audit`: reads audit files back.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use super::exit::{EXIT_CODES, failed};
use crate::audit::verify::{End, Verifier, Whole};

/// The arguments of `audit`.
#[derive(Clone, Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Check that no record was changed, removed or put elsewhere since it was written
    ///
    /// The files are those of one sink, in the order in which they were written, the last
    /// one closed. It fails with the first record that is not as it should be. Whoever can
    /// replace all files can also replace them by others that pass: keep a copy, or the
    /// last hash, where the broker's machine cannot reach it.
    #[command(after_help = EXIT_CODES)]
    Verify {
        /// The audit files, the oldest first
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The broker still writes the last file, so it need not be closed
        #[arg(long)]
        open: bool,
    },
}

/// Runs `audit`.
pub fn run(args: AuditArgs) -> ExitCode {
    let Command::Verify { files, open } = args.command;
    match verify(&files, open, &mut io::stdout().lock()) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(broken)) => {
            eprintln!("{broken}");
            ExitCode::FAILURE
        }
        Err(error) => failed(format_args!("cannot write the report: {error}")),
    }
}

/// The first thing that is wrong.
fn verify(files: &[PathBuf], open: bool, out: &mut impl Write) -> io::Result<Option<String>> {
    let mut verifier = Verifier::default();
    for file in files {
        match verifier.read(file) {
            Ok(whole) => writeln!(out, "{}: {}", file.display(), shown(&whole))?,
            Err(broken) => return Ok(Some(broken.to_string())),
        }
    }
    Ok(verifier.finish(open).err().map(|broken| broken.to_string()))
}

fn shown(whole: &Whole) -> String {
    let Whole {
        records,
        first,
        last,
        missed,
        end,
    } = whole;
    let plural = if *records == 1 { "" } else { "s" };
    let gaps = match missed {
        0 => String::new(),
        missed => format!("{missed} missed while the sink failed, "),
    };
    let end = match end {
        End::Closed => "closed",
        End::Open => "open",
        End::Torn => "torn",
    };
    format!("{records} record{plural}, seq {first} to {last}, {gaps}{end}")
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc, time::Duration};

    use super::*;
    use crate::{
        audit::{Act, Audit, Event, OnFailure, Settings},
        metrics::Metrics,
    };

    fn report(files: &[PathBuf], open: bool) -> (String, Option<String>) {
        let mut out = Vec::new();
        let broken = verify(files, open, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), broken)
    }

    #[tokio::test]
    async fn whole_files_are_counted_and_the_first_fault_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let settings = Settings {
            file: Some(file.clone()),
            stdout: false,
            max_file_size: 1024 * 1024,
            stall_timeout: Duration::from_secs(30),
            on_failure: OnFailure::Refuse,
        };
        let audit = Audit::start(&settings, &Arc::new(Metrics::new())).unwrap();
        let event = Event::Act(Act {
            administrator: "spiffe://td/admin",
            act: "reload",
            destination: None,
            application: None,
            comment: None,
            outcome: "ok",
            request_id: "r",
        });
        audit.record(&event).await.unwrap();
        let (name, files) = (file.display().to_string(), [file.clone()]);
        let open = format!("{name}: 2 records, seq 1 to 2, open\n");
        assert_eq!(report(&files, true), (open.clone(), None));
        let (told, broken) = report(&files, false);
        assert_eq!(told, open);
        let expected = format!("{name}:2: seq 2: is not closed");
        assert!(broken.unwrap().starts_with(&expected));

        audit.close(Duration::from_secs(30)).await;
        let closed = format!("{name}: 3 records, seq 1 to 3, closed\n");
        assert_eq!(report(&files, false), (closed, None));
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("reload", "refresh")).unwrap();
        let changed = "was changed, or the record before it was: the hash differs";
        let expected = format!("{name}:2: seq 2: {changed}");
        assert_eq!(report(&files, false), (String::new(), Some(expected)));
    }
}
