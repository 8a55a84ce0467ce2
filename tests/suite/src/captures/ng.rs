//! Cases of the pcapng format.
use super::Case;
use super::build::Order::{Big, Little};
use super::build::{
    END, PACKET, Packet, block, five, frame, interface, interface_of, join, obsolete, option, options,
    section, section_of, simple,
};
use super::old::gzip;

const FCS: &str = "tcpdump keeps the frame check sequence; the adapter makes its own";
const ONE_LINK: &str = "tcpdump takes captures of one link type only; Wireshark reads them";
const CUT: &str = "tcpdump reads what was kept of a frame; the rest is not there to be sent";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = packets();
    cases.extend(interfaces());
    cases.extend(option_cases());
    cases.extend(other_blocks());
    cases.extend(damage());
    cases
}

/// A file of one section.
fn file<T: AsRef<[u8]>>(blocks: impl IntoIterator<Item = T>) -> Vec<u8> {
    join([section(Little), join(blocks)])
}

/// A file of five frames.
fn five_frames() -> Vec<u8> {
    file([interface(&[]), PACKET.all(&five())])
}

fn packets() -> Vec<Case> {
    let f = five();
    let big = Packet { order: Big, ..PACKET };
    let eth = || interface(&[]);
    let odd = [frame(1, 61), frame(2, 62), frame(3, 63)];
    let ends = [f[0].clone(), f[2].clone()];
    vec![
        Case::new("ng.pcapng", five_frames()).sends(&f),
        Case::new("ng.pcapng.gz", gzip(&five_frames()))
            .sends(&f)
            .unlike_tcpdump("tcpdump reads no gzip; Wireshark does"),
        Case::new("ng-be.pcapng", join([section(Big), interface_of(Big, 1, 0, &[]), big.all(&f)])).sends(&f),
        Case::new("ng-two-sections.pcapng", {
            join([file([eth(), PACKET.all(&f[..2])]), file([eth(), PACKET.all(&f[2..])])])
        })
        .sends(&f),
        Case::new("ng-sections-swapped.pcapng", {
            let second = join([section(Big), interface_of(Big, 1, 0, &[]), big.all(&f[2..])]);
            join([file([eth(), PACKET.all(&f[..2])]), second])
        })
        .sends(&f)
        .unlike_tcpdump("tcpdump reads sections of one byte order only; Wireshark reads both"),
        Case::new("ng-section-length.pcapng", {
            let rest = join([eth(), PACKET.all(&f)]);
            join([section_of(Little, (1, 0), rest.len() as u64, &[]), rest])
        })
        .sends(&f),
        Case::new("ng-spb.pcapng", file([eth(), join(f.iter().map(|frame| simple(frame, 64, &[])))]))
            .sends(&f),
        Case::new(
            "ng-spb-pad.pcapng",
            file([eth(), join(odd.iter().map(|frame| simple(frame, frame.len(), &[])))]),
        )
        .sends(&odd),
        Case::new(
            "ng-spb-snaplen.pcapng",
            file([interface_of(Little, 1, 40, &[]), simple(&f[0][..40], 64, &[])]),
        )
        .refused("frame 1 was cut when it was captured: 40 of 64 bytes", &[])
        .unlike_tcpdump(CUT),
        Case::new(
            "ng-spb-padding-sent.pcapng",
            file([interface_of(Little, 1, 61, &[]), simple(&f[0][..61], 64, &[0xEE; 3])]),
        )
        .refused("frame 1 was cut when it was captured: 61 of 64 bytes", &[])
        .unlike_tcpdump(CUT),
        Case::new("ng-opb.pcapng", file([eth(), join(f.iter().map(|frame| obsolete(frame)))])).sends(&f),
        Case::new("ng-opb-mixed.pcapng", file([eth(), PACKET.of(&f[0]), obsolete(&f[1]), PACKET.of(&f[2])]))
            .sends(&f[..3]),
        Case::new("ng-opb-first.pcapng", file([eth(), obsolete(&f[0]), PACKET.of(&f[1]), PACKET.of(&f[2])]))
            .sends(&f[..3]),
        Case::new("ng-orig-0.pcapng", file([eth(), Packet { original: Some(0), ..PACKET }.of(&f[0])]))
            .sends(&f[..1]),
        Case::new("ng-orig-smaller.pcapng", file([eth(), Packet { original: Some(60), ..PACKET }.of(&f[0])]))
            .sends(&f[..1]),
        Case::new("ng-cut.pcapng", {
            let cut = Packet { original: Some(64), ..PACKET }.of(&f[1][..40]);
            file([interface_of(Little, 1, 40, &[]), PACKET.of(&f[0]), cut, PACKET.of(&f[2])])
        })
        .refused("frame 2 was cut when it was captured: 40 of 64 bytes", &ends)
        .unlike_tcpdump(
            "tcpdump refuses frames that are longer than the snapshot length; Wireshark reads them",
        ),
        Case::new("ng-zero-frame.pcapng", file([eth(), PACKET.of(&f[0]), PACKET.of(&[]), PACKET.of(&f[2])]))
            .refused("frame 2 has 0 bytes; an Ethernet frame has at least 14", &ends)
            .unlike_tcpdump("tcpdump reads it and prints it as invalid; an empty frame cannot be sent"),
        Case::new(
            "ng-jumbo.pcapng",
            file([eth(), PACKET.of(&f[0]), PACKET.of(&frame(9, 9018)), PACKET.of(&f[2])]),
        )
        .refused(
            "frame 2 has 9018 bytes; the adapter takes 14 to 1514 bytes, and 4 more with a VLAN tag",
            &ends,
        )
        .unlike_tcpdump("tcpdump reads it; the adapter does not take it"),
        Case::new("ng-minor2.pcapng", {
            join([section_of(Little, (1, 2), u64::MAX, &[]), eth(), PACKET.all(&f)])
        })
        .sends(&f),
        Case::new("ng-minor9.pcapng", {
            join([section_of(Little, (1, 9), u64::MAX, &[]), eth(), PACKET.all(&f)])
        })
        .damaged("pcapng version 1.9 is unknown", &[]),
        Case::new("ng-major2.pcapng", {
            join([section_of(Little, (2, 0), u64::MAX, &[]), eth(), PACKET.all(&f)])
        })
        .damaged("pcapng version 2.0 is unknown", &[]),
    ]
}

