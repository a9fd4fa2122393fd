//! A small file system (ISO/IEC 7816-4 §7): a master file, directories with names, transparent
//! elementary files.

use super::apdu::{Command, Sw};
use super::response::Response;

/// The master file's identifier.
const MASTER_FILE: u16 = 0x3F00;

/// The place of a file in the table; 0 is the master file.
type Node = usize;

/// Files, and which of them are selected.
#[derive(Clone, Debug)]
pub struct FileSystem {
    files: Vec<File>,
    current_df: Node,
    current_ef: Option<Node>,
}

#[derive(Clone, Debug)]
struct File {
    identifier: u16,
    parent: Node,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Directory { name: Vec<u8> },
    Transparent { content: Vec<u8>, needs_pin: bool },
}

impl Default for FileSystem {
    fn default() -> Self {
        Self::new()
    }
}

impl FileSystem {
    /// An empty master file.
    pub fn new() -> Self {
        let master =
            File { identifier: MASTER_FILE, parent: 0, kind: Kind::Directory { name: Vec::new() } };
        Self { files: vec![master], current_df: 0, current_ef: None }
    }

    /// Adds a directory under the master file, with its name (an AID); files added from here on
    /// are in it.
    #[must_use]
    pub fn directory(mut self, identifier: u16, name: &[u8]) -> Self {
        self.current_df = self.files.len();
        let kind = Kind::Directory { name: name.to_vec() };
        self.files.push(File { identifier, parent: 0, kind });
        self
    }

    /// Adds a transparent file to the directory added last, or to the master file. Its short
    /// identifier is the low five bits of `identifier`.
    #[must_use]
    pub fn file(self, identifier: u16, content: &[u8]) -> Self {
        self.add(identifier, content, false)
    }

    /// Adds a transparent file that is only read after VERIFY.
    #[must_use]
    pub fn protected_file(self, identifier: u16, content: &[u8]) -> Self {
        self.add(identifier, content, true)
    }

    fn add(mut self, identifier: u16, content: &[u8], needs_pin: bool) -> Self {
        let kind = Kind::Transparent { content: content.to_vec(), needs_pin };
        self.files.push(File { identifier, parent: self.current_df, kind });
        self
    }

    /// Selects the master file, as after a reset.
    pub(super) fn reset(&mut self) {
        (self.current_df, self.current_ef) = (0, None);
    }

    /// SELECT (ISO/IEC 7816-4 §11.2.2).
    pub(super) fn select(&mut self, command: &Command) -> Response {
        // Bits 2 and 1: first or only occurrence; bits 4 and 3: what is returned.
        if command.p2 & !0x0C != 0 {
            return Sw::WRONG_P1_P2.into();
        }
        let node = match command.p1 {
            0x00..=0x02 => self.by_identifier(command.p1, &command.data),
            0x03 if command.data.is_empty() => Ok(self.parent(self.current_df)),
            0x03 => Err(Sw::WRONG_LENGTH),
            0x04 => self.by_name(&command.data),
            0x08 => self.by_path(0, &command.data),
            0x09 => self.by_path(self.current_df, &command.data),
            _ => Err(Sw::WRONG_P1_P2),
        };
        match node {
            Ok(node) => {
                if self.is_directory(node) {
                    (self.current_df, self.current_ef) = (node, None);
                } else {
                    (self.current_df, self.current_ef) = (self.parent(node), Some(node));
                }
                match command.p2 & 0x0C {
                    0x00 => Response::data(self.control_information(0x6F, node)),
                    0x04 => Response::data(self.control_information(0x62, node)),
                    0x08 => Response::data(self.control_information(0x64, node)),
                    _ => Sw::OK.into(),
                }
            }
            Err(sw) => sw.into(),
        }
    }

