//! `token-broker config`: checks a configuration, or shows an example of one.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;

use super::{
    exit::{EXIT_CODES, failed},
    output::Output,
};
use crate::{
    app::{self, StartError},
    config::{Config, EXAMPLE, Protection},
};

/// The arguments of `config`.
#[derive(Clone, Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Report every mistake in a configuration, with its line and what to write instead
    ///
    /// The certificates, keys and credentials that it names are looked at too. With
    /// mistakes in it the command has failed.
    #[command(after_help = EXIT_CODES)]
    Check {
        /// The configuration file
        file: PathBuf,
        /// What to print: a line for each mistake, or JSON with their lines and columns
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
        output: Output,
    },
    /// Print a commented configuration that shows every key
    #[command(after_help = EXIT_CODES)]
    Example,
}

/// Runs `config`.
pub fn run(args: ConfigArgs) -> ExitCode {
    match report(args, &mut io::stdout().lock(), &mut io::stderr().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(format_args!("cannot write the report: {error}")),
    }
}

/// Whether there is nothing to mend.
fn report(args: ConfigArgs, out: &mut impl Write, err: &mut impl Write) -> io::Result<bool> {
    let (file, output) = match args.command {
        Command::Example => return out.write_all(EXAMPLE.as_bytes()).map(|()| true),
        Command::Check { file, output } => (file, output),
    };
    match (check(&file), output) {
        (Ok(config), Output::Text) => {
            let file = file.display();
            writeln!(out, "{file}: ok, {}", Count::of(&config)).map(|()| true)
        }
        (Err(error), Output::Text) => writeln!(err, "{error}").map(|()| false),
        (Ok(config), Output::Json) => {
            writeln!(out, "{}", Count::of(&config).json(&file)).map(|()| true)
        }
        (Err(error), Output::Json) => {
            writeln!(out, "{}", mistakes_json(&file, &error)).map(|()| false)
        }
    }
}

/// The configuration, if a broker would start with it.
fn check(file: &Path) -> Result<Config, StartError> {
    let config = Config::load(file)?;
    app::check(&config)?;
    Ok(config)
}

/// What a configuration holds.
struct Count {
    destinations: usize,
    applications: usize,
    grants: usize,
}

impl Count {
    fn of(config: &Config) -> Self {
        let applications =
            config
                .destinations
                .iter()
                .map(|destination| match &destination.protection {
                    Protection::Protected(protected) => protected.applications.len(),
                    Protection::Unprotected => 0,
                });
        let grants = config.destinations.iter().map(|d| d.grants.len());
        Self {
            destinations: config.destinations.len(),
            applications: applications.sum(),
            grants: grants.sum(),
        }
    }

    fn json(&self, file: &Path) -> serde_json::Value {
        json!({
            "file": file.display().to_string(),
            "ok": true,
            "destinations": self.destinations,
            "applications": self.applications,
            "grants": self.grants,
        })
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (count, noun, end) in [
            (self.destinations, "destination", ", "),
            (self.applications, "application", ", "),
            (self.grants, "grant", ""),
        ] {
            let plural = if count == 1 { "" } else { "s" };
            write!(f, "{count} {noun}{plural}{end}")?;
        }
        Ok(())
    }
}

