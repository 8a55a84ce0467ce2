//! Frames as hexadecimal text: digits with or without separators, or a hexdump of xxd, tcpdump or Wireshark.
use crate::Error;

/// The longest text that is read; the longest frame fits many times.
pub const LONGEST: u64 = 1024 * 1024;

/// Reads one frame of hexadecimal text.
///
/// Bytes may stand next to each other or have spaces, line ends, `:` or `-` between them. If the first line starts
/// with an offset of zero, the text is a hexdump: `0000  ff ff …` of Wireshark, `0x0000:  ffff …` of tcpdump,
/// `00000000: ffff …` of xxd; its offsets are checked, and the text at the right of its bytes is passed over.
pub fn frame(text: &str) -> Result<Vec<u8>, Error> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let dumps = lines.iter().any(|line| offset(line).is_some_and(|(at, _)| at == 0));
    let bytes = if dumps { dump(&lines)? } else { digits(text)? };
    if bytes.is_empty() {
        Err(Error::Input("the hexadecimal text has no digits".to_owned()))
    } else {
        Ok(bytes)
    }
}

/// The offset that a line of a hexdump starts with, and the rest of the line.
fn offset(line: &str) -> Option<(usize, &str)> {
    let (word, rest) = line.trim_start().split_once(char::is_whitespace)?;
    let named = word.strip_suffix(':');
    let digits = named.unwrap_or(word);
    let digits = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")).unwrap_or(digits);
    // Without a colon it is Wireshark's, with at least four digits; the bytes that follow stand by themselves.
    let apart = rest.split_whitespace().next().is_some_and(|first| first.len() == 2);
    let known = digits.len() >= 4 && digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !known || (named.is_none() && !apart) {
        return None;
    }
    usize::from_str_radix(digits, 16).ok().map(|at| (at, rest))
}

fn dump(lines: &[&str]) -> Result<Vec<u8>, Error> {
    let mut bytes: Vec<u8> = Vec::new();
    // What stands in front of the first offset is what the program says of the frame.
    let first = lines.iter().position(|line| offset(line).is_some()).unwrap_or(0);
    // The second offset tells how many bytes a line has.
    let second = lines.get(first + 1).and_then(|line| offset(line)).map_or(16, |(at, _)| at);
    let width = if (1..=256).contains(&second) { second } else { 16 };
    for line in lines.iter().skip(first) {
        let Some((at, rest)) = offset(line) else {
            return Err(Error::Input(format!(
                "a line of the hexdump has no offset: {}",
                crate::text::clean(line.trim())
            )));
        };
        if at == 0 && !bytes.is_empty() {
            return Err(Error::Input("the hexdump holds more than one frame; give one".to_owned()));
        }
        if at != bytes.len() {
            let had = bytes.len();
            return Err(Error::Input(format!("a line of the hexdump has offset {at:#x} and not {had:#x}")));
        }
        row(rest, width, &mut bytes);
    }
    Ok(bytes)
}

/// Bytes of a line: up to `width`, in groups with a single space between, before the text at the right.
fn row(rest: &str, width: usize, bytes: &mut Vec<u8>) {
    let row = rest.trim_start();
    let end = bytes.len() + width;
    let mut position = 0;
    let mut blanks = 0;
    while bytes.len() < end {
        let Some(left) = row.get(position..).filter(|left| !left.is_empty()) else { return };
        if left.starts_with([' ', '\t']) {
            position += 1;
            blanks += 1;
            // Wireshark leaves two spaces in the middle of a line; more, or two elsewhere, come before the text.
            let middle = width == 16 && bytes.len() + 8 == end;
            if blanks > if middle { 2 } else { 1 } || left.starts_with('\t') {
                return;
            }
            continue;
        }
        let Some(byte) = left.get(..2).and_then(byte) else { return };
        blanks = 0;
        bytes.push(byte);
        position += 2;
    }
}

fn byte(pair: &str) -> Option<u8> {
    pair.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u8::from_str_radix(pair, 16).ok()).flatten()
}

