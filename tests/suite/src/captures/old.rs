//! Cases of the pcap format, and of files of other formats.
use std::io::Write;

use super::Case;
use super::build::Order::Big;
use super::build::{PCAP, Pcap, five, frame, join, tagged};

/// A gzip file with these bytes.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    compress(bytes, flate2::Compression::default())
}

/// A gzip file with these bytes as they are.
fn stored(bytes: &[u8]) -> Vec<u8> {
    compress(bytes, flate2::Compression::none())
}

fn compress(bytes: &[u8], level: flate2::Compression) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.unwrap_or_else(|error| panic!("{error}"))
}

const INVALID_HEADER: &str = "tcpdump reads it and prints it as invalid; an empty frame cannot be sent";
const TOO_LONG: &str = "tcpdump reads it; the adapter does not take it";
const OTHER_LINK: &str = "tcpdump reads it; it is no Ethernet";
const WAS_CUT: &str = "tcpdump reads what was kept of a frame; the rest is not there to be sent";

pub(super) fn cases() -> Vec<Case> {
    let parts = [variants(), foreign(), cut(), parts_of_frames(), lengths(), times(), links()];
    parts.into_iter().flatten().collect()
}

/// The format's variants.
fn variants() -> Vec<Case> {
    let (f, good) = (five(), PCAP.file(&five()));
    let two = [f[0].clone(), f[2].clone()];
    vec![
        Case::new("ok.pcap", good.clone()).sends(&f),
        Case::new("be.pcap", Pcap { order: Big, ..PCAP }.file(&f)).sends(&f),
        Case::new("with space.pcap", good.clone()).sends(&f),
        Case::new("ünïcode-файл-捕获.pcap", good.clone()).sends(&f),
        Case::new(
            "nano.pcap",
            Pcap { magic: 0xA1B2_3C4D, time: |_| (1_700_000_000, 999_999_999), ..PCAP }.file(&f),
        )
        .sends(&f),
        Case::new("nano-be.pcap", Pcap { order: Big, magic: 0xA1B2_3C4D, ..PCAP }.file(&f)).sends(&f),
        Case::new(
            "modified.pcap",
            Pcap { magic: 0xA1B2_CD34, extra: &[1, 0, 0, 0, 0, 8, 0, 0], ..PCAP }.file(&f),
        )
        .sends(&f),
        Case::new(
            "modified-be.pcap",
            Pcap { order: Big, magic: 0xA1B2_CD34, extra: &[0, 0, 0, 1, 8, 0, 0, 0], ..PCAP }.file(&f),
        )
        .sends(&f),
        Case::new("snaplen0.pcap", Pcap { snaplen: 0, ..PCAP }.file(&f)).sends(&f),
        Case::new("ver2.3.pcap", Pcap { version: (2, 3), ..PCAP }.file(&f)).sends(&f),
        Case::new("ver2.2.pcap", Pcap { version: (2, 2), ..PCAP }.file(&f)).sends(&f),
        Case::new("ver2.2-cut.pcap", {
            // Before version 2.3 the original length came first.
            let pcap = Pcap { version: (2, 2), ..PCAP };
            let mut record = pcap.record(1, &f[1][..40], 40);
            record[8..12].copy_from_slice(&64u32.to_le_bytes());
            join([pcap.header(), pcap.record(0, &f[0], 64), record, pcap.record(2, &f[2], 64)])
        })
        .refused("frame 2 was cut when it was captured: 40 of 64 bytes", &two)
        .unlike_tcpdump(WAS_CUT),
        Case::new("ver3.0.pcap", Pcap { version: (3, 0), ..PCAP }.file(&f))
            .damaged("pcap version 3.0 is unknown", &[]),
        Case::new("fcs4.pcap", {
            let with: Vec<_> = f.iter().map(|frame| join([&frame[..], &[0; 4]])).collect();
            Pcap { network: 1 | 0x0400_0000 | 2 << 28, ..PCAP }.file(&with)
        })
        .sends(&f)
        .unlike_tcpdump("tcpdump keeps the frame check sequence; the adapter makes its own"),
        Case::new("fcs-f-bit.pcap", Pcap { network: 1 | 0x0400_0000, ..PCAP }.file(&f)).sends(&f),
    ]
}

