//! What a site becomes.

use super::*;

fn value<'a>(resource: &'a Resource, key: &str) -> &'a str {
    std::str::from_utf8(resource.value(key).unwrap_or_default()).unwrap()
}

fn find<'a>(resources: &'a [Resource], id: &str) -> &'a Resource {
    resources.iter().find(|r| r.id() == id.as_bytes()).unwrap_or_else(|| {
        panic!(
            "no {id} among {:?}",
            resources.iter().map(|r| String::from_utf8(r.id()).unwrap()).collect::<Vec<_>>()
        )
    })
}

#[test]
fn the_example_site_compiles() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/example-site");
    let mut kept = Kept::default();
    let compiled = compile(&dir, &mut kept, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    let patterns: Vec<_> = compiled.lines.iter().map(|l| l.pattern.as_str()).collect();
    assert_eq!(patterns, ["web-1.example", "web-*", "*"]);
    assert_eq!(compiled.lines[1].excludes, ["web-1.example"]);
    assert_eq!(compiled.lines[2].excludes, ["web-*", "web-1.example"]);
    let web = kept.catalog(compiled.sets[compiled.lines[0].set].manifest.hash).resources;
    let motd = find(&web, "file /etc/motd");
    let text = String::from_utf8(
        kept.0[&BlobHash(motd.value("hash").unwrap().try_into().unwrap())].clone(),
    );
    assert!(
        text.unwrap()
            .contains("The shop and the blog live here.\nQuestions go to ops@example.com.")
    );
    assert_eq!(
        find(&web, "symlink /etc/nginx/sites-enabled/shop.conf").value("target").unwrap(),
        b"../sites-available/shop.conf"
    );
    assert!(web.iter().any(|r| r.kind == "exec"));
    let other = kept.catalog(compiled.sets[compiled.lines[2].set].manifest.hash).resources;
    assert!(!other.iter().any(|r| r.name.starts_with(b"/etc/nginx")));
}

#[test]
fn every_kind_has_its_attributes() {
    let site = TestSite::new(&[
        (
            "policies/p/policy.yaml",
            r#"
resources:
  - exec: build
    command: [make, -C, /srv, "{{ target }}"]
    creates: /srv/done
    unless: [test, -e, /srv/skip]
    only_if: [test, -e, /srv]
    timeout: 90s
    cwd: /srv
    env: {LANG: C, EMPTY: }
    requires: file /a/b
  - exec: plain
    command: ["true"]
  - file: /a/b
    source: b
    owner: root
    group: "0"
    mode: "640"
  - file: /a/program
    source: program
  - file: /a/gone
    ensure: absent
  - directory: /a
    mode: "0755"
    recurse: true
    purge: true
  - symlink: /a/link
    target: ../b
  - absent: [/x, /y]
vars:
  target: all
"#,
        ),
        ("policies/p/files/b", "text"),
        ("policies/p/files/program", "#!/bin/sh\n"),
    ]);
    let program = site.path("policies/p/files/program");
    fs::set_permissions(program, fs::Permissions::from_mode(0o775)).unwrap();
    let resources = site.resources();
    let exec = find(&resources, "exec build");
    assert_eq!(exec.values("command").unwrap(), [&b"make"[..], b"-C", b"/srv", b"all"]);
    assert_eq!(exec.values("unless").unwrap(), [&b"test"[..], b"-e", b"/srv/skip"]);
    assert_eq!(exec.values("only_if").unwrap(), [&b"test"[..], b"-e", b"/srv"]);
    assert_eq!(exec.values("env").unwrap(), [&b"LANG=C"[..], b"EMPTY="]);
    assert_eq!(
        [value(exec, "creates"), value(exec, "timeout_ms"), value(exec, "cwd")],
        ["/srv/done", "90000", "/srv"]
    );
    assert_eq!(exec.source, "policies/p/policy.yaml:3");
    assert_eq!(value(find(&resources, "exec plain"), "timeout_ms"), "300000");
    let file = find(&resources, "file /a/b");
    assert_eq!(file.value("hash").unwrap(), BlobHash::of(b"text").0);
    assert_eq!(
        ["blob", "size", "mode", "owner", "group"].map(|key| value(file, key)),
        ["policies/p/files/b", "4", "0640", "root", "0"]
    );
    assert_eq!(value(find(&resources, "file /a/program"), "mode"), "0755");
    assert!(find(&resources, "absent /a/gone").attributes.is_empty());
    let directory = find(&resources, "directory /a");
    assert_eq!(["mode", "recurse", "purge"].map(|k| value(directory, k)), ["0755", "true", "true"]);
    assert_eq!(value(find(&resources, "symlink /a/link"), "target"), "../b");
    find(&resources, "absent /x");
    find(&resources, "absent /y");
    // Sorted by key, as the format wants it.
    assert!(resources.iter().all(|r| r.attributes.is_sorted_by(|a, b| a.key < b.key)));
}

