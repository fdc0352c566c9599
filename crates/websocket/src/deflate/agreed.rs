//! What client and server agree on in the handshake (RFC 7692 sections 5 and 7.1).

use std::{borrow::Cow, num::NonZeroU8};

use http::{HeaderMap, HeaderValue, header};

const NAME: &str = "permessage-deflate";

/// Bits of the largest window, the only one that this server compresses with.
const LARGEST_WINDOW: NonZeroU8 = NonZeroU8::new(15).unwrap();

/// The agreement that holds for one socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// Bits of the window in which the client inflates, with [`FORGETS`] if it keeps none between messages.
    window: NonZeroU8,
}

const FORGETS: u8 = 0x80;

impl Agreed {
    /// Whether a message of `length` bytes may be sent compressed.
    ///
    /// No distance in a message exceeds its own length. A client with a smaller window can therefore take the frame
    /// compressed for all, as long as the whole message fits into its window. Larger messages are sent to it
    /// uncompressed.
    pub fn takes(self, length: usize) -> bool {
        length <= self.reach()
    }

    /// Maximum distance in bytes from the end of a message back to what it refers to in earlier messages; 0: it must
    /// not refer to them.
    pub fn span(self) -> usize {
        if self.window.get() & FORGETS == 0 { self.reach() } else { 0 }
    }

    fn reach(self) -> usize {
        let bits = self.window.get() & !FORGETS;
        if bits == LARGEST_WINDOW.get() { usize::MAX } else { 1 << bits }
    }
}

/// An accepted offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The agreement that holds from now on.
    pub agreed: Agreed,
    /// The value of `Sec-WebSocket-Extensions` that announces it.
    pub header: HeaderValue,
}

/// Accepts the first offer that the server can keep; `None` if there is none. A header that is not a list of extensions
/// offers nothing.
pub fn agree(headers: &HeaderMap) -> Option<Answer> {
    let mut accepted = None;
    for value in headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS) {
        let mut offers = Offers(value.to_str().ok()?);
        while let Some(offer) = offers.next().ok()? {
            accepted = accepted.or_else(|| offer.accept());
        }
    }
    accepted
}

/// One extension with its parameters.
struct Offer<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

impl Offer<'_> {
    /// `None` for another extension, or one with a parameter that is unknown, repeated, or malformed.
    fn accept(&self) -> Option<Answer> {
        if self.name != NAME {
            return None;
        }
        let mut window = None;
        for (index, (name, value)) in self.parameters.iter().enumerate() {
            match (*name, value) {
                ("server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits", None) => {}
                // The inflater takes the largest window, and therefore every smaller one.
                ("client_max_window_bits", Some(bits)) => _ = window_of(bits)?,
                ("server_max_window_bits", Some(bits)) => window = Some(window_of(bits)?),
                _ => return None,
            }
            if self.parameters[..index].iter().any(|(before, _)| before == name) {
                return None;
            }
        }
        // The server's window would have to be kept for each socket. The client keeps its own, unless it says that it
        // keeps none.
        let forgets = self.parameters.iter().any(|(name, _)| *name == "server_no_context_takeover");
        let mut header = NAME.to_owned();
        if forgets {
            header.push_str("; server_no_context_takeover");
        }
        header.push_str("; client_no_context_takeover");
        if let Some(window) = window {
            header.push_str(&format!("; server_max_window_bits={window}"));
        }
        let window = window.unwrap_or(LARGEST_WINDOW);
        let agreed = Agreed { window: if forgets { window | FORGETS } else { window } };
        Some(Answer { agreed, header: HeaderValue::try_from(header).ok()? })
    }
}

/// 8 to 15, without leading zeros (RFC 7692 section 7.1.2).
fn window_of(bits: &str) -> Option<NonZeroU8> {
    let is_number = bits.starts_with(|c: char| matches!(c, '1'..='9'));
    let bits = if is_number { bits.parse::<NonZeroU8>().ok() } else { None };
    bits.filter(|bits| (8..=LARGEST_WINDOW.get()).contains(&bits.get()))
}

/// The header is not a list of extensions (RFC 6455 section 9.1).
struct Malformed;

/// The part of a list of extensions that has not been parsed yet.
struct Offers<'a>(&'a str);

