//! Info.plist of a driver bundle for pcscd: which readers are the driver's, and its settings.
//!
//! Of the XML property lists only what occurs there: one dictionary of strings and arrays of
//! strings.

use std::collections::BTreeMap;
use std::fmt;

/// What a bundle of ours is known by: CFBundleIdentifier.
pub const IDENTIFIER: &str = "scard.ifdhandler";

/// The library in it.
pub const EXECUTABLE: &str = "libifdscard.so";

const HEADER: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"PropertyList-1.0.dtd\">
<plist version=\"1.0\">
<dict>
";

/// One value.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Value {
    Text(String),
    List(Vec<String>),
}

/// An Info.plist.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Info(BTreeMap<String, Value>);

/// A reader that a bundle names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Listed {
    /// idVendor.
    pub vendor: u16,
    /// idProduct.
    pub product: u16,
    /// What pcscd calls it.
    pub name: String,
}

/// Why a text is no such list.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PlistError {
    /// It ends within an element, or a comment.
    Unfinished,
    /// An element that is not known, or not in this place.
    Element(String),
    /// An entity that is not known.
    Entity(String),
    /// ifdVendorID, ifdProductID and ifdFriendlyName are not of one length.
    Lengths([usize; 3]),
    /// Not a number of 16 bits, in hexadecimal digits.
    Number(String),
}

impl fmt::Display for PlistError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfinished => f.write_str("the text ends too early"),
            Self::Element(name) => write!(f, "element {name:?} is not expected"),
            Self::Entity(name) => write!(f, "entity {name:?} is not known"),
            Self::Lengths([vendors, products, names]) => write!(
                f,
                "{vendors} of ifdVendorID, {products} of ifdProductID, {names} of ifdFriendlyName"
            ),
            Self::Number(text) => write!(f, "{text:?} is no 16-bit number"),
        }
    }
}

impl std::error::Error for PlistError {}

impl Info {
    /// Reads an Info.plist.
    ///
    /// # Errors
    /// [`PlistError`].
    pub fn parse(text: &str) -> Result<Self, PlistError> {
        let mut tokens = Tokens { rest: text };
        let mut info = Self::default();
        let mut key = None;
        while let Some(token) = tokens.next()? {
            match token.name {
                "plist" | "/plist" | "dict" | "/dict" => {}
                "key" => key = Some(tokens.content("/key")?),
                "string" => {
                    let value = Value::Text(tokens.content("/string")?);
                    info.0.extend(key.take().map(|key| (key, value)));
                }
                "string/" => {
                    info.0.extend(key.take().map(|key| (key, Value::Text(String::new()))));
                }
                "array" => {
                    let value = Value::List(tokens.list()?);
                    info.0.extend(key.take().map(|key| (key, value)));
                }
                "array/" => info.0.extend(key.take().map(|key| (key, Value::List(Vec::new())))),
                other => return Err(PlistError::Element(other.into())),
            }
        }
        Ok(info)
    }

    /// The string of that key.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.0.get(key)? {
            Value::Text(text) => Some(text),
            Value::List(_) => None,
        }
    }

    /// The array of that key.
    pub fn list(&self, key: &str) -> Option<&[String]> {
        match self.0.get(key)? {
            Value::Text(_) => None,
            Value::List(list) => Some(list),
        }
    }

    /// The number of that key, as libccid's settings are written: hexadecimal behind `0x`, octal
    /// behind `0`, else decimal.
    pub fn number(&self, key: &str) -> Option<u32> {
        parse_number(self.text(key)?)
    }

    /// The readers that it names.
    ///
    /// # Errors
    /// [`PlistError::Lengths`], [`PlistError::Number`]. pcscd ends if the lengths differ.
    pub fn readers(&self) -> Result<Vec<Listed>, PlistError> {
        let lists = ["ifdVendorID", "ifdProductID", "ifdFriendlyName"];
        let [vendors, products, names] = lists.map(|key| self.list(key).unwrap_or_default());
        if vendors.len() != products.len() || vendors.len() != names.len() {
            return Err(PlistError::Lengths([vendors.len(), products.len(), names.len()]));
        }
        let number = |text: &String| {
            let digits = text.trim().trim_start_matches("0x").trim_start_matches("0X");
            u16::from_str_radix(digits, 16).map_err(|_| PlistError::Number(text.clone()))
        };
        vendors
            .iter()
            .zip(products)
            .zip(names)
            .map(|((vendor, product), name)| {
                let (vendor, product) = (number(vendor)?, number(product)?);
                Ok(Listed { vendor, product, name: name.clone() })
            })
            .collect()
    }
}

