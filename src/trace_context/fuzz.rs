//! What callers may write into `traceparent`, and a second reader of it.

use super::*;
use crate::fuzz::Target;

#[test]
fn a_traceparent_is_read_as_its_grammar_says() {
    Target::new("traceparent")
        .words(&["-", "00", "ff", "01", "+", "_", "A", "\u{ff10}"])
        .inventing("(00|01|0f|fe|ff)-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[a-z]{0,3})?")
        .holds(|input| {
            let context = TraceContext::parse(input);
            let expected = second_reader(input);
            let shown = context.map(|context| {
                let (trace, span) = (context.trace_id, context.span_id);
                (trace.to_string(), span.to_string(), context.sampled)
            });
            assert_eq!(shown, expected);
            if let Some(context) = context {
                assert_eq!(
                    TraceContext::parse(context.to_string().as_bytes()),
                    Some(context)
                );
            }
            context.is_some()
        });
}

/// Goes through the text from its end, one character after the other.
fn second_reader(input: &[u8]) -> Option<(String, String, bool)> {
    let shape = "hh-hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh-hhhhhhhhhhhhhhhh-hh";
    let text: Vec<char> = input.iter().map(|byte| char::from(*byte)).collect();
    if text.len() < shape.len() {
        return None;
    }
    for (place, kind) in shape.bytes().enumerate().rev() {
        let fits = match kind {
            b'h' => "0123456789abcdef".contains(text[place]),
            _ => text[place] == char::from(kind),
        };
        if !fits {
            return None;
        }
    }
    let part = |from: usize, to: usize| text[from..to].iter().collect::<String>();
    let (version, trace, span) = (part(0, 2), part(3, 35), part(36, 52));
    let more = &text[shape.len()..];
    let ends_well = match (version.as_str(), more) {
        ("ff", _) => false,
        (_, []) => true,
        ("00", _) => false,
        (_, [first, ..]) => *first == '-',
    };
    let names_something = trace.contains(|c| c != '0') && span.contains(|c| c != '0');
    let sampled = "13579bdf".contains(text[54]);
    (ends_well && names_something).then_some((trace, span, sampled))
}
