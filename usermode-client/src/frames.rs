//! Frames to send: from capture files, or from hexadecimal text.
use std::io::{BufReader, Read};
use std::path::Path;

use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};

use crate::Error;

/// First bytes of a pcapng file: the type of a section header block.
const PCAPNG: [u8; 4] = [0x0A, 0x0D, 0x0D, 0x0A];

/// Reads every Ethernet frame of a pcap or pcapng file; `-` is standard input.
pub fn from_file(path: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let name = path.display();
    let mut data = Vec::new();
    if path == Path::new("-") {
        std::io::stdin()
            .read_to_end(&mut data)
            .map_err(|error| Error::Input(format!("standard input: {error}")))?;
    } else {
        let file = std::fs::File::open(path).map_err(|error| Error::Input(format!("{name}: {error}")))?;
        BufReader::new(file)
            .read_to_end(&mut data)
            .map_err(|error| Error::Input(format!("{name}: {error}")))?;
    }
    from_capture(&data).map_err(|error| Error::Input(format!("{name}: {error}")))
}

/// Reads every Ethernet frame of a capture.
fn from_capture(data: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if data.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if data.starts_with(&PCAPNG) { from_pcapng(data) } else { from_pcap(data) }
}

fn complete(number: usize, captured: usize, original: u32) -> Result<(), String> {
    if captured == original as usize {
        Ok(())
    } else {
        Err(format!("frame {number} was cut when it was captured: {captured} of {original} bytes"))
    }
}

fn from_pcap(data: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut reader = PcapReader::new(data).map_err(|error| format!("neither pcap nor pcapng: {error}"))?;
    if reader.header().datalink != DataLink::ETHERNET {
        return Err(format!("the capture holds {:?} and not Ethernet frames", reader.header().datalink));
    }
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(|error| format!("frame {}: {error}", frames.len() + 1))?;
        complete(frames.len() + 1, packet.data.len(), packet.orig_len)?;
        frames.push(packet.data.into_owned());
    }
    Ok(frames)
}

fn from_pcapng(data: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut reader = PcapNgReader::new(data).map_err(|error| format!("no pcapng file: {error}"))?;
    let mut interfaces: Vec<DataLink> = Vec::new();
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        let number = frames.len() + 1;
        let block = block.map_err(|error| format!("frame {number}: {error}"))?;
        let (interface, original, bytes) = match block {
            Block::SectionHeader(_) => {
                interfaces.clear();
                continue;
            }
            Block::InterfaceDescription(interface) => {
                interfaces.push(interface.linktype);
                continue;
            }
            Block::EnhancedPacket(packet) => (packet.interface_id as usize, packet.original_len, packet.data),
            Block::SimplePacket(packet) => (0, packet.original_len, packet.data),
            _ => continue,
        };
        match interfaces.get(interface) {
            Some(&DataLink::ETHERNET) => {}
            Some(other) => return Err(format!("frame {number} is {other:?} and not an Ethernet frame")),
            None => return Err(format!("frame {number} is of an interface that the file does not describe")),
        }
        complete(number, bytes.len(), original)?;
        frames.push(bytes.into_owned());
    }
    Ok(frames)
}

/// Reads one frame of hexadecimal text; spaces, colons and line ends are passed over.
pub fn from_hex(text: &str) -> Result<Vec<u8>, Error> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|character| !character.is_whitespace() && *character != ':')
        .map(|character| {
            character
                .to_digit(16)
                .map(|digit| digit as u8)
                .ok_or_else(|| Error::Input(format!("\"{character}\" is no hexadecimal digit")))
        })
        .collect::<Result<_, _>>()?;
    if !digits.len().is_multiple_of(2) {
        return Err(Error::Input("the hexadecimal text has an odd number of digits".to_owned()));
    }
    Ok(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// What a frame is, in a few words, for people.
pub fn describe(frame: &[u8]) -> String {
    match etherparse::SlicedPacket::from_ethernet(frame) {
        Ok(packet) => {
            let network = packet.net.as_ref().map(|net| match net {
                etherparse::NetSlice::Ipv4(ip) => {
                    format!("{} > {}", ip.header().source_addr(), ip.header().destination_addr())
                }
                etherparse::NetSlice::Ipv6(ip) => {
                    format!("{} > {}", ip.header().source_addr(), ip.header().destination_addr())
                }
                etherparse::NetSlice::Arp(_) => "ARP".to_owned(),
            });
            let transport = packet.transport.as_ref().map(|transport| match transport {
                etherparse::TransportSlice::Udp(_) => "UDP",
                etherparse::TransportSlice::Tcp(_) => "TCP",
                etherparse::TransportSlice::Igmp(_) => "IGMP",
                etherparse::TransportSlice::Icmpv4(_) | etherparse::TransportSlice::Icmpv6(_) => "ICMP",
            });
            format!("{} bytes {} {}", frame.len(), network.unwrap_or_default(), transport.unwrap_or_default())
                .trim_end()
                .to_owned()
        }
        Err(_) => format!("{} bytes", frame.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_may_have_spaces_and_colons() {
        assert_eq!(from_hex("ff:FF 00\n1a").unwrap(), [0xFF, 0xFF, 0x00, 0x1A]);
    }

    #[test]
    fn hex_that_is_none_says_so() {
        assert_eq!(from_hex("0g").unwrap_err().to_string(), "\"g\" is no hexadecimal digit");
        assert_eq!(
            from_hex("012").unwrap_err().to_string(),
            "the hexadecimal text has an odd number of digits"
        );
    }

    #[test]
    fn a_file_that_is_no_capture_says_so() {
        assert_eq!(from_capture(b"").unwrap_err(), "the file is empty");
        assert!(from_capture(b"plainly no capture file").unwrap_err().starts_with("neither pcap nor pcapng"));
    }
}
