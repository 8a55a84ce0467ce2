//! Text for the kernel: UTF-16 made at compile time, and counted strings.
use wdk_sys::UNICODE_STRING;

/// ASCII text as UTF-16, made at compile time.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which reports a wrong index")]
pub const fn utf16<const N: usize>(text: &str) -> [u16; N] {
    let bytes = text.as_bytes();
    assert!(bytes.len() == N, "the length is that of the text");
    let mut units = [0; N];
    let mut index = 0;
    while index < N {
        assert!(bytes[index].is_ascii(), "names are ASCII");
        units[index] = bytes[index] as u16;
        index += 1;
    }
    units
}

/// A counted string over static text, made by [`wide!`](crate::wide).
#[derive(Clone, Copy, Debug)]
pub struct Text(&'static [u16]);

impl Text {
    /// A string of `text`.
    pub const fn new(text: &'static [u16]) -> Self {
        Self(text)
    }

    /// The string as the kernel takes it.
    pub const fn counted(self) -> UNICODE_STRING {
        let bytes = (self.0.len() * 2) as u16;
        UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: self.0.as_ptr().cast_mut() }
    }
}

/// Static UTF-16 of a constant.
#[macro_export]
macro_rules! wide {
    ($text:expr) => {{
        static TEXT: [u16; $text.len()] = $crate::text::utf16($text);
        $crate::text::Text::new(&TEXT)
    }};
}
