//! Requests, read once at the edge: behind these types nothing checks a length again.
use sluice_abi::{ABI_MAJOR, BindRequest, ETHERNET_HEADER, FrameResult, MAX_FRAMES, SendHeader};
use zerocopy::FromBytes;

/// Why a request was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The input is shorter than its record.
    TooShort,
    /// The input is longer than its record says.
    TrailingBytes,
    /// The client speaks another major version.
    Version,
    /// A reserved field or unknown flag is set.
    Reserved,
    /// No frames, or more than a request may carry.
    FrameCount,
    /// A frame is shorter than an Ethernet header.
    FrameTooShort,
    /// A frame is longer than the adapter takes.
    FrameTooLong,
    /// The data buffer's size is not that of the results and the frames.
    DataLength,
}

/// A send request whose every length has been checked.
///
/// # Invariants
/// The data buffer holds one result for each frame and then exactly the frames' bytes.
#[derive(Clone, Copy, Debug)]
pub struct Send<'input> {
    lengths: &'input [[u8; 4]],
    bytes: u32,
    longest: u32,
}

impl<'input> Send<'input> {
    /// Reads the input buffer of a send request for an adapter that takes frames of up to `max_frame` bytes,
    /// with a data buffer of `data_length` bytes.
    pub fn parse(input: &'input [u8], data_length: usize, max_frame: u32) -> Result<Self, Refusal> {
        let (header, rest) = SendHeader::read_from_prefix(input).map_err(|_| Refusal::TooShort)?;
        if header.abi_major != ABI_MAJOR {
            return Err(Refusal::Version);
        }
        if header.flags != 0 {
            return Err(Refusal::Reserved);
        }
        let count = header.frame_count as usize;
        if count == 0 || count > MAX_FRAMES {
            return Err(Refusal::FrameCount);
        }
        let (lengths, rest) =
            <[[u8; 4]]>::ref_from_prefix_with_elems(rest, count).map_err(|_| Refusal::TooShort)?;
        if !rest.is_empty() {
            return Err(Refusal::TrailingBytes);
        }
        let mut bytes = 0u32;
        let mut longest = 0;
        for length in lengths {
            let length = u32::from_le_bytes(*length);
            if length < ETHERNET_HEADER {
                return Err(Refusal::FrameTooShort);
            }
            if length > max_frame {
                return Err(Refusal::FrameTooLong);
            }
            bytes = bytes.checked_add(length).ok_or(Refusal::FrameTooLong)?;
            longest = longest.max(length);
        }
        let request = Self { lengths, bytes, longest };
        if request.data_length() == data_length { Ok(request) } else { Err(Refusal::DataLength) }
    }

    /// Frames, 1 to [`MAX_FRAMES`].
    pub fn frames(&self) -> u32 {
        self.lengths.len() as u32
    }

    /// Bytes of all frames.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Bytes of the longest frame: to be compared with the slots that it is written into, which may be others
    /// than those of the adapter that the request was read for.
    pub fn longest(&self) -> u32 {
        self.longest
    }

    /// Bytes of the results, which is where the frames start in the data buffer.
    pub fn results_length(&self) -> usize {
        size_of_val::<[FrameResult]>(&[FrameResult::SENT]) * self.lengths.len()
    }

    fn data_length(&self) -> usize {
        self.results_length() + self.bytes as usize
    }

    /// Where each frame lies in the data buffer, and how long it is.
    pub fn spans(&self) -> impl Iterator<Item = (usize, u32)> {
        self.lengths.iter().scan(self.results_length(), |next, length| {
            let length = u32::from_le_bytes(*length);
            let start = *next;
            *next += length as usize;
            Some((start, length))
        })
    }
}

/// Reads the input of a bind request: the adapter's GUID.
pub fn parse_bind(input: &[u8]) -> Result<[u8; 16], Refusal> {
    let (request, rest) = BindRequest::read_from_prefix(input).map_err(|_| Refusal::TooShort)?;
    if !rest.is_empty() {
        return Err(Refusal::TrailingBytes);
    }
    if request.abi_major != ABI_MAJOR {
        return Err(Refusal::Version);
    }
    if request.reserved != [0; 6] {
        return Err(Refusal::Reserved);
    }
    Ok(request.guid)
}
