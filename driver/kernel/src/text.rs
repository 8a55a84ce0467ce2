//! Text for the kernel: UTF-16 made at compile time, and counted strings.
use wdk_sys::UNICODE_STRING;

/// ASCII text as UTF-16 with a terminator, made at compile time: `N` is one more than the text's length.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which reports a wrong index")]
pub const fn utf16<const N: usize>(text: &str) -> [u16; N] {
    let bytes = text.as_bytes();
    assert!(bytes.len() + 1 == N, "the length is that of the text and its terminator");
    let mut units = [0; N];
    let mut index = 0;
    while index < bytes.len() {
        assert!(bytes[index].is_ascii(), "names are ASCII");
        units[index] = bytes[index] as u16;
        index += 1;
    }
    units
}

/// A counted string over static text, made by [`wide!`](crate::wide).
///
/// # Invariants
/// The last unit is the terminator, which the length does not count: some of the system's readers go by the length, and
/// some look for the terminator (page "`NDIS_DEVICE_OBJECT_ATTRIBUTES`").
#[derive(Clone, Copy, Debug)]
pub struct Text(&'static [u16]);

impl Text {
    /// A string of `text`, which ends with a terminator.
    pub const fn new(text: &'static [u16]) -> Self {
        assert!(matches!(text, [.., 0]), "the text is terminated");
        Self(text)
    }

    /// The string as the kernel takes it.
    pub const fn counted(self) -> UNICODE_STRING {
        let room = (self.0.len() * 2) as u16;
        UNICODE_STRING { Length: room - 2, MaximumLength: room, Buffer: self.0.as_ptr().cast_mut() }
    }
}

/// Static UTF-16 of a constant.
#[macro_export]
macro_rules! wide {
    ($text:expr) => {{
        static TEXT: [u16; $text.len() + 1] = $crate::text::utf16($text);
        $crate::text::Text::new(&TEXT)
    }};
}
