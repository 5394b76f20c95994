//! Addresses, taken out of texts that others read.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

/// What stands in an address's place.
const MARK: &str = "[redacted]";

/// Takes them out of every text: what gets a key tomorrow is not forgotten.
pub(crate) fn redact(value: &mut Value) {
    match value {
        Value::String(text) => *text = redacted(text),
        Value::Array(values) => values.iter_mut().for_each(redact),
        Value::Object(map) => map.values_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `text` without IP addresses, also with a port, a zone or a prefix, and without hardware addresses.
pub(crate) fn redacted(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(|c| !is_of_address(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(word);
        result.push_str(&shown(word));
        let other = behind.find(is_of_address).unwrap_or(behind.len());
        let (other, behind) = behind.split_at(other);
        result.push_str(other);
        rest = behind;
    }
    result
}

fn is_of_address(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '%' | '/' | '-')
}

/// A word, in which a dash may be part of a hardware address or stand between two addresses.
fn shown(word: &str) -> String {
    part(word).unwrap_or_else(|| {
        word.split('-').map(|text| part(text).unwrap_or_else(|| text.to_owned())).collect::<Vec<_>>().join("-")
    })
}

/// [`MARK`], and the full stop or colon that has followed the address; `None` if it is none. An address can end with colons.
fn part(word: &str) -> Option<String> {
    let bare = [&['.', ':', '/'][..], &['.', '/']].map(|ends| word.trim_end_matches(ends));
    let address = bare.into_iter().find(|text| is_address(text))?;
    Some(format!("{MARK}{}", &word[address.len()..]))
}

fn is_address(word: &str) -> bool {
    let bare = word.split(['/', '%']).next().unwrap_or_default();
    bare.parse::<IpAddr>().is_ok() || bare.parse::<SocketAddr>().is_ok() || is_hardware_address(bare)
}

fn is_hardware_address(word: &str) -> bool {
    let is_octet = |octet: &str| octet.len() == 2 && octet.bytes().all(|byte| byte.is_ascii_hexdigit());
    [':', '-'].into_iter().any(|between| word.split(between).count() == 6 && word.split(between).all(is_octet))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_are_taken_out() {
        for (text, expected) in [
            ("", ""),
            ("from 192.0.2.7.", "from [redacted]."),
            ("192.0.2.7:443→[2001:db8::1]:80", "[redacted]→[[redacted]]:80"),
            ("2001:db8::/32, fe80::1%eth0; 10.0.0.0/8", "[redacted], [redacted]; [redacted]"),
            ("source 02:00:5E:00:53:01: 12 frames", "source [redacted]: 12 frames"),
            ("src=192.0.2.1-192.0.2.9", "src=[redacted]-[redacted]"),
            ("192.0.2.1:443->[2001:db8::1]:80", "[redacted]->[[redacted]]:80"),
            ("02-00-00-00-00-07, twice 02-00-00-00-00-07.", "[redacted], twice [redacted]."),
            ("(::1)", "([redacted])"),
            ("(fd00::) to fe80::1%eth0 or fd00::.", "([redacted]) to [redacted] or [redacted]."),
            // No addresses.
            (
                "2026-01-18T10:40:00.123Z 3.1 % on eth0.100, ip4_csum 12:30:00",
                "2026-01-18T10:40:00.123Z 3.1 % on eth0.100, ip4_csum 12:30:00",
            ),
            ("Linux 6.18.0 übertrug 1/2 of net/ipv4", "Linux 6.18.0 übertrug 1/2 of net/ipv4"),
        ] {
            assert_eq!(redacted(text), expected, "{text}");
        }
    }

    #[test]
    fn wherever_they_are() {
        let mut value = json!({"a": ["x 192.0.2.1", {"b": "::1", "n": 1, "t": true, "z": null}], "192.0.2.1": ""});
        redact(&mut value);
        assert_eq!(
            value,
            json!({"a": ["x [redacted]", {"b": "[redacted]", "n": 1, "t": true, "z": null}], "192.0.2.1": ""})
        );
    }
}
