//! Answers to reset (ISO/IEC 7816-3 §8): composed for cards, and read as a reader reads them.

use super::Protocol;

/// Composes an ATR.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AtrBuilder {
    protocols: Vec<Protocol>,
    ta1: Option<u8>,
    tc1: Option<u8>,
    ta2: Option<u8>,
    tc2: Option<u8>,
    ifsc: u8,
    bwi_cwi: u8,
    crc: bool,
    historical: Vec<u8>,
}

impl AtrBuilder {
    /// An ATR that offers `protocols`, the first of them by default (T=0 if there is none), with
    /// `historical` bytes, of which 15 are the most there can be.
    pub fn new(protocols: &[Protocol], historical: &[u8]) -> Self {
        Self {
            protocols: if protocols.is_empty() { vec![Protocol::T0] } else { protocols.to_vec() },
            ta1: None,
            tc1: None,
            ta2: None,
            tc2: None,
            ifsc: 0xFE,
            bwi_cwi: 0x45,
            crc: false,
            historical: historical.iter().copied().take(15).collect(),
        }
    }

    /// TA1: Fi and Di, the fastest rate the card can do.
    #[must_use]
    pub fn fi_di(self, ta1: u8) -> Self {
        Self { ta1: Some(ta1), ..self }
    }

    /// TC1: extra guard time.
    #[must_use]
    pub fn guard_time(self, tc1: u8) -> Self {
        Self { tc1: Some(tc1), ..self }
    }

    /// TA2: specific mode.
    #[must_use]
    pub fn specific_mode(self, ta2: u8) -> Self {
        Self { ta2: Some(ta2), ..self }
    }

    /// TC2: WI, the waiting time of T=0.
    #[must_use]
    pub fn waiting_time(self, wi: u8) -> Self {
        Self { tc2: Some(wi), ..self }
    }

    /// The T=1 parameters: TA3 (IFSC), TB3 (BWI and CWI), and CRC instead of LRC.
    #[must_use]
    pub fn t1(self, ifsc: u8, bwi_cwi: u8, crc: bool) -> Self {
        Self { ifsc, bwi_cwi, crc, ..self }
    }

    /// The ATR's bytes, with TCK if any protocol but T=0 is offered.
    pub fn build(&self) -> Vec<u8> {
        let offers_t1 = self.protocols.contains(&Protocol::T1);
        let first = self.protocols.first().copied().unwrap_or(Protocol::T0);
        // Interface bytes of each level, with the protocol that opens the level.
        let mut levels = vec![(first, [self.ta1, None, self.tc1])];
        if offers_t1 || self.protocols.len() > 1 || self.ta2.is_some() || self.tc2.is_some() {
            levels.push((first, [self.ta2, None, self.tc2]));
        }
        for &protocol in self.protocols.iter().skip(usize::from(first == Protocol::T0)) {
            let specific = match protocol {
                Protocol::T0 => [None; 3],
                Protocol::T1 => [Some(self.ifsc), Some(self.bwi_cwi), self.crc.then_some(1)],
            };
            levels.push((protocol, specific));
        }
        let mut atr = vec![0x3B];
        let historical = u8::try_from(self.historical.len()).unwrap_or(15);
        let mut low = historical;
        for (n, (_, bytes)) in levels.iter().enumerate() {
            let next = levels.get(n + 1).map(|(protocol, _)| *protocol);
            let present = bytes
                .iter()
                .enumerate()
                .filter(|(_, byte)| byte.is_some())
                .fold(0u8, |bits, (n, _)| bits | 0x10 << n);
            atr.push(present | if next.is_some() { 0x80 } else { 0 } | low);
            atr.extend(bytes.iter().flatten());
            low = next.map_or(0, Protocol::number);
        }
        atr.extend(&self.historical);
        if offers_t1 {
            atr.push(atr.iter().skip(1).fold(0, |tck, byte| tck ^ byte));
        }
        atr
    }
}

/// What a reader takes from an ATR.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AtrInfo {
    /// TS is 3Bh or 3Fh.
    pub good_ts: bool,
    /// TCK is there if it must be, and right.
    pub good_tck: bool,
    /// Numbers of the protocols offered, in their order, without T=15.
    pub protocols: Vec<u8>,
    /// TA1.
    pub fi_di: Option<u8>,
    /// TC1.
    pub guard_time: Option<u8>,
    /// TA2: the card is in specific mode.
    pub specific_mode: Option<u8>,
    /// TC2.
    pub waiting_time: Option<u8>,
    /// The first TA for T=1 after TD2: IFSC.
    pub ifsc: Option<u8>,
    /// The first TB for T=1 after TD2: BWI and CWI.
    pub bwi_cwi: Option<u8>,
    /// The first TC for T=1 after TD2 says CRC.
    pub crc: bool,
}

