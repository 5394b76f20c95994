//! What a YAML file says, as a tree in which every part knows its place. Only what settings need: one document of maps, lists and
//! scalars. No anchors and aliases, by which a few bytes stand for gigabytes, and no tags.

use std::path::Path;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput};

use crate::config::{Fault, UsageError};

/// Maps and lists within each other.
const DEEPEST: usize = 8;

/// Part of a document.
#[derive(Debug)]
pub(super) struct Node {
    /// `FILE:LINE:COLUMN: key KEY`.
    pub(super) place: String,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Nothing,
    Scalar {
        text: String,
        /// Without quotes, so that it may be a truth value.
        is_plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Of the key.
    pub(super) place: String,
    pub(super) value: Node,
}

/// The document in `text`, which was read from `path`; [`Value::Nothing`] where there is none.
pub(super) fn read(path: &Path, text: &str) -> Result<Node, UsageError> {
    let mut reader = Reader { path, events: Parser::new_from_str(text) };
    let mut root = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
            _second if root.is_some() => {
                let fault = Fault::new("a second document begins", "leave one of them out");
                return Err(fault.at(reader.place(span.start, "")));
            }
            event => root = Some(reader.node((event, span), "", 0)?),
        }
    }
    Ok(root.unwrap_or_else(|| Node { place: format!("{}:1:1", path.display()), value: Value::Nothing }))
}

struct Reader<'a> {
    path: &'a Path,
    events: Parser<'a, StrInput<'a>>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), UsageError> {
        let next_step = "write `key: value` lines, indented by spaces";
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Fault::new(error.info(), next_step).at(self.place(*error.marker(), ""))),
            None => Err(Fault::new("the file ends too early", next_step).at(self.path.display().to_string())),
        }
    }

    /// Lines and columns count from 1.
    fn place(&self, at: Marker, key: &str) -> String {
        let key = if key.is_empty() { String::new() } else { format!(": key {key}") };
        format!("{}:{}:{}{key}", self.path.display(), at.line(), at.col() + 1)
    }

    /// What begins with this event, as the value of `key`.
    fn node(&mut self, (event, span): (Event<'a>, Span), key: &str, depth: usize) -> Result<Node, UsageError> {
        let place = self.place(span.start, key);
        if depth > DEEPEST {
            return Err(Fault::new("this is nested too deeply", "nothing here needs it").at(place));
        }
        let value = match event {
            Event::Scalar(text, style, 0, None) => match (&*text, style == ScalarStyle::Plain) {
                ("" | "~" | "null", true) => Value::Nothing,
                (_, is_plain) => Value::Scalar { text: text.into_owned(), is_plain },
            },
            Event::SequenceStart(0, None) => {
                let mut list = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break Value::List(list),
                        item => list.push(self.node(item, key, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(0, None) => {
                let mut map: Vec<Entry> = Vec::new();
                loop {
                    match self.next()? {
                        (Event::MappingEnd, _) => break Value::Map(map),
                        first => {
                            let entry = self.entry(first, key, depth)?;
                            if map.iter().any(|earlier| earlier.key == entry.key) {
                                return Err(Fault::new("the key is there twice", "leave one out").at(entry.place));
                            }
                            map.push(entry);
                        }
                    }
                }
            }
            _anchor_alias_or_tag => {
                let fault = Fault::new("anchors, aliases and tags are not read here", "write the value itself");
                return Err(fault.at(place));
            }
        };
        Ok(Node { place, value })
    }

    fn entry(&mut self, first: (Event<'a>, Span), parent: &str, depth: usize) -> Result<Entry, UsageError> {
        let at = first.1.start;
        let Node { place, value: Value::Scalar { text: key, .. } } = self.node(first, parent, depth + 1)? else {
            return Err(Fault::new("this is no key", "write `key: value`").at(self.place(at, parent)));
        };
        drop(place);
        let path = if parent.is_empty() { key.clone() } else { format!("{parent}.{key}") };
        let value = self.next()?;
        Ok(Entry { place: self.place(at, &path), value: self.node(value, &path, depth + 1)?, key })
    }
}