/// The Info.plist of a bundle of ours, for pcscd on Linux.
pub fn info_plist(readers: &[Listed], settings: &[(&str, &str)]) -> String {
    let mut out = String::from(HEADER);
    let text = |out: &mut String, key: &str, value: &str| {
        *out += &format!("\t<key>{key}</key>\n\t<string>{}</string>\n", escape(value));
    };
    text(&mut out, "CFBundleIdentifier", IDENTIFIER);
    text(&mut out, "CFBundleName", "scard");
    text(&mut out, "CFBundleExecutable", EXECUTABLE);
    text(&mut out, "CFBundlePackageType", "BNDL");
    text(&mut out, "CFBundleVersion", env!("CARGO_PKG_VERSION"));
    text(&mut out, "ifdCapabilities", "0x00000000");
    for (key, value) in settings {
        text(&mut out, key, value);
    }
    // pcscd ends if the three are not of one length.
    let mut list = |key: &str, value: &dyn Fn(&Listed) -> String| {
        out += &format!("\t<key>{key}</key>\n\t<array>\n");
        for reader in readers {
            out += &format!("\t\t<string>{}</string>\n", escape(&value(reader)));
        }
        out += "\t</array>\n";
    };
    list("ifdVendorID", &|reader| format!("0x{:04X}", reader.vendor));
    list("ifdProductID", &|reader| format!("0x{:04X}", reader.product));
    list("ifdFriendlyName", &|reader| reader.name.clone());
    out += "</dict>\n</plist>\n";
    out
}

/// A number as C's strtoul reads it with base 0.
pub fn parse_number(text: &str) -> Option<u32> {
    let text = text.trim();
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    match (hexadecimal, text.strip_prefix('0')) {
        (Some(digits), _) => u32::from_str_radix(digits, 16).ok(),
        (None, Some(digits)) if !digits.is_empty() => u32::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// A tag, and the text before it.
struct Token<'a> {
    before: &'a str,
    name: &'a str,
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    /// The next tag that is neither comment nor declaration; none at the end.
    fn next(&mut self) -> Result<Option<Token<'a>>, PlistError> {
        loop {
            let Some((before, rest)) = self.rest.split_once('<') else {
                return Ok(None);
            };
            let end = if rest.starts_with("!--") { "-->" } else { ">" };
            let (tag, rest) = rest.split_once(end).ok_or(PlistError::Unfinished)?;
            self.rest = rest;
            if tag.starts_with(['!', '?']) {
                continue;
            }
            // Attributes do not matter; `<string />` is `<string/>`.
            let name = match tag.split_once(char::is_whitespace) {
                Some((name, rest)) if rest.ends_with('/') => match name {
                    "string" => "string/",
                    "array" => "array/",
                    other => other,
                },
                Some((name, _)) => name,
                None => tag,
            };
            return Ok(Some(Token { before, name }));
        }
    }

    /// The text up to the tag `end`.
    fn content(&mut self, end: &str) -> Result<String, PlistError> {
        let token = self.next()?.ok_or(PlistError::Unfinished)?;
        match token.name == end {
            true => unescape(token.before.trim()),
            false => Err(PlistError::Element(token.name.into())),
        }
    }

    /// The strings up to the end of the array.
    fn list(&mut self) -> Result<Vec<String>, PlistError> {
        let mut list = Vec::new();
        loop {
            match self.next()?.ok_or(PlistError::Unfinished)?.name {
                "string" => list.push(self.content("/string")?),
                "string/" => list.push(String::new()),
                "/array" => return Ok(list),
                other => return Err(PlistError::Element(other.into())),
            }
        }
    }
}

const ENTITIES: [(&str, char); 5] =
    [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\'')];

fn unescape(text: &str) -> Result<String, PlistError> {
    let mut parts = text.split('&');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(';').ok_or(PlistError::Unfinished)?;
        let entity = ENTITIES.iter().find(|(own, _)| *own == name);
        out.push(entity.ok_or_else(|| PlistError::Entity(name.into()))?.1);
        out.push_str(rest);
    }
    Ok(out)
}

