//! Records as operators see them: key, value, timestamp, headers; and nulls.

use serde::Serialize;

/// Milliseconds since the Unix epoch, as in Kafka's records.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// let at: Timestamp = 1_700_000_000_000;
/// assert_eq!(Record::new("k", "v", at).timestamp_ms, at);
/// ```
pub type Timestamp = i64;

/// One record on its way through a task.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// let record = Record::new("u1".to_string(), 42, 7);
/// assert_eq!((&*record.key, record.value, record.timestamp_ms, record.headers.len()), ("u1", 42, 7, 0));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<K, V> {
    /// The key. Declare `Option<K>` to let null keys in; otherwise they are dropped and counted at the source.
    pub key: K,
    /// The value. Declare `Option<V>` to let nulls in; otherwise they are dropped and counted at the source.
    pub value: V,
    /// Event time, in milliseconds since the epoch.
    pub timestamp_ms: Timestamp,
    /// The record's headers, carried through every one-to-one operator.
    pub headers: Headers,
}

impl<K, V> Record<K, V> {
    /// A record without headers.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// assert_eq!(Record::new("u1", 42, 7).value, 42);
    /// ```
    pub fn new(key: K, value: V, timestamp_ms: Timestamp) -> Self {
        Self { key, value, timestamp_ms, headers: Headers::default() }
    }

    /// The same record with another value.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// assert_eq!(Record::new("u1", 42, 7).with_value("x"), Record::new("u1", "x", 7));
    /// ```
    pub fn with_value<W>(self, value: W) -> Record<K, W> {
        Record { key: self.key, value, timestamp_ms: self.timestamp_ms, headers: self.headers }
    }

    /// The same record with another key.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// assert_eq!(Record::new("u1", 42, 7).with_key(1), Record::new(1, 42, 7));
    /// ```
    pub fn with_key<J>(self, key: J) -> Record<J, V> {
        Record { key, value: self.value, timestamp_ms: self.timestamp_ms, headers: self.headers }
    }
}

/// What happens to one key of a table: the value before, where it is known, and the value now. `None` is no row.
///
/// Source: Kafka Streams' `Change`, which its tables send between nodes.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// let change = Change::latest(Some("new"), Some("old"));
/// assert!(change.is_latest && change.new.is_some());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change<V> {
    /// The value before; `None` also where nobody downstream asked for old values.
    pub old: Option<V>,
    /// The value now; `None` is a delete.
    pub new: Option<V>,
    /// False where a versioned table got a value for a time before its newest: the row as of now is another.
    pub is_latest: bool,
}

impl<V> Change<V> {
    /// A change of what holds now.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let delete = Change::latest(None, Some("old"));
    /// assert_eq!((delete.new, delete.old), (None, Some("old")));
    /// ```
    pub fn latest(new: Option<V>, old: Option<V>) -> Self {
        Self { old, new, is_latest: true }
    }
}

/// A record's headers, in order; names may repeat. No headers cost no allocation.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// let mut headers = Headers::default();
/// headers.add("trace", Some(b"1"));
/// headers.add("trace", Some(b"2"));
/// assert_eq!((headers.len(), headers.last("trace")), (2, Some(&b"2"[..])));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::box_collection)] // one word instead of three in every record: most have no headers
pub struct Headers(Option<Box<Vec<Header>>>);

/// One header.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// let mut headers = Headers::default();
/// headers.add("trace", None);
/// assert_eq!(headers.iter().next(), Some(&Header { name: "trace".into(), value: None }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The header's name.
    pub name: String,
    /// The header's bytes; null is allowed.
    pub value: Option<Vec<u8>>,
}

impl Headers {
    /// Appends a header.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let mut headers = Headers::default();
    /// headers.add("trace", Some(b"1"));
    /// assert_eq!(headers.last("trace"), Some(&b"1"[..]));
    /// ```
    pub fn add(&mut self, name: impl Into<String>, value: Option<&[u8]>) {
        self.0.get_or_insert_default().push(Header { name: name.into(), value: value.map(<[u8]>::to_vec) });
    }

    /// The value of the last header of that name.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// assert_eq!(Headers::default().last("trace"), None);
    /// ```
    pub fn last(&self, name: &str) -> Option<&[u8]> {
        self.iter().rfind(|h| h.name == name).and_then(|h| h.value.as_deref())
    }

