use rustls::ProtocolVersion::{TLSv1_2, TLSv1_3};

use super::*;

const HASH: &str = "$2y$10$abcdefghijklmnopqrstuu23JPZtHcGhwXSF41f93o/7vBdDut3Xu";
const TLS: &str = "tls_server_config:\n  cert_file: a.pem\n  key_file: /b.pem\n";

fn parse(text: &str) -> Result<WebConfig, String> {
    WebConfig::parse(Path::new("/etc/web.yml"), text).map_err(|error| error.to_string())
}

fn tls(more: &str) -> Result<TlsConfig, String> {
    parse(&format!("{TLS}{more}")).map(|config| config.tls.expect("TLS"))
}

#[test]
fn nothing_is_asked_for_by_an_empty_file() {
    for text in ["", "# nothing\n", "---\n", "{}", "basic_auth_users:\nhttp_server_config:\n", "~"] {
        let config = parse(text).expect(text);
        assert!(config.tls.is_none() && config.users.is_empty() && config.headers.is_empty(), "{text:?}");
    }
}

#[test]
fn everything_that_is_known() {
    let config = parse(&format!(
        "# for all\n{TLS}  client_auth_type: \"RequireAndVerifyClientCert\"\n  client_ca_file: 'c.pem'\n  min_version: TLS12\n  \
         max_version: TLS13\n  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n  prefer_server_cipher_suites: \
         false\n  curve_preferences:\n    - CurveP256\nhttp_server_config:\n  http2: true\n  headers:\n    X-Frame-Options: deny\n    \
         Strict-Transport-Security: max-age=9\n    X-XSS-Protection:\nbasic_auth_users:\n  alice: {HASH}\n  \"b c\": {HASH}\n"
    ));
    let WebConfig { tls, users, headers, wants_http2 } = config.expect("good");
    let tls = tls.expect("TLS");
    assert_eq!((tls.cert_file, tls.key_file), ("/etc/a.pem".into(), "/b.pem".into()));
    assert_eq!(tls.clients, Clients::Vouched { ca_file: "/etc/c.pem".into(), required: true });
    assert_eq!(tls.versions.iter().map(|version| version.version).collect::<Vec<_>>(), [TLSv1_3, TLSv1_2]);
    assert_eq!((tls.suites.len(), tls.groups.len(), tls.prefers_own_order), (4, 1, false));
    assert!(users.into_keys().eq(["alice", "b c"]) && wants_http2);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(headers, [("x-frame-options", &b"deny"[..]), ("strict-transport-security", b"max-age=9")]);
}

