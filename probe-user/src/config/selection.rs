//! Which interfaces are meant: names and globs, and what is said where a name is none.

use std::collections::BTreeSet;

use globset::{Glob, GlobSet};

use super::{Fault, NAMES_SHOWN, UsageError};

/// Which interfaces are meant.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    include: Vec<Pattern>,
    include_set: GlobSet,
    exclude_set: GlobSet,
}

/// `interface` was named, and there is none of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no interface `{interface}`; {hint}")]
pub struct UnknownInterface {
    /// The name.
    pub interface: String,
    hint: String,
}

impl Selection {
    /// From globs; no `interface` at all means every interface but loopbacks.
    ///
    /// # Errors
    /// A glob that is none.
    pub fn from_flags(interface: &[String], exclude: &[String]) -> Result<Self, UsageError> {
        Self::new(flag_globs(interface, "--interface")?, &flag_globs(exclude, "--exclude")?)
    }

    pub(super) fn new(include: Vec<Pattern>, exclude: &[Pattern]) -> Result<Self, UsageError> {
        let set = |patterns: &[Pattern], flag: &str| glob_set(patterns).map_err(|fault| fault.at(flag));
        let (include_set, exclude_set) = (set(&include, "--interface")?, set(exclude, "--exclude")?);
        Ok(Self { include, include_set, exclude_set })
    }

    /// Whether no `--interface` was given.
    pub(crate) const fn is_default(&self) -> bool {
        self.include.is_empty()
    }

    /// Whether an interface is meant. A loopback is only if an `--interface` matches it.
    #[must_use]
    pub fn selects(&self, name: &str, is_loopback: bool) -> bool {
        let included = if self.include.is_empty() { !is_loopback } else { self.include_set.is_match(name) };
        included && !self.exclude_set.is_match(name)
    }

    /// Compares with the interfaces that exist at the start. Returns the globs that match none of them: not wrong (such
    /// an interface can appear later), but worth a warning.
    ///
    /// # Errors
    /// The first plain name that no interface has.
    pub fn check_against(&self, existing: &[String]) -> Result<Vec<String>, UnknownInterface> {
        missing_names(&self.include, &self.include_set, existing)
    }
}

/// The globs that match no existing interface.
pub(super) fn missing_names(
    patterns: &[Pattern],
    set: &GlobSet,
    existing: &[String],
) -> Result<Vec<String>, UnknownInterface> {
    let mut found = vec![false; patterns.len()];
    for name in existing {
        for index in set.matches(name) {
            found[index] = true;
        }
    }
    let missing = || patterns.iter().zip(&found).filter(|(_, found)| !**found).map(|(pattern, _)| pattern);
    match missing().find(|pattern| pattern.is_name) {
        Some(pattern) => Err(UnknownInterface::new(pattern.glob.glob(), existing)),
        None => Ok(missing().map(|pattern| pattern.glob.glob().to_owned()).collect()),
    }
}

pub(super) fn glob_set(patterns: &[Pattern]) -> Result<GlobSet, Fault> {
    // Each glob is good by itself; together they can be too many for one automaton.
    GlobSet::new(patterns.iter().map(|pattern| &pattern.glob))
        .map_err(|error| Fault::new(error.to_string(), "use fewer or simpler globs"))
}

impl UnknownInterface {
    fn new(interface: &str, existing: &[String]) -> Self {
        let near = near(interface, existing.iter().map(String::as_str));
        let near: Vec<_> = near.iter().map(|name| format!("`{}`", name.escape_debug())).collect();
        let mut hint = if near.is_empty() { String::new() } else { format!("did you mean {}? ", near.join(" or ")) };
        hint += "interfaces here: ";
        let shown = existing.iter().take(NAMES_SHOWN).map(|name| name.escape_debug().to_string());
        hint += &shown.collect::<Vec<_>>().join(", ");
        if let Some(more) = existing.len().checked_sub(NAMES_SHOWN + 1) {
            hint += &format!(" and {} more", more + 1);
        }
        Self { interface: interface.to_owned(), hint }
    }
}

/// `did you mean …? `, or nothing where nothing is near.
pub(crate) fn did_you_mean(name: &str, all: &BTreeSet<&str>) -> String {
    // Part of a name that somebody remembers is nearer than any misspelling.
    let parts = all.iter().filter(|known| name.len() >= 3 && known.contains(name)).map(|known| (*known).to_owned());
    let mut near: Vec<String> = parts.take(3).collect();
    if near.is_empty() {
        near = self::near(name, all.iter().copied());
    }
    let near: Vec<_> = near.iter().map(|name| format!("`{}`", name.escape_debug())).collect();
    if near.is_empty() { String::new() } else { format!("did you mean {}? ", near.join(" or ")) }
}

/// The names, three at most, that somebody who wrote `word` may have meant, the nearest first.
fn near<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    // An edit or two in a short name; a third of a long one.
    let bound = (word.chars().count() / 3).max(2);
    let mut near: Vec<_> = names
        .map(|name| (strsim::damerau_levenshtein(word, name), name))
        .filter(|(edits, name)| *edits <= bound && *edits < name.chars().count())
        .collect();
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

/// A valid glob.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pub(super) glob: Glob,
    /// Without any special character: exactly one is meant.
    pub(super) is_name: bool,
}

pub(super) fn pattern(text: &str) -> Result<Pattern, Fault> {
    if text.is_empty() {
        return Err(Fault::new("the glob is empty", "name an interface, or `*` for all"));
    }
    let glob = Glob::new(text).map_err(|error| {
        let at = text.chars().take(fault_offset(text, error.kind())).count() + 1;
        Fault::new(
            format!("bad glob `{text}` at character {at}: {}", error.kind()),
            "write a name, or a pattern with `*`, `?`, `[abc]` or `{a,b}`; `\\` before a character means itself",
        )
    })?;
    Ok(Pattern { glob, is_name: !text.contains(['*', '?', '[', ']', '{', '}', '\\']) })
}

/// Characters before the one that a glob's fault is about; the library does not say.
fn fault_offset(text: &str, fault: &globset::ErrorKind) -> usize {
    let byte = match fault {
        globset::ErrorKind::UnclosedClass => text.rfind('['),
        globset::ErrorKind::InvalidRange(from, to) => text.find(&format!("{from}-{to}")),
        globset::ErrorKind::UnopenedAlternates => text.find('}'),
        globset::ErrorKind::UnclosedAlternates => text.find('{'),
        globset::ErrorKind::DanglingEscape => text.rfind('\\'),
        _ => None,
    };
    byte.map_or(0, |byte| text[..byte].chars().count())
}

pub(super) fn flag_globs(globs: &[String], flag: &str) -> Result<Vec<Pattern>, UsageError> {
    globs.iter().map(|glob| pattern(glob).map_err(|fault| fault.at(flag))).collect()
}
