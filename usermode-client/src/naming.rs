//! Which adapter a person means.
use crate::Error;
use crate::adapter::Adapter;
use crate::text;

/// The adapter that is named: digits alone are an index; a GUID, with or without braces; a MAC address; a full name
/// or Windows' alias; or a part of a name or an alias that no other adapter has.
pub fn choose(adapters: &[Adapter], wanted: &str) -> Result<Adapter, Error> {
    let wanted = wanted.trim();
    let none = || Error::NoAdapter(text::clean(wanted));
    if wanted.is_empty() {
        return Err(none());
    }
    let only = |matches: &dyn Fn(&Adapter) -> bool| -> Option<Result<Adapter, Error>> {
        let found: Vec<&Adapter> = adapters.iter().filter(|adapter| matches(adapter)).collect();
        match found.as_slice() {
            [] => None,
            [adapter] => Some(Ok((*adapter).clone())),
            several => Some(Err(Error::Ambiguous {
                wanted: text::clean(wanted),
                candidates: several.iter().map(|adapter| candidate(adapter)).collect(),
            })),
        }
    };
    if wanted.bytes().all(|byte| byte.is_ascii_digit()) {
        let index: Option<u32> = wanted.parse().ok();
        return only(&|adapter| Some(adapter.index) == index).unwrap_or_else(|| Err(none()));
    }
    if let Some(guid) = guid(wanted) {
        return only(&|adapter| self::guid(&adapter.guid) == Some(guid)).unwrap_or_else(|| Err(none()));
    }
    if let Some(found) = mac(wanted).and_then(|mac| only(&|adapter| self::mac(&adapter.mac) == Some(mac))) {
        return found;
    }
    let lower = wanted.to_lowercase();
    let names = |adapter: &Adapter| -> Vec<String> {
        [Some(&adapter.name), adapter.alias.as_ref()]
            .into_iter()
            .flatten()
            .map(|name| name.to_lowercase())
            .collect()
    };
    only(&|adapter| names(adapter).contains(&lower))
        .or_else(|| only(&|adapter| names(adapter).iter().any(|name| name.contains(&lower))))
        .unwrap_or_else(|| Err(none()))
}

/// An adapter in a list to choose from.
fn candidate(adapter: &Adapter) -> String {
    let alias = adapter.alias.as_ref().map_or_else(String::new, |alias| format!(" ({})", text::clean(alias)));
    format!("{}  {}  {}  {}{alias}", adapter.index, adapter.guid, adapter.mac, text::clean(&adapter.name))
}

/// The digits of a GUID, if the text has the form of one.
fn guid(text: &str) -> Option<u128> {
    let inner = text.strip_prefix('{').map_or(Some(text), |rest| rest.strip_suffix('}'))?;
    let groups: Vec<&str> = inner.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    if lengths != [8, 4, 4, 4, 12] {
        return None;
    }
    hex(&groups.concat()).map(|(number, _)| number)
}

/// The digits of a MAC address: six bytes with colons or hyphens, three groups with dots, or twelve digits.
fn mac(text: &str) -> Option<u128> {
    let digits = [(':', 2), ('-', 2), ('.', 4)]
        .into_iter()
        .find(|(separator, size)| {
            text.contains(*separator) && text.split(*separator).all(|group| group.len() == *size)
        })
        .map_or_else(|| text.to_owned(), |(separator, _)| text.replace(separator, ""));
    hex(&digits).filter(|(_, length)| *length == 12).map(|(number, _)| number)
}

fn hex(digits: &str) -> Option<(u128, usize)> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u128::from_str_radix(digits, 16).ok().map(|number| (number, digits.len()))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapters() -> Vec<Adapter> {
        let names = [
            ("Simulated Ethernet Adapter 0", "Ethernet"),
            ("Simulated Ethernet Adapter 1", "Ethernet 2"),
            ("Wi-Fi 6E AX211", "WLAN"),
        ];
        let adapter = |(number, (name, alias)): (usize, &(&str, &str))| Adapter {
            index: 10 + number as u32,
            name: (*name).to_owned(),
            alias: Some((*alias).to_owned()),
            guid: format!("{{A0B1C2D3-0000-4000-8000-00000000000{number}}}"),
            mac: format!("02:51:1c:e0:00:0{number}"),
            state: "running",
            mtu: 1500,
            link_speed: 0,
            connected: true,
            handles: 0,
            id: [number as u8; 16],
        };
        names.iter().enumerate().map(adapter).collect()
    }

    fn index(wanted: &str) -> Result<u32, String> {
        choose(&adapters(), wanted).map(|adapter| adapter.index).map_err(|error| error.to_string())
    }

    #[test]
    fn an_adapter_has_many_names() {
        let names = [
            "11",
            "{A0B1C2D3-0000-4000-8000-000000000001}",
            "a0b1c2d3-0000-4000-8000-000000000001",
            "02:51:1c:e0:00:01",
            "02-51-1C-E0-00-01",
            "0251.1ce0.0001",
            "02511ce00001",
            "simulated ethernet adapter 1",
            "Adapter 1",
            "ethernet 2",
        ];
        for name in names {
            assert_eq!(index(name), Ok(11), "{name}");
        }
        assert_eq!(index("wlan"), Ok(12));
        assert_eq!(index("ax211"), Ok(12));
    }

    #[test]
    fn a_full_name_is_no_part_of_another() {
        assert_eq!(index("Ethernet"), Ok(10), "an alias of one, and a part of two others");
    }

    #[test]
    fn digits_are_an_index_and_nothing_else() {
        for digits in ["1", "0", "6", "211", "99999999999999999999"] {
            let said = index(digits).unwrap_err();
            assert_eq!(said, format!("no adapter matches \"{digits}\"; see them with: sluice list"));
        }
    }

    #[test]
    fn a_name_of_several_lists_them() {
        let said = index("Simulated").unwrap_err();
        assert!(said.starts_with("\"Simulated\" matches 2 adapters"), "{said}");
        assert!(
            said.contains("\n    10  {A0B1C2D3-0000-4000-8000-000000000000}  02:51:1c:e0:00:00  Simulated"),
            "{said}"
        );
        assert!(said.contains("Adapter 1 (Ethernet 2)"), "{said}");
    }

    #[test]
    fn nothing_names_nothing() {
        assert!(index("").is_err() && index("  ").is_err() && index("nobody").is_err());
        assert!(index("{A0B1C2D3-0000-4000-8000-00000000000F}").is_err());
    }
}
