//! How a simulated reader behaves where real ones differ.

use std::time::Duration;

/// What the reader does about the Abort sequence (CCID 1.1 §5.3.1, §6.1.13). Readers in the field
/// do all of this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum AbortBehaviour {
    /// As specified: the pair of class request and PC_to_RDR_Abort fails the slot's command with
    /// CMD_ABORTED and is answered by RDR_to_PC_SlotStatus; what comes between the two fails with
    /// CMD_ABORTED; a PC_to_RDR_Abort that comes first waits for the class request.
    Conforming,
    /// As specified, but a waiting PC_to_RDR_Abort is forgotten when another command comes.
    DropsHeldAbort,
    /// The class request stalls, PC_to_RDR_Abort fails as not supported, the command goes on.
    StallsRequest,
    /// The class request is accepted, PC_to_RDR_Abort fails as not supported, the command goes on.
    NotSupported,
    /// The class request is accepted, PC_to_RDR_Abort fails with this bError (readers use C0h,
    /// 81h, FFh, 00h and E0h for CMD_NOT_ABORTED), the command goes on.
    NotAborted(u8),
    /// The command fails with CMD_ABORTED, but PC_to_RDR_Abort is never answered.
    NoSlotStatus,
    /// The command stops, and neither it nor PC_to_RDR_Abort is ever answered. The slot is free.
    Silent,
    /// Both requests are ignored. The command goes on, the slot stays busy.
    Ignored,
    /// The command completes with its real answer, and then comes the answer to PC_to_RDR_Abort.
    CompletesNormally,
    /// PC_to_RDR_Abort is answered first; the command's failure with CMD_ABORTED follows so much
    /// later.
    LateFailure(Duration),
    /// PC_to_RDR_Abort is answered first; the command's real answer follows so much later.
    LateAnswer(Duration),
    /// A command that has taken this long fails with CMD_ABORTED though nobody asked; what is
    /// asked for is as specified.
    Unasked(Duration),
}

/// When a conforming reader answers the command that is aborted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PendingAnswer {
    /// With CMD_ABORTED, right before the RDR_to_PC_SlotStatus that ends the sequence.
    BeforeSlotStatus,
    /// With CMD_ABORTED, when the class request comes.
    AtRequest,
    /// Never.
    Never,
}

/// What becomes of a command when its card is taken out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OnRemoval {
    /// It fails with ICC_MUTE and bmICCStatus 2.
    Answers,
    /// It is never answered; the slot is free.
    NeverAnswers,
}

/// The message by which a command fails.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FailureMessage {
    /// The one that answers it when it succeeds.
    OfItsType,
    /// RDR_to_PC_SlotStatus, whatever the command.
    SlotStatus,
    /// 6Ch, which is no answer at all, whatever the command (usbd-ccid).
    Foreign,
}
