//! Incremental decoding of client frames (RFC 6455 section 5).
//!
//! Bytes come as the network cuts them. Between messages a decoder holds no heap memory. Inside one it holds what has
//! arrived of it and never more than the limit, whatever length a header declares. A compressed message is inflated
//! when it is whole, and the limit applies again.

use std::fmt;

use bytes::Bytes;

use super::{
    close::CloseCode,
    deflate::{Agreed, InflateError, inflate},
    frame::{MAX_CONTROL, RSV1, opcode},
};

/// Longest header of a client frame: two bytes, a 64-bit length, the mask.
const MAX_HEADER: usize = 14;

/// RSV1 to RSV3.
const RESERVED: u8 = 0x70;

/// One whole text message or one control frame of a client.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message, its fragments joined.
    Text(String),
    /// A ping; the connection owes a pong with the same payload.
    Ping(Bytes),
    /// An answer to a ping, or an unsolicited heartbeat.
    Pong(Bytes),
    /// The client closes, with a code if it gave one. Everything after it is discarded.
    Close(Option<u16>),
}

/// Shows sizes only: a text may carry a token.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Ping(payload) => write!(f, "Ping({} bytes)", payload.len()),
            Self::Pong(payload) => write!(f, "Pong({} bytes)", payload.len()),
            Self::Close(code) => write!(f, "Close({code:?})"),
        }
    }
}

/// How a client broke the rules. The socket can only be closed: framing is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProtocolError {
    /// RSV1 to RSV3 belong to extensions. RSV1 on a message's first frame means that it is compressed, if that was
    /// agreed.
    #[error("reserved bits are set")]
    ReservedBits,
    /// An opcode that RFC 6455 does not define.
    #[error("unknown opcode {0:#x}")]
    Opcode(u8),
    /// A client must mask every frame.
    #[error("frame is not masked")]
    Unmasked,
    /// A continuation without a beginning, or a new message inside another.
    #[error("fragments out of order")]
    Fragment,
    /// A control frame that is fragmented or longer than 125 bytes.
    #[error("control frame is fragmented or too long")]
    Control,
    /// A close frame of one byte, or with a code that must not be sent.
    #[error("invalid close frame")]
    Close,
    /// A binary message that is not UTF-8. One that is counts as text.
    #[error("a binary message must hold UTF-8")]
    Binary,
    /// A text message or close reason that is not UTF-8.
    #[error("text is not valid UTF-8")]
    InvalidText,
    /// A compressed message that cannot be inflated.
    #[error("compressed text is not valid deflate data")]
    InvalidDeflate,
    /// A message over the limit, in bytes; the limit also applies to the inflated text.
    #[error("message is over the limit of {0} bytes")]
    TooBig(usize),
}

impl ProtocolError {
    /// The code to close with: 1002, 1003, 1007 or 1009.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Binary => CloseCode::Binary,
            // RFC 7692 leaves the code open. The framing is intact, but the content is not consistent with the
            // message's type, as with text that is not UTF-8 (RFC 6455 section 7.4.1).
            Self::InvalidText | Self::InvalidDeflate => CloseCode::InvalidText,
            Self::TooBig(_) => CloseCode::TooBig,
            _ => CloseCode::Protocol,
        }
    }
}

/// Decodes one client's frames. Holds the state between two reads.
pub struct Decoder {
    limit: usize,
    state: DecodeState,
    header: [u8; MAX_HEADER],
    header_len: u8,
    /// The kind of the unfinished text message.
    inside: Inside,
    /// Whether that message came in binary frames.
    is_binary: bool,
    deflate: Option<Agreed>,
    /// What has arrived of the text message, unmasked and still compressed.
    message: Vec<u8>,
    /// How much of `message` is known to be UTF-8. Half as wide as a length, so that `deflate` costs no memory.
    checked: u32,
    /// What has arrived of a control frame: control frames may stand between the fragments of a message.
    control: Vec<u8>,
}

#[derive(Clone, Copy)]
enum DecodeState {
    Header,
    Payload(Frame),
    /// After a close frame or an error.
    Ended,
}

/// The kind of the message that is arriving.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    Text,
    Deflated,
}

/// The frame whose payload is arriving.
#[derive(Clone, Copy)]
struct Frame {
    opcode: u8,
    fin: bool,
    /// Rotated so that its first byte belongs to the next payload byte.
    mask: [u8; 4],
    remaining: usize,
}

