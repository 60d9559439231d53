//! What a stream reads: one topic, several, or all that match a pattern.

use crate::topology::{TopicName, TopicPattern};

/// The topics that a stream reads: one, or several, or those of a [`TopicPattern`].
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// # let builder = StreamsBuilder::new();
/// let one = builder.stream("a", Consumed::<String, String>::default());
/// let several = builder.stream(["b", "c"], Consumed::<String, String>::default());
/// let matching = builder.stream(TopicPattern::new("in-.*")?, Consumed::<String, String>::default());
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub trait Topics {
    /// Which topics these are.
    fn selected(self) -> SelectedTopics;
}

/// Topics by name or by pattern.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// assert_eq!("orders".selected(), SelectedTopics::Named(vec!["orders".into()]));
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectedTopics {
    /// Of these names.
    Named(Vec<String>),
    /// All that match.
    Matching(TopicPattern),
}

impl SelectedTopics {
    /// The names, and the pattern, of which one is empty.
    pub(crate) fn split(self) -> (Vec<TopicName>, Option<TopicPattern>) {
        match self {
            Self::Named(names) => (names.into_iter().map(TopicName::User).collect(), None),
            Self::Matching(pattern) => (Vec::new(), Some(pattern)),
        }
    }
}

impl Topics for &str {
    fn selected(self) -> SelectedTopics {
        SelectedTopics::Named(vec![self.into()])
    }
}

impl Topics for &String {
    fn selected(self) -> SelectedTopics {
        SelectedTopics::Named(vec![self.clone()])
    }
}

impl<S: Into<String>> Topics for Vec<S> {
    fn selected(self) -> SelectedTopics {
        SelectedTopics::Named(self.into_iter().map(Into::into).collect())
    }
}

impl<S: Into<String>, const N: usize> Topics for [S; N] {
    fn selected(self) -> SelectedTopics {
        SelectedTopics::Named(self.into_iter().map(Into::into).collect())
    }
}

impl Topics for TopicPattern {
    fn selected(self) -> SelectedTopics {
        SelectedTopics::Matching(self)
    }
}

impl Topics for &TopicPattern {
    fn selected(self) -> SelectedTopics {
        SelectedTopics::Matching(self.clone())
    }
}
