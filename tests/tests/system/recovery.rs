//! A master that is told of something it cannot use, or whose disk is not what it was: it says
//! so, and what it advises helps.

use engine::ids::BlobHash;
use serde_json::Value;
use std::fs;
use std::path::Path;
use tests::system::Cluster;

fn warnings(cluster: &Cluster) -> String {
    cluster.json(&["status"])["warnings"].to_string()
}

#[test]
fn publishing_again_after_a_failed_load_loads_what_is_newest() {
    let cluster = Cluster::new();
    cluster.publish();
    let _master = cluster.master();
    fs::rename(cluster.path("m/hosts"), cluster.path("m/away")).unwrap();
    fs::create_dir(cluster.path("m/hosts")).unwrap();
    cluster.write_policy("resources:\n  - file: /motd\n    content: \"two\\n\"\n");
    let failed = cluster.drover(&["publish"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(said.contains("the running master does not distribute it"), "{said}");
    let told = warnings(&cluster);
    assert!(told.contains("revision 2 is published, and 1 is in force: "), "{told}");
    assert!(told.contains("hosts") && told.contains("tried again every 30 s"), "{told}");

    // Nothing is to be published, and it fails all the same: it is not in force.
    assert_eq!(cluster.drover(&["publish"]).status.code(), Some(1));
    fs::remove_dir(cluster.path("m/hosts")).unwrap();
    fs::rename(cluster.path("m/away"), cluster.path("m/hosts")).unwrap();
    let text = cluster.drover_ok(&["publish"]);
    assert!(text.starts_with("nothing changed: revision 2"), "{text}");
    assert_eq!(cluster.json(&["status"])["revision"], 2);
    assert!(!warnings(&cluster).contains("is in force"));
}

#[test]
fn damaged_and_missing_blobs_are_told_of_and_written_again() {
    let cluster = Cluster::new();
    cluster.write_hosts(&[("web-1.test", 2)]);
    cluster.write("m/site/policies/base/files/big", "it is what it is\n".repeat(1000));
    cluster.write_policy("resources:\n  - file: /big\n    source: big\n");
    cluster.publish();
    let hash = BlobHash::of("it is what it is\n".repeat(1000).as_bytes()).to_hex();
    let blob = cluster.path(&format!("m/state/blobs/{}/{}", &hash[..2], &hash[2..]));
    fs::write(&blob, "?".repeat(17_000)).unwrap();
    let mut master = cluster.master();
    let mut client = cluster.client("web-1.test", 2);
    master.wait_line(&format!("blob {hash} is damaged"));
    let told = |status: &Value| status["warnings"].to_string().contains("1 blob is missing");
    let told = cluster.until(&["status"], told)["warnings"].to_string();
    assert!(told.contains("1 blob is missing or damaged in the state directory"), "{told}");
    assert!(told.contains(&hash) && told.contains("`drover publish` writes it again"), "{told}");

    let text = cluster.drover_ok(&["publish"]);
    assert!(text.contains("1 blob of it, missing or damaged, written again"), "{text}");
    assert!(!warnings(&cluster).contains("damaged"));
    let _ = cluster.drover_ok(&["push"]);
    client.wait_line("converged");
    let root = cluster.root("web-1.test");
    assert!(fs::read_to_string(root.join("big")).unwrap().starts_with("it is what it is\n"));
}

/// What lies in the cache alone can be lost: the client says so, and gets it again by itself.
#[test]
fn s1_5_a_client_whose_cache_is_emptied_fetches_what_it_needs_again() {
    let mut cluster = Cluster::new();
    cluster.client_extra = "poll_interval = \"1s\"\n".to_owned();
    cluster.write_hosts(&[("web-1.test", 2)]);
    cluster.write_policy("resources:\n  - file: /motd\n    content: \"x\\n\"\n");
    cluster.publish();
    let _master = cluster.master();
    let mut client = cluster.client("web-1.test", 2);
    client.wait_converged(1);
    let error = |hosts: &Value| hosts["hosts"][0]["last_error"].as_str().unwrap().to_owned();
    let motd = cluster.root("web-1.test").join("motd");
    // In one step: the client may be at work in it.
    let lose = |to: &str| {
        fs::rename(cluster.cache("web-1.test"), cluster.path(to)).unwrap();
        fs::remove_file(&motd).unwrap();
    };
    // Noticed by what drifts while the client runs.
    lose("lost");
    client.wait_line("is not in the cache");
    client.wait_converged(1);
    assert_eq!(fs::read_to_string(&motd).unwrap(), "x\n");
    let blobs = cluster.cache("web-1.test").join("blobs");
    flip_all(&blobs);
    fs::remove_file(&motd).unwrap();
    client.wait_line("is damaged");
    client.wait_converged(1);
    assert_eq!(fs::read_to_string(&motd).unwrap(), "x\n");
    // Noticed at the start, when nothing of the assignment can be read; and the master cannot
    // serve it either until it is published again.
    client.kill();
    lose("lost again");
    flip_all(&cluster.path("m/state/blobs"));
    let mut client = cluster.client("web-1.test", 2);
    let shown = |hosts: &Value| error(hosts).contains("cannot be fetched");
    let _ = cluster.until(&["hosts"], shown);
    assert_eq!(client.count_lines("the assignment that is held cannot be enforced: "), 1);
    let text = cluster.drover_ok(&["publish"]);
    assert!(text.contains("missing or damaged, written again"), "{text}");
    client.wait_converged(1);
    assert_eq!(fs::read_to_string(&motd).unwrap(), "x\n");
    let _ = cluster.until(&["hosts"], |hosts| error(hosts).is_empty());
}

/// Flips a bit of each file below a directory.
fn flip_all(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            flip_all(&entry.path());
            continue;
        }
        let mut bytes = fs::read(entry.path()).unwrap();
        bytes.iter_mut().take(1).for_each(|byte| *byte ^= 1);
        fs::write(entry.path(), bytes).unwrap();
    }
}

#[test]
fn a_master_that_starts_again_knows_what_is_stored_and_who_holds_what() {
    let cluster = Cluster::new();
    cluster.write_hosts(&[("web-1.test", 2)]);
    cluster.publish();
    let master = cluster.master();
    let mut client = cluster.client("web-1.test", 2);
    client.wait_converged(1);
    let stored = |status: &Value| status["sink_cursor"].as_u64().unwrap();
    let holds = |hosts: &Value| hosts["hosts"][0]["applied"] == 1;
    let _ = cluster.until(&["hosts"], holds);
    let before = stored(&cluster.until(&["status"], |status| stored(status) > 0));
    client.kill();
    master.kill();
    let master = cluster.master();
    assert_eq!(master.count_lines("revision 1 is in force; hosts that lack it: 0"), 1);
    assert!(stored(&cluster.json(&["status"])) >= before);
}
