use super::*;
use engine::config::What;

fn parse(text: &str) -> Result<MasterConfig, ConfigError> {
    MasterConfig::parse(text, Path::new("/etc/drover/master.toml"))
}

#[test]
fn an_empty_file_is_the_defaults_beside_it() {
    let config = parse("").unwrap();
    let wanted = MasterConfig {
        control_socket: "/etc/drover/control.sock".into(),
        state_dir: "/etc/drover/state".into(),
        site_dir: "/etc/drover/site".into(),
        signing_key: "/etc/drover/keys/signing.key".into(),
        ..MasterConfig::default()
    };
    assert_eq!(config, wanted);
    let limits = Limits { connections_per_source: 15_750, ..Limits::default() };
    assert_eq!(config.limits.limits(), limits);
}

#[test]
fn every_key_is_read() {
    let config = parse(
        r#"
        name = "Master.Example"
        listen = "[::]:7500"
        control_socket = "/run/drover.sock"
        state_dir = "s"
        site_dir = "../site"
        signing_key = "k"
        hosts_table = "hosts"
        client_port = 7501
        dial_in_flight_max = 16
        dial_rate_per_host = 6
        poll_interval = "90s"
        silent_after = "1h"
        inbox_bytes_high = "64MiB"
        inbox_bytes_low = "32 MiB"
        queue_quota_bytes = "80MiB"
        keep_days = 0
        dns_servers = ["127.0.0.53", "::1", "127.0.0.1:5353", "[::1]:5353"]
        load_tests = true
        stop_timeout = "1500ms"
        [limits]
        connections_max = 100
        connections_per_source = 50
        listen_backlog = 10
        connect_timeout = "1s"
        frame_timeout = "2s"
        send_timeout = "3s"
        idle_timeout = "4s"
        "#,
    )
    .unwrap();
    let wanted = MasterConfig {
        name: "master.example".parse().unwrap(),
        listen: "[::]:7500".parse().unwrap(),
        control_socket: "/run/drover.sock".into(),
        state_dir: "/etc/drover/s".into(),
        site_dir: "/etc/drover/../site".into(),
        signing_key: "/etc/drover/k".into(),
        hosts_table: Some("/etc/drover/hosts".into()),
        client_port: 7501,
        dial_in_flight_max: 16,
        dial_rate_per_host: 6,
        poll_interval: Duration::from_secs(90),
        silent_after: Duration::from_secs(3600),
        inbox_bytes_high: 64 << 20,
        inbox_bytes_low: 32 << 20,
        queue_quota_bytes: 80 << 20,
        keep_days: 0,
        dns_servers: ["127.0.0.53:53", "[::1]:53", "127.0.0.1:5353", "[::1]:5353"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        load_tests: true,
        stop_timeout: Duration::from_millis(1500),
        limits: LimitsConfig {
            connections_max: 100,
            connections_per_source: Some(50),
            listen_backlog: 10,
            connect_timeout: Duration::from_secs(1),
            frame_timeout: Duration::from_secs(2),
            send_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(4),
        },
    };
    assert_eq!(config, wanted);
}

#[test]
fn mistakes_name_line_and_remedy() {
    for (text, said) in [
        ("\nlisten_on = \"x\"", "master.toml:2: unknown key `listen_on`: did you mean `listen`?"),
        ("keep_day = 3", "master.toml:1: unknown key `keep_day`: did you mean `keep_days`?"),
        (
            "[limits]\n\nconection_max = 3",
            "master.toml:3: unknown key `conection_max`: did you mean `connections_max`?",
        ),
        ("zzzzzzzzzzzz = 1", "unknown key `zzzzzzzzzzzz`; the keys here are name, listen, "),
        ("a = 1\nb = = 2", "master.toml:2: "),
        ("a = 1\nb = = 2", "this is no TOML: "),
        (
            "client_port = 70000",
            "master.toml:1: client_port = 70000: expected a TCP port, 1 to 65535, such as 7401",
        ),
        ("keep_days = -1", ":1: keep_days = -1: expected a number of days, 0 or more, such as 90"),
        (
            "[limits]\nconnections_max = \"x\"",
            ":2: limits.connections_max = \"x\": expected a number of connections, such as 16000",
        ),
        (
            "control_socket = \"\"",
            ":1: control_socket = \"\": expected a path, such as \"control.sock\"",
        ),
        (
            "dns_servers = [\"foo\"]",
            ":1: dns_servers: \"foo\" is no address of a name server: write one",
        ),
        (
            "dns_servers = \"::1\"",
            ":1: dns_servers = \"::1\": expected a list of addresses, such as [",
        ),
        ("name = \"a..b\"", "has an empty label"),
        (
            "poll_interval = \"10\"",
            "\"10\" is no duration: write a whole number and a unit (ms, s, m, h, d, w)",
        ),
        (
            "\npoll_interval = 600",
            "master.toml:2: poll_interval: \"600\" is no duration: write a whole number",
        ),
        (
            "listen = \"7400\"",
            "\"7400\" is no address with a port: write one such as \"0.0.0.0:7400\"",
        ),
        (
            "dns_servers = [\"::1\", \"ns.example\"]",
            "\"ns.example\" is no address of a name server: write one such as \"192.0.2.53\"",
        ),
        (
            "inbox_bytes_high = \"1MB\"",
            "\"1MB\" is no size: write a whole number and a unit (B, KiB",
        ),
        ("inbox_bytes_high = \"99999999TiB\"", "is too large"),
        (
            "inbox_bytes_low = \"1GiB\"",
            "inbox_bytes_low = 1073741824 must be less than inbox_bytes_high",
        ),
        ("queue_quota_bytes = \"1GiB\"", "at most four fifths of queue_quota_bytes"),
        ("silent_after = \"5m\"", "silent_after = 300s must be longer than poll_interval = 600s"),
        ("\npoll_interval = \"1h\"", "master.toml:2: silent_after = 1800s must be longer than"),
        ("client_port = 0", "client_port = 0 is too small: write at least 1"),
        ("stop_timeout = \"0s\"", "stop_timeout = \"0s\" is too short"),
        ("[limits]\nconnections_max = 0", "master.toml:2: limits.connections_max = 0 is too small"),
        ("[limits]\nconnections_per_source = 0", "limits.connections_per_source = 0 is too small"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        let place = error.strip_prefix("/etc/drover/master.toml:").unwrap();
        assert!(place.starts_with(|c: char| c.is_ascii_digit()), "{text:?}: {error}");
        assert!(error.contains(said), "{text:?}: {error:?} should contain {said:?}");
    }
    let long = format!("control_socket = \"/{}\"", "x".repeat(120));
    assert!(parse(&long).unwrap_err().to_string().contains("at most 107"));
}

/// A file with one key.
fn with(key: &str, value: &str) -> String {
    match key.split_once('.') {
        Some((table, key)) => format!("[{table}]\n{key} = {value}\n"),
        None => format!("{key} = {value}\n"),
    }
}

#[test]
fn every_key_says_what_it_takes_and_takes_its_example() {
    for key in keys::KEYS {
        parse(&with(key.name, key.example)).unwrap_or_else(|e| panic!("{}: {e}", key.name));
        let wrong = if key.name == "limits" { "5" } else { "{}" };
        let told = parse(&with(key.name, wrong)).unwrap_err().to_string();
        let expected =
            format!("{} = {wrong}: expected {}, such as {}", key.name, key.expects, key.example);
        assert!(told.ends_with(&expected), "{told}");
    }
    let known = |text: &str| match parse(text).unwrap_err() {
        ConfigError::Form { mistake, .. } => match *mistake.what {
            What::UnknownKey { known, .. } => known,
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    };
    let limits = known("[limits]\nzz = 1").into_iter().map(|key| format!("limits.{key}"));
    let read: Vec<String> = known("zz = 1").into_iter().chain(limits).collect();
    assert_eq!(read, keys::KEYS.map(|key| key.name));
}

#[test]
fn a_file_that_cannot_be_read_says_what_to_do() {
    let directory = MasterConfig::load(Path::new("/")).unwrap_err().to_string();
    assert!(directory.ends_with("; --config takes the file in it, such as master.toml"));
    let error = std::io::ErrorKind::PermissionDenied.into();
    let denied = ConfigError::Unreadable { path: "m".into(), error }.to_string();
    assert!(denied.ends_with("; run drover as the user that it belongs to"), "{denied}");
}

#[test]
fn a_missing_file_says_how_to_make_one() {
    let error = MasterConfig::load(Path::new("/nonexistent/master.toml")).unwrap_err().to_string();
    assert!(
        error.contains("/nonexistent/master.toml") && error.contains("drover init DIR"),
        "{error}"
    );
}
