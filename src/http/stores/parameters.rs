//! What may stand behind the question mark of `/stores/…`.

use crate::broker::Written;
use crate::error::{Error, Kind, Result};
use crate::serdes::Format;
use crate::state::query::Level;

/// How many rows are given where nobody says.
const LIMIT: usize = 100;
/// How many rows one answer may have: it is made in memory.
const LIMIT_MAX: usize = 10_000;

/// What the formats of keys and values are called.
const FORMATS: [(&str, Format); 9] = [
    ("text", Format::Text),
    ("json", Format::Json),
    ("boolean", Format::Boolean),
    ("short", Format::Short),
    ("int", Format::Int),
    ("long", Format::Long),
    ("float", Format::Float),
    ("double", Format::Double),
    ("hex", Format::Bytes),
];

/// The parameters of a request.
pub(super) struct Parameters {
    pub(super) level: Level,
    /// Do not ask other instances.
    pub(super) local: bool,
    pub(super) partition: Option<i32>,
    pub(super) limit: usize,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    /// As `from`, without it: where the last answer ended.
    pub(super) after: Option<String>,
    pub(super) prefix: Option<String>,
    /// The answer has this record.
    pub(super) after_record: Option<Written>,
    pub(super) from_ms: Option<i64>,
    pub(super) to_ms: Option<i64>,
    pub(super) as_of_ms: Option<i64>,
    pub(super) key_format: Option<Format>,
    pub(super) value_format: Option<Format>,
}

impl Parameters {
    pub(super) fn parse(query: &str) -> Result<Self> {
        let mut parameters = Self {
            level: Level::default(),
            local: false,
            partition: None,
            limit: LIMIT,
            from: None,
            to: None,
            after: None,
            prefix: None,
            after_record: None,
            from_ms: None,
            to_ms: None,
            as_of_ms: None,
            key_format: None,
            value_format: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.set(name, decode(value, true)?)?;
        }
        Ok(parameters)
    }

    fn set(&mut self, name: &str, value: String) -> Result {
        match name {
            "level" => {
                self.level = match value.as_str() {
                    "committed" => Level::Committed,
                    "latest" => Level::Latest,
                    _ => return Err(wrong(name, &value, "committed or latest")),
                }
            }
            "scope" => {
                self.local = match value.as_str() {
                    "local" => true,
                    "all" => false,
                    _ => return Err(wrong(name, &value, "all or local")),
                }
            }
            "partition" => self.partition = Some(number(name, &value)?),
            "limit" => self.limit = number::<usize>(name, &value)?.min(LIMIT_MAX),
            "from" => self.from = Some(value),
            "to" => self.to = Some(value),
            "after" => self.after = Some(value),
            "prefix" => self.prefix = Some(value),
            "after_record" => {
                let record = value.parse();
                self.after_record =
                    Some(record.map_err(|_| wrong(name, &value, "a record: <topic>-<partition>@<offset>"))?);
            }
            "from_ms" => self.from_ms = Some(number(name, &value)?),
            "to_ms" => self.to_ms = Some(number(name, &value)?),
            "as_of_ms" => self.as_of_ms = Some(number(name, &value)?),
            "key" => self.key_format = Some(format(name, &value)?),
            "value" => self.value_format = Some(format(name, &value)?),
            _ => {
                return Err(Error::new(Kind::User, format!("there is no parameter {name}")).hint(
                    "use level, scope, partition, limit, from, to, after, prefix, after_record, from_ms, to_ms, as_of_ms, key, value",
                ));
            }
        }
        Ok(())
    }
}

fn wrong(name: &str, value: &str, wanted: &str) -> Error {
    Error::new(Kind::User, format!("{name}={value} is not {wanted}"))
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| wrong(name, value, "a number of the right size"))
}

/// Text as a URL has it; in its query a plus is a space.
pub(super) fn decode(text: &str, query: bool) -> Result<String> {
    let malformed = || Error::new(Kind::User, format!("{text} is no text in percent encoding"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let (digits, after) = rest.split_at_checked(2).ok_or_else(malformed)?;
                let digits = std::str::from_utf8(digits).map_err(|_| malformed())?;
                bytes.push(u8::from_str_radix(digits, 16).map_err(|_| malformed())?);
                rest = after;
            }
            b'+' if query => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| malformed())
}

/// The format of this name.
fn format(parameter: &str, name: &str) -> Result<Format> {
    let found = FORMATS.iter().find(|(known, _)| *known == name).map(|(_, format)| *format);
    let names = || FORMATS.map(|(name, _)| name).join(", ");
    found.ok_or_else(|| wrong(parameter, name, &format!("one of {}", names())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_decoded() {
        assert_eq!(decode("a%20b+c", true).ok().as_deref(), Some("a b c"));
        assert_eq!(decode("a%2Fb+c", false).ok().as_deref(), Some("a/b+c"));
        assert!(decode("a%2", true).is_err() && decode("a%zz", true).is_err() && decode("%ff", true).is_err());
        assert_eq!(decode("K%C3%A4se%20%26%20Brot", true).ok().as_deref(), Some("Käse & Brot"));
    }

    #[test]
    fn parameters_that_make_no_sense_say_so() {
        let error = |query| Parameters::parse(query).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error("level=newest").contains("committed or latest"));
        assert!(error("limit=many").contains("a number"));
        assert!(error("form=x").contains("no parameter form"));
        assert_eq!(Parameters::parse("limit=99999999").map(|p| p.limit).ok(), Some(LIMIT_MAX));
    }
}
