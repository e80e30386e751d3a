//! Every mistake, its place and its words.

use super::*;

/// A policy's `resources`, from line 2 on.
fn resource(text: &str) -> Vec<String> {
    TestSite::of_policy(&format!("resources:\n{text}")).mistakes()
}

#[track_caller]
fn check(found: &[String], wanted: &[&str]) {
    assert_eq!(found, wanted, "\nfound:\n{}", found.join("\n"));
}

/// Compares two tables and shows every row that differs.
#[track_caller]
fn check_all(found: &[Vec<String>], wanted: &[Vec<String>]) {
    let differing: Vec<_> = found.iter().zip(wanted).filter(|(f, w)| f != w).collect();
    assert!(differing.is_empty(), "found and wanted: {differing:#?}");
}

#[test]
fn mistakes_in_a_resource() {
    // What is written from line 2 of the policy on; the line; the message.
    let table: &[(&str, usize, &str)] = &[
        (
            "- file: /a\n  content: x\n  mode: 0755\n",
            4,
            "a mode must be quoted, or YAML readers take it for a number: write mode: \"0755\"",
        ),
        (
            "- file: /a\n  content: x\n  mode: 644\n",
            4,
            "a mode must be quoted, or YAML readers take it for a number: write mode: \"0644\"",
        ),
        (
            "- file: /a\n  content: x\n  mode: \"0855\"\n",
            4,
            "a mode is three or four octal digits like \"0644\", not \"0855\"",
        ),
        (
            "- file: /a\n  content: x\n  mode: u=rw\n",
            4,
            "a mode must be quoted, or YAML readers take it for a number: write mode: \"u=rw\"",
        ),
        (
            "- file: /a\n  contnet: x\n",
            3,
            "`contnet` is no key of `file`, which has `source`, `content`, `mode`, `owner`, `group`, `ensure`, `requires`, `loop`; did you mean `content`?",
        ),
        (
            "- flie: /a\n",
            2,
            "`flie` is no kind of resource; there are `file`, `absent`, `directory`, `symlink`, `exec`; did you mean `file`?",
        ),
        ("- package: nginx\n", 2, "this version of Drover does not build `package` yet"),
        (
            "- service: nginx\n  ensure: running\n",
            2,
            "this version of Drover does not build `service` yet",
        ),
        ("- template: /a\n", 2, "this version of Drover does not build `template` yet"),
        (
            "- absent: /a\n  when: facts.x == 1\n",
            3,
            "this version of Drover does not build `when` yet",
        ),
        (
            "- absent: /a\n  notify: [exec x]\n",
            3,
            "this version of Drover does not build `notify` yet",
        ),
        (
            "- mode: \"0644\"\n  file: /a\n",
            2,
            "a resource begins with its kind: write `file` before `mode`",
        ),
        (
            "- file: /a\n  content: x\n  directory: /b\n",
            4,
            "a second kind in one resource: `file` and `directory`; write two resources",
        ),
        (
            "- /etc/motd\n",
            2,
            "a resource is a map that begins with its kind (`- file: /etc/motd`), not a text",
        ),
        (
            "- file: etc/motd\n  content: x\n",
            2,
            "`file`: \"etc/motd\" is no absolute path: it must begin with `/`",
        ),
        (
            "- file: /etc/../motd\n  content: x\n",
            2,
            "`file`: \"/etc/../motd\" has a `..`: write the path without",
        ),
        (
            "- directory: /etc//x/\n",
            2,
            "`directory`: write /etc/x instead of /etc//x/: a path has one spelling here",
        ),
        ("- absent: /\n", 2, "`/` can be no `absent`"),
        ("- directory: /\n", 2, "`/` can be no `directory`"),
        (
            "- file: /a\n  content:\n",
            3,
            "`content` is empty: write `content: \"\"` for an empty file",
        ),
        (
            "- file: /a\n",
            2,
            "the file /a needs its content: `source: NAME` (below policies/p/files/) or `content: TEXT`",
        ),
        (
            "- file: /a\n  source: x\n  content: y\n",
            4,
            "a file has `source` or `content`, not both",
        ),
        ("- file: /a\n  source: nothing\n", 3, "policies/p/files/nothing does not exist"),
        (
            "- file: /a\n  source: ../policy.yaml\n",
            3,
            "`source: ../policy.yaml` must be a path below policies/p/files/, without a leading `/` and without `..`",
        ),
        (
            "- file: /a\n  source: /etc/passwd\n",
            3,
            "`source: /etc/passwd` must be a path below policies/p/files/, without a leading `/` and without `..`",
        ),
        (
            "- file: /a\n  ensure: absent\n  mode: \"0644\"\n",
            4,
            "`mode` has no meaning beside `ensure: absent`",
        ),
        (
            "- file: /a\n  content: x\n  ensure: gone\n",
            4,
            "`ensure` is `present` or `absent`, not \"gone\"",
        ),
        ("- file: /a\n  content: [x]\n", 3, "`content` is a text, not a list"),
        (
            "- file: /a\n  content: x\n  owner: \"a b\"\n",
            4,
            "`owner` is a name or a number, not \"a b\"",
        ),
        (
            "- file: /a\n  content: x\n  group: 4294967295\n",
            4,
            "`group` as a number is at most 4294967294, not 4294967295",
        ),
        ("- directory: /a\n  purge: yes\n", 3, "`purge` is true or false, without quotes"),
        ("- symlink: /a\n", 2, "the symlink /a needs a `target`"),
        ("- symlink: /a\n  target: \"\"\n", 3, "`target` is empty or has a NUL byte"),
        ("- exec: x\n", 2, "the exec \"x\" needs a `command`: a list of words"),
        (
            "- exec: x\n  command: ls -l\n",
            3,
            "`command` is a list of words like [systemctl, reload, nginx] (no shell reads it; for one write [sh, -c, \"…\"]), not a text",
        ),
        ("- exec: x\n  command: []\n", 3, "`command` needs a program as its first word"),
        (
            "- exec: x\n  command: [ls]\n  timeout: 5\n",
            4,
            "`timeout` is a duration like 500ms, 90s, 10m or 2h, not \"5\"",
        ),
        (
            "- exec: x\n  command: [ls]\n  creates: done\n",
            4,
            "`creates`: \"done\" is no absolute path: it must begin with `/`",
        ),
        (
            "- exec: x\n  command: [ls]\n  env: [LANG]\n",
            4,
            "`env` is a map of names to texts, or a list of NAME=VALUE, not \"LANG\"",
        ),
        (
            "- exec: x\n  command: [ls]\n  requires: [exec y]\n",
            4,
            "`requires: exec y`: this host has no such resource; write KIND NAME; did you mean `exec x`?",
        ),
        ("- exec: x\n  command: [ls]\n  requires: [exec x]\n", 4, "`exec x` requires itself"),
        (
            "- absent: /a\n- absent: /a\n",
            3,
            "absent /a is managed twice; first at policies/p/policy.yaml:2",
        ),
        (
            "- absent: /a\n- directory: /a\n",
            3,
            "directory /a and absent /a (policies/p/policy.yaml:2) manage one path",
        ),
        (
            "- file: /a\n  content: x\n- file: /a/b\n  content: x\n",
            4,
            "file /a/b lies below file /a (policies/p/policy.yaml:2), which is no directory",
        ),
        (
            "- absent: /a\n- directory: /a/b/c\n",
            3,
            "directory /a/b/c lies below absent /a (policies/p/policy.yaml:2), which is no directory",
        ),
        (
            "- directory: /a\n  recurse: true\n  owner: www\n  group: www\n- file: /a/b/c\n  content: x\n  owner: root\n  group: www\n",
            6,
            "file /a/b/c has another `owner` than directory /a (policies/p/policy.yaml:2), which gives its own to everything below: they would undo each other's work; leave one of them out",
        ),
        ("- absent: \"/{{ nothing }}\"\n", 2, "there is no variable `nothing`"),
        ("- absent: /{{ item }}\n", 2, "`item` stands only beside a `loop`"),
        (
            "- absent: \"/{{ a | upper }}\"\n",
            2,
            "`{{ a | upper }}`: this version of Drover builds plain variables only, as in {{ port }} or {{ item.name }}",
        ),
        (
            "- absent: \"/{{ facts.name }}\"\n",
            2,
            "this version of Drover does not build `facts` in values yet",
        ),
        ("- absent: \"/{{ a\"\n", 2, "a `{{` without `}}`"),
        (
            "- absent: \"/{% if %}\"\n",
            2,
            "statements (`{% %}`) belong in template files, which this version of Drover does not build yet; a literal one is written {{ '{%' }}",
        ),
        ("- absent: /a\n  loop: nothing\n", 3, "there is no variable `nothing`"),
        (
            "- absent: /{{ item }}\n  loop: {a: b}\n",
            3,
            "`loop` is a list or the name of one, not a map",
        ),
        ("- absent: []\n", 2, "`absent` needs a name"),
        ("- absent:\n", 2, "the name of `absent` is a text, not nothing"),
        ("- absent: /a\n  absent: /b\n", 3, "`absent` is written twice; first on line 2"),
        ("- absent: !!str /a\n", 2, "a site has no tags: leave out `!!str`"),
        (
            "- {absent: /a, <<: {}}\n",
            2,
            "this version of Drover does not build merge keys (`<<`) yet",
        ),
    ];
    let at =
        |line: &usize, message: &str| vec![format!("policies/p/policy.yaml:{line}: {message}")];
    let found: Vec<_> = table.iter().map(|(text, ..)| resource(text)).collect();
    let wanted: Vec<_> = table.iter().map(|(_, line, message)| at(line, message)).collect();
    check_all(&found, &wanted);
}