impl AtrInfo {
    /// Reads an ATR. Where it is cut off, what had come counts, and `good_tck` is false.
    pub fn parse(atr: &[u8]) -> Self {
        let mut info = Self { protocols: Vec::new(), ..Self::default() };
        let mut bytes = atr.iter().copied();
        info.good_ts = matches!(bytes.next(), Some(0x3B | 0x3F));
        info.good_tck = info.parse_behind_ts(atr, &mut bytes).is_some();
        if info.protocols.is_empty() {
            info.protocols.push(0);
        }
        info
    }

    fn parse_behind_ts(&mut self, atr: &[u8], bytes: &mut impl Iterator<Item = u8>) -> Option<()> {
        let t0 = bytes.next()?;
        let (mut present, mut protocol) = (t0, 0);
        let (mut level, mut needs_tck) = (1, false);
        loop {
            let mut byte = |bit: u8| match present & bit {
                0 => Some(None),
                _ => bytes.next().map(Some),
            };
            let [ta, tb, tc, td] = [byte(0x10)?, byte(0x20)?, byte(0x40)?, byte(0x80)?];
            self.take(level, protocol, [ta, tb, tc]);
            let Some(td) = td else { break };
            (present, protocol, level) = (td, td & 0x0F, level + 1);
            needs_tck |= protocol != 0;
            if protocol != 15 && !self.protocols.contains(&protocol) {
                self.protocols.push(protocol);
            }
        }
        for _ in 0..t0 & 0x0F {
            bytes.next()?;
        }
        match (needs_tck, bytes.next()) {
            (false, _) => Some(()),
            (true, Some(_)) => {
                let length = atr.len() - bytes.count();
                let sum = atr.iter().take(length).skip(1).fold(0, |tck, byte| tck ^ byte);
                (sum == 0).then_some(())
            }
            (true, None) => None,
        }
    }

    fn take(&mut self, level: u32, protocol: u8, [ta, tb, tc]: [Option<u8>; 3]) {
        match (level, protocol) {
            (1, _) => (self.fi_di, self.guard_time) = (ta, tc),
            (2, _) => (self.specific_mode, self.waiting_time) = (ta, tc),
            (_, 1) => {
                self.ifsc = self.ifsc.or(ta);
                self.bwi_cwi = self.bwi_cwi.or(tb);
                self.crc |= tc.is_some_and(|tc| tc & 1 != 0);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t0_alone_is_the_default_and_has_no_tck() {
        assert_eq!(AtrBuilder::new(&[Protocol::T0], b"ab").build(), [0x3B, 0x02, b'a', b'b']);
        let atr = AtrBuilder::new(&[], &[]).fi_di(0x95).guard_time(2).waiting_time(10).build();
        assert_eq!(atr, [0x3B, 0xD0, 0x95, 0x02, 0x40, 0x0A]);
        let info = AtrInfo::parse(&atr);
        assert!(info.good_ts && info.good_tck);
        assert_eq!(info.protocols, [0]);
        assert_eq!((info.fi_di, info.guard_time), (Some(0x95), Some(2)));
        assert_eq!(info.waiting_time, Some(10));
    }

    #[test]
    fn t1_has_its_parameters_and_a_right_tck() {
        let atr = AtrBuilder::new(&[Protocol::T1], b"x").fi_di(0x96).t1(0x20, 0x75, true).build();
        let tck = 0x91 ^ 0x96 ^ 0x81 ^ 0x71 ^ 0x20 ^ 0x75 ^ 0x01 ^ b'x';
        assert_eq!(atr, [0x3B, 0x91, 0x96, 0x81, 0x71, 0x20, 0x75, 0x01, b'x', tck]);
        let info = AtrInfo::parse(&atr);
        assert!(info.good_tck);
        assert_eq!(info.protocols, [1]);
        assert_eq!((info.ifsc, info.bwi_cwi, info.crc), (Some(0x20), Some(0x75), true));
    }

    #[test]
    fn both_protocols_in_their_order() {
        let atr = AtrBuilder::new(&[Protocol::T0, Protocol::T1], &[]).build();
        assert_eq!(atr[..6], [0x3B, 0x80, 0x80, 0x31, 0xFE, 0x45]);
        let info = AtrInfo::parse(&atr);
        assert_eq!((info.protocols, info.good_tck), (vec![0, 1], true));
    }

    #[test]
    fn what_is_wrong_shows() {
        let mut atr = AtrBuilder::new(&[Protocol::T1], b"x").build();
        let last = atr.len() - 1;
        atr[last] ^= 1;
        assert!(!AtrInfo::parse(&atr).good_tck);
        atr[0] = 0x23;
        assert!(!AtrInfo::parse(&atr).good_ts);
        for length in 0..last {
            assert!(!AtrInfo::parse(&atr[..length]).good_tck);
        }
        // Interface bytes without end.
        assert!(!AtrInfo::parse(&[0xFF; 33]).good_tck);
    }
}