fn digits(text: &str) -> Result<Vec<u8>, Error> {
    let text = text.trim();
    let text = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let mut digits = Vec::new();
    for character in
        text.chars().filter(|character| !character.is_whitespace() && !matches!(character, ':' | '-'))
    {
        let digit = character.to_digit(16).map(|digit| digit as u8);
        digits.push(digit.ok_or_else(|| {
            Error::Input(format!(
                "\"{}\" is not a hexadecimal digit",
                crate::text::clean(&character.to_string())
            ))
        })?);
    }
    if !digits.len().is_multiple_of(2) {
        return Err(Error::Input("the hexadecimal text has an odd number of digits".to_owned()));
    }
    Ok(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        frame(text).unwrap_err().to_string()
    }

    #[test]
    fn bytes_may_have_spaces_colons_hyphens_and_line_ends_between() {
        for text in ["ffFF001a", "ff:FF 00\n1a", "ff-ff-00-1a", "0xffff001a", " ff ff\t00\r\n1a "] {
            assert_eq!(frame(text).unwrap(), [0xFF, 0xFF, 0x00, 0x1A], "{text}");
        }
    }

    #[test]
    fn text_that_is_no_hexadecimal_says_so() {
        assert_eq!(said("0g"), "\"g\" is not a hexadecimal digit");
        assert_eq!(said("012"), "the hexadecimal text has an odd number of digits");
        assert_eq!(said(""), "the hexadecimal text has no digits");
        assert_eq!(said("0\u{1b}"), "\"\\u{1b}\" is not a hexadecimal digit");
    }

    #[test]
    fn hexdumps_are_read() {
        let bytes: Vec<u8> = (0x41..0x41 + 22).collect();
        let xxd = "00000000: 4142 4344 4546 4748 494a 4b4c 4d4e 4f50  ABCDEFGHIJKLMNOP\n00000010: 5152 5354 5556                           QRSTUV\n";
        let tcpdump = "22:13:20.000000 02:11:00:00:00:02 > 02:11:00:00:00:01, length 22: \n\t0x0000:  4142 4344 4546 4748 494a 4b4c 4d4e 4f50\n\t0x0010:  5152 5354 5556\n";
        let tcpdump_ascii = "\t0x0000:  4142 4344 4546 4748 494a 4b4c 4d4e 4f50  ABCDEFGHIJKLMNOP\n\t0x0010:  5152 5354 5556                           QRSTUV\n";
        let wireshark = "0000  41 42 43 44 45 46 47 48  49 4a 4b 4c 4d 4e 4f 50   ABCDEFGH IJKLMNOP\n0010  51 52 53 54 55 56                                 QRSTUV\n";
        let plain = "0000   41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f 50\n0010   51 52 53 54 55 56\n";
        let narrow = "00000000: 4142 4344 4546 4748  ABCDEFGH\n00000008: 494a 4b4c 4d4e 4f50  IJKLMNOP\n00000010: 5152 5354 5556       QRSTUV\n";
        for text in [narrow, xxd, tcpdump, tcpdump_ascii, wireshark, plain] {
            assert_eq!(frame(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn the_text_beside_a_dump_is_no_part_of_it() {
        // The text at the right reads as hexadecimal digits.
        let text = "00000000: 6162 6364                                abcd\n";
        assert_eq!(frame(text).unwrap(), *b"abcd");
        let text = "0000  61 62 63 64 61 62 63 64                           abcdabcd\n";
        assert_eq!(frame(text).unwrap(), *b"abcdabcd");
    }

    #[test]
    fn a_dump_that_lacks_lines_or_holds_two_frames_is_refused() {
        assert_eq!(said("0000  41 42\n0010  43 44\n"), "a line of the hexdump has offset 0x10 and not 0x2");
        assert_eq!(said("0000  41 42\n0000  43 44\n"), "the hexdump holds more than one frame; give one");
        assert!(said("0000  41 42\nnonsense\n").contains("no offset"));
    }
}
