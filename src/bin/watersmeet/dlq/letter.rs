//! One dead letter: where it came from, what was wrong, and how it is shown.

use super::Filter;
use std::fmt::Write;
use watersmeet::broker::RawRecord;
use watersmeet::record::Headers;

const PREFIX: &str = "__streams.errors.";
/// Says what a dead letter has no more, since it would have been too large.
const LEFT_OUT: &str = "__watersmeet.left.out";

/// Where a dead letter is in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl std::str::FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('@').and_then(|(p, o)| Some((p.parse().ok()?, o.parse().ok()?)));
        let (partition, offset) = parts.ok_or("write it as list does: PARTITION@OFFSET, such as 0@17")?;
        Ok(Self { partition, offset })
    }
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

/// A dead letter.
pub(super) struct Letter {
    pub(super) at: At,
    pub(super) timestamp_ms: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Headers,
}

impl Letter {
    pub(super) fn new(partition: i32, record: &RawRecord) -> Self {
        Self {
            at: At { partition, offset: record.meta.offset },
            timestamp_ms: record.meta.timestamp_ms,
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: record.meta.headers.clone(),
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.headers.last(&format!("{PREFIX}{name}")).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// Where it came from: topic, and partition and offset where they are known.
    pub(super) fn origin(&self) -> String {
        let topic = self.header("topic").unwrap_or_else(|| "(not said)".into());
        match (self.header("partition"), self.header("offset")) {
            (Some(partition), Some(offset)) => format!("{topic}-{partition}@{offset}"),
            _ => topic,
        }
    }

    /// Why it cannot be sent as it once came.
    pub(super) fn is_incomplete(&self) -> Option<String> {
        if self.header("exception").is_some_and(|exception| exception == "watersmeet::Production") {
            return Some("it is a result that was refused, and its value is gone".into());
        }
        let left_out = String::from_utf8_lossy(self.headers.last(LEFT_OUT)?);
        Some(format!("it was too large to keep its {left_out}; the record is at {}", self.origin()))
    }

    pub(super) fn fits(&self, filter: &Filter) -> bool {
        let has = |text: &Option<String>, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| text.as_ref().is_some_and(|text| text.contains(wanted)))
        };
        let of_topic = filter.from_topic.is_none() || self.header("topic") == filter.from_topic;
        let somewhere = || {
            let part = |part: &Option<Vec<u8>>| has(&part.as_deref().map(text), &filter.contains);
            has(&self.header("message"), &filter.contains) || part(&self.key) || part(&self.value)
        };
        of_topic && has(&self.header("exception"), &filter.exception) && (filter.contains.is_none() || somewhere())
    }

    /// The headers that it came with.
    pub(super) fn own_headers(&self) -> Headers {
        let mut headers = Headers::default();
        for header in self.headers.iter().filter(|header| !header.name.starts_with(PREFIX)) {
            headers.add(header.name.clone(), header.value.as_deref());
        }
        headers
    }
}

/// Bytes as they are looked for: text where they are that, else in hexadecimal digits.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| digits(bytes), str::to_owned)
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// Bytes for a terminal: what would move its cursor or change its colours is written as an escape.
pub(super) fn shown(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "(null)".into() };
    text(bytes).chars().fold(String::new(), |mut shown, c| {
        match c.is_control() && !matches!(c, '\n' | '\t') {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
        shown
    })
}

/// Bytes as a part of a line.
pub(super) fn short(bytes: Option<&[u8]>, max: usize) -> String {
    let text = shown(bytes).replace('\n', "\\n").replace('\t', "\\t");
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], bytes.map_or(0, <[u8]>::len)),
        None => text,
    }
}

/// Bytes for programs: a text, or `{"hex": …}`.
pub(super) fn json(bytes: Option<&[u8]>) -> serde_json::Value {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => serde_json::Value::Null,
        Some((Ok(text), _)) => text.into(),
        Some((Err(_), bytes)) => serde_json::json!({ "hex": digits(bytes)[2..] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_so_that_they_do_a_terminal_no_harm() {
        assert_eq!(shown(None), "(null)");
        assert_eq!(shown(Some(b"a\x1b[2J\nb")), "a\\u{1b}[2J\nb");
        assert_eq!(shown(Some(&[0xff, 0x00])), "0xff00");
        assert_eq!(short(Some(b"two\nlines"), 40), "two\\nlines");
        assert_eq!(short(Some("ümlaute".as_bytes()), 2), "üm… (8 bytes)");
        assert_eq!(json(Some(&[0xff])).to_string(), r#"{"hex":"ff"}"#);
        assert_eq!((json(None).to_string(), json(Some(b"x")).to_string()), ("null".into(), "\"x\"".into()));
    }
}
