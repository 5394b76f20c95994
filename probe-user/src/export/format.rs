//! The two exposition formats: which one a scraper wants, and the older one made from the newer one.

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Text,
}

impl Format {
    /// Value of `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The format for a request's `Accept` (RFC 9110 12.5.1): OpenMetrics only where it is asked for by name, in a
    /// version that 1.0 serves, and not less wanted than text; text in every other case, nonsense included.
    #[must_use]
    pub fn from_accept(accept: &str) -> Self {
        let (mut openmetrics, mut text) = (0, Wish::default());
        for range in split_outside_quotes(accept, ',') {
            let mut parts = split_outside_quotes(range, ';');
            let media = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
            let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
            let parameter = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.trim().trim_matches('"'))
            };
            let weight = parameter("q").map_or(MOST, thousandths);
            match media.as_str() {
                "application/openmetrics-text" if matches!(parameter("version"), None | Some("1.0.0" | "0.0.1")) => {
                    openmetrics = weight.max(openmetrics);
                }
                "text/plain" => text.plain = text.plain.max(Some(weight)),
                "text/*" => text.any_text = text.any_text.max(Some(weight)),
                "*/*" => text.any = text.any.max(Some(weight)),
                _not_served => {}
            }
        }
        if openmetrics > 0 && openmetrics >= text.weight() { Self::OpenMetrics } else { Self::Text }
    }
}

/// The largest weight, `q=1`.
const MOST: u16 = 1000;

/// How much text is wanted; the most specific range that names it counts.
#[derive(Default)]
struct Wish {
    plain: Option<u16>,
    any_text: Option<u16>,
    any: Option<u16>,
}

impl Wish {
    fn weight(&self) -> u16 {
        self.plain.or(self.any_text).or(self.any).unwrap_or(0)
    }
}

/// A weight such as `0.75` in thousandths; 0, which is "not wanted", where it is none.
fn thousandths(weight: &str) -> u16 {
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match (whole, format!("{fraction:0<3}").parse()) {
        ("0", Ok(thousandths)) if digits => thousandths,
        ("1", Ok(0)) if digits => MOST,
        _malformed => 0,
    }
}

fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        let in_quotes = quoted;
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _other => {}
        }
        character == separator && !in_quotes
    })
}

/// Text format 0.0.4 from OpenMetrics 1.0 without exemplars and timestamps: HELP and TYPE carry the name of the
/// samples, an info is a gauge, quotes in HELP are not escaped, UNIT and EOF do not exist.
pub(super) fn to_text(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    // HELP comes first, but only TYPE tells the samples' name.
    let mut help = "";
    for line in openmetrics.split_terminator('\n') {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((family, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                same => ("", same),
            };
            text.extend(["# HELP ", family, suffix, " ", &help.replace("\\\"", "\""), "\n"]);
            text.extend(["# TYPE ", family, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            text.extend([line, "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_only_where_it_is_asked_for() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
                            q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/\
                            openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                            text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for accept in [
            prometheus_2,
            prometheus_3,
            "application/openmetrics-text",
            "Application/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=0.001",
            "text/plain, application/openmetrics-text",
            "application/openmetrics-text;q=0.5, */*;q=0.1",
            "*/*, text/plain;q=0.3, application/openmetrics-text;q=0.4",
            "application/json;x=\"a,b;c\\\",\", application/openmetrics-text",
        ] {
            assert_eq!(Format::from_accept(accept), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/*",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.000, text/plain;q=0",
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;q=-1",
            "application/openmetrics-text;q=0.5555",
            "application/openmetrics-text;q=",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=0.1, */*",
            "application/openmetrics-text;q=0.1, text/plain;q=0.2",
            "x=\"application/openmetrics-text",
            ",;,=;q=\u{7f},\"",
        ] {
            assert_eq!(Format::from_accept(accept), Format::Text, "{accept}");
        }
    }

    #[test]
    fn weights() {
        for (weight, expected) in [("1", 1000), ("1.000", 1000), ("0", 0), ("0.5", 500), ("0.", 0), ("0.123", 123)] {
            assert_eq!(thousandths(weight), expected, "{weight}");
        }
        for malformed in ["1.001", "00.5", ".5", "0.1234", "0.+1", "nan", "", "1e3"] {
            assert_eq!(thousandths(malformed), 0, "{malformed}");
        }
    }
}