#[test]
fn below_a_directory_that_gives_its_owner_to_all_there_is_none_the_same_or_one_that_may_be() {
    let recursive = "- directory: /a\n  recurse: true\n  owner: www\n";
    for rest in [
        "- file: /a/b\n  content: x\n",
        "- file: /a/b\n  content: x\n  owner: www\n  group: adm\n",
        "- file: /a/b\n  content: x\n  owner: \"33\"\n",
        "- file: /ab\n  content: x\n  owner: root\n",
        "- absent: /a/b\n- exec: /a/x\n  command: [\"true\"]\n",
    ] {
        check(&resource(&format!("{recursive}{rest}")), &[]);
    }
    check(
        &resource("- directory: /a\n  owner: www\n- file: /a/b\n  content: x\n  owner: root\n"),
        &[],
    );
}

#[test]
fn mistakes_in_the_other_files() {
    // File, text, the line, the message.
    let table: &[(&str, &str, usize, &str)] = &[
        (
            "site.toml",
            "site = \"a\"\nassignment_lifetme = \"1d\"\n",
            2,
            "`assignment_lifetme` is no key of site.toml, which has `site`, `assignment_lifetime`; did you mean `assignment_lifetime`?",
        ),
        (
            "site.toml",
            "site = \"a\"\n\nassignment_lifetime = 30\n",
            3,
            "`assignment_lifetime` is a duration in quotes between \"1m\" and \"3660d\", like \"30d\"",
        ),
        ("site.toml", "# none\n", 1, "`site` is missing: write site = \"a-name-of-your-own\""),
        (
            "site.toml",
            "site = \"a b\"\n",
            1,
            "`site` is 1 to 64 letters, digits, `-`, `_` or `.` in quotes",
        ),
        (
            "hosts.yaml",
            "hosts:\n- host: a\n  group: [x]\n",
            3,
            "`group` is no key of a line of the inventory, which has `host`, `groups`, `vars`, `policies`; did you mean `groups`?",
        ),
        (
            "hosts.yaml",
            "hosts:\n- host: a\n  groups: [webb]\n",
            3,
            "there is no group `webb`: write groups/webb.yaml; did you mean `web`?",
        ),
        (
            "hosts.yaml",
            "hosts:\n- host: a\n  policies: [q]\n",
            3,
            "there is no policy `q`: write policies/q/policy.yaml; did you mean `p`?",
        ),
        (
            "hosts.yaml",
            "hosts:\n- groups: []\n",
            2,
            "a line of the inventory needs its hosts: `host: NAME` or a glob",
        ),
        (
            "hosts.yaml",
            "hosts:\n- host: a_b c\n",
            2,
            "`host: a_b c`: a host pattern has letters, digits, '-', '_', '.', '*', '?' and '[...]', not ' '",
        ),
        (
            "hosts.yaml",
            "hosts:\n- host: \"web-*\"\n- host: web-1\n",
            3,
            "no host reaches `web-1`: `web-*` (hosts.yaml:2) stands before it and the first match decides; move this line up or remove it",
        ),
        (
            "hosts.yaml",
            "hosts:\n- host: a\n- host: A\n",
            3,
            "no host reaches `a`: `a` (hosts.yaml:2) stands before it and the first match decides; move this line up or remove it",
        ),
        ("hosts.yaml", "hosts: web\n", 1, "`hosts` is a list (`- host: web-1`), not a text"),
        ("hosts.yaml", "- host: a\n", 1, "the inventory is a map of `hosts`, not a list"),
        (
            "hosts.yaml",
            "hosts:\n- host: a\n  mode: held\n",
            3,
            "this version of Drover does not build `mode` yet",
        ),
        (
            "hosts.yaml",
            "hosts:\n- host: a\n  vars: {item: 1}\n",
            3,
            "no variable can be called `item`: it has a meaning of its own",
        ),
        (
            "hosts.yaml",
            "hosts:\n- host: a\n  vars: {a-b: 1}\n",
            3,
            "`a-b` is no name of a variable: write letters, digits and `_`",
        ),
        (
            "hosts.yaml",
            "hosts: []\n---\nhosts: []\n",
            2,
            "a file has one document: remove this `---`",
        ),
        (
            "groups/web.yaml",
            "polices: []\n",
            1,
            "`polices` is no key of a group, which has `about`, `policies`, `vars`; did you mean `policies`?",
        ),
        ("groups/x.yml", "", 1, "rename it: YAML files of a site end in .yaml"),
        ("policies/q.yaml", "", 1, "a policy is a directory: move this to policies/q/policy.yaml"),
        (
            "policies/p/policy.yaml",
            "secrets: [x]\n",
            1,
            "this version of Drover does not build `secrets` yet",
        ),
        (
            "policies/p/policy.yaml",
            "",
            1,
            "is empty: write what it manages (`resources:`), or remove policies/p/",
        ),
        (
            "policies/p/policy.yaml",
            "# resources: []\n",
            1,
            "is empty: write what it manages (`resources:`), or remove policies/p/",
        ),
        (
            "policies/p/policy.yaml",
            "vars: {a: }\nresources:\n- exec: x\n  command: [x]\n  env: {A: '{{ a }}'}\n",
            5,
            "the variable `a` has no value (policies/p/policy.yaml:1): give it one, or \"\" for an empty text",
        ),
        (
            "policies/p/policy.yaml",
            "vars: {a: ~}\nresources:\n- file: /a\n  content: 'x{{ a }}'\n",
            4,
            "the variable `a` has no value (policies/p/policy.yaml:1): give it one, or \"\" for an empty text",
        ),
        (
            "policies/p/policy.yaml",
            "vars: [x]\n",
            1,
            "`vars` is a map of names to values, not a list",
        ),
        (
            "policies/p/policy.yaml",
            "resources: {file: /a}\n",
            1,
            "`resources` is a list (`- file: /etc/motd`), not a map",
        ),
        (
            "policies/p/policy.yaml",
            "vars: {a: '{{ b }}', b: '{{ a }}'}\nresources:\n- absent: '/{{ a }}'\n",
            3,
            "the variable behind `a` refers to itself",
        ),
    ];
    let site = |file, text| {
        let policy = ("policies/p/policy.yaml", "resources: []\n");
        TestSite::new(&[policy, ("groups/web.yaml", ""), (file, text)])
    };
    let found: Vec<_> = table.iter().map(|(file, text, ..)| site(file, text).mistakes()).collect();
    let at = |file, line: &usize, message| vec![format!("{file}:{line}: {message}")];
    let wanted: Vec<_> = table.iter().map(|(f, _, line, message)| at(f, line, message)).collect();
    check_all(&found, &wanted);
}

