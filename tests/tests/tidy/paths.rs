//! Nothing in the repository may name a place of the machine on which it was written.

use crate::assert_none;
use crate::source::SourceFile;

#[test]
fn no_path_of_a_machine_is_in_the_repository() {
    // Put together here, since this file is searched too.
    let places = ["work", "root", "home"].map(|name| format!("/{name}/"));
    // A managed path of an example host is none of ours.
    let examples = ["ann", "deploy"].map(|user| format!("{}{user}", places[2]));
    let begins_path = |text: &str, at: usize| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "-_.})".contains(c))
    };
    let mut found = Vec::new();
    for file in SourceFile::all() {
        for (number, line) in file.text.lines().enumerate() {
            let line = examples.iter().fold(line.to_owned(), |line, path| line.replace(path, ""));
            let named =
                |place: &&String| line.match_indices(*place).any(|(at, _)| begins_path(line, at));
            if let Some(place) = places.iter().find(named) {
                found.push(format!("{}:{}: {place}", file.path, number + 1));
            }
        }
    }
    assert_none(&found, "name no directory of one machine");
}