/// Compressed captures, and what is no capture.
fn foreign() -> Vec<Case> {
    let (f, good) = (five(), PCAP.file(&five()));
    vec![
        Case::new("ok.pcap.gz", gzip(&good))
            .sends(&f)
            .unlike_tcpdump("tcpdump reads no gzip; Wireshark does"),
        Case::new("two-members.pcap.gz", join([gzip(&good[..100]), gzip(&good[100..])]))
            .sends(&f)
            .unlike_tcpdump("tcpdump reads no gzip; Wireshark does"),
        Case::new("cut-first.pcap.gz", gzip(&good)[..30].to_vec())
            .refused("the gzip file ends before anything in it", &[]),
        // Stored, so that where it ends is known: a header of ten bytes, and one of five.
        Case::new("cut.pcap.gz", stored(&good)[..10 + 5 + 24 + 80 * 2 + 7].to_vec())
            .refused("the file ends within frame 3; 2 before it are whole", &f[..2])
            .unlike_tcpdump("tcpdump reads no gzip; Wireshark does"),
        Case::new("cut-between.pcap.gz", stored(&good)[..10 + 5 + 24 + 80 * 2].to_vec())
            .refused("the gzip file ends early; 2 before it are whole", &f[..2])
            .unlike_tcpdump("tcpdump reads no gzip; Wireshark does"),
        Case::new("damaged.pcap.gz", {
            let mut bytes = stored(&good);
            let end = bytes.len();
            bytes[end - 8] ^= 1;
            bytes
        })
        .damaged("the gzip file is damaged: corrupt gzip stream does not have a matching checksum", &f)
        .unlike_tcpdump("tcpdump reads no gzip; Wireshark does"),
        Case::new("ok.pcap.zst", join([&[0x28, 0xB5, 0x2F, 0xFD][..], &good])).damaged(
            "compressed with zstd, which is not read; try: zstd -dc FILE | sluice send ADAPTER -",
            &[],
        ),
        Case::new("empty.bin", Vec::new()).damaged("the file is empty", &[]),
        Case::new("text.txt", b"plainly no capture\n".to_vec())
            .damaged("neither pcap nor pcapng, nor one of them compressed with gzip", &[]),
    ]
}

/// Files that end early, or hold more than their frames.
fn cut() -> Vec<Case> {
    let (f, good) = (five(), PCAP.file(&five()));
    vec![
        Case::new("magic-only.pcap", good[..4].to_vec())
            .refused("the file ends within its pcap header: 4 of 24 bytes", &[]),
        Case::new("header-only.pcap", PCAP.header()).damaged("there are no frames to send", &[]),
        Case::new("cut-header.pcap", good[..10].to_vec())
            .refused("the file ends within its pcap header: 10 of 24 bytes", &[]),
        Case::new("cut-record-header.pcap", good[..24 + 80 * 2 + 7].to_vec())
            .refused("the file ends within frame 3; 2 before it are whole", &f[..2]),
        Case::new("cut-record-data.pcap", good[..24 + 80 * 2 + 16 + 30].to_vec())
            .refused("the file ends within frame 3; 2 before it are whole", &f[..2]),
        Case::new("trailing-garbage.pcap", join([&good[..], &[0xDE, 0xAD, 0xBE, 0xEF]]))
            .refused("the file ends within frame 6; 5 before it are whole", &f),
        Case::new("trailing-zeros.pcap", join([&good[..], &[0; 64]]))
            .refused("frame 6 has 0 bytes; an Ethernet frame has at least 14", &f)
            .unlike_tcpdump(INVALID_HEADER),
        Case::new("huge-incl.pcap", {
            let record = join([[0, 0, u32::MAX, u32::MAX].map(u32::to_le_bytes).concat(), vec![b'x'; 100]]);
            join([PCAP.file(&f[..1]), record])
        })
        .damaged("frame 2 claims 4294967295 bytes; 1 before it is whole", &f[..1]),
    ]
}

/// Frames of all lengths.
fn lengths() -> Vec<Case> {
    let f = five();
    let mut cases = vec![
        Case::new("hdr14.pcap", PCAP.file(&[f[1][..14].to_vec()])).sends(&[f[1][..14].to_vec()]),
        Case::new("len1514.pcap", PCAP.file(&[frame(1, 1514)])).sends(&[frame(1, 1514)]),
        Case::new("vlan-1518.pcap", PCAP.file(&[tagged(1518)])).sends(&[tagged(1518)]),
        Case::new("len1518-vlan.pcap", PCAP.file(&[tagged(1518)])).sends(&[tagged(1518)]),
        Case::new("vlan-1519.pcap", PCAP.file(&[f[0].clone(), tagged(1519)]))
            .refused(
                "frame 2 has 1519 bytes; the adapter takes 14 to 1514 bytes, and 4 more with a VLAN tag",
                &f[..1],
            )
            .unlike_tcpdump(TOO_LONG),
        Case::new("above-snaplen.pcap", Pcap { snaplen: 100, ..PCAP }.file(&[frame(1, 300)]))
            .sends(&[frame(1, 300)])
            .unlike_tcpdump("tcpdump cuts the frame at the snapshot length; Wireshark reads all of it"),
    ];
    for name in ["len1518.pcap", "untagged-1518.pcap"] {
        let why = "frame 1 has 1518 bytes; the adapter takes 14 to 1514 bytes, and 4 more with a VLAN tag";
        cases.push(Case::new(name, PCAP.file(&[frame(1, 1518)])).refused(why, &[]).unlike_tcpdump(TOO_LONG));
    }
    let mixed = |length| [f[0].clone(), frame(1, length), f[1].clone()];
    cases.push(
        Case::new("jumbo9018.pcap", Pcap { snaplen: 262_144, ..PCAP }.file(&mixed(9018)))
            .refused(
                "frame 2 has 9018 bytes; the adapter takes 14 to 1514 bytes, and 4 more with a VLAN tag",
                &f[..2],
            )
            .unlike_tcpdump(TOO_LONG),
    );
    cases.push(
        Case::new("len1519.pcap", PCAP.file(&[f[0].clone(), frame(1, 1519), f[2].clone()]))
            .refused(
                "frame 2 has 1519 bytes; the adapter takes 14 to 1514 bytes, and 4 more with a VLAN tag",
                &[f[0].clone(), f[2].clone()],
            )
            .unlike_tcpdump(TOO_LONG),
    );
    cases
}

