//! Frames as people see them.

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