#[test]
fn text_that_is_no_yaml_names_its_line() {
    let found = TestSite::of_policy("resources:\n- file: [/a\n- file: /b\n").mistakes();
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("policies/p/policy.yaml:3: this is no YAML: "), "{}", found[0]);
    let files = [("policies/p/policy.yaml", ""), ("hosts.yaml", "hosts:\n- host: *\n")];
    let found = TestSite::new(&files).mistakes();
    assert!(found[0].starts_with("hosts.yaml:2: this is no YAML: "), "{}", found[0]);
    assert!(found[0].ends_with("a text that begins with `*` needs quotes: \"*\""), "{}", found[0]);
    let site = TestSite::of_policy("");
    fs::write(site.path("policies/p/policy.yaml"), b"about: x\nvars: {a: \xff}\n").unwrap();
    check(&site.mistakes(), &["policies/p/policy.yaml:2: is no UTF-8 text"]);
}

#[test]
fn a_bomb_of_aliases_is_refused_before_it_unfolds() {
    let mut text = "vars:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let items = vec![format!("*a{}", n - 1); 10].join(", ");
        text += &format!("  a{n}: &a{n} [{items}]\n");
    }
    let found = TestSite::of_policy(&text).mistakes();
    assert_eq!(found.len(), 1);
    assert!(found[0].ends_with("more than 1000000 values in one file"), "{}", found[0]);
    let deep =
        TestSite::of_policy(&format!("vars: {{a: {}{}}}\n", "[".repeat(200), "]".repeat(200)));
    let found = deep.mistakes();
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("within each other"), "{}", found[0]);
}

