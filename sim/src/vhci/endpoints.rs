//! The endpoints of a configuration.

/// Endpoint numbers of the bulk and interrupt pipes, with wMaxPacketSize where the host needs it:
/// the first of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Endpoints {
    pub(super) bulk_out: Option<u8>,
    pub(super) bulk_in: Option<(u8, usize)>,
    pub(super) interrupt: Option<(u8, usize)>,
}

const ENDPOINT_DESCRIPTOR: u8 = 5;

impl Endpoints {
    /// Those of the configuration descriptor `configuration`, which ends where it makes no sense.
    pub(super) fn of(configuration: &[u8]) -> Self {
        let mut found = Self::default();
        for descriptor in descriptors(configuration) {
            let [_, ENDPOINT_DESCRIPTOR, address, attributes, size_low, size_high, ..] =
                *descriptor
            else {
                continue;
            };
            let number = address & 0x0F;
            // Bits 11 and 12 count transactions in a microframe, which bulk and these have not.
            let size = usize::from(u16::from_le_bytes([size_low, size_high]) & 0x07FF);
            match (attributes & 0x03, address & 0x80 != 0) {
                (2, false) => found.bulk_out = found.bulk_out.or(Some(number)),
                (2, true) => found.bulk_in = found.bulk_in.or(Some((number, size))),
                (3, true) => found.interrupt = found.interrupt.or(Some((number, size))),
                _ => {}
            }
        }
        found
    }
}

/// The descriptors that follow each other in a configuration.
pub(super) fn descriptors(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = usize::from(*rest.first()?);
        if length < 2 {
            return None;
        }
        let (descriptor, behind) = rest.split_at_checked(length)?;
        rest = behind;
        Some(descriptor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind() {
        let configuration = [
            &[9, 2, 0, 0, 1, 1, 0, 0x80, 50][..],
            &[7, 5, 0x83, 3, 8, 0, 16],
            &[7, 5, 0x81, 1, 0xFF, 0x03, 1],
            &[7, 5, 0x04, 2, 64, 0, 0],
            &[7, 5, 0x85, 2, 0, 2, 0],
            &[7, 5, 0x86, 2, 64, 0, 0],
        ]
        .concat();
        assert_eq!(
            Endpoints::of(&configuration),
            Endpoints { bulk_out: Some(4), bulk_in: Some((5, 512)), interrupt: Some((3, 8)) }
        );
    }

    #[test]
    fn nonsense_ends_it() {
        assert_eq!(Endpoints::of(&[0; 20]), Endpoints::default());
        assert_eq!(Endpoints::of(&[7, 5, 0x81, 2, 64, 0]), Endpoints::default());
        assert_eq!(Endpoints::of(&[3, 5, 0x81]), Endpoints::default());
    }
}
