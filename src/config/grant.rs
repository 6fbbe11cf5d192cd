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
    pub callers: Box<[CallerPattern]>,
    /// One of the destination's applications; `None` exactly when it is unprotected.
    pub application: Option<ApplicationName>,
}

impl Grant {
    /// Reads a grant; `applications` is `None` for an unprotected destination.
    pub(super) fn read<C>(section: Section<'_>, applications: Option<&Drafts<C>>) -> Self {
        let example = "[\"spiffe://trust-domain/path/*\"]";
        let callers = section.required_list("callers", example, values::pattern);
        let written = section.optional("application", values::application_name);
        let application = match applications {
            None => {
                if section.has("application") {
                    let problem = "must not be there, because the destination is unprotected";
                    section.report("application", problem);
                }
                None
            }
            Some(applications) => application(&section, written, applications),
        };
        section.finish();
        Self {
            callers: callers.into(),
            application,
        }
    }
}

/// The application that a grant means.
fn application<C>(
    section: &Section<'_>,
    written: Option<ApplicationName>,
    applications: &Drafts<C>,
) -> Option<ApplicationName> {
    let known = applications.names()?;
    if let Some(written) = written {
        if !known.contains(&&written) {
            report_unknown(section, &written, &known);
        }
        return Some(written);
    }
    if section.has("application") {
        return None;
    }
    match known.as_slice() {
        // That there is none is reported once, not at each grant.
        [] => None,
        [only] => Some((*only).clone()),
        [first, ..] => {
            let example = format!("\"{first}\" or another of its applications");
            section.report_missing("application", &example);
            None
        }
    }
}

fn report_unknown(section: &Section<'_>, name: &ApplicationName, known: &[&ApplicationName]) {
    let known: Vec<_> = known.iter().map(|name| name.as_str()).collect();
    let problem = format!(
        "names {}, which is no application of this destination: {}",
        quoted(name.as_str()),
        instead_of(name.as_str(), &known)
    );
    section.report("application", &problem);
}