#[test]
fn s2_2_a_cycle_is_rejected_and_printed() {
    let found = resource(
        "- exec: a\n  command: [x]\n  requires: [exec c]\n- exec: b\n  command: [x]\n  requires: [exec a]\n- exec: c\n  command: [x]\n  requires: [exec b]\n- exec: leads in\n  command: [x]\n  requires: [exec b]\n",
    );
    let at = "policies/p/policy.yaml";
    check(
        &found,
        &[&format!(
            "{at}:2: these require each other in a circle: exec a ({at}:2) → exec c ({at}:8) → exec b ({at}:5) → exec a ({at}:2)"
        )],
    );
    // An automatic edge closes a circle as well, and two circles are two mistakes.
    let found = resource(
        "- directory: /a\n  requires: [file /a/b]\n- file: /a/b\n  content: x\n- exec: x\n  command: [x]\n  requires: [exec y]\n- exec: y\n  command: [x]\n  requires: [exec x]\n",
    );
    check(
        &found,
        &[
            &format!(
                "{at}:2: these require each other in a circle: directory /a ({at}:2) → file /a/b ({at}:4) → directory /a ({at}:2)"
            ),
            &format!(
                "{at}:6: these require each other in a circle: exec x ({at}:6) → exec y ({at}:9) → exec x ({at}:6)"
            ),
        ],
    );
}