impl Frame {
    fn is_control(&self) -> bool {
        is_control(self.opcode)
    }
}

impl Decoder {
    /// A decoder that refuses messages of more than `limit` bytes (and more than 4 GiB), all fragments together.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.min(u32::MAX as usize),
            state: DecodeState::Header,
            header: [0; MAX_HEADER],
            header_len: 0,
            inside: Inside::Nothing,
            is_binary: false,
            deflate: None,
            message: Vec::new(),
            checked: 0,
            control: Vec::new(),
        }
    }

    /// What was agreed with the client; with `None` compressed messages are refused.
    pub fn agreed(&self) -> Option<Agreed> {
        self.deflate
    }

    /// Sets [`Self::agreed`].
    pub fn agree(&mut self, agreed: Option<Agreed>) {
        self.deflate = agreed;
    }

    /// Takes bytes off the front of `input` until a message is whole or `input` is empty (`Ok(None)`).
    ///
    /// After [`Message::Close`] and after an error all further bytes are discarded.
    ///
    /// # Errors
    /// The rule that the client broke.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Message>, ProtocolError> {
        let result = self.advance(input);
        if matches!(result, Err(_) | Ok(Some(Message::Close(_)))) {
            self.state = DecodeState::Ended;
            self.message = Vec::new();
            self.control = Vec::new();
        }
        result
    }

    /// Whether the decoder holds no state: a new one could replace it.
    pub fn is_at_rest(&self) -> bool {
        let is_between_frames = matches!(self.state, DecodeState::Header) && self.header_len == 0;
        is_between_frames && self.inside == Inside::Nothing && self.control.is_empty()
    }

    /// Whether a close frame or an error has ended the stream of messages.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, DecodeState::Ended)
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Message>, ProtocolError> {
        loop {
            match self.state {
                DecodeState::Ended => {
                    *input = &[];
                    return Ok(None);
                }
                DecodeState::Header => match self.take_header(input)? {
                    Some(frame) => self.state = DecodeState::Payload(frame),
                    None => return Ok(None),
                },
                DecodeState::Payload(mut frame) => {
                    self.take_payload(&mut frame, input);
                    if frame.remaining > 0 {
                        self.state = DecodeState::Payload(frame);
                        self.check_text_so_far()?;
                        return Ok(None);
                    }
                    self.state = DecodeState::Header;
                    if let Some(message) = self.finish(frame)? {
                        return Ok(Some(message));
                    }
                }
            }
        }
    }

    /// Collects a header, byte by byte if need be. What its first two bytes rule out is refused at once.
    fn take_header(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, ProtocolError> {
        if !self.fill_header(2, input) {
            return Ok(None);
        }
        let (first, second) = (self.header[0], self.header[1]);
        self.check_start(first, second)?;
        let extended = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if !self.fill_header(2 + extended + 4, input) {
            return Ok(None);
        }
        self.header_len = 0;
        let length = match extended {
            0 => u64::from(second & 0x7F),
            _ => self.header[2..2 + extended].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
        };
        let (opcode, fin) = (first & 0x0F, first & 0x80 != 0);
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.header[2 + extended..2 + extended + 4]);
        let room = self.limit - self.message.len();
        let remaining = match usize::try_from(length) {
            Ok(length) if is_control(opcode) || length <= room => length,
            _ => return Err(ProtocolError::TooBig(self.limit)),
        };
        if matches!(opcode, opcode::TEXT | opcode::BINARY) {
            self.is_binary = opcode == opcode::BINARY;
            self.inside = if first & RSV1 != 0 { Inside::Deflated } else { Inside::Text };
        }
        Ok(Some(Frame { opcode, fin, mask, remaining }))
    }

    /// Fills `self.header` up to `target` bytes; returns whether it holds at least that many.
    fn fill_header(&mut self, target: usize, input: &mut &[u8]) -> bool {
        let have = usize::from(self.header_len);
        let take = target.saturating_sub(have).min(input.len());
        self.header[have..have + take].copy_from_slice(&input[..take]);
        *input = &input[take..];
        self.header_len += take as u8;
        have + take >= target
    }

    fn check_start(&self, first: u8, second: u8) -> Result<(), ProtocolError> {
        let (opcode, fin) = (first & 0x0F, first & 0x80 != 0);
        let may_be_deflated = self.deflate.is_some() && matches!(opcode, opcode::TEXT | opcode::BINARY);
        let allowed = if may_be_deflated { RSV1 } else { 0 };
        if first & RESERVED & !allowed != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        let in_message = self.inside != Inside::Nothing;
        match opcode {
            opcode::CONTINUATION if !in_message => return Err(ProtocolError::Fragment),
            opcode::TEXT | opcode::BINARY if in_message => return Err(ProtocolError::Fragment),
            opcode::CONTINUATION | opcode::TEXT | opcode::BINARY => {}
            opcode::CLOSE | opcode::PING | opcode::PONG => {
                if !fin || usize::from(second & 0x7F) > MAX_CONTROL {
                    return Err(ProtocolError::Control);
                }
            }
            _ => return Err(ProtocolError::Opcode(opcode)),
        }
        if second & 0x80 == 0 { Err(ProtocolError::Unmasked) } else { Ok(()) }
    }

    fn take_payload(&mut self, frame: &mut Frame, input: &mut &[u8]) {
        let (taken, rest) = input.split_at(frame.remaining.min(input.len()));
        *input = rest;
        frame.remaining -= taken.len();
        if frame.is_control() {
            append_unmasked(&mut self.control, taken, &mut frame.mask);
        } else {
            // Doubles as a vector does by itself, but never beyond the limit.
            let (len, capacity) = (self.message.len(), self.message.capacity());
            if capacity - len < taken.len() {
                let wanted = (2 * capacity).min(self.limit).max(len + taken.len());
                self.message.reserve_exact(wanted - len);
            }
            append_unmasked(&mut self.message, taken, &mut frame.mask);
        }
    }

    /// Refuses a message that can no longer become UTF-8, without waiting for its end. A compressed message must be
    /// complete first.
    fn check_text_so_far(&mut self) -> Result<(), ProtocolError> {
        if self.inside == Inside::Deflated {
            return Ok(());
        }
        let valid = match std::str::from_utf8(&self.message[self.checked as usize..]) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Err(self.not_utf8()),
        };
        self.checked += valid as u32;
        Ok(())
    }

    fn not_utf8(&self) -> ProtocolError {
        if self.is_binary { ProtocolError::Binary } else { ProtocolError::InvalidText }
    }

    /// Handles the complete payload of `frame`.
    fn finish(&mut self, frame: Frame) -> Result<Option<Message>, ProtocolError> {
        let message = match frame.opcode {
            opcode::PING => Message::Ping(std::mem::take(&mut self.control).into()),
            opcode::PONG => Message::Pong(std::mem::take(&mut self.control).into()),
            opcode::CLOSE => Message::Close(close_code(&self.control)?),
            _ if frame.fin => {
                let message = std::mem::take(&mut self.message);
                let text = match std::mem::replace(&mut self.inside, Inside::Nothing) {
                    Inside::Deflated => inflate(&message, self.limit).map_err(|error| match error {
                        InflateError::Invalid => ProtocolError::InvalidDeflate,
                        InflateError::TooBig => ProtocolError::TooBig(self.limit),
                    })?,
                    Inside::Text | Inside::Nothing => message,
                };
                self.checked = 0;
                Message::Text(String::from_utf8(text).map_err(|_| self.not_utf8())?)
            }
            _ => {
                self.check_text_so_far()?;
                return Ok(None);
            }
        };
        Ok(Some(message))
    }
}

fn is_control(opcode: u8) -> bool {
    opcode & 0x8 != 0
}

fn append_unmasked(to: &mut Vec<u8>, masked: &[u8], mask: &mut [u8; 4]) {
    let start = to.len();
    to.extend_from_slice(masked);
    let mut words = to[start..].chunks_exact_mut(4);
    for word in &mut words {
        for (byte, key) in word.iter_mut().zip(mask.iter()) {
            *byte ^= key;
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(mask.iter()) {
        *byte ^= key;
    }
    mask.rotate_left(masked.len() % 4);
}

/// The code in a close frame's payload (RFC 6455 sections 5.5.1 and 7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(ProtocolError::Close) };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(ProtocolError::Close);
    }
    std::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidText)?;
    Ok(Some(code))
}

#[cfg(test)]
mod tests;
