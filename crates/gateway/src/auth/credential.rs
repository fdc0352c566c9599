//! Where a request carries its token (the spec, "How the token travels").

use http::{
    HeaderMap,
    header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL},
};

use crate::config::Secret;

/// The subprotocol that announces a token: the next entry of the list is the token. The answer selects this name,
/// never the token.
pub(crate) const TOKEN_SUBPROTOCOL: &str = "token";

/// The credential in a request. `Debug` shows the kind, never the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Credential {
    /// Nothing.
    None,
    /// A JSON Web Token.
    Token(Secret),
    /// A single-use ticket.
    Ticket(Secret),
    /// A token in the query, although `auth.query_token` is off.
    QueryTokenOff,
}

/// A request's credential, and what the handshake's answer needs to know about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Presented {
    /// The credential that counts.
    pub credential: Credential,
    /// Whether the client offered the subprotocol `token`. The answer then selects it, even if the token is refused.
    pub token_subprotocol: bool,
}

impl Presented {
    /// Reads headers and query (without `?`). The first of these counts: `Sec-WebSocket-Protocol: token, <jwt>`,
    /// `Authorization: Bearer`, `?ticket=`, `?access_token=` or `?token=` if `query_token` is set.
    pub(crate) fn of(headers: &HeaderMap, query: Option<&str>, query_token: bool) -> Self {
        let (token_subprotocol, from_protocol) = subprotocol(headers);
        let credential = from_protocol
            .or_else(|| bearer(headers))
            .or_else(|| query.and_then(|query| from_query(query, query_token)))
            .unwrap_or(Credential::None);
        Self { credential, token_subprotocol }
    }
}

/// Offers may be in one header or in several (RFC 6455, 11.3.4).
fn subprotocol(headers: &HeaderMap) -> (bool, Option<Credential>) {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut offers = values.flat_map(|value| value.split(',')).map(str::trim).filter(|offer| !offer.is_empty());
    let offered = offers.any(|offer| offer == TOKEN_SUBPROTOCOL);
    (offered, offers.next().map(token))
}

fn bearer(headers: &HeaderMap) -> Option<Credential> {
    let (scheme, value) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token(value.trim()))
}

fn from_query(query: &str, query_token: bool) -> Option<Credential> {
    let named = |name| url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
    if let Some((_, ticket)) = named("ticket") {
        return Some(Credential::Ticket(Secret::new(ticket)));
    }
    let (_, in_query) = named("access_token").or_else(|| named("token"))?;
    Some(if query_token { token(&in_query) } else { Credential::QueryTokenOff })
}

fn token(token: &str) -> Credential {
    Credential::Token(Secret::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(headers: &[(&'static str, &str)], query: Option<&str>, query_token: bool) -> Presented {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Presented::of(&map, query, query_token)
    }

    #[test]
    fn the_subprotocol_may_be_in_one_header_or_several() {
        for headers in [
            &[("sec-websocket-protocol", "token, a.b.c")][..],
            &[("sec-websocket-protocol", "token"), ("sec-websocket-protocol", "a.b.c")],
            &[("sec-websocket-protocol", "other,token ,a.b.c,more")],
            &[("sec-websocket-protocol", "other"), ("sec-websocket-protocol", " token,, a.b.c")],
        ] {
            let presented = present(headers, None, false);
            assert_eq!((presented.credential, presented.token_subprotocol), (token("a.b.c"), true), "{headers:?}");
        }
        let alone = present(&[("sec-websocket-protocol", "token")], None, false);
        assert_eq!((alone.credential, alone.token_subprotocol), (Credential::None, true));
        let other = present(&[("sec-websocket-protocol", "Token, a.b.c")], None, false);
        assert_eq!((other.credential, other.token_subprotocol), (Credential::None, false));
    }

    #[test]
    fn the_bearer_scheme_is_case_insensitive() {
        for value in ["Bearer a.b.c", "bearer  a.b.c ", "BEARER a.b.c"] {
            assert_eq!(present(&[("authorization", value)], None, false).credential, token("a.b.c"));
        }
        for value in ["Basic dTpw", "Bearer", "a.b.c"] {
            assert_eq!(present(&[("authorization", value)], None, false).credential, Credential::None);
        }
    }

    #[test]
    fn the_query_holds_a_ticket_or_a_token() {
        let ticket = Credential::Ticket(Secret::new("t1"));
        assert_eq!(present(&[], Some("since=0&ticket=t1"), false).credential, ticket);
        for query in ["access_token=a.b.c", "since=0&token=a.b.c", "token=x&access_token=a.b.c"] {
            assert_eq!(present(&[], Some(query), true).credential, token("a.b.c"), "{query}");
            assert_eq!(present(&[], Some(query), false).credential, Credential::QueryTokenOff, "{query}");
        }
        assert_eq!(present(&[], Some("jwt=a.b.c"), true).credential, Credential::None);
    }

    #[test]
    fn the_first_credential_in_the_order_of_the_spec_counts() {
        let all = [("sec-websocket-protocol", "token, p"), ("authorization", "Bearer h")];
        assert_eq!(present(&all, Some("ticket=t&access_token=q"), true).credential, token("p"));
        assert_eq!(present(&all[1..], Some("ticket=t&access_token=q"), true).credential, token("h"));
        let ticket = Credential::Ticket(Secret::new("t"));
        assert_eq!(present(&[], Some("access_token=q&ticket=t"), true).credential, ticket);
    }

    #[test]
    fn debug_shows_no_token() {
        let all = [("sec-websocket-protocol", "token, sesame")];
        assert!(!format!("{:?}", present(&all, None, false)).contains("sesame"));
        assert!(!format!("{:?}", present(&[], Some("ticket=sesame"), false)).contains("sesame"));
    }
}