#[test]
fn all_mistakes_are_found_in_one_run_and_sorted() {
    let site = TestSite::new(&[
        ("site.toml", "name = \"x\"\n"),
        (
            "hosts.yaml",
            "hosts:\n- host: a\n  policies: [p, q]\n- host: b\n  policies: [p]\n  vars: {x: 1}\n",
        ),
        (
            "policies/p/policy.yaml",
            "resources:\n- file: /b\n  mode: 0644\n  content: '{{ x }}'\n- fil: /a\n- symlink: /c\n",
        ),
        ("policies/unused/policy.yaml", "resource: []\n"),
    ]);
    let found = site.mistakes();
    let places: Vec<_> = found.iter().map(|m| m.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "hosts.yaml:3",
            "policies/p/policy.yaml:3",
            "policies/p/policy.yaml:4",
            "policies/p/policy.yaml:5",
            "policies/p/policy.yaml:6",
            "policies/unused/policy.yaml:1",
            "site.toml:1",
            "site.toml:1"
        ],
        "{}",
        found.join("\n")
    );
    let Err(e) = compile(&site.path(""), &mut Measure::default(), &mut |_| {}) else { panic!() };
    let text = e.to_string();
    assert!(text.contains("there is no variable `x` (for `a`, hosts.yaml:2)\n"), "{text}");
    assert!(text.ends_with("\n8 mistakes in the site: nothing was published"), "{text}");
}