fn interfaces() -> Vec<Case> {
    let f = five();
    let eth = || interface(&[]);
    let wifi = || interface_of(Little, 105, 0, &[]);
    let of = |interface: u32, frame: &[u8]| Packet { interface, ..PACKET }.of(frame);
    vec![
        Case::new("ng-two-ifaces-eth.pcapng", {
            file([eth(), eth(), of(0, &f[0]), of(1, &f[1]), of(0, &f[2]), of(1, &f[3])])
        })
        .sends(&f[..4]),
        Case::new("ng-two-ifaces-eth-wifi.pcapng", {
            file([eth(), wifi(), of(0, &f[0]), of(1, &f[1]), of(0, &f[2])])
        })
        .refused(
            "frame 2 is IEEE802_11 (link type 105) and not an Ethernet frame",
            &[f[0].clone(), f[2].clone()],
        )
        .unlike_tcpdump(ONE_LINK),
        Case::new("ng-unused-wifi-iface.pcapng", file([eth(), wifi(), PACKET.all(&f)]))
            .sends(&f)
            .unlike_tcpdump(ONE_LINK),
        Case::new("ng-iface-late.pcapng", file([eth(), of(0, &f[0]), eth(), of(1, &f[1])])).sends(&f[..2]),
        Case::new("ng-iface-missing.pcapng", file([eth(), of(0, &f[0]), of(7, &f[1])]))
            .refused("frame 2 is of interface 7, which the file does not describe", &f[..1]),
        Case::new("ng-section-resets-interfaces.pcapng", {
            join([file([eth(), PACKET.all(&f[..2])]), file([PACKET.all(&f[2..])])])
        })
        .refused("frame 3 is of interface 0, which the file does not describe", &f[..2]),
        Case::new("ng-epb-before-idb.pcapng", file([of(0, &f[0]), eth(), of(0, &f[1])]))
            .refused("frame 1 is of interface 0, which the file does not describe", &f[1..2])
            .unlike_tcpdump(
                "tcpdump refuses the file; the frames of interfaces that are described can be sent",
            ),
        Case::new("ng-spb-before-idb.pcapng", file([simple(&f[0], 64, &[]), eth(), of(0, &f[1])]))
            .refused("frame 1 is of interface 0, which the file does not describe", &f[1..2])
            .unlike_tcpdump(
                "tcpdump refuses the file; the frames of interfaces that are described can be sent",
            ),
        Case::new("ng-no-packets.pcapng", file([eth()])).damaged("there are no frames to send", &[]),
        Case::new("ng-shb-only.pcapng", section(Little)).damaged("there are no frames to send", &[]),
    ]
}

