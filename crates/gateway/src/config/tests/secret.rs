use super::super::secret::mask_passwords;

#[test]
fn passwords_are_masked_everywhere_in_a_url() {
    for (url, masked) in [
        ("redis://h:1/2", "redis://h:1/2"),
        ("redis://:secret@h", "redis://:***@h"),
        ("redis://u:se:cr%40et@a,redis://:secret@b,c", "redis://u:***@a,redis://:***@b,c"),
        (
            "redis+sentinel://u:secret@a,b/m?sentinel_password=secret&x=1",
            "redis+sentinel://u:***@a,b/m?sentinel_password=***&x=1",
        ),
        ("unix:///run/r.sock?user=u&pass=secret", "unix:///run/r.sock?user=u&pass=***"),
        (
            "redis+sentinel://u:s@a,b:1/m?sentinel_password=se@cr:et",
            "redis+sentinel://u:***@a,b:1/m?sentinel_password=***",
        ),
        ("redis://u:se?cr/et@h", "redis://u:***@h"),
        ("redis://u@h:1,redis://v:x@k", "redis://u@h:1,redis://v:***@k"),
        ("redis://u://x@h", "redis://u:***@h"),
        ("secret", "***"),
    ] {
        assert_eq!(mask_passwords(url), masked);
    }
}