#[test]
fn sources_stay_in_the_site_and_are_files_or_directories() {
    let site = TestSite::of_policy(
        "resources:\n- file: /1\n  source: out\n- file: /2\n  source: dir\n- directory: /3\n  source: fil\n- directory: /4\n  source: file\n- file: /5\n  source: dir/../../../../x\n- directory: /6\n  source: pipes\n- file: /7\n  source: through/passwd\n- directory: /8\n  source: dir\n  recurse: false\n",
    );
    let files = site.path("policies/p/files");
    fs::create_dir_all(files.join("dir")).unwrap();
    fs::create_dir_all(files.join("pipes")).unwrap();
    fs::write(files.join("file"), "").unwrap();
    fs::write(site.dir.path().join("secret"), "").unwrap();
    let outside = site.dir.path().join("secret").canonicalize().unwrap();
    symlink(&outside, files.join("out")).unwrap();
    symlink("/etc", files.join("through")).unwrap();
    std::os::unix::net::UnixListener::bind(files.join("pipes/socket")).unwrap();
    let at = "policies/p/policy.yaml";
    check(
        &site.mistakes(),
        &[
            &format!(
                "{at}:3: policies/p/files/out: a symlink leads out of the site, to {}",
                outside.display()
            ),
            &format!("{at}:5: policies/p/files/dir is a directory: write `directory:` for it"),
            &format!("{at}:7: policies/p/files/fil does not exist; did you mean `file`?"),
            &format!("{at}:9: policies/p/files/file is no directory: write `file:` for it"),
            &format!(
                "{at}:11: `source: dir/../../../../x` must be a path below policies/p/files/, without a leading `/` and without `..`"
            ),
            &format!(
                "{at}:13: policies/p/files/pipes/socket is a socket: a site has files, directories and symlinks only; remove it"
            ),
            &format!(
                "{at}:15: policies/p/files/through/passwd: a symlink leads out of the site, to /etc/passwd"
            ),
            &format!("{at}:18: a `source` is copied with all below it: leave out `recurse: false`"),
        ],
    );
}

#[test]
fn a_path_that_comes_with_a_tree_is_managed_once() {
    let site = TestSite::new(&[
        (
            "policies/p/policy.yaml",
            "resources:\n- directory: /t\n  source: t\n- file: /t/a\n  content: x\n- file: /t/b\n  content: x\n",
        ),
        ("policies/p/files/t/a", ""),
    ]);
    check(
        &site.mistakes(),
        &[
            "policies/p/policy.yaml:4: file /t/a is managed twice: it comes with directory /t (policies/p/policy.yaml:2)",
        ],
    );
}