fn option_cases() -> Vec<Case> {
    let f = five();
    let with = |options: &[u8]| Packet { options, ..PACKET }.all(&f);
    let at = |time: u64| Packet { time, ..PACKET }.all(&f);
    let with_fcs: Vec<_> = f.iter().map(|frame| join([&frame[..], b"FCS!"])).collect();
    let checked = |options: &[u8]| Packet { options, ..PACKET }.all(&with_fcs);
    let flags = |value: u32| options(&[(2, &value.to_le_bytes())]);
    let number = |value: u64| value.to_le_bytes();
    vec![
        Case::new("ng-options.pcapng", {
            let header = section_of(Little, (1, 0), u64::MAX, &options(&[(4, b"a program")]));
            let eth = interface(&options(&[(2, b"eth0"), (9, &[9]), (14, &number(5))]));
            let comment = options(&[(1, "пакет".as_bytes()), (2, &1u32.to_le_bytes())]);
            join([header, eth, with(&comment)])
        })
        .sends(&f),
        Case::new("ng-option-no-end.pcapng", {
            let header = section_of(Little, (1, 0), u64::MAX, &option(Little, 4, b"abc"));
            join([header, interface(&option(Little, 2, b"eth0")), with(&option(Little, 1, b"c"))])
        })
        .sends(&f),
        Case::new("ng-option-unknown.pcapng", {
            let custom = join([&32473u32.to_le_bytes()[..], b"z"]);
            let eth = interface(&options(&[(0x7FFF, b"xyz"), (2988, &custom)]));
            file([eth, with(&options(&[(0x8123, b"12345678")]))])
        })
        .sends(&f),
        Case::new("ng-option-new.pcapng", {
            let speed = number(1_000_000_000);
            let eth = interface(&options(&[(15, b"card"), (16, &speed), (17, &speed), (18, b"Europe")]));
            file([eth, with(&options(&[(5, &number(7)), (6, &3u32.to_le_bytes()), (7, b"\x01abc")]))])
        })
        .sends(&f),
        Case::new("ng-option-not-utf8.pcapng", {
            file([interface(&options(&[(2, b"Ethern\xe9t")])), PACKET.all(&f)])
        })
        .sends(&f),
        Case::new("ng-option-comment-not-utf8.pcapng", {
            let comment = options(&[(1, b"caf\xe9")]);
            let second = Packet { options: &comment, ..PACKET }.of(&f[1]);
            file([interface(&[]), PACKET.of(&f[0]), second, PACKET.of(&f[2])])
        })
        .sends(&f[..3]),
        Case::new("ng-option-mac-of-8.pcapng", file([interface(&options(&[(6, &[2; 8])])), PACKET.all(&f)]))
            .sends(&f),
        Case::new(
            "ng-option-iftsresol-bad.pcapng",
            file([interface(&options(&[(9, &[0, 0])])), PACKET.all(&f)]),
        )
        .sends(&f)
        .unlike_tcpdump("tcpdump refuses a resolution of two bytes; Wireshark passes over it"),
        Case::new("ng-option-behind-end.pcapng", {
            // Behind the end there is nothing, whatever it looks like.
            let behind = join([&END[..], &option(Little, 13, &[4])]);
            file([interface(&behind), PACKET.all(&f)])
        })
        .sends(&f),
        Case::new("ng-tsresol-1s.pcapng", file([interface(&options(&[(9, &[0])])), at(1_700_000_000)]))
            .sends(&f),
        Case::new("ng-tsresol-2^-63.pcapng", file([interface(&options(&[(9, &[0xBF])])), at(1 << 63)]))
            .sends(&f),
        Case::new("ng-tsresol-10^-20.pcapng", file([interface(&options(&[(9, &[20])])), PACKET.all(&f)]))
            .sends(&f)
            .unlike_tcpdump("tcpdump refuses resolutions that 64 bits do not hold; Wireshark reads them"),
        Case::new("ng-ts-max.pcapng", file([interface(&[]), at(u64::MAX)])).sends(&f),
        Case::new("ng-fcslen.pcapng", file([interface(&options(&[(13, &[4])])), checked(&[])]))
            .sends(&f)
            .unlike_tcpdump(FCS),
        Case::new("ng-epb-flags-fcs.pcapng", file([interface(&[]), checked(&flags(4 << 5))]))
            .sends(&f)
            .unlike_tcpdump(FCS),
        Case::new("ng-epb-flags-fcs-be.pcapng", {
            let flags = join([option(Big, 2, &(4u32 << 5).to_be_bytes()), END.to_vec()]);
            let packets = Packet { order: Big, options: &flags, ..PACKET }.all(&with_fcs);
            join([section(Big), interface_of(Big, 1, 0, &[]), packets])
        })
        .sends(&f)
        .unlike_tcpdump(FCS),
        Case::new("ng-inbound-outbound.pcapng", {
            let packets = f
                .iter()
                .zip([1, 2, 1, 2, 1])
                .map(|(frame, way)| Packet { options: &flags(way), ..PACKET }.of(frame));
            file([interface(&[]), join(packets)])
        })
        .sends(&f),
    ]
}

