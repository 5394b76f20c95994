//! The text exposition format, read back.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};

/// One scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    samples: Vec<Sample>,
}

/// One line of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Metrics {
    /// Reads text format 0.0.4 (comments are skipped).
    ///
    /// # Errors
    /// With the line that is none.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| parse_line(line).with_context(|| format!("metrics line {line:?}")));
        Ok(Self { samples: samples.collect::<Result<_>>()? })
    }

    /// Every sample of `name` that has at least these labels.
    pub fn select<'s>(&'s self, name: &'s str, labels: &'s [(&'s str, &'s str)]) -> impl Iterator<Item = &'s Sample> {
        let matches = |sample: &&Sample| {
            labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|v| v == value))
        };
        self.samples.iter().filter(move |sample| sample.name == name).filter(matches)
    }

    /// The value of the first sample of `name` that has at least these labels.
    #[must_use]
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.select(name, labels).next().map(|sample| sample.value)
    }

    /// The sum over all samples of `name` that have at least these labels; 0 when there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.select(name, labels).map(|sample| sample.value).sum()
    }

    /// All samples.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }
}

fn parse_line(line: &str) -> Result<Sample> {
    let Some((name, rest)) = line.split_once('{') else {
        let (name, value) = line.split_once(' ').context("no value")?;
        return Ok(Sample { name: name.to_owned(), labels: BTreeMap::new(), value: parse_value(value)? });
    };
    let mut rest = rest;
    let mut labels = BTreeMap::new();
    let value = loop {
        if let Some(value) = rest.strip_prefix('}') {
            break value;
        }
        let (label, quoted) = rest.split_once("=\"").context("label without value")?;
        let (value, behind) = unquote(quoted)?;
        ensure!(labels.insert(label.to_owned(), value).is_none(), "label {label} twice");
        rest = behind.strip_prefix(',').unwrap_or(behind);
    };
    Ok(Sample { name: name.to_owned(), labels, value: parse_value(value.trim_start())? })
}

fn parse_value(text: &str) -> Result<f64> {
    text.trim().parse().with_context(|| format!("value {text:?}"))
}

/// The text up to the closing quote, and what is behind it.
fn unquote(quoted: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped)) => value.push(escaped),
                None => bail!("unfinished escape"),
            },
            other => value.push(other),
        }
    }
    bail!("label value does not end")
}