#[test]
fn s2_2_each_resource_stands_behind_all_that_it_requires() {
    let site = TestSite::of_policy(
        r#"
resources:
  - file: /srv/a/b/c
    content: x
    requires: [exec first]
  - exec: first
    command: ["true"]
    requires: [absent /old]
  - directory: /srv/a
  - directory: /srv
  - file: /old
    ensure: absent
  - file: /unrelated
    content: ""
"#,
    );
    let resources = site.resources();
    for (at, resource) in resources.iter().enumerate() {
        assert!(resource.requires.iter().all(|r| (*r as usize) < at));
    }
    let needs = |id: &str| -> Vec<String> {
        let required = &find(&resources, id).requires;
        required.iter().map(|r| String::from_utf8(resources[*r as usize].id()).unwrap()).collect()
    };
    assert_eq!(needs("file /srv/a/b/c"), ["directory /srv/a", "exec first"]);
    assert_eq!(needs("directory /srv/a"), ["directory /srv"]);
    assert_eq!(needs("exec first"), ["absent /old"]);
    assert!(needs("file /unrelated").is_empty());
}

#[test]
fn variables_of_the_line_win_over_groups_and_groups_over_the_policy() {
    let site = TestSite::new(&[
        (
            "hosts.yaml",
            "hosts:\n  - host: a\n    groups: [g, h]\n    vars: {three: line}\n  - host: [b, c]\n    policies: p\n",
        ),
        ("groups/g.yaml", "policies: [p]\nvars: {one: g, two: g, three: g}\n"),
        ("groups/h.yaml", "vars: {two: h}\n"),
        (
            "policies/p/policy.yaml",
            "vars: {zero: p, one: p, two: p, three: p, all: '{{ zero }} {{ one }} {{two}} {{ three }}'}\nresources:\n- symlink: /s\n  target: '{{ all }} {{ \"{{\" }}'\n",
        ),
    ]);
    let (compiled, kept) = site.compile();
    let target = |line: usize| {
        let catalog = kept.catalog(compiled.sets[compiled.lines[line].set].manifest.hash);
        String::from_utf8(catalog.resources[0].value("target").unwrap().to_vec()).unwrap()
    };
    assert_eq!(target(0), "p g h line {{");
    assert_eq!(target(1), "p p p p {{");
    // Lines that are given the same share one catalog.
    assert_eq!(compiled.lines[1].set, compiled.lines[2].set);
    assert_eq!(compiled.sets.len(), 2);
}

#[test]
fn what_stands_beside_a_variable_is_kept_white_space_too() {
    let site = TestSite::of_policy(
        "vars: {v: hello}\nresources:\n- symlink: /s\n  target: \"{{ v }} \"\n- symlink: /t\n  target: \"{{ '{%' }} {{ v }}\"\n- exec: e\n  command: [echo, \"{{ v }}\\n\"]\n",
    );
    let resources = site.resources();
    assert_eq!(value(&resources[0], "target"), "hello ");
    assert_eq!(value(&resources[1], "target"), "{% hello");
    assert_eq!(resources[2].values("command").unwrap(), [&b"echo"[..], b"hello\n"]);
}

