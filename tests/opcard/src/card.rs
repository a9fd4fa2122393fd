//! Between APDUs as they come and opcard, which is given whole commands and gives whole responses:
//! selection, command chaining and GET RESPONSE (ISO/IEC 7816-4).

use iso7816::command::{Command, CommandView, FromSliceError};
use iso7816::{App as _, Instruction, Status};

/// The longest command data that opcard says it takes, with room to spare.
const MAX_COMMAND: usize = 8192;
const MAX_RESPONSE: usize = 8192;

/// The historical bytes that opcard has in its data objects, in an ATR of T=1.
const ATR: [u8; 14] =
    [0x3B, 0x8A, 0x01, 0x00, 0x31, 0xF5, 0x73, 0xC0, 0x01, 0x60, 0x00, 0x90, 0x00, 0x0D];

/// The card.
pub struct Card<T: opcard::Client> {
    application: opcard::Card<T>,
    selected: bool,
    /// The parts of a chained command that have come.
    begun: Option<Box<Command<MAX_COMMAND>>>,
    /// What is left of a response.
    rest: Vec<u8>,
}

impl<T: opcard::Client> Card<T> {
    pub fn new(application: opcard::Card<T>) -> Self {
        Self { application, selected: false, begun: None, rest: Vec::new() }
    }

    fn command(&mut self, apdu: &[u8]) -> Result<Vec<u8>, Status> {
        let part = Command::<MAX_COMMAND>::try_from(apdu).map_err(|error| match error {
            FromSliceError::InvalidClass => Status::ClassNotSupported,
            _ => Status::WrongLength,
        })?;
        let expected = part.expected();
        if part.instruction() == Instruction::GetResponse {
            return Ok(self.next_of_response(expected));
        }
        self.rest.clear();
        let last = part.class().chain().last_or_only();
        let whole = match self.begun.take() {
            None => Box::new(part),
            Some(mut begun) => {
                begun.extend_from_command(&part).map_err(|_| Status::WrongLength)?;
                begun
            }
        };
        if !last {
            self.begun = Some(whole);
            return Ok(success(Vec::new()));
        }
        self.rest = self.response(whole.as_view())?;
        Ok(self.next_of_response(expected))
    }

    /// The whole response to a whole command.
    fn response(&mut self, command: CommandView<'_>) -> Result<Vec<u8>, Status> {
        if command.instruction() == Instruction::Select {
            self.selected = self.application.aid().matches(command.data());
            if !self.selected {
                return Err(Status::NotFound);
            }
        } else if !self.selected {
            return Err(Status::InstructionNotSupportedOrInvalid);
        }
        let mut response = heapless::Vec::<u8, MAX_RESPONSE>::new();
        self.application.handle(command, &mut response)?;
        Ok(response.to_vec())
    }

    fn next_of_response(&mut self, expected: usize) -> Vec<u8> {
        let rest = self.rest.split_off(expected.min(self.rest.len()));
        let part = std::mem::replace(&mut self.rest, rest);
        match self.rest.len() {
            0 => success(part),
            left => {
                let more = Status::MoreAvailable(u8::try_from(left).unwrap_or(0));
                [part, <[u8; 2]>::from(more).to_vec()].concat()
            }
        }
    }

    fn forget(&mut self) {
        self.application.reset();
        (self.selected, self.begun) = (false, None);
        self.rest.clear();
    }
}

fn success(mut data: Vec<u8>) -> Vec<u8> {
    data.extend(<[u8; 2]>::from(Status::Success));
    data
}

impl<T: opcard::Client> vpicc::VSmartCard for Card<T> {
    fn atr(&self) -> &[u8] {
        &ATR
    }

    fn power_on(&mut self) {
        self.forget();
    }

    fn reset(&mut self) {
        self.forget();
    }

    fn execute(&mut self, apdu: &[u8]) -> Vec<u8> {
        self.command(apdu).unwrap_or_else(|status| <[u8; 2]>::from(status).to_vec())
    }
}
