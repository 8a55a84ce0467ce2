//! Where the bytes of a capture come from: a file or a pipe, plain or compressed with gzip.
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;

use super::Fault;

/// Bytes that are read ahead.
const AHEAD: usize = 256 * 1024;
/// Bytes that tell formats apart.
const MAGIC: usize = 6;

/// Compressed formats that are not read here, by their first bytes.
const COMPRESSED: [(&[u8], &str, &str); 5] = [
    (&[0x28, 0xB5, 0x2F, 0xFD], "zstd", "zstd -dc"),
    (&[0xFD, b'7', b'z', b'X', b'Z'], "xz", "xz -dc"),
    (b"BZh", "bzip2", "bzip2 -dc"),
    (&[0x04, 0x22, 0x4D, 0x18], "lz4", "lz4 -dc"),
    (b"PK\x03\x04", "zip", "unzip -p"),
];

type Plain = BufReader<std::io::Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>>;

enum Bytes {
    Plain(Plain),
    Gzip(Box<BufReader<MultiGzDecoder<Plain>>>),
}

/// The bytes of a capture, decompressed.
pub(super) struct Input {
    bytes: Bytes,
    /// The first bytes, which are still to be read.
    magic: Vec<u8>,
    cut: bool,
}

impl Input {
    pub(super) fn new(mut source: Box<dyn Read + Send>) -> Result<Self, Fault> {
        let mut magic = vec![0; MAGIC];
        let length = fill(&mut source, &mut magic)?;
        magic.truncate(length);
        if magic.is_empty() {
            return Err(Fault::Format("the file is empty".to_owned()));
        }
        let gzip = magic.starts_with(&[0x1F, 0x8B]);
        let plain = BufReader::with_capacity(AHEAD, Cursor::new(magic.clone()).chain(source));
        if !gzip {
            return Ok(Self { bytes: Bytes::Plain(plain), magic, cut: false });
        }
        let mut inner = BufReader::with_capacity(AHEAD, MultiGzDecoder::new(plain));
        let first = inner.fill_buf().map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Fault::Cut("the gzip file ends before anything in it".to_owned()),
            ErrorKind::InvalidData | ErrorKind::InvalidInput => {
                Fault::Format(format!("the gzip file is damaged: {error}"))
            }
            _ => Fault::Io(error),
        })?;
        let magic = first.get(..MAGIC.min(first.len())).unwrap_or_default().to_vec();
        if magic.is_empty() {
            return Err(Fault::Format("the gzip file holds nothing".to_owned()));
        }
        Ok(Self { bytes: Bytes::Gzip(Box::new(inner)), magic, cut: false })
    }

    /// Whether the capture starts with these bytes.
    pub(super) fn starts_with(&self, bytes: &[u8]) -> bool {
        self.magic.starts_with(bytes)
    }

    /// That the capture is of no format that is known.
    pub(super) fn unknown(&self) -> Fault {
        let known = COMPRESSED.iter().find(|(magic, ..)| self.magic.starts_with(magic));
        Fault::Format(match known {
            Some((_, name, command)) => {
                format!(
                    "compressed with {name}, which is not read; try: {command} FILE | sluice send ADAPTER -"
                )
            }
            None => "neither pcap nor pcapng, nor one of them compressed with gzip".to_owned(),
        })
    }

    /// Whether the compressed file ended before its end; what it holds ends there, too.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Reads until `buffer` is full or the capture ends; returns how much there was.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let gzip = match &mut self.bytes {
            Bytes::Plain(plain) => return Ok(fill(plain, buffer)?),
            Bytes::Gzip(gzip) => gzip,
        };
        let mut length = 0;
        while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match gzip.read(rest) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    self.cut = true;
                    break;
                }
                Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput) => {
                    return Err(Fault::Damaged(format!("the gzip file is damaged: {error}")));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(length)
    }

    /// Reads past `length` bytes; returns how many there were.
    pub(super) fn skip(&mut self, length: u64) -> Result<u64, Fault> {
        let mut scratch = [0; 8192];
        let mut left = length;
        while left != 0 {
            let part = scratch.get_mut(..left.min(8192) as usize).unwrap_or_default();
            let read = self.fill(part)? as u64;
            if read == 0 {
                break;
            }
            left -= read;
        }
        Ok(length - left)
    }
}

fn fill(source: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