#[test]
fn what_is_no_site_says_so() {
    let dir = TempDir::new().unwrap();
    let fails =
        |path: &Path| compile(path, &mut Measure::default(), &mut |_| {}).unwrap_err().to_string();
    assert!(fails(&dir.path().join("none")).contains("cannot open the site"));
    assert!(fails(dir.path()).ends_with(
        "is no site: it has no site.toml; `drover init DIR` makes an empty one in DIR/site"
    ));
    let site = TestSite::new(&[]);
    fs::remove_file(site.path("hosts.yaml")).unwrap();
    fs::create_dir_all(site.path("policies/empty")).unwrap();
    check(
        &site.mistakes(),
        &[
            "hosts.yaml:1: does not exist: it is the inventory, and may be empty (`hosts: []`)",
            "policies/empty/policy.yaml:1: does not exist: every directory in policies/ has a policy.yaml",
        ],
    );
}

/// Whoever opened one of them would wait for a writer.
#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    for name in ["hosts.yaml", "policies/p/policy.yaml", "site.toml"] {
        let site = TestSite::of_policy("resources: []\n");
        fs::remove_file(site.path(name)).unwrap();
        nix::unistd::mkfifo(&site.path(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = compile(&site.path(""), &mut Measure::default(), &mut |_| {}).unwrap_err();
        let told = error.to_string();
        assert!(told.contains(name) && told.contains("no file"), "{told}");
    }
}

/// A store that is full.
struct Full;

impl Intake for Full {
    fn file(&mut self, path: &Path) -> Result<Blob, IntakeError> {
        self.bytes(path.as_os_str().as_bytes())
    }

    fn bytes(&mut self, _: &[u8]) -> Result<Blob, IntakeError> {
        let source = std::io::Error::from_raw_os_error(libc::ENOSPC);
        Err(StoreError::Io { doing: "write", path: "/state/blobs".into(), source }.into())
    }
}

#[test]
fn a_full_disk_is_no_mistake_of_the_site() {
    let site = TestSite::of_policy("resources:\n- file: /a\n  content: x\n");
    let error = compile(&site.path(""), &mut Full, &mut |_| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot write /state/blobs: No space left on device (os error 28); free some space and run it again, nothing is lost"
    );
}

#[test]
fn what_clients_would_not_read_is_not_published() {
    let site =
        TestSite::of_policy("resources:\n- directory: /d\n  source: d\n- file: /f\n  content: x\n");
    site.write("site/policies/p/files/d/one", "1");
    let found = |manifest_size_max, catalog_size_max| {
        let bounds = Bounds { manifest_size_max, catalog_size_max };
        let compiled = compile_within(bounds, &site.path(""), &mut Measure::default(), &mut |_| {});
        compiled.map_or_else(|e| e.to_string(), |_| "good".to_owned())
    };
    let (compiled, kept) = site.compile();
    let manifest = compiled.sets[0].manifest;
    let catalog = kept.manifest(manifest.hash).catalog_size;
    assert_eq!(found(manifest.size, catalog), "good");
    let end = "\n1 mistake in the site: nothing was published";
    let wanted = |size, at_most| {
        format!("would take {size}B or more, and clients read at most {at_most}B: ")
    };
    assert_eq!(
        found(manifest.size - 1, catalog),
        format!(
            "hosts.yaml:2: the list of all files of these hosts {}give them fewer policies, or pack many files into one that an `exec` unpacks (for `*`, hosts.yaml:2){end}",
            wanted(manifest.size, manifest.size - 1)
        )
    );
    assert_eq!(
        found(manifest.size, catalog - 1),
        format!(
            "hosts.yaml:2: the list of all resources of these hosts {}give them fewer policies, or one `directory` with a `source` in place of many resources (for `*`, hosts.yaml:2){end}",
            wanted(catalog, catalog - 1)
        )
    );
    // Two bytes are fewer than the path in it has.
    assert_eq!(
        found(manifest.size, 2),
        format!(
            "policies/p/policy.yaml:3: the list of policies/p/files/d {}divide it into several directories (for `*`, hosts.yaml:2){end}",
            wanted(3, 2)
        )
    );
}
