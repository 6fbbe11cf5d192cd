//! Which text format a scraper wants.

/// A text format of the exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0, which Prometheus asks for.
    OpenMetrics,
    /// The older format of Prometheus, version 0.0.4, which every tool reads.
    Classic,
}

impl Format {
    /// The format that the `Accept` headers of a request ask for (RFC 9110 §12.5.1). Whoever
    /// does not ask for `OpenMetrics` gets the older one: so does Prometheus' own client.
    pub fn wanted<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let ranges = accept.into_iter().flat_map(|header| header.split(','));
        let mut best = (0.0, Self::Classic);
        for (format, weight) in ranges.filter_map(wish) {
            // Of two that are wanted as much, the first.
            if weight > best.0 {
                best = (weight, format);
            }
        }
        best.1
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A format that is wanted, and how much.
fn wish(range: &str) -> Option<(Format, f32)> {
    let mut parts = range.split(';').map(str::trim);
    let media_type = parts.next()?.to_ascii_lowercase();
    let (mut version, mut weight) = (None, 1.0);
    for parameter in parts {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "version" => version = Some(value.trim()),
            "q" => weight = value.trim().parse().unwrap_or(0.0),
            _ => {}
        }
    }
    let format = match (&*media_type, version) {
        ("application/openmetrics-text", None | Some("1.0.0")) => Format::OpenMetrics,
        ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Format::Classic,
        _ => return None,
    };
    Some((format, weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        use Format::{Classic, OpenMetrics};
        for (accept, expected) in [
            (&[][..], Classic),
            (&["*/*"], Classic),
            (&["text/html, application/xhtml+xml, */*;q=0.8"], Classic),
            (&["text/plain"], Classic),
            (&["application/json"], Classic),
            (&["garbage;;=,"], Classic),
            (&["application/openmetrics-text"], OpenMetrics),
            (
                &["Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8"],
                OpenMetrics,
            ),
            // A version that is not spoken here.
            (&["application/openmetrics-text; version=0.0.1"], Classic),
            (
                &["application/openmetrics-text; version=2.0.0, */*;q=0.1"],
                Classic,
            ),
            // As Prometheus 2 and 3 ask.
            (
                &[
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ],
                OpenMetrics,
            ),
            (
                &[
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ],
                OpenMetrics,
            ),
            (
                &[
                    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,text/plain;version=0.0.4;q=0.5,application/openmetrics-text;q=0.4",
                ],
                Classic,
            ),
            (
                &["application/openmetrics-text;q=0.2", "text/plain;q=0.3"],
                Classic,
            ),
            (
                &["application/openmetrics-text;q=0.3", "text/plain;q=0.2"],
                OpenMetrics,
            ),
            (&["application/openmetrics-text;q=0"], Classic),
            (&["application/openmetrics-text;q=nonsense"], Classic),
            (&["application/openmetrics-text, text/plain"], OpenMetrics),
            (&["text/plain, application/openmetrics-text"], Classic),
        ] {
            let wanted = Format::wanted(accept.iter().copied());
            assert_eq!(wanted, expected, "{accept:?}");
        }
    }
}
