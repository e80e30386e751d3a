use super::*;
use tempfile::TempDir;

fn cache() -> (TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), true).unwrap();
    (dir, cache)
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut data = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut data);
    data
}

fn flip(path: &Path, at: usize) {
    let mut data = fs::read(path).unwrap();
    data[at] ^= 0x10;
    fs::write(path, data).unwrap();
}

#[test]
fn s1_4_a_blob_lies_under_the_hash_of_its_content() {
    let (dir, cache) = cache();
    let hash = cache.insert(b"motd").unwrap();
    let hex = blake3::hash(b"motd").to_hex();
    let path = dir.path().join("blobs").join(&hex[..2]).join(&hex[2..]);
    assert_eq!(fs::read(&path).unwrap(), b"motd");
    assert_eq!(cache.path(hash), path);
    assert_eq!(fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
}

#[test]
fn s1_5_one_flipped_byte_is_found_removed_and_wanted_again() {
    let (_dir, cache) = cache();
    let data = bytes(200_000, 1);
    let hash = cache.insert(&data).unwrap();
    for at in [0, 65_535, 65_536, 199_999] {
        assert_eq!(cache.verify(hash).unwrap(), 200_000);
        flip(&cache.path(hash), at);
        let mut copy = Vec::new();
        assert!(matches!(cache.copy_to(hash, &mut copy), Err(CacheError::Damaged { .. })), "{at}");
        assert!(matches!(cache.verify(hash), Err(CacheError::Missing(_))));
        assert_eq!(cache.probe(&[(hash, 200_000)]), [(hash, 200_000, 0)]);
        cache.insert(&data).unwrap();
    }
    let mut copy = Vec::new();
    cache.copy_to(hash, &mut copy).unwrap();
    assert!(copy == data);
}

#[test]
fn s1_5_publishing_again_mends_a_damaged_blob() {
    let (dir, cache) = cache();
    let source = dir.path().join("source");
    fs::write(&source, bytes(100_000, 2)).unwrap();
    let (hash, size) = cache.insert_file(&source).unwrap();
    assert_eq!(size, 100_000);
    flip(&cache.path(hash), 70_000);
    assert_eq!(cache.insert_file(&source).unwrap(), (hash, size));
    cache.verify(hash).unwrap();
}

#[test]
fn a_blob_of_another_size_is_not_the_one_wanted() {
    let (_dir, cache) = cache();
    let data = bytes(5_000, 3);
    let hash = cache.insert(&data).unwrap();
    assert_eq!(cache.probe(&[(hash, 5_000)]), []);
    File::options().write(true).open(cache.path(hash)).unwrap().set_len(4_999).unwrap();
    assert_eq!(cache.probe(&[(hash, 5_000)]), [(hash, 5_000, 0)]);
    assert!(!cache.path(hash).exists());
}

#[test]
fn a_partial_goes_on_where_it_was_and_is_hashed_from_its_beginning() {
    let (_dir, cache) = cache();
    let data = bytes(300_000, 4);
    let (hash, size) = (BlobHash::of(&data), 300_000);
    let mut partial = cache.resume(hash, size).unwrap();
    partial.write(0, &data[..100_000]).unwrap();
    drop(partial);
    assert_eq!(cache.probe(&[(hash, size)]), [(hash, size, 100_000)]);
    let mut partial = cache.resume(hash, size).unwrap();
    partial.write(100_000, &data[100_000..]).unwrap();
    assert!(partial.is_whole());
    cache.finish(partial).unwrap();
    assert_eq!(cache.verify(hash).unwrap(), size);
    assert_eq!(cache.probe(&[(hash, size)]), []);
}

#[test]
fn s1_5_a_partial_damaged_while_it_lay_there_is_not_stored() {
    let (_dir, cache) = cache();
    let data = bytes(300_000, 5);
    let (hash, size) = (BlobHash::of(&data), 300_000);
    cache.resume(hash, size).unwrap().write(0, &data[..100_000]).unwrap();
    flip(&cache.partial_path(hash), 50_000);
    let mut partial = cache.resume(hash, size).unwrap();
    partial.write(100_000, &data[100_000..]).unwrap();
    assert!(matches!(cache.finish(partial), Err(CacheError::Damaged { .. })));
    assert_eq!(cache.probe(&[(hash, size)]), [(hash, size, 0)]);
    assert!(!cache.partial_path(hash).exists());
}

#[test]
fn a_partial_longer_than_its_blob_begins_anew() {
    let (_dir, cache) = cache();
    let data = bytes(1_000, 6);
    let hash = BlobHash::of(&data);
    fs::write(cache.partial_path(hash), bytes(2_000, 7)).unwrap();
    assert_eq!(cache.probe(&[(hash, 1_000)]), [(hash, 1_000, 0)]);
}

#[test]
fn a_whole_partial_left_by_a_kill_takes_its_place_when_probed() {
    let (_dir, cache) = cache();
    let data = bytes(1_000, 8);
    let hash = BlobHash::of(&data);
    fs::write(cache.partial_path(hash), &data).unwrap();
    assert_eq!(cache.probe(&[(hash, 1_000)]), []);
    cache.verify(hash).unwrap();
    let wrong = BlobHash::of(b"something else");
    fs::write(cache.partial_path(wrong), &data).unwrap();
    assert_eq!(cache.probe(&[(wrong, 1_000)]), [(wrong, 1_000, 0)]);
}

#[test]
fn an_empty_blob_needs_no_fetch() {
    let (_dir, cache) = cache();
    let hash = BlobHash::of(b"");
    assert_eq!(cache.probe(&[(hash, 0)]), []);
    assert_eq!(cache.verify(hash).unwrap(), 0);
    let wrong = BlobHash::of(b"not empty");
    assert_eq!(cache.probe(&[(wrong, 0)]), [(wrong, 0, 0)]);
}

#[test]
fn bytes_out_of_place_and_bytes_beyond_the_size_are_refused() {
    let (_dir, cache) = cache();
    let hash = BlobHash::of(b"abcdef");
    let mut partial = cache.resume(hash, 6).unwrap();
    partial.write(0, b"abc").unwrap();
    assert!(matches!(partial.write(4, b"e"), Err(CacheError::Damaged { .. })));
    assert!(matches!(partial.write(3, b"defg"), Err(CacheError::Damaged { .. })));
    partial.write(3, b"def").unwrap();
    cache.finish(partial).unwrap();
}

#[test]
fn a_full_disk_is_called_a_full_disk() {
    let error = CacheError::io(Path::new("/var/x"))(io::ErrorKind::StorageFull.into());
    assert!(matches!(&error, CacheError::DiskFull { .. }));
    assert!(error.to_string().contains("/var/x is full"), "{error}");
    // /dev/full refuses every write.
    let mut full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (_dir, cache) = cache();
    let hash = cache.insert(b"content").unwrap();
    assert!(matches!(cache.copy_to(hash, &mut full), Err(CacheError::DiskFull { .. })));
    cache.verify(hash).unwrap();
}
