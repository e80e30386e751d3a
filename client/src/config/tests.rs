use super::*;
use engine::config::What;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("client.toml")).map_err(|e| e.to_string())
}

#[test]
fn an_empty_file_is_a_configuration() {
    let config = parse("").unwrap();
    assert_eq!(config.poll_interval, Duration::from_secs(600));
    assert_eq!(config.stop_timeout, Duration::from_secs(300));
    assert_eq!(config.root, Path::new("/"));
    assert!(config.master.is_empty() && config.parallel >= 1);
}

#[test]
fn every_key_is_read() {
    let key = engine::sign::SigningKey::generate().unwrap().public();
    let config = parse(&format!(
        r#"
        name = "Web-1.example"
        master = ["10.0.0.1", "m.example:99"]
        port = 9
        listen = "127.0.0.2:0"
        trusted_keys = ["{key}"]
        signature_check = "on"
        state_dir = "/s"
        root = "/r"
        allow_exec = true
        fsync = true
        check_interval = "500ms"
        poll_interval = "1h"
        splay = "0s"
        parallel = 3
        stop_timeout = "2s"
        hosts_file = "/h"
        resolv_conf = "/c"
        log_level = "debug"
        "#
    ))
    .unwrap();
    assert_eq!(config.name.as_str(), "web-1.example");
    assert_eq!(config.master, ["10.0.0.1", "m.example:99"]);
    assert_eq!(config.trusted_keys, TrustedKeys::Only(vec![key]));
    assert_eq!((config.splay, config.parallel), (Duration::ZERO, 3));
    assert_eq!(config.assignment_path(), Path::new("/s/assignment"));
    assert_eq!(parse("master = 'm'").unwrap().master, ["m"]);
}

#[test]
fn s1_16_only_the_whole_sentence_and_no_key_switch_the_check_off() {
    let only = |text: &str| matches!(parse(text).unwrap().trusted_keys, TrustedKeys::Only(_));
    assert!(only("") && only("signature_check = 'on'"), "it is on");
    let off = format!("signature_check = {SIGNATURES_UNCHECKED:?}");
    assert_eq!(parse(&off).unwrap().trusted_keys, TrustedKeys::Unchecked);
    for slip in ["off", "false", "", "Off", "on ", "off: whoever"] {
        let error = parse(&format!("signature_check = {slip:?}")).unwrap_err();
        assert!(error.contains("write \"on\""), "{slip:?}: {error}");
    }
    assert!(parse("signature_check = false").is_err());
    let key = engine::sign::SigningKey::generate().unwrap().public();
    let error = parse(&format!("trusted_keys = ['{key}']\n{off}")).unwrap_err();
    assert!(error.contains("take out one of the two"), "{error}");
}

#[test]
fn errors_name_the_key_and_what_to_write() {
    for (text, words) in [
        ("poll_intervall = '1m'", vec!["poll_intervall", "poll_interval"]),
        ("poll_interval = 10", vec!["poll_interval", "\"10\" is no duration", "\"10m\""]),
        ("listen = '7401'", vec!["listen", "\"7401\" is no address with a port", "7400"]),
        (
            "listen = 7401",
            vec!["listen", "\"7401\" is no address with a port", ":7401\" for a client"],
        ),
        ("check_interval = '10'", vec!["check_interval", "\"10m\""]),
        ("check_interval = '0s'", vec!["check_interval", "100ms"]),
        ("parallel = 0", vec!["parallel", "1 or more"]),
        ("port = 0", vec!["port", "7400"]),
        ("root = 'here'", vec!["root", "absolute"]),
        ("trusted_keys = 'x'", vec!["trusted_keys = 'x': expected a list of key lines", "-key-1"]),
        ("master = 7", vec!["master = 7: expected a host name or address", "such as"]),
        ("port = 70000", vec!["client.toml:1: port = 70000: expected a TCP port", "7400"]),
        ("\nstate_dir = ''", vec!["client.toml:2: state_dir = '': expected a path, such as"]),
        ("name = 'a b'", vec!["name", "another character"]),
        ("trusted_keys = ['x']", vec!["trusted_keys", "signing.pub"]),
        ("log_level = 'loud'", vec!["log_level", "debug"]),
        ("\nmaster = 'm:0'", vec!["client.toml:2: master: \"m:0\" is no host name and no address"]),
        ("fsync = true\nmaster = ['m', '::1:7400']", vec!["toml:2: master: is \"::1:7400\" an"]),
    ] {
        let error = parse(text).unwrap_err();
        assert!(words.iter().all(|w| error.contains(w)), "{text}: {error}");
        let place = error.strip_prefix("client.toml:").unwrap();
        assert!(place.starts_with(|c: char| c.is_ascii_digit()), "{text}: {error}");
    }
}

#[test]
fn every_key_says_what_it_takes_and_takes_its_example() {
    for key in keys::KEYS {
        let example = match key.name {
            // An example may show the form of a key, and no key.
            "trusted_keys" => "[]",
            _ => key.example,
        };
        parse(&format!("{} = {example}", key.name)).unwrap_or_else(|e| panic!("{}: {e}", key.name));
        let told = parse(&format!("{} = {{}}", key.name)).unwrap_err();
        let expected =
            format!("{} = {{}}: expected {}, such as {}", key.name, key.expects, key.example);
        assert!(told.ends_with(&expected), "{told}");
    }
    let error = Config::parse("zz = 1", Path::new("client.toml")).unwrap_err();
    let ConfigError::Form { mistake, .. } = error else { panic!("{error}") };
    let What::UnknownKey { known, .. } = *mistake.what else { panic!("{mistake}") };
    assert_eq!(known, keys::KEYS.map(|key| key.name));
}
