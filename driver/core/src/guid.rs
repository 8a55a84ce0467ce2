//! GUIDs as text, `{8-4-4-4-12}`: adapters are named by them.

/// Reads the last `{…}` of UTF-16 text, such as `\DEVICE\{…}`, into bytes in the order of the text.
pub fn parse(text: &[u16]) -> Option<[u8; 16]> {
    let open = text.iter().rposition(|unit| *unit == u16::from(b'{'))?;
    let inner = text.get(open + 1..open + 37)?;
    if *text.get(open + 37)? != u16::from(b'}') {
        return None;
    }
    let mut digits = [0u8; 32];
    let mut used = 0;
    for (position, unit) in inner.iter().enumerate() {
        let character = char::from_u32(u32::from(*unit))?;
        if matches!(position, 8 | 13 | 18 | 23) {
            if character != '-' {
                return None;
            }
        } else {
            *digits.get_mut(used)? = character.to_digit(16)? as u8;
            used += 1;
        }
    }
    let mut bytes = [0u8; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().fold(0, |value, digit| value << 4 | digit);
    }
    Some(bytes)
}