fn mistakes_json(file: &Path, error: &StartError) -> serde_json::Value {
    let list: Vec<_> = match error {
        StartError::Config(mistakes) => mistakes
            .as_slice()
            .iter()
            .map(|mistake| {
                json!({
                    "line": mistake.at.map(|at| at.line),
                    "column": mistake.at.map(|at| at.column),
                    "message": mistake.message,
                })
            })
            .collect(),
        // Every line is right by itself; what they name does not go together.
        other => vec![json!({ "line": null, "column": null, "message": other.to_string() })],
    };
    json!({
        "file": file.display().to_string(),
        "ok": false,
        "mistakes": list,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::dev::Authority;
    use clap::Parser;
    use std::{fs, net::TcpListener};

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: ConfigArgs,
    }

    fn run_with(arguments: &[&str]) -> (bool, String, String) {
        let cli = Cli::try_parse_from([&["config"], arguments].concat()).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let ok = report(cli.args, &mut out, &mut err).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (ok, text(out), text(err))
    }

    fn write(text: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new().unwrap();
        let server = authority.server([127, 0, 0, 1].into()).unwrap();
        for (name, pem) in [
            ("ca.pem", authority.certificate()),
            ("server.pem", &server.certificate),
            ("server.key", server.key.expose()),
            (
                "other.key",
                authority.client("spiffe://td/a").unwrap().key.expose(),
            ),
        ] {
            fs::write(folder.path().join(name), pem).unwrap();
        }
        let file = folder.path().join("broker.toml");
        fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        (folder, file)
    }

    const GOOD: &str = r#"
[server]
cert = "server.pem"
key = "server.key"
client_ca = "ca.pem"
[[destination]]
id = "a"
unprotected = true
[[destination.grant]]
callers = ["spiffe://td/**"]
[[destination.grant]]
callers = ["cart.example"]
"#;

    #[test]
    fn a_good_configuration_is_counted() {
        let (_folder, file) = write(GOOD);
        let counted = format!("{file}: ok, 1 destination, 0 applications, 2 grants\n");
        assert_eq!(run_with(&["check", &file]), (true, counted, String::new()));
        let (ok, out, err) = run_with(&["check", &file, "--output", "json"]);
        assert!(ok && err.is_empty());
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["ok"], true);
        assert_eq!(json["grants"], 2);
    }

    #[test]
    fn a_key_that_is_not_that_of_the_certificate_is_found() {
        let (_folder, file) = write(&GOOD.replace("server.key", "other.key"));
        let (ok, out, err) = run_with(&["check", &file]);
        assert!(!ok && out.is_empty());
        assert!(
            err.contains("other.key is not the private key of the certificate in"),
            "{err}"
        );
        let (ok, out, _) = run_with(&["check", &file, "--output", "json"]);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!(!ok && json["mistakes"][0]["message"].is_string());
    }

    #[test]
    fn what_replicas_share_is_looked_at_without_a_connection() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        server.set_nonblocking(true).unwrap();
        let address = server.local_addr().unwrap();
        let shared = format!(
            "{GOOD}[shared_cache]\nserver = \"{address}\"\nsealing_keys = [\"shared.key\"]\n"
        );
        let (folder, file) = write(&shared);
        let key = format!("{}A=", "AB".repeat(21));
        fs::write(folder.path().join("shared.key"), key).unwrap();
        let (ok, _, err) = run_with(&["check", &file]);
        assert!(ok, "{err}");
        let nobody = server.accept().unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn mistakes_go_to_stderr_and_fail() {
        let (_folder, file) = write(&GOOD.replace("cert =", "certt ="));
        let expected = [
            format!("{file}:2:1: \"cert\" is missing in [server]: write cert = \"server.pem\"\n"),
            format!("{file}:3:1: unknown key \"certt\": write \"cert\"\n"),
            format!("{file}: 2 mistakes\n"),
        ];
        let (ok, out, err) = run_with(&["check", &file]);
        assert_eq!((ok, out, err), (false, String::new(), expected.concat()));
        let (ok, out, err) = run_with(&["check", &file, "--output", "json"]);
        assert!(!ok && err.is_empty());
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["mistakes"][1]["line"], 3);
        assert_eq!(json["mistakes"][1]["column"], 1);
        assert_eq!(json["mistakes"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn the_example_is_printed() {
        assert_eq!(
            run_with(&["example"]),
            (true, EXAMPLE.to_owned(), String::new())
        );
    }

    #[test]
    fn wrong_usage_is_told_from_a_wrong_configuration() {
        for arguments in [
            vec!["config"],
            vec!["config", "check"],
            vec!["config", "chek", "x"],
        ] {
            let error = Cli::try_parse_from(arguments).err().unwrap();
            assert_eq!(error.exit_code(), 2);
        }
    }
}
