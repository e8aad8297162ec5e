//! Text forms that all packages share: untrusted bytes for people to read, CIDs.
//!
//! **Invariants.** [`printable`] never gives a control character, a bidirectional override or
//! another invisible character, and leaves its own output as it is. [`escaped`] gives different
//! text for different bytes. Parsing is strict: a text with a prefix, such as `/ipfs/`, is no CID.
//!
//! **Spec.** The escapes are those of byte strings in Rust.

use std::fmt::{self, Display, Write};

use cid::{Cid, multibase};

/// Displays untrusted bytes on one line: text as it is, everything else escaped.
///
/// Printable characters of any script stay as they are. Each byte of other characters, and of what
/// is not UTF-8, becomes `\x` and two hexadecimal digits. Use it for whatever a stranger wrote and
/// a terminal or a log shows.
///
/// ```
/// use smart_record_core::printable;
///
/// assert_eq!(printable("café\u{1b}]0;\u{202e}").to_string(), r"café\x1b]0;\xe2\x80\xae");
/// ```
pub fn printable(bytes: &(impl AsRef<[u8]> + ?Sized)) -> Printable<'_> {
    Printable { bytes: bytes.as_ref(), backslash: r"\" }
}

/// As [`printable`], and a backslash becomes `\\`, so that [`unescape`] gives the bytes back: for
/// what is shown and can be typed again.
pub fn escaped(bytes: &(impl AsRef<[u8]> + ?Sized)) -> Printable<'_> {
    Printable { bytes: bytes.as_ref(), backslash: r"\\" }
}

/// See [`printable`].
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a> {
    bytes: &'a [u8],
    /// What a backslash is written as.
    backslash: &'static str,
}

impl Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut is_first = true;
        for chunk in self.bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str(self.backslash)?,
                    c if is_printable(c, is_first) => f.write_char(c)?,
                    c => escape(f, c.encode_utf8(&mut [0; 4]).as_bytes())?,
                }
                is_first = false;
            }
            escape(f, chunk.invalid())?;
        }
        Ok(())
    }
}

fn escape(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, r"\x{byte:02x}"))
}

/// Whether a terminal shows the character, and shows it where it is. The standard library decides:
/// it escapes what is invisible, and a combining character without one before it.
fn is_printable(c: char, is_first: bool) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    let text: String = if is_first { c.into() } else { ['a', c].iter().collect() };
    text.escape_debug().eq(text.chars())
}

/// The bytes whose [`escaped`] form this is; `None` if an escape in it is unknown.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('\\');
    bytes.extend(parts.next()?.bytes());
    while let Some(part) = parts.next() {
        let rest = match part.strip_prefix('x') {
            Some(escaped) => {
                let (digits, rest) = escaped.split_at_checked(2)?;
                let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
                rest
            }
            // Between the two backslashes of an escaped one there is nothing.
            None if part.is_empty() => {
                bytes.push(b'\\');
                parts.next()?
            }
            None => return None,
        };
        bytes.extend(rest.bytes());
    }
    Some(bytes)
}

/// Parses a CID in any base, and nothing around it. `Cid::from_str` takes whatever follows the
/// first `/ipfs/` in a text, and ignores bytes after the CID.
pub fn parse_cid(text: &str) -> Option<Cid> {
    match multibase::decode(text) {
        Ok((_, bytes)) => cid_from_bytes(&bytes),
        // Version 0 has no base in its text.
        Err(_) => Cid::try_from(text).ok().filter(|cid| cid.to_string() == text),
    }
}

/// The CID in these bytes, if they are its only form. The decoder of `cid` ignores trailing bytes
/// and the excess bits of a varint of more than 64 bits.
pub fn cid_from_bytes(bytes: &[u8]) -> Option<Cid> {
    Cid::try_from(bytes).ok().filter(|cid| cid.to_bytes() == bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_4_whatever_is_written_is_shown_on_one_line_without_control_or_bidi_characters() {
        let hostile = ('\0'..='\u{9f}')
            .filter(|c| c.is_control())
            .chain(['\u{ad}', '\u{61c}', '\u{feff}', '\u{e0001}', '\u{fff9}'])
            .chain('\u{200b}'..='\u{200f}')
            .chain('\u{2028}'..='\u{202e}')
            .chain('\u{2060}'..='\u{206f}');
        for c in hostile {
            for text in [format!("{c}"), format!("a{c}b"), format!("é{c}")] {
                let shown = printable(&text).to_string();
                assert!(!shown.contains(c), "{c:?}");
                assert!(shown.chars().all(|c| is_printable(c, false)), "{c:?}");
                assert_eq!(printable(&shown).to_string(), shown);
                assert_eq!(unescape(&shown), Some(text.into_bytes()));
            }
        }
    }

    #[test]
    fn what_can_be_read_stays_as_it_is() {
        for text in ["", " ", "'\"", "café", "cafe\u{301}", "नमस्ते", "日本", "שלום", "👍", "/sr/a b"]
        {
            assert_eq!(printable(text).to_string(), text);
            assert_eq!(unescape(text).as_deref(), Some(text.as_bytes()));
        }
        for (bytes, shown) in [
            (&b"a\\b"[..], r"a\\b"),
            (b"\\", r"\\"),
            (b"\\\\x00", r"\\\\x00"),
            (b"\xff\xc3", r"\xff\xc3"),
            (b"caf\xc3\xa9\xc3", r"café\xc3"),
            (b"\t\r\n", r"\x09\x0d\x0a"),
            ("\u{301}e".as_bytes(), r"\xcc\x81e"),
        ] {
            assert_eq!(escaped(bytes).to_string(), shown);
            assert_eq!(unescape(shown).as_deref(), Some(bytes));
        }
        for text in [r"\", r"\n", r"\x", r"\x1", r"\x+1", r"\xé", r"\x1é", r"a\\\", r"\\\q"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    #[test]
    fn case_13_a_cid_is_read_in_each_form_and_with_nothing_around_it() {
        let digest = multibase::decode(format!("f1220{}", "07".repeat(32))).unwrap().1;
        let of_0 = Cid::try_from(&digest[..]).unwrap();
        let of_1 = Cid::new_v1(0x71, *of_0.hash());
        assert_eq!(parse_cid(&of_0.to_string()), Some(of_0));
        use multibase::Base::*;
        for base in [Base2, Base16Lower, Base32Lower, Base32Upper, Base36Lower, Base58Btc, Base64] {
            let text = of_1.to_string_of_base(base).unwrap();
            assert_eq!(parse_cid(&text), Some(of_1));
            let longer = multibase::encode(base, [of_1.to_bytes(), vec![7]].concat());
            assert!(longer.parse::<Cid>().is_ok(), "the decoder ignores what follows");
            assert_eq!(parse_cid(&longer), None, "{longer}");
        }
        for text in [of_0.to_string(), of_1.to_string()] {
            for around in ["/ipfs/X", "a/ipfs/X", "m/ipfs/X", "X/", " X", "X ", ""] {
                assert_eq!(parse_cid(&around.replace('X', &text)), None, "{around}");
            }
        }
    }
}