/// `text` as it stands in an Info.plist. Control characters, which XML cannot have, become spaces.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        match ENTITIES.iter().find(|(_, own)| *own == c) {
            Some((name, _)) => out.extend(["&", name, ";"]),
            None => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "x">
<plist version="1.0"><dict>
    <key>CFBundleExecutable</key> <string>libifdscard.so</string>
    <!-- <key>commented</key><string>out</string> -->
    <key>ifdLogLevel</key><string>0x0007</string>
    <key>ifdVendorID</key><array><string>0x08E6</string> <string>04e6</string></array>
    <key>ifdProductID</key><array><string>0x3437</string><string>0x5115</string></array>
    <key>ifdFriendlyName</key><array><string>A &amp; B</string><string>C</string></array>
    <key>empty</key><array/><key>nothing</key><string />
</dict></plist>"#;

    #[test]
    fn a_list_is_read() {
        let info = Info::parse(TEXT).unwrap();
        assert_eq!(info.text("CFBundleExecutable"), Some("libifdscard.so"));
        assert_eq!(info.text("commented"), None);
        assert_eq!(info.number("ifdLogLevel"), Some(7));
        assert_eq!(info.list("empty"), Some(&[][..]));
        assert_eq!(info.text("nothing"), Some(""));
        let listed = |vendor, product, name: &str| Listed { vendor, product, name: name.into() };
        let readers = [listed(0x08E6, 0x3437, "A & B"), listed(0x04E6, 0x5115, "C")];
        assert_eq!(info.readers(), Ok(readers.to_vec()));
    }

    #[test]
    fn what_is_no_list_is_told() {
        let wrong = |text: &str| Info::parse(text).unwrap_err();
        assert_eq!(wrong("<plist"), PlistError::Unfinished);
        assert_eq!(wrong("<key>a"), PlistError::Unfinished);
        assert_eq!(wrong("<key>a</string>"), PlistError::Element("/string".into()));
        assert_eq!(wrong("<array><key>"), PlistError::Element("key".into()));
        assert_eq!(wrong("<real>1</real>"), PlistError::Element("real".into()));
        assert_eq!(wrong("<key>&nbsp;</key>"), PlistError::Entity("nbsp".into()));
        let uneven = TEXT.replace("<string>C</string>", "");
        let lengths = PlistError::Lengths([2, 2, 1]);
        assert_eq!(Info::parse(&uneven).unwrap().readers(), Err(lengths));
        let number = Info::parse(&TEXT.replace("04e6", "four")).unwrap().readers();
        assert_eq!(number, Err(PlistError::Number("four".into())));
        for cut in 0..TEXT.len() {
            let _ = Info::parse(&TEXT[..cut]);
        }
    }

    #[test]
    fn a_list_that_is_written_is_read() {
        let listed = |vendor, product, name: &str| Listed { vendor, product, name: name.into() };
        let readers = [listed(0x08E6, 0x3437, "A & <B>"), listed(4, 0xABCD, "")];
        let text = info_plist(&readers, &[("ifdLogLevel", "0x0003")]);
        let info = Info::parse(&text).unwrap();
        assert_eq!(info.readers(), Ok(readers.to_vec()));
        assert_eq!(info.text("CFBundleIdentifier"), Some(IDENTIFIER));
        assert_eq!(info.text("CFBundleExecutable"), Some(EXECUTABLE));
        assert_eq!(info.number("ifdLogLevel"), Some(3));
        assert_eq!(Info::parse(&info_plist(&[], &[])).unwrap().readers(), Ok(vec![]));
    }

    #[test]
    fn numbers_and_texts() {
        for (text, number) in
            [("3", Some(3)), ("0x1F", Some(31)), ("010", Some(8)), ("0", Some(0)), ("x", None)]
        {
            assert_eq!(parse_number(text), number, "{text}");
        }
        let hostile = "<A & 'B'>\u{7}\"";
        let escaped = escape(hostile);
        assert!(!escaped.contains(['<', '>', '"', '\u{7}']));
        assert_eq!(unescape(&escaped).unwrap(), "<A & 'B'> \"");
    }
}
