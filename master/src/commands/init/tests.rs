//! Tests of init.

use super::*;
use crate::commands::publish::{Outcome, PublishArgs, publish};
use engine::sign::PublicKey;
use engine::time::WallMs;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

#[test]
fn what_init_makes_can_be_published() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("acme");
    let made = init(&InitArgs { dir: dir.clone(), site: None }).unwrap();
    assert_eq!(made.site, "acme");
    let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("keys/signing.key"), 0o600);
    assert_eq!(mode("keys"), 0o700);
    let public = fs::read_to_string(dir.join("keys/signing.pub")).unwrap();
    let secret = fs::read_to_string(dir.join("keys/signing.key")).unwrap();
    let public = PublicKey::parse(&public).unwrap();
    assert_eq!(SigningKey::parse(&secret).unwrap().public(), public);
    let args = PublishArgs::new(dir.join("site"), dir.join("state"), dir.join("keys/signing.key"));
    let result = publish(&args, WallMs(1), &mut |_| {}).unwrap();
    assert_eq!((result.outcome, result.lines), (Outcome::Published, 0));
    assert!(result.to_text().contains("the inventory is empty"));
    let client: toml::Table = fs::read_to_string(dir.join("client.toml")).unwrap().parse().unwrap();
    assert_eq!(client["trusted_keys"][0].as_str().unwrap(), public.to_string());
    let master: toml::Table = fs::read_to_string(dir.join("master.toml")).unwrap().parse().unwrap();
    for key in ["listen", "control_socket", "state_dir", "site_dir", "signing_key", "client_port"] {
        assert!(master.contains_key(key), "{key}");
    }
    assert!(made.to_text().contains("keep keys/signing.key secret"));
}

#[test]
fn commands_to_come_are_words_for_a_shell() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("it's mine");
    let text = init(&InitArgs { dir: dir.clone(), site: Some("s".into()) }).unwrap().to_text();
    let line = text.lines().find(|line| line.contains("drover publish")).unwrap();
    let config = dir.join("master.toml").display().to_string();
    assert_eq!(shlex::split(line).unwrap(), ["drover", "publish", "--config", &config]);
}

#[test]
fn init_overwrites_nothing() {
    let dir = TempDir::new().unwrap();
    let args = InitArgs { dir: dir.path().to_owned(), site: Some("s".into()) };
    fs::create_dir(dir.path().join("keys")).unwrap();
    fs::write(dir.path().join("keys/signing.key"), "mine").unwrap();
    let error = init(&args).unwrap_err();
    assert!(
        error.to_string().contains("has keys/signing.key already: nothing was written"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(dir.path().join("keys/signing.key")).unwrap(), "mine");
    assert!(!dir.path().join("master.toml").exists());
    let bad = InitArgs { site: Some("a b".into()), ..args };
    assert!(matches!(init(&bad), Err(InitError::SiteId(_))));
}