fn other_blocks() -> Vec<Case> {
    let f = five();
    let eth = || interface(&[]);
    let all = || PACKET.all(&f);
    let words = |words: &[u32]| join(words.iter().map(|word| word.to_le_bytes()));
    let custom = join([&32473u32.to_le_bytes()[..], b"hello"]);
    vec![
        Case::new("ng-nrb-isb-dsb.pcapng", {
            let names = join([&[1, 0, 9, 0][..], b"\x0a\0\0\x01host\0", &[0; 3], &END]);
            let counts = join([words(&[0, 0x60A5, 0]), options(&[(4, &5u64.to_le_bytes())])]);
            let keys = join([words(&[0x544C_534B, 5]), b"k k k".to_vec()]);
            file([
                block(Little, 10, &keys),
                eth(),
                block(Little, 4, &names),
                all(),
                block(Little, 5, &counts),
            ])
        })
        .sends(&f),
        Case::new("ng-nrb-bad.pcapng", {
            let names = join([&[1, 0, 200, 0][..], b"abcd"]);
            file([eth(), block(Little, 4, &names), all()])
        })
        .sends(&f),
        Case::new("ng-custom.pcapng", {
            file([block(Little, 0xBAD, &custom), eth(), block(Little, 0x4000_0BAD, &custom), all()])
        })
        .sends(&f),
        Case::new("ng-unknown-block.pcapng", {
            file([eth(), block(Little, 0x1234, b"abc"), all(), block(Little, 0x8000_0001, b"pid")])
        })
        .sends(&f),
        Case::new("ng-journal.pcapng", file([eth(), block(Little, 9, b"__REALTIME_TIMESTAMP=1\n"), all()]))
            .sends(&f),
        Case::new("ng-sysdig.pcapng", file([eth(), block(Little, 0x204, &[0; 16]), all()])).sends(&f),
        Case::new("ng-empty-block.pcapng", file([eth(), block(Little, 0x1234, b""), all()])).sends(&f),
    ]
}

