use super::*;

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn table(text: &str) -> Table {
    Table::parse(text.as_bytes()).unwrap()
}

#[test]
fn names_have_addresses_with_and_without_ports() {
    let table = table(
        "# hosts of the site\n\nweb1 192.0.2.1\nWEB1\t192.0.2.2:7400 # second\r\nweb1 192.0.2.1\n\
         six ::1\nsix [::2]\nsix [::3]:7400",
    );
    let addrs = |text| table.addrs(&name(text)).unwrap().iter().map(ToString::to_string);
    assert_eq!(addrs("web1").collect::<Vec<_>>(), ["192.0.2.1:0", "192.0.2.2:7400"]);
    assert_eq!(addrs("six").collect::<Vec<_>>(), ["[::1]:0", "[::2]:0", "[::3]:7400"]);
    assert_eq!(table.addrs(&name("web2")), None);
    assert_eq!(table.len(), 2);
}

#[test]
fn s1_11_a_wrong_line_is_named() {
    for (text, line, said) in [
        ("a 192.0.2.1\nb", 2, "expected `name address[:port]`"),
        ("a 192.0.2.1 192.0.2.2", 1, "expected `name address[:port]`"),
        ("\n#\na..b 192.0.2.1", 3, "empty label"),
        ("a/b 192.0.2.1", 1, "another character"),
        ("a 192.0.2.256", 1, "is no address"),
        ("a 192.0.2.1:70000", 1, "is no address"),
        ("a [192.0.2.1", 1, "is no address"),
        ("a 192.0.2.1:0", 1, "is no address"),
        ("a ::1:7400", 1, "is no address"),
        ("a \u{fffd}", 1, "is no address"),
    ] {
        let (found, problem) = Table::parse(text.as_bytes()).unwrap_err();
        assert_eq!(found, line, "{text}");
        assert!(problem.to_string().contains(said), "{text}: {problem}");
    }
    assert!(Table::parse(b"a \xff\xfe").is_err());
}

#[test]
fn s1_11_an_address_of_two_names_is_legal_and_reported() {
    let table = table("b 192.0.2.1\na 192.0.2.1\nc 192.0.2.1:80\nd 192.0.2.2");
    let shared = table.shared();
    assert_eq!(shared, [("192.0.2.1:0".parse().unwrap(), vec![&name("a"), &name("b")])]);
}

#[test]
fn a_file_is_read_again_only_when_it_has_changed_and_a_wrong_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hosts");
    assert!(matches!(TableFile::open(&path), Err(TableError::Read { .. })));
    fs::write(&path, "a 192.0.2.1").unwrap();
    let mut file = TableFile::open(&path).unwrap();
    let a = |file: &TableFile| file.table().addrs(&name("a")).map(|addrs| addrs[0].to_string());
    assert!(!file.refresh().unwrap());
    // Another length, or another inode: the clock of the file system may be too coarse.
    fs::write(&path, "a 192.0.2.22").unwrap();
    assert!(file.refresh().unwrap());
    assert_eq!(a(&file).unwrap(), "192.0.2.22:0");
    let other = dir.path().join("new");
    fs::write(&other, "a 192.0.2.33").unwrap();
    fs::rename(&other, &path).unwrap();
    assert!(file.refresh().unwrap());
    fs::write(&path, "a 192.0.2.33\nb wrong").unwrap();
    let error = file.refresh().unwrap_err().to_string();
    assert!(error.contains("hosts:2: \"wrong\" is no address"), "{error}");
    assert!(!file.refresh().unwrap(), "reported once");
    fs::remove_file(&path).unwrap();
    assert!(matches!(file.refresh(), Err(TableError::Read { .. })));
    assert_eq!(a(&file).unwrap(), "192.0.2.33:0");
}
