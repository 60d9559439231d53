//! A strict scanner for JSON objects (RFC 8259): checks the whole text in one pass and notes where the top level's fields
//! stand. It goes eight bytes at a time through text, where most of JSON's bytes are, and never recurses.

use std::ops::Range;

/// How deep values may be nested, the object itself included; as serde_json's limit.
const DEPTH_MAX: u32 = 127;
/// Objects with more fields are [`Shape::Odd`]: every name is compared with every other.
const PLAIN_MAX: usize = 64;

/// What a scan tells about an object.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// At most 64 fields, all of different names, none of them written with an escape.
    Plain(Vec<Field>),
    /// Anything else.
    Odd,
}

/// Where a field of a [`Shape::Plain`] object stands in its text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    /// The name's first seven bytes, and in the highest byte its length where that is less than 255.
    key: u64,
    start: u32,
    name_length: u32,
    value: u32,
    end: u32,
}

impl Field {
    /// From the name's quotation mark to where the value begins: with the colon.
    pub(super) fn name(&self) -> Range<usize> {
        self.start as usize..self.value as usize
    }

    /// The value.
    pub(super) fn value(&self) -> Range<usize> {
        self.value as usize..self.end as usize
    }

    /// Whether a field in `text` and one in `other_text` have the same name.
    #[inline]
    pub(super) fn same_name(&self, text: &str, other: &Field, other_text: &str) -> bool {
        self.key == other.key && (self.name_length <= 7 || self.letters(text) == other.letters(other_text))
    }

    fn letters<'a>(&self, text: &'a str) -> &'a [u8] {
        let start = self.start as usize + 1;
        &text.as_bytes()[start..start + self.name_length as usize]
    }
}

