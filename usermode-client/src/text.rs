//! Text of others that reaches a terminal.
use std::path::Path;

/// Text without control characters: what would move the cursor or change colours is shown as an escape.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        // U+202A to U+202E and U+2066 to U+2069 turn the direction of what follows.
        if character.is_control() || matches!(character, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}') {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// A path as it is shown.
pub fn path(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { clean(&path.to_string_lossy()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_names_do_not_reach_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\nc"), "a\\u{1b}[31mb\\nc");
        assert_eq!(clean("x\u{202e}y"), "x\\u{202e}y");
        assert_eq!(path(Path::new("ünïcode")), "ünïcode");
        assert_eq!(path(Path::new("-")), "standard input");
    }
}
