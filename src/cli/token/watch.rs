//! `token-broker token watch`: each token of a destination, as soon as there is one.

use std::io;

use clap::Args;
use serde::Serialize;

use super::{TokenError, print};
use crate::{
    cli::{
        connection::{ConnectionArgs, Missing},
        output::Output,
        signal::Signals,
    },
    client::{News, Refusal, Settings, Watching},
    clock::whole_seconds,
};

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// The id, or the configured name, of the destination
    destination: String,
    /// What to print: the token alone, or JSON with its type, its id and its expiry too
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    connection: ConnectionArgs,
}

impl WatchArgs {
    /// The watch that they ask for.
    pub(super) fn begin(self) -> Result<Watch, Missing> {
        let patience = self.connection.timeout;
        let settings = self.connection.settings()?;
        Ok(Watch {
            watching: Watching::new(settings.clone(), &self.destination, patience),
            settings,
            output: self.output,
            printed: None,
            trouble: None,
        })
    }
}

/// A watch, and what it has told.
pub(super) struct Watch {
    settings: Settings,
    watching: Watching,
    output: Output,
    /// The id of the last token.
    printed: Option<String>,
    /// The reason why there has been none since.
    trouble: Option<String>,
}

/// What is printed in JSON about there being no token.
#[derive(Serialize)]
struct TroubleJson<'a> {
    reason: &'a str,
    message: &'a str,
    /// In seconds, rounded up.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_in: Option<u64>,
}

impl Watch {
    /// Prints until it is interrupted, or until somebody has to act.
    pub(super) async fn run(mut self) -> Result<(), TokenError> {
        // Files may be missing for a moment later on, but not from the beginning.
        self.settings.check()?;
        let stop = Signals::listen().stop_requested(|| ());
        tokio::pin!(stop);
        loop {
            let news = tokio::select! {
                () = &mut stop => return Ok(()),
                news = self.watching.next() => news,
            };
            self.tell(news)?;
        }
    }

    fn tell(&mut self, news: News) -> Result<(), TokenError> {
        match news {
            News::Token(token) => {
                self.trouble = None;
                // After a new connection the broker begins with the token that it has.
                if self.printed.as_ref() != Some(&token.id) {
                    print(&token, self.output, io::stdout().lock())?;
                    self.printed = Some(token.id);
                }
            }
            News::Lost(refusal) if refusal.needs_action => {
                return Err(TokenError::Refused(refusal));
            }
            News::Unavailable(refusal) | News::Lost(refusal) => {
                if self.trouble.as_ref() != Some(&refusal.reason) {
                    self.warn(&refusal)?;
                    self.trouble = Some(refusal.reason);
                }
            }
        }
        Ok(())
    }

    fn warn(&self, refusal: &Refusal) -> Result<(), TokenError> {
        match self.output {
            Output::Text => eprintln!("{refusal}"),
            Output::Json => {
                let json = TroubleJson {
                    reason: &refusal.reason,
                    message: &refusal.message,
                    retry_in: refusal.retry_in.map(whole_seconds),
                };
                let line = serde_json::to_string(&json).map_err(io::Error::from)?;
                eprintln!("{line}");
            }
        }
        Ok(())
    }
}
