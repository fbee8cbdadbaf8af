use proptest::prelude::*;

use super::*;

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn token() -> impl Strategy<Value = Token> {
    (
        any::<[u8; 32]>(),
        prop::collection::vec(address(), 1..=TOKEN_ADDRESSES_MAX),
        any::<u64>(),
        any::<[u8; 32]>(),
    )
        .prop_map(|(ca, addresses, id, secret)| Token {
            ca: Fingerprint(ca),
            addresses,
            id: TokenId(id),
            secret: TokenSecret(secret),
        })
}

proptest! {
    #[test]
    fn what_is_printed_is_read(token in token()) {
        let text = token.to_string();
        prop_assert!(text.len() <= TOKEN_TEXT_BYTES_MAX, "{}", text.len());
        prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
        prop_assert_eq!(Token::parse(&format!(" {text}\n")), Ok(token));
    }

    #[test]
    fn a_changed_character_is_noticed(token in token(), at: prop::sample::Index, with in "[a-zA-Z0-9_-]") {
        let mut text = token.to_string();
        let at = PREFIX.len() + at.index(text.len() - PREFIX.len());
        text.replace_range(at..=at, &with);
        if text != token.to_string() {
            prop_assert_eq!(Token::parse(&text), Err(InvalidToken::Damaged));
        }
    }

    #[test]
    fn a_part_is_noticed(token in token(), to: prop::sample::Index) {
        let text = token.to_string();
        prop_assert!(Token::parse(&text[..to.index(text.len())]).is_err());
    }

    #[test]
    fn any_text_is_read_without_harm(text in "(trilith1_)?.{0,300}") {
        if let Ok(token) = Token::parse(&text) {
            prop_assert_eq!(token.to_string(), text.trim());
        }
    }

    #[test]
    fn ids_and_secrets_come_back(id: u64, secret: [u8; 32]) {
        prop_assert_eq!(TokenId::parse(&TokenId(id).to_string()), Some(TokenId(id)));
        let secret = TokenSecret(secret);
        prop_assert_eq!(TokenSecret::parse(&secret.expose()), Some(secret));
    }
}

#[test]
fn other_things_are_told_apart() {
    assert_eq!(Token::parse(""), Err(InvalidToken::Prefix));
    assert_eq!(Token::parse("one"), Err(InvalidToken::Prefix));
    assert_eq!(Token::parse("trilith2_abc"), Err(InvalidToken::Version));
    assert_eq!(Token::parse("trilith1_"), Err(InvalidToken::Damaged));
    assert_eq!(TokenId::parse("0123456789ABCDEF"), None);
    assert_eq!(TokenId::parse("+123456789abcdef"), None);
}

#[test]
fn secrets_are_not_shown() {
    let secret = TokenSecret::generate().unwrap();
    assert!(!format!("{secret:?}").contains(&secret.expose()));
    assert_ne!(secret, TokenSecret::generate().unwrap());
}