#[test]
fn loops_take_lists_of_texts_and_of_maps() {
    let site = TestSite::of_policy(
        r#"
vars:
  users: [{name: ann, home: /home/ann}, {name: bob, home: /srv/bob}]
  command: [echo, "{{ greeting }}"]
  greeting: hello
resources:
  - file: "{{ item.home }}/.name"
    loop: users
    content: "{{ item.name }}"
    mode: "{{ '0600' }}"
  - directory: /d/{{ item }}
    loop: [1, two]
  - exec: greet {{ item.name }}
    loop: "{{ users }}"
    command: "{{ command }}"
"#,
    );
    let resources = site.resources();
    let ids: Vec<_> = resources.iter().map(|r| String::from_utf8(r.id()).unwrap()).collect();
    assert_eq!(
        ids,
        [
            "file /home/ann/.name",
            "file /srv/bob/.name",
            "directory /d/1",
            "directory /d/two",
            "exec greet ann",
            "exec greet bob"
        ]
    );
    assert_eq!(resources[4].values("command").unwrap(), [&b"echo"[..], b"hello"]);
    assert_eq!(value(&resources[0], "mode"), "0600");
}

#[test]
fn a_tree_has_all_that_the_directory_has() {
    let site = TestSite::of_policy("resources:\n- directory: /t\n  source: t\n");
    let root = site.path("policies/p/files/t");
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::create_dir_all(root.join("a")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"a/odd \xff\n name");
    fs::write(root.join(odd), "odd").unwrap();
    fs::write(root.join("a-b"), "").unwrap();
    fs::set_permissions(root.join("a-b"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o2700)).unwrap();
    symlink("../nowhere \u{e9}", root.join("a/link")).unwrap();
    let (compiled, kept) = site.compile();
    let manifest = kept.manifest(compiled.sets[0].manifest.hash);
    let resource = &kept.catalog(compiled.sets[0].manifest.hash).resources[0];
    let hash = BlobHash(resource.value("tree").unwrap().try_into().unwrap());
    assert_eq!(value(resource, "tree_blob"), "policies/p/files/t");
    assert_eq!(value(resource, "tree_size"), kept.0[&hash].len().to_string());
    assert_eq!(value(resource, "recurse"), "true");
    let tree: Tree = decode(&kept.0[&hash]).unwrap();
    let entries: Vec<_> = tree
        .entries
        .iter()
        .map(|e| {
            (e.path.as_slice(), TreeKind::from_number(e.kind).unwrap(), e.size, e.target.as_slice())
        })
        .collect();
    assert_eq!(
        entries,
        [
            (&b""[..], TreeKind::Directory, 0, &b""[..]),
            (b"a", TreeKind::Directory, 0, b""),
            (b"a-b", TreeKind::File, 0, b""),
            (b"a/link", TreeKind::Symlink, 0, "../nowhere \u{e9}".as_bytes()),
            (b"a/odd \xff\n name", TreeKind::File, 3, b""),
            (b"empty", TreeKind::Directory, 0, b""),
        ]
    );
    assert_eq!(tree.entries[2].mode, 0o4751);
    assert_eq!(tree.entries[5].mode, 0o2700);
    let names: Vec<_> = manifest.files.iter().map(|f| f.name.as_slice()).collect();
    let dir = "policies/p/files/t".as_bytes();
    assert_eq!(names, [dir, &[dir, b"/a-b"].concat(), &[dir, b"/a/odd \xff\n name"].concat()]);
    assert!(manifest.files.iter().all(|f| kept.0[&BlobHash(f.hash)].len() as u64 == f.size));
}

#[test]
fn aliases_stand_for_their_anchor() {
    let site = TestSite::of_policy(
        "vars:\n  a: &common {mode: x}\nresources:\n- directory: &d [/a, /b]\n- exec: e\n  command: [ls]\n  requires: [directory /a]\n",
    );
    assert_eq!(site.resources().len(), 3);
}
