//! What stands in an INF.
//!
//! `ini-roundtrip` splits the file into sections, directives and bare lines; what those mean is INF's (page "General
//! Syntax Rules for INF Files").
use std::path::Path;

use anyhow::{Context, Result};
use ini_roundtrip::{Item, Parser};

/// A line of a section.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// `key = value`, the value as it was written, without quotes around it.
    KeyValue(String, String),
    /// A line of fields.
    OnlyValue(String),
}

/// Sections in order, those of one name together.
pub(crate) type Sections = Vec<(String, Vec<Entry>)>;

pub(crate) fn parse(text: &str) -> Sections {
    let mut sections: Sections = Vec::new();
    let mut current = None;
    for item in Parser::new(text) {
        match item {
            Item::Section { name, .. } => {
                let found = sections.iter().position(|(known, _)| known.eq_ignore_ascii_case(name));
                current = Some(found.unwrap_or_else(|| {
                    sections.push((name.to_owned(), Vec::new()));
                    sections.len() - 1
                }));
            }
            Item::Property { key, val, .. } => {
                let entry = match val {
                    Some(value) => Entry::KeyValue(key.trim().to_owned(), unquoted(value)),
                    None => Entry::OnlyValue(without_comment(key).to_owned()),
                };
                if let Some((_, entries)) = current.and_then(|index| sections.get_mut(index)) {
                    entries.push(entry);
                }
            }
            _ => {}
        }
    }
    sections
}

/// A line without what follows a semicolon outside quotes.
fn without_comment(text: &str) -> &str {
    let mut quoted = false;
    let end = text.char_indices().find(|(_, character)| {
        quoted ^= *character == '"';
        *character == ';' && !quoted
    });
    text.get(..end.map_or(text.len(), |(index, _)| index)).unwrap_or_default().trim()
}

/// A value; quotes around all of it go.
fn unquoted(text: &str) -> String {
    let text = without_comment(text);
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.filter(|inner| !inner.contains('"')).unwrap_or(text).to_owned()
}

/// The fields of a line, without their quotes; commas inside quotes belong to the field.
pub(crate) fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => {
                if let Some(field) = fields.last_mut() {
                    field.push(other);
                }
            }
        }
    }
    fields.iter().map(|field| field.trim().to_owned()).collect()
}

/// A number, decimal or hexadecimal.
pub(crate) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A line of an INF, with its strings in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Section.
    pub(crate) section: String,
    /// What stands before the equals sign.
    pub(crate) key: Option<String>,
    /// What stands after it, or the whole line.
    pub(crate) fields: Vec<String>,
}

/// Every line of the INF at `path`, section by section.
pub(crate) fn lines(path: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let sections = parse(&text);
    let strings: Vec<(String, String)> = sections
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("Strings"))
        .flat_map(|(_, entries)| entries)
        .filter_map(|entry| match entry {
            Entry::KeyValue(name, value) => Some((name.clone(), value.clone())),
            Entry::OnlyValue(_) => None,
        })
        .collect();
    let mut lines = Vec::new();
    for (section, entries) in sections {
        for entry in entries {
            let (key, value) = match entry {
                Entry::KeyValue(key, value) => (Some(substituted(&key, &strings)), value),
                Entry::OnlyValue(value) => (None, value),
            };
            // A string may hold commas of its own.
            let string = section.eq_ignore_ascii_case("Strings");
            let fields = if string { vec![value] } else { fields(&value) };
            let fields = fields.iter().map(|field| substituted(field, &strings)).collect();
            lines.push(Line { section: section.clone(), key, fields });
        }
    }
    Ok(lines)
}

/// The text with each %token% replaced; tokens that are no strings, as directories, stay.
fn substituted(text: &str, strings: &[(String, String)]) -> String {
    let mut parts = text.split('%');
    let mut result = parts.next().unwrap_or_default().to_owned();
    while let (Some(token), rest) = (parts.next(), parts.next()) {
        let known = strings.iter().find(|(name, _)| token.eq_ignore_ascii_case(name));
        match known {
            Some((_, value)) => result.push_str(value),
            None => result.extend(["%", token, "%"]),
        }
        result.push_str(rest.unwrap_or_default());
    }
    result
}

/// The files that the package of an INF brings, besides the INF.
pub(crate) fn files(lines: &[Line]) -> Vec<String> {
    let listed = lines.iter().filter(|line| line.section.eq_ignore_ascii_case("SourceDisksFiles"));
    listed.filter_map(|line| line.key.clone()).collect()
}

/// The hardware IDs of an INF's models, each once.
pub(crate) fn hardware_ids(lines: &[Line]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let makers = lines.iter().filter(|line| line.section.eq_ignore_ascii_case("Manufacturer"));
    for maker in makers {
        let Some((name, targets)) = maker.fields.split_first() else { continue };
        for section in targets.iter().map(|target| format!("{name}.{target}")) {
            for model in lines.iter().filter(|line| line.section.eq_ignore_ascii_case(&section)) {
                ids.extend(
                    model.fields.iter().skip(1).filter(|id| !ids.contains(id)).cloned().collect::<Vec<_>>(),
                );
            }
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_put_in_place_and_directories_stay() {
        let strings = [("name".to_owned(), "a \"b\"".to_owned())];
        assert_eq!(substituted("%Name%, %12%\\x.sys", &strings), "a \"b\", %12%\\x.sys");
        assert_eq!(substituted("100", &strings), "100");
    }
}