/// Checks that `text` is one JSON object and nothing else; otherwise says what is wrong and at which byte.
pub(super) fn scan(text: &str) -> Result<Shape, (&'static str, usize)> {
    let mut scan = Scan { bytes: text.as_bytes(), at: 0 };
    let shape = scan.object_alone(text);
    shape.map_err(|what| (what, scan.at))
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Errors are words; `Scan::at` is where they apply.
type Scanned<T = ()> = Result<T, &'static str>;

const IN_THE_MIDDLE: &str = "it ends in the middle";

impl Scan<'_> {
    fn object_alone(&mut self, text: &str) -> Scanned<Shape> {
        self.space();
        match self.peek() {
            Some(b'{') => self.at += 1,
            None => return Err("nothing is there"),
            Some(b'[') => return Err("an array was found"),
            Some(b'"') => return Err("text was found"),
            Some(b'0'..=b'9' | b'-') => return Err("a number was found"),
            Some(_) if self.bytes[self.at..].starts_with(b"true") => return Err("true was found"),
            Some(_) if self.bytes[self.at..].starts_with(b"false") => return Err("false was found"),
            Some(_) if self.bytes[self.at..].starts_with(b"null") => return Err("null was found"),
            Some(_) => return Err("no JSON was found"),
        }
        let mut fields: Vec<Field> = Vec::with_capacity(16);
        let mut plain = u32::try_from(self.bytes.len()).is_ok();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                let start = self.at;
                let (name_length, escaped) = self.name()?;
                let value = self.at;
                self.value()?;
                if plain {
                    let key = self.key(start + 1, name_length);
                    let [start, name_length, value, end] = [start, name_length, value, self.at].map(|n| n as u32);
                    let field = Field { key, start, name_length, value, end };
                    plain = !escaped
                        && fields.len() < PLAIN_MAX
                        && !fields.iter().any(|other| other.same_name(text, &field, text));
                    fields.push(field);
                }
                if !self.another(b'}')? {
                    break;
                }
            }
        }
        self.space();
        match self.at == self.bytes.len() {
            true => Ok(if plain { Shape::Plain(fields) } else { Shape::Odd }),
            false => Err("there is more text after it"),
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The next eight bytes.
    #[inline]
    fn word(&self, at: usize) -> Option<u64> {
        self.bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
    }

    #[inline]
    fn key(&self, start: usize, length: usize) -> u64 {
        // Behind a name there are at least a quotation mark, a colon, a value and a brace.
        let word = self.word(start).unwrap_or_else(|| {
            self.bytes[start..].iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
        });
        let letters = word & ((1 << (8 * length.min(7))) - 1);
        letters | (length.min(255) as u64) << 56
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// A name with its colon: how long the name is, and whether it has an escape.
    #[inline]
    fn name(&mut self) -> Scanned<(usize, bool)> {
        if self.peek() != Some(b'"') {
            return Err("a field's name is missing");
        }
        let start = self.at + 1;
        let escaped = self.string()?;
        let length = self.at - 1 - start;
        self.space();
        if self.peek() != Some(b':') {
            return Err("a colon is missing");
        }
        self.at += 1;
        self.space();
        Ok((length, escaped))
    }

    /// After a member: true behind a comma, false behind `end`.
    #[inline]
    fn another(&mut self, end: u8) -> Scanned<bool> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.space();
                Ok(true)
            }
            Some(byte) if byte == end => {
                self.at += 1;
                Ok(false)
            }
            None => Err(IN_THE_MIDDLE),
            Some(_) => Err("a comma is missing"),
        }
    }

    /// One value, with everything inside it.
    #[inline]
    fn value(&mut self) -> Scanned {
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'{' | b'[') => self.nested(),
            _ => self.literal(),
        }
    }

    /// An object or array within the object.
    fn nested(&mut self) -> Scanned {
        // One bit for each level that is open, the innermost lowest: 1 is an object.
        let (mut open, mut depth) = (0u128, 1);
        loop {
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    if depth == DEPTH_MAX {
                        return Err("it is nested too deeply");
                    }
                    let object = bracket == b'{';
                    open = open << 1 | u128::from(object);
                    depth += 1;
                    self.at += 1;
                    self.space();
                    if self.peek() != Some(if object { b'}' } else { b']' }) {
                        if object {
                            self.name()?;
                        }
                        continue;
                    }
                    self.at += 1;
                    open >>= 1;
                    depth -= 1;
                }
                _ => self.value()?,
            }
            loop {
                if depth == 1 {
                    return Ok(());
                }
                let object = open & 1 == 1;
                if self.another(if object { b'}' } else { b']' })? {
                    if object {
                        self.name()?;
                    }
                    break;
                }
                open >>= 1;
                depth -= 1;
            }
        }
    }

    fn literal(&mut self) -> Scanned {
        if self.at == self.bytes.len() {
            return Err(IN_THE_MIDDLE);
        }
        let rest = &self.bytes[self.at..];
        let word = [&b"true"[..], b"false", b"null"].into_iter().find(|word| rest.starts_with(word));
        self.at += word.ok_or("a value is missing")?.len();
        Ok(())
    }

    #[inline]
    fn number(&mut self) -> Scanned {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> Scanned {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err("a digit is missing") } else { Ok(()) }
    }

    /// Text from its first quotation mark to its last; true where there are escapes in it.
    #[inline]
    fn string(&mut self) -> Scanned<bool> {
        self.at += 1;
        let mut escaped = false;
        loop {
            while let Some(word) = self.word(self.at) {
                let special = special(word);
                if special != 0 {
                    self.at += special.trailing_zeros() as usize / 8;
                    break;
                }
                self.at += 8;
            }
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    self.escape()?;
                    escaped = true;
                }
                Some(0..=0x1f) => return Err("a control character stands in text"),
                Some(_) => self.at += 1,
                None => return Err(IN_THE_MIDDLE),
            }
        }
    }

    fn escape(&mut self) -> Scanned {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let hex = self.bytes.get(self.at + 2..self.at + 6);
                if !hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
                    return Err("an escape needs four hexadecimal digits");
                }
                self.at += 6;
            }
            _ => return Err("an escape is wrong"),
        }
        Ok(())
    }
}

/// Marks the bytes of `word` that end plain text: quotation marks, backslashes and control characters. The lowest mark is
/// always right (a borrow can set wrong ones only above a right one), and the lowest is all that is asked for.
/// Source: Anderson, "Bit Twiddling Hacks", "Determine if a word has a byte less than n".
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word;
    let quote = below(word ^ (ONES * u64::from(b'"')), 1);
    let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
    (below(word, 0x20) | quote | backslash) & (ONES << 7)
}