fn damage() -> Vec<Case> {
    let f = five();
    let eth = || interface(&[]);
    let whole = five_frames();
    let (first, second, third) = (PACKET.of(&f[0]), PACKET.of(&f[1]), PACKET.of(&f[2]));
    let words = |words: &[u32]| join(words.iter().map(|word| word.to_le_bytes()));
    let end = whole.len();
    vec![
        Case::new("ng-cut-in-last.pcapng", whole[..end - 10].to_vec())
            .refused("the file ends within frame 5; 4 before it are whole", &f[..4]),
        Case::new("ng-cut-len-trailer.pcapng", whole[..end - 4].to_vec())
            .refused("the file ends within frame 5; 4 before it are whole", &f[..4]),
        Case::new("ng-cut-block-header.pcapng", join([&whole[..], b"\x06\0\0\0\x60"]))
            .refused("the file ends within a block; 5 before it are whole", &f),
        Case::new("ng-cut-interface.pcapng", file([&eth()[..14]]))
            .refused("the file ends within interface 0; no frame is before it", &[]),
        Case::new("ng-trailing-zeros.pcapng", join([&whole[..], &[0; 32]]))
            .damaged("a block of type 0x0 claims a length of 0 bytes; 5 before it are whole", &f),
        Case::new("ng-length-mismatch.pcapng", {
            file([eth(), first.clone(), second[..second.len() - 4].to_vec(), words(&[8]), third.clone()])
        })
        .damaged("frame 2 has a length of 96 in front and of 8 behind; 1 before it is whole", &f[..1]),
        Case::new("ng-length-unaligned.pcapng", {
            file([eth(), first.clone(), words(&[6, 97]), second[8..].to_vec(), third.clone()])
        })
        .damaged("frame 2 has a length of 97 in front and of 6 behind; 1 before it is whole", &f[..1]),
        Case::new("ng-length-unpadded.pcapng", {
            // A program that counts its padding neither in front nor behind: Wireshark reads this.
            let body = join([words(&[0, 0, 0, 61, 61]), frame(1, 61), vec![0; 3]]);
            file([eth(), words(&[6, 93]), body, words(&[93])])
        })
        .sends(&[frame(1, 61)])
        .unlike_tcpdump("tcpdump refuses lengths that are no multiple of four; Wireshark rounds them up"),
        Case::new("ng-length-tiny.pcapng", file([eth(), words(&[6, 4, 4])]))
            .damaged("frame 1 claims a length of 4 bytes; no frame is before it", &[]),
        Case::new("ng-length-0.pcapng", file([eth(), words(&[0x1234, 0, 0]), PACKET.all(&f)]))
            .damaged("a block of type 0x1234 claims a length of 0 bytes; no frame is before it", &[]),
        Case::new("ng-length-huge.pcapng", file([eth(), words(&[6, 0xFFFF_FFF0]), vec![0; 200]]))
            .damaged("frame 1 claims a length of 4294967280 bytes; no frame is before it", &[]),
        Case::new("ng-caplen-lies.pcapng", {
            let body = join([words(&[0, 0, 0, 5000, 5000]), vec![0; 64]]);
            file([eth(), first, block(Little, 6, &body), third])
        })
        .damaged("frame 2 claims 5000 bytes, and its block has 64; 1 before it is whole", &f[..1]),
        Case::new("ng-bad-byte-order.pcapng", {
            let header = join([words(&[0x1122_3344]), vec![1, 0, 0, 0], vec![0xFF; 8]]);
            join([block(Little, 0x0A0D_0D0A, &header), eth(), PACKET.all(&f)])
        })
        .damaged("the pcapng section header has an unknown byte order", &[]),
    ]
}
