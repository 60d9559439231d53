//! `print`: records as lines, for a look at them.

use super::KStream;
use crate::record::Data;
use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

type Format<K, V> = Arc<dyn Fn(&K, &V) -> String + Send + Sync>;

/// Where and how [`KStream::print`] writes.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// orders.print(Printed::to_stdout().label("orders"));
/// # builder.build()?;
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct Printed<K, V> {
    to: Arc<Mutex<dyn Write + Send>>,
    label: Option<String>,
    format: Format<K, V>,
}

impl<K: Display, V: Display> Printed<K, V> {
    /// To standard output.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let printed = Printed::<String, i64>::to_stdout();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "toSysOut")]
    pub fn to_stdout() -> Self {
        Self::to_writer(std::io::stdout())
    }

    /// To a file, which is made anew.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let file = std::env::temp_dir().join("watersmeet-orders.txt");
    /// # let file = std::env::temp_dir().join(format!("watersmeet-orders-{}.txt", std::process::id()));
    /// let printed = Printed::<String, i64>::to_file(&file).expect("the file can be made");
    /// # std::fs::remove_file(file).expect("is there");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn to_file(path: impl AsRef<Path>) -> std::io::Result<Self> {
        std::fs::File::create(path).map(Self::to_writer)
    }

    /// To anything that takes bytes.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let printed = Printed::<String, i64>::to_writer(std::io::stderr());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn to_writer(to: impl Write + Send + 'static) -> Self {
        Self { to: Arc::new(Mutex::new(to)), label: None, format: Arc::new(|key, value| format!("{key}, {value}")) }
    }
}

impl<K, V> Printed<K, V> {
    /// What stands in brackets before each record; otherwise the node's name.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let printed = Printed::<String, i64>::to_stdout().label("orders");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withLabel")]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Makes each record's text, in place of `key, value`.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let printed = Printed::<String, i64>::to_stdout().format(|key, value| format!("{value} of {key}"));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withKeyValueMapper")]
    pub fn format(mut self, format: impl Fn(&K, &V) -> String + Send + Sync + 'static) -> Self {
        self.format = Arc::new(format);
        self
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Writes each record as a line `[label]: key, value`; the stream ends here. What cannot be written is left out.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// use watersmeet::dsl::Printed;
    /// # let builder = StreamsBuilder::new();
    /// # let stream = builder.stream("in", Consumed::<String, i64>::default());
    /// stream.print(Printed::to_stdout().label("orders"));
    /// # let topology = builder.build()?;
    /// # assert!(topology.describe().contains("KSTREAM-PRINTER-0000000001"));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn print(&self, printed: Printed<K, V>) {
        let Printed { to, label, format } = printed;
        let label = label.unwrap_or_else(|| self.name());
        self.end_in("PRINTER", move |key, value| {
            let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = writeln!(to, "[{label}]: {}", format(key, value)) {
                tracing::debug!("a record could not be printed: {error}");
            }
        });
    }
}
