//! What each key of a scenario's file takes, for who wrote something else.

use engine::config::{Key, key};

const DURATION: &str = "a duration";
const SIZE: &str = "a size";
const NUMBER: &str = "a whole number, 0 or more";
/// As many as have addresses.
const CLIENTS: &str = "a whole number, 1 to 1000000";
const PERCENT: &str = "a number, 0 to 100";
const FLAG: &str = "true or false";

/// All of them; a test compares them with those that are read.
pub(super) const KEYS: [Key; 39] = [
    key("name", "a text", "\"evening\""),
    key("clients", CLIENTS, "2000"),
    key("seed", NUMBER, "7"),
    key("phase", "tables", "[[phase]]"),
    key("phase.name", "a text", "\"flood\""),
    key("phase.for", DURATION, "\"30s\""),
    key("phase.timeout", DURATION, "\"60s\""),
    key("phase.judged", FLAG, "true"),
    key("phase.active", NUMBER, "500"),
    key("phase.restart", DURATION, "\"2s\""),
    key("phase.backoff", FLAG, "true"),
    key("phase.fetch", FLAG, "false"),
    key("phase.polls", "a table", "{ every = \"60s\" }"),
    key("phase.polls.every", DURATION, "\"60s\""),
    key("phase.polls.within", DURATION, "\"5s\""),
    key("phase.polls.random", FLAG, "true"),
    key("phase.reports", "a table", "{ rate = 1000 }"),
    key("phase.reports.rate", NUMBER, "1000"),
    key("phase.reports.burst", NUMBER, "1"),
    key("phase.reports.size", SIZE, "\"2KiB\""),
    key("phase.reports.failed_percent", PERCENT, "5"),
    key("phase.reports.random", FLAG, "true"),
    key("phase.churn", "a table", "{ percent_per_minute = 10, away = \"10s\" }"),
    key("phase.churn.percent_per_minute", PERCENT, "10"),
    key("phase.churn.away", DURATION, "\"10s\""),
    key("phase.revision", NUMBER, "1"),
    key("phase.newer", FLAG, "true"),
    key("phase.master", "a list of tables", "[{ at = \"5s\", publish = \"1MiB\" }]"),
    key("phase.master.at", DURATION, "\"5s\""),
    key("phase.master.publish", SIZE, "\"1MiB\""),
    key("phase.master.restart", FLAG, "true"),
    key("phase.kill_master", DURATION, "\"10s\""),
    key("phase.bad_peers", "a list of texts", "[\"half-open=500\"]"),
    key("phase.bound", "a text", "\"p99=1s\""),
    key("phase.against", "a table", "{ phase = \"alone\", factor = 2 }"),
    key("phase.against.phase", "a text", "\"alone\""),
    key("phase.against.factor", "a number", "2"),
    key("phase.warm_up", DURATION, "\"5s\""),
    key("phase.cool_down", DURATION, "\"1s\""),
];
