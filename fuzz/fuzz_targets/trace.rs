//! Trace files of all kinds. Whatever they hold, they end, by a fault that names the packet if by
//! one; packets' numbers go up, and masking a message keeps its length and its header.

#![no_main]

use ccid::wire::HEADER_LEN;
use ifd::trace::mask::Masker;
use ifd::trace::{Events, Trace, TraceError, What};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(events) = Events::new(bytes) else {
        assert!(Trace::read(bytes).is_err());
        return;
    };
    let mut masker = Masker::unknown();
    let mut last = 0;
    for event in events {
        let event = match event {
            Ok(recorded) => recorded.event,
            Err(error) => {
                assert!(!error.to_string().contains(char::is_control));
                assert!(!matches!(error, TraceError::Io(_)), "nothing else than memory is read");
                continue;
            }
        };
        assert!(event.packet > last);
        last = event.packet;
        if let What::Out(message) = &event.what {
            if let Some(masked) = masker.message(message) {
                assert_eq!(masked.len(), message.len());
                assert_eq!(masked[..HEADER_LEN], message[..HEADER_LEN]);
            }
        }
    }
    if let Ok(trace) = Trace::read(bytes) {
        assert!(trace.events.windows(2).all(|pair| pair[0].packet < pair[1].packet));
    }
});