impl<'a> Offers<'a> {
    fn next(&mut self) -> Result<Option<Offer<'a>>, Malformed> {
        // A list may have empty elements (RFC 9110 section 5.6.1).
        self.0 = self.0.trim_start_matches([',', ' ', '\t']);
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut offer = Offer { name: self.token()?, parameters: Vec::new() };
        loop {
            self.skip_space();
            if self.0.is_empty() || self.skip(',') {
                return Ok(Some(offer));
            }
            if !self.skip(';') {
                return Err(Malformed);
            }
            self.skip_space();
            offer.parameters.push(self.parameter()?);
        }
    }

    fn parameter(&mut self) -> Result<(&'a str, Option<Cow<'a, str>>), Malformed> {
        let name = self.token()?;
        self.skip_space();
        if !self.skip('=') {
            return Ok((name, None));
        }
        self.skip_space();
        let value = if self.skip('"') { Cow::Owned(self.rest_of_quoted()?) } else { Cow::Borrowed(self.token()?) };
        Ok((name, Some(value)))
    }

    fn token(&mut self) -> Result<&'a str, Malformed> {
        let end = self.0.find(|c| !is_of_token(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// A quoted value must be a token too, once it is unquoted.
    fn rest_of_quoted(&mut self) -> Result<String, Malformed> {
        let mut value = String::new();
        let mut characters = self.0.chars();
        loop {
            match characters.next() {
                Some('"') if !value.is_empty() => break,
                Some('\\') => value.push(characters.next().filter(|c| is_of_token(*c)).ok_or(Malformed)?),
                Some(c) if is_of_token(c) => value.push(c),
                _ => return Err(Malformed),
            }
        }
        self.0 = characters.as_str();
        Ok(value)
    }

    fn skip(&mut self, character: char) -> bool {
        let rest = self.0.strip_prefix(character);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }
}

/// RFC 9110 section 5.6.2.
fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "permessage-deflate; client_no_context_takeover";

    fn answer(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_str(value).unwrap());
        }
        agree(&headers).map(|answer| answer.header.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_offers_of_known_clients_are_accepted() {
        for offer in [
            // Chromium and Firefox, the Python library websockets, Node's ws.
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_no_context_takeover; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=12",
            "permessage-deflate;client_max_window_bits=\"8\"",
            "permessage-deflate ;\tclient_max_window_bits = \"1\\5\" ; client_no_context_takeover",
            "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits",
            ", ,permessage-deflate,",
            "permessage-bzip2; level=9, permessage-deflate",
        ] {
            assert_eq!(answer(&[offer]).as_deref(), Some(PLAIN), "{offer}");
        }
        assert_eq!(answer(&["x-unknown", "permessage-deflate"]).as_deref(), Some(PLAIN), "in separate headers");
    }

    #[test]
    fn a_client_without_a_window_gets_nothing_that_needs_one() {
        let offer = "permessage-deflate; client_max_window_bits; server_no_context_takeover; server_max_window_bits=12";
        let forgetful = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(answer(&[offer]), Some(format!("{forgetful}; server_max_window_bits=12")));
        let spans = ["", "; server_max_window_bits=12", "; server_no_context_takeover"].map(|parameters| {
            let mut headers = HeaderMap::new();
            let offer = HeaderValue::try_from(format!("{NAME}{parameters}")).unwrap();
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, offer);
            agree(&headers).unwrap().agreed.span()
        });
        assert_eq!(spans, [usize::MAX, 4096, 0]);
    }

    #[test]
    fn a_malformed_offer_is_declined() {
        for offer in [
            "",
            "x-webkit-deflate-frame",
            "permessage-deflate2",
            "Permessage-Deflate",
            "permessage-deflate; unknown",
            "permessage-deflate; unknown=1",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=true",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=265",
            "permessage-deflate; client_max_window_bits=08",
            "permessage-deflate; client_max_window_bits=20",
            "permessage-deflate; client_max_window_bits=x",
        ] {
            assert_eq!(answer(&[offer]), None, "{offer}");
        }
    }

    #[test]
    fn a_header_that_is_not_a_list_offers_nothing() {
        for header in [
            "permessage-deflate;",
            "permessage-deflate; ; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"\"",
            "permessage-deflate; client_max_window_bits=\"15",
            "permessage-deflate; client_max_window_bits=\"1 5\"",
            "permessage-deflate; client_max_window_bits=\"1\\ 5\"",
            "permessage-deflate; client_max_window_bits=\"\\",
            "permessage-deflate client_max_window_bits",
            "permessage-deflate, =",
            "\"permessage-deflate\"",
        ] {
            assert_eq!(answer(&[header]), None, "{header}");
            assert_eq!(answer(&["permessage-deflate", header]), None, "after a valid header: {header}");
        }
    }

    #[test]
    fn the_first_acceptable_offer_is_accepted() {
        let offers = "permessage-deflate; unknown, permessage-deflate; server_max_window_bits=10, permessage-deflate";
        assert_eq!(answer(&[offers]), Some(format!("{PLAIN}; server_max_window_bits=10")));
        let offers = ["permessage-deflate; server_max_window_bits=99", "permessage-deflate; client_max_window_bits"];
        assert_eq!(answer(&offers).as_deref(), Some(PLAIN));
    }

    #[test]
    fn a_client_with_a_small_window_gets_compressed_messages_that_fit() {
        let mut headers = HeaderMap::new();
        let offer = "permessage-deflate; server_max_window_bits=8";
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(offer));
        let agreed = agree(&headers).unwrap().agreed;
        assert!(agreed.takes(256) && !agreed.takes(257));
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(NAME));
        assert!(agree(&headers).unwrap().agreed.takes(1 << 20), "the largest window limits nothing");
        assert_eq!(size_of::<Option<Agreed>>(), 1, "each socket holds one");
    }

    #[test]
    fn junk_is_declined_without_a_panic() {
        let pieces =
            ["permessage-deflate", ";", ",", "=", "\"", "\\", " ", "client_max_window_bits", "15", "\u{7f}", "(", "é"];
        for seed in 0..2000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let text: String = (0..random.usize(..12)).map(|_| pieces[random.usize(..pieces.len())]).collect();
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
                headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, value);
            }
            let _ = agree(&headers);
        }
    }
}
