//! What each key of `master.toml` takes, for who wrote something else.

use engine::config::{Key, key};

const DURATION: &str = "a duration";
const SIZE: &str = "a size";
const CONNECTIONS: &str = "a number of connections";
const PATH: &str = "a path";

/// All of them; a test compares them with those that are read.
pub(super) const KEYS: [Key; 27] = [
    key("name", "a host name", "\"master.example\""),
    key("listen", "an address and TCP port", "\"0.0.0.0:7400\""),
    key("control_socket", PATH, "\"control.sock\""),
    key("state_dir", PATH, "\"state\""),
    key("site_dir", PATH, "\"site\""),
    key("signing_key", PATH, "\"keys/signing.key\""),
    key("hosts_table", PATH, "\"hosts\""),
    key("client_port", "a TCP port, 1 to 65535", "7401"),
    key("dial_in_flight_max", "a number of hosts", "256"),
    key("dial_rate_per_host", "a number of dials a minute", "60"),
    key("poll_interval", DURATION, "\"10m\""),
    key("silent_after", DURATION, "\"30m\""),
    key("inbox_bytes_high", SIZE, "\"1GiB\""),
    key("inbox_bytes_low", SIZE, "\"768MiB\""),
    key("queue_quota_bytes", SIZE, "\"2GiB\""),
    key("keep_days", "a number of days, 0 or more", "90"),
    key("dns_servers", "a list of addresses", "[\"192.0.2.53\", \"127.0.0.1:5353\"]"),
    key("load_tests", "true or false", "false"),
    key("stop_timeout", DURATION, "\"20s\""),
    key("limits", "a table", "{ connections_max = 16000 }"),
    key("limits.connections_max", CONNECTIONS, "16000"),
    key("limits.connections_per_source", CONNECTIONS, "1000"),
    key("limits.listen_backlog", CONNECTIONS, "4096"),
    key("limits.connect_timeout", DURATION, "\"10s\""),
    key("limits.frame_timeout", DURATION, "\"30s\""),
    key("limits.send_timeout", DURATION, "\"30s\""),
    key("limits.idle_timeout", DURATION, "\"60s\""),
];
