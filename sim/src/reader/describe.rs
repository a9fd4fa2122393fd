//! The descriptors of a simulated reader.

use super::config::Config;
use crate::Descriptors;

/// bEndpointAddress of bulk-OUT.
const BULK_OUT: u8 = 0x01;
/// bEndpointAddress of bulk-IN.
const BULK_IN: u8 = 0x82;
/// bEndpointAddress of interrupt-IN.
const INTERRUPT: u8 = 0x83;

/// wMaxPacketSize of the interrupt endpoint: NotifySlotChange with two bits a slot, or a
/// HardwareError.
pub(super) fn interrupt_packet(config: &Config) -> u16 {
    let message = 1 + config.class.slots().div_ceil(4);
    u16::try_from(message.next_multiple_of(8)).unwrap_or(64)
}

/// Device, configuration and string descriptors (CCID 1.1 §4).
pub(super) fn descriptors(config: &Config) -> Descriptors {
    let mut strings = vec![config.manufacturer.clone(), config.product.clone()];
    let mut index = |text: &str| {
        strings.push(text.to_owned());
        u8::try_from(strings.len()).unwrap_or(0)
    };
    let interface_name = index("CCID Interface");
    let serial_number = config.serial_number.as_deref().map_or(0, index);
    let [v0, v1] = config.vendor_id.to_le_bytes();
    let [p0, p1] = config.product_id.to_le_bytes();
    let [d0, d1] = config.bcd_device.to_le_bytes();
    #[rustfmt::skip]
    let device = vec![
        18, 0x01, 0x00, 0x02, 0x00, 0x00, 0x00, 64,
        v0, v1, p0, p1, d0, d1, 1, 2, serial_number, 1,
    ];
    let endpoints = if config.interrupt { 3 } else { 2 };
    let mut below = vec![9, 0x04, 0, 0, endpoints, 0x0B, 0x00, 0x00, interface_name];
    below.extend(config.class.emit());
    let mut endpoint = |address, attributes, packet: u16, interval| {
        let [low, high] = packet.to_le_bytes();
        below.extend([7, 0x05, address, attributes, low, high, interval]);
    };
    endpoint(BULK_OUT, 0x02, config.max_packet, 0);
    endpoint(BULK_IN, 0x02, config.max_packet, 0);
    if config.interrupt {
        endpoint(INTERRUPT, 0x03, interrupt_packet(config), 16);
    }
    let total = u16::try_from(9 + below.len()).unwrap_or(u16::MAX);
    let [low, high] = total.to_le_bytes();
    // Bus powered, 100 mA.
    let configuration = [&[9, 0x02, low, high, 1, 1, 0, 0x80, 50][..], &below].concat();
    Descriptors { device: device.into(), configuration: configuration.into(), strings }
}

#[cfg(test)]
mod tests {
    use crate::Device;
    use crate::reader::ReaderBuilder;
    use ccid::ClassDescriptor;

    #[test]
    fn descriptors_say_what_the_reader_is() {
        let reader = ReaderBuilder::new()
            .vendor(0x1234, "Maker")
            .product(0x5678, "Reader")
            .bcd_device(0x0203)
            .serial_number(Some("S1"))
            .slots(9)
            .build();
        let found = reader.descriptors();
        assert_eq!(found.device.len(), 18);
        assert_eq!(found.device[8..16], [0x34, 0x12, 0x78, 0x56, 0x03, 0x02, 1, 2]);
        let text = |index: u8| found.strings[usize::from(index) - 1].as_str();
        assert_eq!((text(1), text(2), text(found.device[16])), ("Maker", "Reader", "S1"));
        let configuration = &found.configuration;
        assert_eq!(configuration.len(), 9 + 9 + 54 + 3 * 7);
        assert_eq!(configuration[2..4], [93, 0]);
        assert_eq!(configuration[9..17], [9, 4, 0, 0, 3, 0x0B, 0, 0]);
        let class = ClassDescriptor::parse(&configuration[18..72]).unwrap();
        assert_eq!((class.slots(), class.max_ccid_message_length), (9, 65_554));
        assert_eq!(configuration[72..79], [7, 5, 0x01, 2, 64, 0, 0]);
        assert_eq!(configuration[79..86], [7, 5, 0x82, 2, 64, 0, 0]);
        // 50h and three bytes for nine slots fit eight bytes.
        assert_eq!(configuration[86..], [7, 5, 0x83, 3, 8, 0, 16]);
    }

    #[test]
    fn without_interrupt_and_serial_number() {
        let reader = ReaderBuilder::new().without_interrupt().serial_number(None).build();
        let found = reader.descriptors();
        assert_eq!(found.device[16], 0);
        assert_eq!(found.configuration.len(), 9 + 9 + 54 + 2 * 7);
        assert_eq!(found.configuration[13], 2);
    }
}