#[test]
fn versions_and_clients() {
    for (more, versions) in [
        ("", &[TLSv1_3, TLSv1_2][..]),
        ("  min_version: TLS13\n", &[TLSv1_3]),
        ("  max_version: TLS12\n", &[TLSv1_2]),
        ("  min_version: TLS12\n  max_version: TLS12\n", &[TLSv1_2]),
    ] {
        let found: Vec<_> = tls(more).expect(more).versions.iter().map(|version| version.version).collect();
        assert_eq!(found, versions, "{more}");
    }
    let if_given = tls("  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: /c\n").expect("good");
    assert_eq!(if_given.clients, Clients::Vouched { ca_file: "/c".into(), required: false });
    assert_eq!(tls("  client_auth_type: NoClientCert\n").expect("good").clients, Clients::Anybody);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let tls = |more: &str| format!("{TLS}{more}");
    let deep = format!("a: {}1{}", "[".repeat(20), "]".repeat(20));
    let mut wrong = Vec::new();
    for (text, expected) in [
        ("tls_server: {}", "1:1: key tls_server: unknown key; "),
        (
            "basic_auth_user:\n",
            "1:1: key basic_auth_user: unknown key; did you mean `basic_auth_users`? known here: basic",
        ),
        (
            &tls("  certfile: x\n"),
            "4:3: key tls_server_config.certfile: unknown key; did you mean `cert_file`? known here",
        ),
        (
            &tls("  cert: x\n"),
            "4:3: key tls_server_config.cert: certificates are not read from this file; write it to a",
        ),
        (
            &tls("  client_allowed_sans: [x]\n"),
            "4:3: key tls_server_config.client_allowed_sans: clients' names are not",
        ),
        ("rate_limit:\n  burst: 1\n", "1:1: key rate_limit: requests are not counted; remove it"),
        ("tls_server_config:\n", "1:1: key tls_server_config: cert_file is missing; name a PEM file by it"),
        ("tls_server_config:\n  cert_file: x\n", "1:1: key tls_server_config: key_file is missing; "),
        ("tls_server_config:\n  cert_file: ''\n", "2:14: key tls_server_config.cert_file: the path is empty; "),
        ("tls_server_config:\n  cert_file: [x]\n", "2:14: key tls_server_config.cert_file: this is not one value; "),
        ("tls_server_config: 7", "1:20: key tls_server_config: this is no map; "),
        ("- x", "1:1: this is no map; "),
        (
            &tls("  client_auth_type: RequireAndVerifyClientCert\n"),
            "1:1: key tls_server_config: client_ca_file is missing",
        ),
        (
            &tls("  client_ca_file: c\n"),
            "1:1: key tls_server_config: client_ca_file has no effect alone; add client_auth",
        ),
        (
            &tls("  client_auth_type: RequireAnyClientCert\n"),
            "4:21: key tls_server_config.client_auth_type: `RequireAnyC",
        ),
        (
            &tls("  client_auth_type: yes\n"),
            "4:21: key tls_server_config.client_auth_type: unknown value `yes`; write No",
        ),
        (&tls("  min_version: TLS10\n"), "4:16: key tls_server_config.min_version: TLS10 is broken and not spoken; "),
        (
            &tls("  max_version: 1.3\n"),
            "4:16: key tls_server_config.max_version: unknown version `1.3`; write TLS12 or",
        ),
        (
            &tls("  min_version: TLS13\n  max_version: TLS12\n"),
            "1:1: key tls_server_config: min_version is newer than ",
        ),
        (
            &tls("  cipher_suites:\n  - TLS_RSA_WITH_AES_128_CBC_SHA\n"),
            "5:5: key tls_server_config.cipher_suites: `TLS_R",
        ),
        (
            &tls("  cipher_suites: TLS_AES_128_GCM_SHA256\n"),
            "4:18: key tls_server_config.cipher_suites: this is no list",
        ),
        (
            &tls("  max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n"),
            "1:1: key tls_server_config: cipher",
        ),
        (
            &tls("  curve_preferences: [CurveP521]\n"),
            "4:23: key tls_server_config.curve_preferences: `CurveP521` is not ",
        ),
        (
            "http_server_config:\n  http2: 'true'\n",
            "2:10: key http_server_config.http2: this is no truth value; write ",
        ),
        (
            "http_server_config:\n  http3: true\n",
            "2:3: key http_server_config.http3: unknown key; did you mean `http2`?",
        ),
        (
            "http_server_config:\n  headers:\n    Server: x\n",
            "3:5: key http_server_config.headers.Server: this field can",
        ),
        (
            "http_server_config: {headers: {X-Frame-Options: all}}",
            "1:49: key http_server_config.headers.X-Frame-Options: ",
        ),
        (
            "http_server_config: {headers: {X-XSS-Protection: \"a\\nb\"}}",
            "1:50: key http_server_config.headers.X-XSS-Pr",
        ),
        ("basic_auth_users:\n  a:b: x\n", "2:3: key basic_auth_users.a:b: no user can be called so; "),
        ("basic_auth_users:\n  a: s3cret\n", "2:6: key basic_auth_users.a: this is no bcrypt hash; make one with `htp"),
        ("basic_auth_users:\n  a:\n", "2:4: key basic_auth_users.a: this is no bcrypt hash; "),
        (
            &format!("basic_auth_users: {{a: {}}}", HASH.replace("$10$", "$31$")),
            "1:23: key basic_auth_users.a: the hash ha",
        ),
        (
            &format!("basic_auth_users: {{a: {}}}", HASH.replace("$10$", "$+9$")),
            "1:23: key basic_auth_users.a: this is no",
        ),
        (&format!("basic_auth_users: {{a: {HASH}x}}"), "1:23: key basic_auth_users.a: this is no bcrypt hash; "),
        (
            &format!("basic_auth_users: {{a: {HASH}, a: {HASH}}}"),
            "1:85: key basic_auth_users.a: the key is there twice; ",
        ),
        ("a: &x 1\nb: *x\n", "1:4: key a: anchors, aliases and tags are not read here; "),
        ("a: !!str 1\n", "1:4: key a: anchors, aliases and tags are not read here; "),
        ("[a]: b", "1:1: this is no key; "),
        ("a: b\n---\nc: d\n", "3:1: a second document begins; "),
        (&deep, "1:12: key a: this is nested too deeply; "),
        ("a: [b\n", "2:1: "),
        ("\ta: b\n", "1:"),
        ("a: 'b", "1:"),
    ] {
        let said = parse(text).expect_err(text);
        let expected = format!("/etc/web.yml:{expected}");
        if !said.starts_with(&expected) {
            wrong.push(format!("{text}\n{said}\n{expected}"));
        }
        assert!(!said.contains("s3cret") && !said.contains(HASH), "a secret: {said}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn secrets_are_not_shown() {
    let config = parse(&format!("basic_auth_users: {{a: {HASH}}}")).expect("good");
    assert!(!format!("{config:?}").contains("abcdefg"));
    assert_eq!(config.users["a"].as_str(), HASH);
}
