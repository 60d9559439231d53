//! Topics by a regular expression instead of by their names.

use crate::error::{Error, Kind, Result};
use regex::Regex;

/// Topics whose whole names match a regular expression: those that are there, and those that will be.
///
/// ```
/// use watersmeet::prelude::*;
/// use watersmeet::testing::TopologyTestDriver;
///
/// let builder = StreamsBuilder::new();
/// let orders = builder.stream(TopicPattern::new("orders-.*")?, Consumed::<String, i64>::default());
/// orders.to("all-orders", Produced::default());
///
/// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
/// driver.create_input_topic("orders-asia", Produced::<String, i64>::default()).pipe("a", 1)?;
/// driver.create_input_topic("orders-europe", Produced::<String, i64>::default()).pipe("b", 2)?;
/// let all = driver.create_output_topic("all-orders", Consumed::<String, i64>::default());
/// assert_eq!(all.read_to_vec()?, [("a".into(), 1), ("b".into(), 2)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone)]
#[doc(alias = "Pattern")]
pub struct TopicPattern {
    text: String,
    regex: Regex,
}

impl TopicPattern {
    /// The pattern of this regular expression, in the syntax of the crate `regex`: Java's without look-around and
    /// back-references.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// assert!(TopicPattern::new("orders-[a-z]+").is_ok() && TopicPattern::new("orders-[").is_err());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Kind::Topology`]: it is none.
    pub fn new(regular_expression: &str) -> Result<Self> {
        let regex = Regex::new(&format!(r"\A(?:{regular_expression})\z"));
        let regex = regex.map_err(|error| {
            Error::new(Kind::Topology, format!("{regular_expression:?} is no regular expression: {error}"))
                .hint("see the syntax of the crate regex; look-around and back-references are not in it")
        })?;
        Ok(Self { text: regular_expression.into(), regex })
    }

    /// The regular expression.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// assert_eq!(TopicPattern::new("orders-.*")?.as_str(), "orders-.*");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a topic of this name is among them.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let orders = TopicPattern::new("orders-.*")?;
    /// assert!(orders.matches("orders-asia") && !orders.matches("old-orders-asia"));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn matches(&self, topic: &str) -> bool {
        self.regex.is_match(topic)
    }
}

impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TopicPattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_name_has_to_match() {
        let pattern = TopicPattern::new("in-a|in-b").expect("a pattern");
        assert!(pattern.matches("in-a") && pattern.matches("in-b"));
        assert!(!pattern.matches("in-ab") && !pattern.matches("xin-b"));
        assert!(TopicPattern::new("in-(").is_err());
    }
}
