//! What the fields of an index take: the same in every engine.

use serde_json::Value;

/// Calls `add` with a value, or with each of an array, and not with null.
pub(super) fn each(value: Option<&Value>, add: &mut impl FnMut(&Value) -> Result<(), String>) -> Result<(), String> {
    match value {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(values)) => values.iter().try_for_each(|value| each(Some(value), add)),
        Some(value) => add(value),
    }
}

/// A value as text to search in.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(_) => None,
        other => Some(other.to_string()),
    }
}

/// A number, or one as text.
pub(super) fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|number: &f64| number.is_finite())
}

/// Milliseconds since the epoch: as a number, or as text such as 2026-01-31, 2026-01-31T12:00:00Z, 2026-01-31T12:00:00.5+01:00.
pub(super) fn date(value: &Value) -> Option<f64> {
    number(value).or_else(|| date_ms(value.as_str()?.trim()))
}

fn date_ms(text: &str) -> Option<f64> {
    let (day, time) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
    let [year, month, day] = numbers(day, '-', [4, 2, 2])?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let (time, zone) = time.split_at(time.find(['Z', '+', '-'])?);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let is_fraction = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit());
    if !((1..=12).contains(&month) && (1..=last).contains(&day) && is_fraction)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let ahead = match (zone, zone.get(1..).and_then(|zone| numbers(zone, ':', [2, 2]))) {
        ("Z", _) => 0,
        (_, Some([hours, minutes])) if hours < 19 && minutes < 60 => {
            if zone.starts_with('-') {
                -(hours * 60 + minutes)
            } else {
                hours * 60 + minutes
            }
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + (minute - ahead) * 60 + second;
    let fraction: f64 = format!("0.{fraction}").parse().ok()?;
    Some(seconds as f64 * 1_000.0 + (fraction * 1_000.0).floor())
}

/// Numbers of so many digits each.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut found = [0; N];
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

/// Days since 1970-01-01. A year begins in March here, so that the day that not all years have is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day
        - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn dates_are_those_of_a_calendar() {
        for (text, ms) in [
            ("1970-01-01", 0.0),
            ("1969-12-31T23:59:59Z", -1_000.0),
            ("2024-02-29", 1_709_164_800_000.0),
            ("2026-01-31T12:00:00Z", 1_769_860_800_000.0),
            ("2026-01-31T12:00:00.5+01:00", 1_769_857_200_500.0),
            ("2026-01-31T12:00:00-00:30", 1_769_862_600_000.0),
            ("1000", 1_000.0),
        ] {
            assert_eq!(date(&json!(text)), Some(ms), "{text}");
        }
        for text in [
            "2026-02-29",
            "1900-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-04-31",
            "2026-1-31",
            "+026-01-31",
            "yesterday",
            "",
            "2026-01-31T",
            "2026-01-31T25:00:00Z",
            "2026-01-31T12:00:00",
            "2026-01-31Tsoon+then",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00+1",
            "2026-01-31T12:00:00é",
        ] {
            assert_eq!(date(&json!(text)), None, "{text}");
        }
    }

    #[test]
    fn numbers_may_be_text_and_objects_are_no_text() {
        assert_eq!((number(&json!(" 12.5 ")), number(&json!("many")), number(&json!("inf"))), (Some(12.5), None, None));
        assert_eq!((text(&json!(300)).as_deref(), text(&json!({}))), (Some("300"), None));
    }
}
