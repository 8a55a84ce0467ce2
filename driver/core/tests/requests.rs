//! Properties of request parsing: whatever the bytes are, nothing panics, nothing is read out of bounds, and
//! nothing is half accepted.
use proptest::collection::vec;
use proptest::prelude::*;
use sluice_core::request::{Send, parse_bind};

/// A well-formed input for frames of these lengths.
fn input(lengths: &[u32]) -> Vec<u8> {
    let mut input = vec![1, 0, 0, 0];
    input.extend_from_slice(&(lengths.len() as u32).to_le_bytes());
    for length in lengths {
        input.extend_from_slice(&length.to_le_bytes());
    }
    input
}

fn data_length(lengths: &[u32]) -> usize {
    lengths.len() * 4 + lengths.iter().map(|length| *length as usize).sum::<usize>()
}

/// What an accepted request promises.
fn check(request: &Send<'_>, data_length: usize, max_frame: u32) -> Result<(), TestCaseError> {
    prop_assert!((1..=512).contains(&request.frames()));
    let mut next = request.results_length();
    let mut count = 0;
    for (offset, length) in request.spans() {
        prop_assert_eq!(offset, next);
        prop_assert!((14..=max_frame.min(request.longest())).contains(&length));
        next += length as usize;
        count += 1;
    }
    prop_assert_eq!(next, data_length, "the frames end where the data ends");
    prop_assert_eq!(count, request.frames());
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_accepted_whole_or_refused(bytes in vec(any::<u8>(), 0..4096), data in 0usize..100_000, max in any::<u32>()) {
        if let Ok(request) = Send::parse(&bytes, data, max) {
            check(&request, data, max)?;
        }
        let _ = parse_bind(&bytes);
    }

    #[test]
    fn a_changed_byte_is_accepted_whole_or_refused(
        lengths in vec(14u32..1518, 1..40), at in any::<prop::sample::Index>(), value in any::<u8>(), cut in 0usize..3,
    ) {
        let mut bytes = input(&lengths);
        let index = at.index(bytes.len());
        bytes[index] = value;
        bytes.truncate(bytes.len() - cut);
        let data = data_length(&lengths);
        if let Ok(request) = Send::parse(&bytes, data, 1518) {
            check(&request, data, 1518)?;
        }
    }

    #[test]
    fn every_good_request_is_accepted(lengths in vec(14u32..=1518, 1..=512)) {
        let bytes = input(&lengths);
        let data = data_length(&lengths);
        let request = Send::parse(&bytes, data, 1518);
        prop_assert!(request.is_ok());
        let request = request.unwrap();
        check(&request, data, 1518)?;
        prop_assert_eq!(request.spans().map(|(_, length)| length).collect::<Vec<_>>(), lengths);
    }
}
