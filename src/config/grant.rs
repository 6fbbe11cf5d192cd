//! `[[destination.grant]]`: who may have a destination's tokens.

use super::{
    application::Drafts,
    reader::Section,
    suggestion::{instead_of, quoted},
    values,
};
use crate::{destination::ApplicationName, policy::CallerPattern};

/// These callers may have a token of this application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who is meant; never empty.
    pub callers: Vec<CallerPattern>,
    /// One of the destination's applications; `None` exactly when it is unprotected.
    pub application: Option<ApplicationName>,
}

impl Grant {
    /// Reads a grant; `applications` is `None` for an unprotected destination.
    pub(super) fn read(section: Section<'_>, applications: Option<&Drafts>) -> Self {
        let example = "[\"spiffe://trust-domain/path/*\"]";
        let callers = section.required_list("callers", example, values::pattern);
        let named = section.optional("application", values::application_name);
        let application = match applications {
            None => {
                if section.has("application") {
                    let problem = "must not be there, because the destination is unprotected";
                    section.report("application", problem);
                }
                None
            }
            Some(applications) => application(&section, named, applications),
        };
        section.finish();
        Self {
            callers,
            application,
        }
    }
}

/// The application that a grant means.
fn application(
    section: &Section<'_>,
    named: Option<ApplicationName>,
    applications: &Drafts,
) -> Option<ApplicationName> {
    let names = applications.names()?;
    let Some(named) = named else {
        return match names.as_slice() {
            _ if section.has("application") => None,
            // That there is none is reported once, not at each grant.
            [] => None,
            [only] => Some((*only).clone()),
            [first, ..] => {
                section.report_missing(
                    "application",
                    &format!("\"{first}\" or another of its applications"),
                );
                None
            }
        };
    };
    if !names.contains(&&named) {
        let known: Vec<_> = names.iter().map(|name| name.as_str()).collect();
        let problem = format!(
            "names {}, which is no application of this destination: {}",
            quoted(named.as_str()),
            instead_of(named.as_str(), &known)
        );
        section.report("application", &problem);
    }
    Some(named)
}