    /// All headers, in order.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let mut headers = Headers::default();
    /// headers.add("trace", Some(b"1"));
    /// assert_eq!(headers.iter().map(|header| &*header.name).collect::<Vec<_>>(), ["trace"]);
    /// ```
    pub fn iter(&self) -> std::slice::Iter<'_, Header> {
        self.0.as_ref().map_or(&[] as &[Header], |v| v).iter()
    }

    /// Removes every header of that name.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let mut headers = Headers::default();
    /// headers.add("trace", Some(b"1"));
    /// headers.remove("trace");
    /// assert!(headers.is_empty());
    /// ```
    pub fn remove(&mut self, name: &str) {
        if let Some(list) = &mut self.0 {
            list.retain(|h| h.name != name);
        }
    }

    /// True where there is none.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// assert!(Headers::default().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.iter().len() == 0
    }

    /// How many there are.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// assert_eq!(Headers::default().len(), 0);
    /// ```
    pub fn len(&self) -> usize {
        self.iter().len()
    }
}

/// Types that flow through a topology: what can be cloned and is `serde::Serialize`, by which nulls are told
/// ([`Nullable`]); which serde writes the bytes is another matter. Implemented for every type that fits; nothing to write.
pub trait Data: Clone + Serialize + 'static {}
impl<T: Clone + Serialize + 'static> Data for T {}

/// Knows whether a value is Kafka's null. Only `Option`'s `None` is. The check compiles to a constant for all other types.
///
/// ```
/// use watersmeet::record::Nullable;
/// assert!(None::<String>.is_null());
/// assert!(!Some("x").is_null() && !"".is_null() && !Nullable::is_null(&serde_json::Value::Null));
/// ```
pub trait Nullable {
    /// True for `None`.
    fn is_null(&self) -> bool;
}

impl<T: Serialize> Nullable for T {
    #[inline]
    fn is_null(&self) -> bool {
        self.serialize(null_probe::Probe).is_ok()
    }
}

/// A serializer that succeeds for `None` only and gives up at the first call for everything else, so that nothing is
/// ever serialized. Rust has no specialization; serde's own dispatch on `Option` serves instead.
mod null_probe {
    use serde::ser::{self, Impossible};
    use std::fmt;

    pub(super) struct Probe;
    #[derive(Debug)]
    pub(super) struct NotNull;
    impl fmt::Display for NotNull {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("not null")
        }
    }
    impl std::error::Error for NotNull {}
    impl ser::Error for NotNull {
        fn custom<T: fmt::Display>(_: T) -> Self {
            NotNull
        }
    }

    macro_rules! not_null {
        ($($method:ident($($arg:ty),*) -> $ok:ty;)*) => {
            $(#[inline] fn $method(self, $(_: $arg),*) -> Result<$ok, NotNull> { Err(NotNull) })*
        };
    }

    impl ser::Serializer for Probe {
        type Ok = ();
        type Error = NotNull;
        type SerializeSeq = Impossible<(), NotNull>;
        type SerializeTuple = Impossible<(), NotNull>;
        type SerializeTupleStruct = Impossible<(), NotNull>;
        type SerializeTupleVariant = Impossible<(), NotNull>;
        type SerializeMap = Impossible<(), NotNull>;
        type SerializeStruct = Impossible<(), NotNull>;
        type SerializeStructVariant = Impossible<(), NotNull>;

        #[inline]
        fn serialize_none(self) -> Result<(), NotNull> {
            Ok(())
        }
        #[inline]
        fn serialize_some<T: ?Sized>(self, _: &T) -> Result<(), NotNull> {
            Err(NotNull)
        }
        #[inline]
        fn serialize_newtype_struct<T: ?Sized>(self, _: &'static str, _: &T) -> Result<(), NotNull> {
            Err(NotNull)
        }
        #[inline]
        fn serialize_newtype_variant<T: ?Sized>(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: &T,
        ) -> Result<(), NotNull> {
            Err(NotNull)
        }
        #[inline]
        fn collect_str<T: ?Sized + fmt::Display>(self, _: &T) -> Result<(), NotNull> {
            Err(NotNull)
        }
        not_null! {
            serialize_bool(bool) -> (); serialize_i8(i8) -> (); serialize_i16(i16) -> (); serialize_i32(i32) -> ();
            serialize_i64(i64) -> (); serialize_i128(i128) -> (); serialize_u8(u8) -> (); serialize_u16(u16) -> ();
            serialize_u32(u32) -> (); serialize_u64(u64) -> (); serialize_u128(u128) -> (); serialize_f32(f32) -> ();
            serialize_f64(f64) -> (); serialize_char(char) -> (); serialize_str(&str) -> (); serialize_bytes(&[u8]) -> ();
            serialize_unit() -> (); serialize_unit_struct(&'static str) -> ();
            serialize_unit_variant(&'static str, u32, &'static str) -> ();
            serialize_seq(Option<usize>) -> Self::SerializeSeq; serialize_tuple(usize) -> Self::SerializeTuple;
            serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
            serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
            serialize_map(Option<usize>) -> Self::SerializeMap;
            serialize_struct(&'static str, usize) -> Self::SerializeStruct;
            serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
        }
    }
}