/// Frames that were cut, are empty, or have an original length that cannot be.
fn parts_of_frames() -> Vec<Case> {
    let f = five();
    let two = || [f[0].clone(), f[2].clone()];
    vec![
        Case::new("snaplen-cut.pcap", {
            let pcap = Pcap { snaplen: 40, ..PCAP };
            join([
                pcap.header(),
                pcap.record(0, &f[0], 64),
                pcap.record(1, &f[1][..40], 64),
                pcap.record(2, &f[2], 64),
            ])
        })
        .refused("frame 2 was cut when it was captured: 40 of 64 bytes", &two())
        .unlike_tcpdump(WAS_CUT),
        Case::new("orig-smaller.pcap", {
            join([
                PCAP.header(),
                PCAP.record(0, &f[0], 64),
                PCAP.record(1, &f[1], 60),
                PCAP.record(2, &f[2], 64),
            ])
        })
        .sends(&f[..3]),
        Case::new("zero-length.pcap", PCAP.file(&[f[0].clone(), Vec::new(), f[2].clone()]))
            .refused("frame 2 has 0 bytes; an Ethernet frame has at least 14", &two())
            .unlike_tcpdump(INVALID_HEADER),
        Case::new("runt13.pcap", PCAP.file(&[f[0].clone(), f[1][..13].to_vec(), f[2].clone()]))
            .refused("frame 2 has 13 bytes; an Ethernet frame has at least 14", &two())
            .unlike_tcpdump("tcpdump reads it; it has no whole Ethernet header"),
    ]
}

/// Seconds and fraction of the frame with a number.
type Time = fn(u32) -> (u32, u32);

fn times() -> Vec<Case> {
    let f = five();
    let times: [(&str, u32, Time); 7] = [
        ("usec-1e6.pcap", 0xA1B2_C3D4, |number| (1_700_000_000, 1_000_000 + number)),
        ("usec-nonsense.pcap", 0xA1B2_C3D4, |_| (1_700_000_000, u32::MAX)),
        ("nano-1e9.pcap", 0xA1B2_3C4D, |_| (1_700_000_000, 1_000_000_000)),
        ("time-backwards.pcap", 0xA1B2_C3D4, |number| (1_700_000_000 - number, 0)),
        ("time-0.pcap", 0xA1B2_C3D4, |_| (0, 0)),
        ("time-max.pcap", 0xA1B2_C3D4, |_| (u32::MAX, 999_999)),
        ("time-all.pcap", 0xA1B2_3C4D, |_| (u32::MAX, u32::MAX)),
    ];
    let case = |(name, magic, time)| Case::new(name, Pcap { magic, time, ..PCAP }.file(&f)).sends(&f);
    times.into_iter().map(case).collect()
}

fn links() -> Vec<Case> {
    let f = five();
    let links = [
        ("link-null0.pcap", 0, "frame 1 is NULL (link type 0) and not an Ethernet frame"),
        ("link-rawip101.pcap", 101, "frame 1 is RAW (link type 101) and not an Ethernet frame"),
        ("link-wifi105.pcap", 105, "frame 1 is IEEE802_11 (link type 105) and not an Ethernet frame"),
        ("link-sll113.pcap", 113, "frame 1 is LINUX_SLL (link type 113) and not an Ethernet frame"),
        (
            "link-radiotap127.pcap",
            127,
            "frame 1 is IEEE802_11_RADIOTAP (link type 127) and not an Ethernet frame",
        ),
        ("link-user147.pcap", 147, "frame 1 is USER0 (link type 147) and not an Ethernet frame"),
        ("link-sll2-276.pcap", 276, "frame 1 is LINUX_SLL2 (link type 276) and not an Ethernet frame"),
        ("link-unknown60000.pcap", 60000, "frame 1 is of link type 60000 and not an Ethernet frame"),
    ];
    let case = |(name, network, why)| {
        let case = Case::new(name, Pcap { network, ..PCAP }.file(&f)).refused(why, &[]);
        if network == 60000 { case } else { case.unlike_tcpdump(OTHER_LINK) }
    };
    links.into_iter().map(case).collect()
}
