//! What the operator says of those to whom incidents are told. The files are read by [`crate::export::push`].

use std::path::PathBuf;

use hyper::Uri;

use super::{
    Fault, UsageError, choice,
    file::{File, Source},
};
use crate::cli::{PushArgs, PushFormat};

/// To whom incidents are told.
#[derive(Clone, Debug, Default)]
pub struct PushConfig {
    /// `None`: to the log only.
    pub receiver: Option<Receiver>,
    /// Without addresses.
    pub redact: bool,
}

/// Somebody who is told by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Where: `http` or `https`, with a host and without a password.
    pub url: Uri,
    /// What.
    pub format: PushFormat,
    /// Certificates of those who may vouch for it; `None`: the usual authorities.
    pub ca_file: Option<PathBuf>,
    /// Header fields that go with each request.
    pub header_file: Option<PathBuf>,
}

/// What is written in one place, by flags or in the file; each value is good by itself.
#[derive(Debug, Default)]
pub(super) struct Written {
    url: Option<Uri>,
    format: Option<PushFormat>,
    ca_file: Option<PathBuf>,
    header_file: Option<PathBuf>,
}

impl Written {
    pub(super) fn in_file(source: &Source<'_>, file: &File) -> Result<Self, UsageError> {
        Ok(Self {
            url: source.value(file.push_url.as_ref(), |text| url(text))?,
            format: source.value(file.push_format.as_ref(), |text| choice(text))?,
            ca_file: file.push_ca_file.clone(),
            header_file: file.push_header_file.clone(),
        })
    }

    pub(super) fn as_flags(args: &PushArgs) -> Result<Self, UsageError> {
        Ok(Self {
            url: args.push_url.as_deref().map(url).transpose().map_err(|fault| fault.at("--push-url"))?,
            format: args.push_format,
            ca_file: args.push_ca_file.clone(),
            header_file: args.push_header_file.clone(),
        })
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self {
            url: self.url.or(other.url),
            format: self.format.or(other.format),
            ca_file: self.ca_file.or(other.ca_file),
            header_file: self.header_file.or(other.header_file),
        }
    }
}

impl PushConfig {
    pub(super) fn new(written: Written, redact: bool) -> Result<Self, UsageError> {
        let Written { url, format, ca_file, header_file } = written;
        let Some(url) = url else {
            let alone =
                [("format", format.is_some()), ("ca-file", ca_file.is_some()), ("header-file", header_file.is_some())];
            return match alone.iter().find(|(_, is_there)| *is_there) {
                None => Ok(Self { receiver: None, redact }),
                Some((name, _)) => {
                    let fault = Fault::new("there is nobody to tell incidents to", "add --push-url or leave it out");
                    Err(fault.at(format!("--push-{name}")))
                }
            };
        };
        if ca_file.is_some() && url.scheme_str() == Some("http") {
            let fault = Fault::new("nobody vouches for an http URL", "write https, or leave it out");
            return Err(fault.at("--push-ca-file"));
        }
        Ok(Self { receiver: Some(Receiver { url, format: format.unwrap_or_default(), ca_file, header_file }), redact })
    }
}

/// Never shows the URL: its path may be the secret by which one is let in.
fn url(text: &str) -> Result<Uri, Fault> {
    let fault = |cause: &str| Fault::new(cause, "write it as in https://alerts.example.net/lossprobe");
    let uri: Uri = text.parse().map_err(|_| fault("this is no URL"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(fault("the URL has no scheme or no host"));
    };
    if !matches!(scheme, "http" | "https") {
        return Err(fault("the URL is neither http nor https"));
    }
    if authority.host().is_empty() || authority.as_str().contains('@') {
        // A password would be in every process list.
        return Err(Fault::new("the URL has no host, or a user", "put what lets you in into --push-header-file"));
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        cli::AgentArgs,
        config::{Config, Surroundings},
    };

    fn config(text: &str, push: PushArgs) -> Result<PushConfig, String> {
        let source = Source { path: Path::new("a.toml"), text };
        let args = AgentArgs { push, ..AgentArgs::default() };
        Config::merge(&args, &source, &Surroundings::default())
            .map(|config| config.push)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn nobody_is_told_by_default() {
        let push = config("", PushArgs::default()).unwrap();
        assert!(push.receiver.is_none() && !push.redact);
    }

    #[test]
    fn flags_win_over_the_file() {
        let text =
            "push_url = 'https://a.example/x'\npush_format = 'alertmanager'\npush_ca_file = '/ca'\nredact = true\n";
        let of_file = config(text, PushArgs::default()).unwrap();
        let Receiver { url, format, ca_file, header_file } = of_file.receiver.unwrap();
        assert_eq!((url.to_string().as_str(), format), ("https://a.example/x", PushFormat::Alertmanager));
        assert_eq!((ca_file, header_file, of_file.redact), (Some("/ca".into()), None, true));

        let args = PushArgs {
            push_url: Some("https://b.example".to_owned()),
            push_header_file: Some("/header".into()),
            ..PushArgs::default()
        };
        let of_both = config(text, args).unwrap().receiver.unwrap();
        assert_eq!((of_both.url.host(), of_both.format), (Some("b.example"), PushFormat::Alertmanager));
        assert_eq!(of_both.header_file, Some("/header".into()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            (
                "push_url = 'alerts'",
                "a.toml:1:12: key push_url: the URL has no scheme or no host; write it as in https",
            ),
            ("push_url = 'ftp://a'", "a.toml:1:12: key push_url: the URL is neither http nor https; "),
            ("push_url = 'http://'", "a.toml:1:12: key push_url: this is no URL; "),
            ("push_url = 'http://u:p@a/'", "a.toml:1:12: key push_url: the URL has no host, or a user; put what lets"),
            ("push_url = 'http://@/'", "a.toml:1:12: key push_url: "),
            (
                "push_format = 'xml'",
                "a.toml:1:15: key push_format: unknown value `xml`; write one of json, alertmanager",
            ),
            ("push_format = 'json'", "--push-format: there is nobody to tell incidents to; add --push-url"),
            ("push_header_file = '/x'", "--push-header-file: there is nobody"),
            (
                "push_url = 'http://a'\npush_ca_file = '/x'",
                "--push-ca-file: nobody vouches for an http URL; write https",
            ),
            ("push_ca_file = 7", "a.toml:1:16: key push_ca_file: invalid type: integer `7`"),
        ] {
            let said = config(text, PushArgs::default()).unwrap_err();
            assert!(said.starts_with(expected), "{text}: {said}");
            assert!(!said.contains("u:p"), "a secret: {said}");
        }
        let args = PushArgs { push_url: Some("nowhere".to_owned()), ..PushArgs::default() };
        assert!(config("", args).unwrap_err().starts_with("--push-url: the URL has no scheme"));
    }
}