    /// READ BINARY with an even INS (ISO/IEC 7816-4 §11.3.3).
    pub(super) fn read_binary(&mut self, command: &Command, verified: bool) -> Response {
        let Some(ne) = command.ne.filter(|_| command.data.is_empty()) else {
            return Sw::WRONG_LENGTH.into();
        };
        let offset = if command.p1 & 0x80 == 0 {
            usize::from(command.p1_p2())
        } else {
            // Bits 7 and 6 are zero in a short identifier; 0 is the current file.
            let short = u16::from(command.p1 & 0x1F);
            if command.p1 & 0x60 != 0 {
                return Sw::WRONG_P1_P2.into();
            }
            if short != 0 {
                match self.child(self.current_df, |file| file.identifier & 0x1F == short) {
                    Some(node) if !self.is_directory(node) => self.current_ef = Some(node),
                    _ => return Sw::NOT_FOUND.into(),
                }
            }
            usize::from(command.p2)
        };
        let file = self.current_ef.and_then(|node| self.files.get(node));
        let Some(File { kind: Kind::Transparent { content, needs_pin }, .. }) = file else {
            return Sw::NO_CURRENT_EF.into();
        };
        if *needs_pin && !verified {
            return Sw::SECURITY_STATUS.into();
        }
        let rest = match content.get(offset..) {
            Some(rest) if !rest.is_empty() || offset == 0 => rest,
            _ => return Sw::WRONG_OFFSET.into(),
        };
        // Le of 00h (or 0000h) asks for all there is, any other for so much.
        let all = matches!(ne, super::apdu::SHORT_MAX | super::apdu::EXTENDED_MAX);
        if rest.len() < ne && !all && rest.len() <= 255 {
            return Sw::wrong_le(rest.len()).into();
        }
        let data: Vec<u8> = rest.iter().copied().take(ne).collect();
        // 6282h: the end was reached before Ne bytes.
        let sw = if data.len() < ne && !all { Sw(0x6282) } else { Sw::OK };
        Response { data, sw }
    }

    fn by_identifier(&self, p1: u8, data: &[u8]) -> Result<Node, Sw> {
        let identifier = match *data {
            [] if p1 == 0 => return Ok(0),
            [high, low] => u16::from_be_bytes([high, low]),
            _ => return Err(Sw::WRONG_LENGTH),
        };
        let here = self.current_df;
        let fits = |node: &Node| match p1 {
            0x01 => self.is_directory(*node),
            0x02 => !self.is_directory(*node),
            _ => true,
        };
        if p1 == 0 && identifier == MASTER_FILE {
            return Ok(0);
        }
        // 00h looks among the children, then for the parent and the parent's children.
        let near = self.child(here, |file| file.identifier == identifier).filter(fits);
        let parent = self.parent(here);
        let far = || {
            let is_parent = self.files.get(parent).is_some_and(|f| f.identifier == identifier);
            let beside = || self.child(parent, |file| file.identifier == identifier);
            if is_parent { Some(parent) } else { beside() }
        };
        match p1 {
            0x00 => near.or_else(far),
            _ => near,
        }
        .ok_or(Sw::NOT_FOUND)
    }

    /// By name; a right-truncated one selects the first that begins so.
    fn by_name(&self, name: &[u8]) -> Result<Node, Sw> {
        if name.is_empty() || name.len() > 16 {
            return Err(Sw::WRONG_LENGTH);
        }
        self.files
            .iter()
            .position(|file| match &file.kind {
                Kind::Directory { name: own } => own.starts_with(name),
                Kind::Transparent { .. } => false,
            })
            .ok_or(Sw::NOT_FOUND)
    }

    fn by_path(&self, from: Node, path: &[u8]) -> Result<Node, Sw> {
        if path.is_empty() || path.len() % 2 != 0 {
            return Err(Sw::WRONG_LENGTH);
        }
        path.chunks_exact(2).try_fold(from, |node, pair| {
            self.child(node, |file| file.identifier.to_be_bytes() == *pair).ok_or(Sw::NOT_FOUND)
        })
    }

    fn child(&self, directory: Node, wanted: impl Fn(&File) -> bool) -> Option<Node> {
        let node =
            self.files.iter().skip(1).position(|file| file.parent == directory && wanted(file))?;
        Some(node + 1)
    }

