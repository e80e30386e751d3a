//! What each key of `client.toml` takes, for who wrote something else.

use engine::config::{Key, key};

const DURATION: &str = "a duration";
const PATH: &str = "a path";
const FLAG: &str = "true or false";

/// All of them; a test compares them with those that are read.
pub(super) const KEYS: [Key; 18] = [
    key("name", "a host name", "\"web-1.example\""),
    key("master", "a host name or address, or a list of them", "\"master.example\""),
    key("port", "a TCP port, 1 to 65535", "7400"),
    key("listen", "an address and TCP port", "\"0.0.0.0:7401\""),
    key("trusted_keys", "a list of key lines", "[\"drover-public-key-1 …\"]"),
    key("signature_check", "a text", "\"on\""),
    key("state_dir", PATH, "\"/var/lib/drover-client\""),
    key("root", "an absolute path", "\"/\""),
    key("allow_exec", FLAG, "false"),
    key("fsync", FLAG, "false"),
    key("check_interval", DURATION, "\"30m\""),
    key("poll_interval", DURATION, "\"10m\""),
    key("splay", DURATION, "\"10m\""),
    key("parallel", "a number of resources, 1 or more", "4"),
    key("stop_timeout", DURATION, "\"5m\""),
    key("hosts_file", PATH, "\"/etc/hosts\""),
    key("resolv_conf", PATH, "\"/etc/resolv.conf\""),
    key("log_level", "error, warn, info, debug or trace", "\"info\""),
];
