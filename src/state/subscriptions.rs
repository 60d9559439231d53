//! Rows of a foreign-key join's subscriptions: the timestamp, in memory the headers, the subscription.

use super::buffer_value::{put_headers, take_headers};
use super::timestamped;
use crate::record::{Headers, Timestamp};

/// Writes a row into `out`, which is cleared first. `headers`: those that the row keeps, where it does.
pub(crate) fn encode(value: &[u8], timestamp_ms: Timestamp, headers: Option<&Headers>, out: &mut Vec<u8>) {
    timestamped::encode(&[], timestamp_ms, out);
    if let Some(headers) = headers {
        put_headers(headers, out);
    }
    out.extend_from_slice(value);
}

/// Headers and value of a row; `with_headers`: whether it keeps any.
pub(crate) fn decode(row: &[u8], with_headers: bool) -> (Headers, &[u8]) {
    let mut rest = timestamped::value(row);
    let headers = if with_headers { take_headers(&mut rest) } else { None };
    (headers.unwrap_or_default(), rest)
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};
    use crate::record::Headers;
    use crate::state::timestamped::timestamp_ms;

    #[test]
    fn rows_keep_headers_where_they_are_asked_to() {
        let mut headers = Headers::default();
        headers.add("h", Some(b"1"));
        headers.add("null", None);
        let mut row = vec![9];
        encode(b"value", 7, Some(&headers), &mut row);
        assert_eq!((timestamp_ms(&row), decode(&row, true)), (7, (headers, &b"value"[..])));
        encode(b"value", 7, None, &mut row);
        assert_eq!(decode(&row, false), (Headers::default(), &b"value"[..]));
    }
}
