//! Frames of a client. Three bytes of the input choose the limit, the compression and the cuts; the rest is the stream.
#![no_main]

use crewcast_websocket::{Agreed, Decoder, Message, ProtocolError, deflate};
use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};
use libfuzzer_sys::fuzz_target;

const LIMITS: [usize; 4] = [0, 10, 125, 4096];

fn agreed() -> Option<Agreed> {
    let offer = HeaderValue::from_static("permessage-deflate");
    deflate::agree(&HeaderMap::from_iter([(SEC_WEBSOCKET_EXTENSIONS, offer)])).map(|answer| answer.agreed)
}

/// What a decoder makes of the pieces: its messages, and the error that ended them.
fn decode<'a>(decoder: &mut Decoder, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Option<ProtocolError>) {
    let mut messages = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            match decoder.decode(&mut piece) {
                Ok(message) => messages.extend(message),
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

/// Pieces whose sizes follow from `seed`.
fn pieces(bytes: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    let (mut rest, mut state) = (bytes, u32::from(seed));
    std::iter::from_fn(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let size = ((state >> 24) as usize % 17 + 1).min(rest.len());
        let (piece, behind) = rest.split_at(size);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

fn check(message: &Message, limit: usize) {
    match message {
        Message::Text(text) => assert!(text.len() <= limit),
        Message::Ping(payload) | Message::Pong(payload) => assert!(payload.len() <= 125),
        Message::Close(code) => assert!(code.is_none_or(|code| matches!(code, 1000..=1014 | 3000..=4999))),
    }
}

fuzz_target!(|input: &[u8]| {
    let Some(([size, compression, cuts], stream)) = input.split_first_chunk::<3>() else { return };
    let limit = LIMITS[usize::from(*size) % LIMITS.len()];
    let new = || {
        let mut decoder = Decoder::new(limit);
        decoder.agree(if compression % 2 == 0 { None } else { agreed() });
        decoder
    };
    let mut decoder = new();
    let (messages, error) = decode(&mut decoder, std::iter::once(stream));
    messages.iter().for_each(|message| check(message, limit));
    assert_eq!(decode(&mut new(), pieces(stream, *cuts)), (messages.clone(), error), "cuts change nothing");

    let has_closed = matches!(messages.last(), Some(Message::Close(_)));
    assert_eq!(decoder.has_ended(), has_closed || error.is_some());
    if let Some(error) = error {
        assert!(matches!(error.close_code().number(), 1002 | 1003 | 1007 | 1009));
    }
    if decoder.has_ended() {
        assert_eq!(decode(&mut decoder, std::iter::once(stream)), (Vec::new(), None), "nothing follows the end");
    } else if decoder.is_at_rest() {
        assert_eq!(decode(&mut decoder, std::iter::once(stream)), (messages, None), "nothing is left of a message");
    }
});
