//! Why an exchange failed.

use core::fmt;

/// Why an exchange failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The card says nothing, not even to S(RESYNCH request). It must be reset.
    Mute,
    /// Valid blocks do not come through, or do not fit together, and S(RESYNCH) has not helped.
    /// The card must be reset.
    OutOfStep,
    /// All the card says comes with this NAD, and not with the addresses it is spoken to by (see
    /// [`Nad`](super::Nad)). The card must be reset.
    WrongNad(u8),
    /// An earlier exchange has failed for good, and the card has not been reset since.
    Dead,
    /// The card has broken the command off by S(ABORT request) and said nothing else.
    Aborted,
    /// A GET RESPONSE had to go again after S(RESYNCH). The card may have answered the first one, and
    /// that part of the response is lost.
    PartLost,
    /// The response is longer than any APDU.
    ResponseTooLong,
    /// More than [`MAX_REQUESTS`](super::MAX_REQUESTS) requests of the card.
    TooManyRequests,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongNad(nad) => {
                return write!(f, "the card answers with NAD {nad:02X}h and must be reset");
            }
            Self::Mute => "the card has fallen silent and must be reset",
            Self::OutOfStep => "the card could not be resynchronised and must be reset",
            Self::Dead => "the card was given up before and must be reset",
            Self::Aborted => "the card broke the command off",
            Self::PartLost => "a part of the response was lost",
            Self::ResponseTooLong => "the response is longer than any APDU",
            Self::TooManyRequests => "the card asks for more time, or the like, without end",
        })
    }
}

impl core::error::Error for Failure {}
