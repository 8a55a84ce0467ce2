//! Small captures, each a case of its own, and what the client makes of each.
//!
//! What is right was decided by what tcpdump 4.99 and Wireshark 4.0 do; where they differ, [`Case::tcpdump`] says why
//! the client does not do what tcpdump does.
#![expect(clippy::indexing_slicing, reason = "files are cut where their lengths are known")]
mod build;
mod ng;
mod old;

use std::io::Read;

/// A capture, and what becomes of it.
pub struct Case {
    /// Name of the file.
    pub name: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
    /// Frames that are sent, with `--skip-unsendable` if it is refused without.
    pub frames: Vec<Vec<u8>>,
    /// What the client says, behind the file's name, when it refuses to send the file as a whole; it ends with 8 then.
    pub refused: Option<&'static str>,
    /// Whether the same is said with `--skip-unsendable`: the file is damaged, or holds nothing that can be sent.
    pub refused_always: bool,
    /// Why what is sent is not what tcpdump reads, if that is so.
    pub tcpdump: Option<&'static str>,
}

impl Case {
    fn new(name: &'static str, bytes: Vec<u8>) -> Self {
        Self { name, bytes, frames: Vec::new(), refused: None, refused_always: false, tcpdump: None }
    }

    /// The file is sent, and these are its frames.
    fn sends(mut self, frames: &[Vec<u8>]) -> Self {
        self.frames = frames.to_vec();
        self
    }

    /// The file is refused, unless what cannot be sent is left out: then these frames are sent.
    fn refused(mut self, why: &'static str, frames: &[Vec<u8>]) -> Self {
        self.refused = Some(why);
        self.sends(frames)
    }

    /// The file is refused; these frames are sent of it before that is said, with `--skip-unsendable`.
    fn damaged(mut self, why: &'static str, frames: &[Vec<u8>]) -> Self {
        self.refused_always = true;
        self.refused(why, frames)
    }

    fn unlike_tcpdump(mut self, why: &'static str) -> Self {
        self.tcpdump = Some(why);
        self
    }
}

/// Every case.
pub fn cases() -> Vec<Case> {
    let mut cases = old::cases();
    cases.extend(ng::cases());
    cases
}

/// The frames of a pcap or pcapng file that a program wrote that is known to write it plainly: little-endian, without
/// anything that would need the client's reader, which is under test.
pub fn plain_frames(mut bytes: impl Read) -> std::io::Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    bytes.read_to_end(&mut all)?;
    let word = |at: usize| {
        let bytes = all.get(at..).and_then(|rest| rest.first_chunk()).copied();
        bytes.map_or(0, u32::from_le_bytes) as usize
    };
    let take = |at: usize, length: usize| all.get(at..at + length).unwrap_or_default().to_vec();
    let mut frames = Vec::new();
    if word(0) == 0x0A0D_0D0A {
        let mut at = 0;
        while at + 12 <= all.len() {
            if word(at) == 6 {
                frames.push(take(at + 28, word(at + 20)));
            }
            at += word(at + 4).max(12);
        }
    } else {
        let mut at = 24;
        while at + 16 <= all.len() {
            frames.push(take(at + 16, word(at + 8)));
            at += 16 + word(at + 8);
        }
    }
    Ok(frames)
}
