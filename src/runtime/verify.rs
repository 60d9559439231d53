//! Whether an internal topic that is already there is one that the application can live with.

use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;

/// Compares the settings that a topic should have with those that it has. Only what would lose records or rows is an
/// error; a setting that the broker does not tell is taken to be right. Source: `InternalTopicManager.validate`.
///
/// # Errors
/// [`Kind::Topology`]: the error names the topic and the setting.
pub(crate) fn verify(topic: &str, wanted: &[(String, String)], actual: &BTreeMap<String, String>) -> Result {
    let wanted = |key: &str| wanted.iter().rfind(|(k, _)| k == key).map(|(_, value)| value.as_str());
    let actual = |key: &str| actual.get(key).map(String::as_str);
    let wrong = |key: &str, is: &str, should: String| {
        Err(Error::new(Kind::Topology, format!("{key} of the existing internal topic is {is}, but should {should}"))
            .topic(topic)
            .hint(format!("change {key} of this topic, or stop all instances and delete the topic")))
    };
    let policy = wanted("cleanup.policy").unwrap_or_default();
    let keeps_by = |policy: &str, word: &str| policy.split(',').any(|part| part.trim() == word);
    if let Some(is) = actual("cleanup.policy") {
        for word in ["delete", "compact"] {
            // A window store's changelog may well be compacted only, or not at all.
            let windowed = keeps_by(policy, "delete") && wanted("retention.ms") != Some("-1");
            if keeps_by(is, word) && !keeps_by(policy, word) && !windowed {
                return wrong("cleanup.policy", is, format!("not contain {word:?}"));
            }
        }
        if keeps_by(is, "delete") && keeps_by(policy, "delete") {
            if let (Some(kept), Some(want)) = (actual("retention.ms"), wanted("retention.ms"))
                && is_less(kept, want)
            {
                let should = if want == "-1" { "be -1".into() } else { format!("be {want} or larger") };
                return wrong("retention.ms", kept, should);
            }
            if let (Some(bytes), None) = (actual("retention.bytes").filter(|b| *b != "-1"), wanted("retention.bytes")) {
                return wrong("retention.bytes", bytes, "be unset".into());
            }
        }
    }
    if let (Some(lag), Some(want)) = (actual("min.compaction.lag.ms"), wanted("min.compaction.lag.ms"))
        && is_less(lag, want)
    {
        return wrong("min.compaction.lag.ms", lag, format!("be {want} or larger"));
    }
    match (actual("message.timestamp.type"), wanted("message.timestamp.type")) {
        (Some(is), Some(want)) if is != want => wrong("message.timestamp.type", is, format!("be {want}")),
        _ => Ok(()),
    }
}

/// Of two times, where -1 is without end. What is no number is not judged.
fn is_less(a: &str, b: &str) -> bool {
    let number = |text: &str| text.parse::<i64>().ok().map(|n| if n < 0 { i64::MAX } else { n });
    matches!((number(a), number(b)), (Some(a), Some(b)) if a < b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[(&str, &str)] = &[("cleanup.policy", "compact"), ("message.timestamp.type", "CreateTime")];
    const WINDOWS: &[(&str, &str)] = &[("cleanup.policy", "compact,delete"), ("retention.ms", "1000")];
    const REPARTITION: &[(&str, &str)] = &[("cleanup.policy", "delete"), ("retention.ms", "-1")];
    const VERSIONED: &[(&str, &str)] = &[("cleanup.policy", "compact"), ("min.compaction.lag.ms", "1000")];

    fn told(wanted: &[(&str, &str)], changed: &[(&str, &str)]) -> Option<String> {
        let pairs = |list: &[(&str, &str)]| {
            list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<Vec<(String, String)>>()
        };
        let actual = pairs(wanted).into_iter().chain(pairs(changed)).collect();
        verify("app-x", &pairs(wanted), &actual).err().map(|error| error.to_string())
    }

    #[test]
    fn what_would_lose_rows_is_told_with_topic_and_setting() {
        type Settings = &'static [(&'static str, &'static str)];
        let cases: [(Settings, Settings, &str); 8] = [
            (TABLE, &[("cleanup.policy", "compact,delete")], "not contain \"delete\""),
            (TABLE, &[("message.timestamp.type", "LogAppendTime")], "be CreateTime"),
            (WINDOWS, &[("retention.ms", "999")], "be 1000 or larger"),
            (WINDOWS, &[("retention.bytes", "5")], "retention.bytes"),
            (REPARTITION, &[("cleanup.policy", "compact")], "not contain \"compact\""),
            (REPARTITION, &[("retention.ms", "86400000")], "be -1"),
            (REPARTITION, &[("retention.bytes", "5")], "be unset"),
            (VERSIONED, &[("min.compaction.lag.ms", "0")], "be 1000 or larger"),
        ];
        for (wanted, changed, part) in cases {
            let error = told(wanted, changed).expect("an error");
            assert!(error.contains("topic app-x") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_loses_nothing_is_left_alone() {
        let cases: [(&[(&str, &str)], &[(&str, &str)]); 6] = [
            (TABLE, &[("segment.bytes", "7"), ("retention.ms", "5")]),
            (WINDOWS, &[("retention.ms", "1001")]),
            (WINDOWS, &[("retention.ms", "-1"), ("retention.bytes", "-1")]),
            (WINDOWS, &[("cleanup.policy", "compact")]),
            (REPARTITION, &[("retention.bytes", "-1")]),
            (VERSIONED, &[("min.compaction.lag.ms", "2000")]),
        ];
        for (wanted, changed) in cases {
            assert_eq!(told(wanted, changed), None, "{changed:?}");
        }
        assert!(verify("app-x", &[("cleanup.policy".into(), "compact".into())], &BTreeMap::new()).is_ok());
    }
}
