//! The class descriptor: read and written again it is the same, and what follows from it keeps
//! its bounds.

#![no_main]

use ccid::ClassDescriptor;
use ccid::descriptor::{DESCRIPTOR_LEN, DescriptorError, ExchangeLevel, Features};
use ccid::wire::MAX_DATA_LEN;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let descriptor = match ClassDescriptor::parse(bytes) {
        Ok(descriptor) => descriptor,
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control));
            let wrong_length = DescriptorError::WrongLength(bytes.len());
            assert_eq!(error == wrong_length, bytes.len() != DESCRIPTOR_LEN);
            return;
        }
    };
    assert_eq!(descriptor.emit(), bytes);
    assert!((1..=256).contains(&descriptor.slots()));
    assert!((1..=descriptor.slots()).contains(&descriptor.busy_slots()));
    assert!((54..=MAX_DATA_LEN).contains(&descriptor.max_data()));
    let levels = Features::TPDU_LEVEL | Features::SHORT_APDU_LEVEL | Features::EXTENDED_APDU_LEVEL;
    assert_eq!(
        descriptor.exchange_level() == ExchangeLevel::Character,
        !descriptor.features.intersects(levels)
    );
});