    fn parent(&self, node: Node) -> Node {
        self.files.get(node).map_or(0, |file| file.parent)
    }

    fn is_directory(&self, node: Node) -> bool {
        matches!(self.files.get(node), Some(File { kind: Kind::Directory { .. }, .. }))
    }

    /// A control information template (ISO/IEC 7816-4 §7.4): 62h with the control parameters, 64h
    /// with the management data, 6Fh with both.
    fn control_information(&self, template: u8, node: Node) -> Vec<u8> {
        let Some(file) = self.files.get(node) else { return Vec::new() };
        let [high, low] = file.identifier.to_be_bytes();
        let mut content = Vec::new();
        let mut parameters: Vec<u8> = vec![0x83, 2, high, low];
        match &file.kind {
            Kind::Directory { name } => {
                parameters.extend([0x82, 1, 0x38]);
                if !name.is_empty() {
                    content.extend([0x84, name.len() as u8]);
                    content.extend(name);
                }
            }
            Kind::Transparent { content, .. } => {
                let [high, low] = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
                parameters.extend([0x82, 1, 0x01, 0x80, 2, high, low]);
            }
        }
        match template {
            0x62 => content = parameters,
            0x64 => {}
            _ => content.extend(parameters),
        }
        [&[template, content.len() as u8][..], &content].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AID: [u8; 7] = [0xA0, 0, 0, 0, 1, 2, 3];

    fn files() -> FileSystem {
        let content: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let mut files = FileSystem::new()
            .file(0x2F00, &[0x61, 0x09])
            .directory(0x5015, &AID)
            .file(0x5031, &[1, 2, 3, 4])
            .file(0x4402, &content)
            .protected_file(0x4403, b"secret");
        files.reset();
        files
    }

    fn select(files: &mut FileSystem, p1: u8, p2: u8, data: &[u8]) -> Response {
        let data = data.to_vec();
        files.select(&Command { cla: 0, ins: 0xA4, p1, p2, data, ne: Some(256) })
    }

    fn read(files: &mut FileSystem, p1_p2: u16, ne: usize) -> Response {
        let [p1, p2] = p1_p2.to_be_bytes();
        let command = Command { cla: 0, ins: 0xB0, p1, p2, data: vec![], ne: Some(ne) };
        files.read_binary(&command, false)
    }

    #[test]
    fn by_identifier() {
        let mut files = files();
        assert_eq!(select(&mut files, 0, 0x0C, &[0x2F, 0x00]), Sw::OK.into());
        assert_eq!(read(&mut files, 0, 256), Response::data(vec![0x61, 0x09]));
        assert_eq!(select(&mut files, 0, 0x0C, &[0x50, 0x31]), Sw::NOT_FOUND.into());
        assert_eq!(select(&mut files, 1, 0x0C, &[0x50, 0x15]), Sw::OK.into());
        assert_eq!(select(&mut files, 2, 0x0C, &[0x50, 0x31]), Sw::OK.into());
        assert_eq!(select(&mut files, 1, 0x0C, &[0x50, 0x31]), Sw::NOT_FOUND.into());
        assert_eq!(select(&mut files, 0, 0x0C, &[0x2F, 0x00]), Sw::OK.into());
        assert_eq!(select(&mut files, 0, 0x0C, &[]), Sw::OK.into());
        assert_eq!(select(&mut files, 0, 0x0C, &[1]), Sw::WRONG_LENGTH.into());
    }

    #[test]
    fn by_name_path_and_parent() {
        let mut files = files();
        assert_eq!(select(&mut files, 4, 0x0C, &AID), Sw::OK.into());
        assert_eq!(select(&mut files, 9, 0x0C, &[0x50, 0x31]), Sw::OK.into());
        assert_eq!(select(&mut files, 3, 0x0C, &[]), Sw::OK.into());
        assert_eq!(select(&mut files, 4, 0x0C, &AID[..5]), Sw::OK.into());
        assert_eq!(select(&mut files, 4, 0x0C, &[0xA1]), Sw::NOT_FOUND.into());
        assert_eq!(select(&mut files, 8, 0x0C, &[0x50, 0x15, 0x50, 0x31]), Sw::OK.into());
        assert_eq!(read(&mut files, 0, 4), Response::data(vec![1, 2, 3, 4]));
        assert_eq!(select(&mut files, 8, 0x0C, &[0x50, 0x15, 0x50]), Sw::WRONG_LENGTH.into());
        assert_eq!(select(&mut files, 5, 0x0C, &[]), Sw::WRONG_P1_P2.into());
        assert_eq!(select(&mut files, 4, 0x01, &AID), Sw::WRONG_P1_P2.into());
    }

    #[test]
    fn what_select_returns() {
        let mut files = files();
        let fci = select(&mut files, 4, 0, &AID).data;
        assert_eq!(fci[..4], [0x6F, 16, 0x84, 7]);
        assert_eq!(fci[4..11], AID);
        assert_eq!(fci[11..], [0x83, 2, 0x50, 0x15, 0x82, 1, 0x38]);
        let fcp = select(&mut files, 2, 4, &[0x44, 0x02]).data;
        assert_eq!(fcp, [0x62, 11, 0x83, 2, 0x44, 0x02, 0x82, 1, 0x01, 0x80, 2, 0x03, 0xE8]);
        assert_eq!(select(&mut files, 4, 8, &AID).data[..2], [0x64, 9]);
    }

    #[test]
    fn a_failed_select_selects_nothing_else() {
        let mut files = files();
        select(&mut files, 0, 0x0C, &[0x2F, 0x00]);
        select(&mut files, 0, 0x0C, &[0xFF, 0xFF]);
        assert_eq!(read(&mut files, 0, 2).sw, Sw::OK);
    }

    #[test]
    fn read_binary() {
        let mut files = files();
        assert_eq!(read(&mut files, 0, 256), Sw::NO_CURRENT_EF.into());
        select(&mut files, 4, 0x0C, &AID);
        select(&mut files, 2, 0x0C, &[0x44, 0x02]);
        assert_eq!(read(&mut files, 0, 256).data.len(), 256);
        assert_eq!(read(&mut files, 0x0100, 3).data, [0, 1, 2]);
        assert_eq!(read(&mut files, 0, 65_536).data.len(), 1000);
        assert_eq!(read(&mut files, 990, 256).data.len(), 10);
        assert_eq!(read(&mut files, 990, 11), Sw::wrong_le(10).into());
        assert_eq!(read(&mut files, 0, 2000).sw, Sw(0x6282));
        assert_eq!(read(&mut files, 1000, 1), Sw::WRONG_OFFSET.into());
        assert_eq!(read(&mut files, 5000, 1), Sw::WRONG_OFFSET.into());
        // By short identifier, with an offset in P2.
        assert_eq!(read(&mut files, 0x9101, 3).data, [2, 3, 4]);
        assert_eq!(read(&mut files, 0x9F00, 3), Sw::NOT_FOUND.into());
        assert_eq!(read(&mut files, 0xE000, 3), Sw::WRONG_P1_P2.into());
    }

    #[test]
    fn protected_files_need_the_pin() {
        let mut files = files();
        select(&mut files, 8, 0x0C, &[0x50, 0x15, 0x44, 0x03]);
        assert_eq!(read(&mut files, 0, 6), Sw::SECURITY_STATUS.into());
        let command = Command { cla: 0, ins: 0xB0, p1: 0, p2: 0, data: vec![], ne: Some(256) };
        assert_eq!(files.read_binary(&command, true).data, b"secret");
        let with_data = Command { data: vec![1], ..command.clone() };
        assert_eq!(files.read_binary(&with_data, true), Sw::WRONG_LENGTH.into());
        let without_le = Command { ne: None, ..command };
        assert_eq!(files.read_binary(&without_le, true), Sw::WRONG_LENGTH.into());
    }
}
