//! Looks over a database file before LMDB maps it: LMDB trusts what it finds, and a file that
//! is broken or cut short would end the process with a signal or an assertion.
//!
//! Every page that can be reached is visited, and must be reached once: both meta pages, then the
//! trees of the current one. Layout of LMDB's data format 1 on 64-bit little-endian machines.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const PAGE_HEADER: usize = 16;
const NODE_HEADER: usize = 8;
const TREE_SIZE: usize = 48;
const META_END: usize = 152;
const FLAG_BRANCH: u16 = 0x01;
const FLAG_LEAF: u16 = 0x02;
const FLAG_OVERFLOW: u16 = 0x04;
const FLAG_META: u16 = 0x08;
const NODE_BIG: u16 = 0x01;
const NODE_TREE: u16 = 0x02;
const NO_PAGE: u64 = u64::MAX;
const MAGIC: u32 = 0xBEEF_C0DE;
const DATA_VERSION: u32 = 1;
/// Deeper than any tree of a file that fits on a disk.
const DEPTH_MAX: u16 = 32;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Why a file is not taken.
#[derive(Debug)]
pub(super) enum Unsound {
    /// What is broken, in words.
    Broken(String),
    /// It is of another version of LMDB's format, in words.
    Foreign(String),
    /// It could not be read.
    Io(io::Error),
}

impl From<io::Error> for Unsound {
    fn from(error: io::Error) -> Self {
        Unsound::Io(error)
    }
}

fn broken<T>(what: impl Into<String>) -> Result<T, Unsound> {
    Err(Unsound::Broken(what.into()))
}

#[derive(Debug, Clone, Copy)]
struct Tree {
    depth: u16,
    root: u64,
}

impl Tree {
    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self { depth: u16_at(bytes, 6)?, root: u64_at(bytes, 40)? })
    }
}

struct Meta {
    page_size: usize,
    trees: [Tree; 2],
    last_page: u64,
    txn: u64,
}

fn parse_meta(page: &[u8], number: u64) -> Result<Meta, Unsound> {
    let parse = || {
        let meta = Meta {
            page_size: usize::try_from(u32_at(page, 40)?).ok()?,
            trees: [Tree::parse(&page[40..88])?, Tree::parse(&page[88..136])?],
            last_page: u64_at(page, 136)?,
            txn: u64_at(page, 144)?,
        };
        let is_meta = u64_at(page, 0)? == number && u16_at(page, 10)? & FLAG_META != 0;
        Some((meta, is_meta && u32_at(page, 16)? == MAGIC, u32_at(page, 20)?))
    };
    match parse() {
        Some((_, true, version)) if version != DATA_VERSION => Err(Unsound::Foreign(format!(
            "data.mdb has data format {version}, this program reads 1"
        ))),
        Some((meta, true, _))
            if meta.page_size.is_power_of_two() && (512..=65_536).contains(&meta.page_size) =>
        {
            Ok(meta)
        }
        _ => broken(format!("meta page {number} of data.mdb is damaged, or this is no queue")),
    }
}

/// Looks over a database file; a missing one is in order, and an empty one where none was ever
/// made: whoever makes one may die before the first page is written.
pub(super) fn check(path: &Path, was_made: bool) -> Result<(), Unsound> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let len = file.metadata()?.len();
    if len == 0 && !was_made {
        return Ok(());
    }
    let mut head = [0; META_END];
    if len < META_END as u64 {
        return broken(format!("data.mdb is cut short to {len} bytes"));
    }
    file.read_exact_at(&mut head, 0)?;
    let first = parse_meta(&head, 0)?;
    let page_size = first.page_size;
    if len < 2 * page_size as u64 {
        return broken(format!("data.mdb is cut short to {len} bytes"));
    }
    file.read_exact_at(&mut head, page_size as u64)?;
    let second = parse_meta(&head, 1)?;
    if second.page_size != page_size {
        return broken("the meta pages of data.mdb do not agree on its page size");
    }
    if !are_successive(first.txn, second.txn) {
        return broken(format!(
            "the meta pages of data.mdb are of transactions {} and {}, which do not follow one another",
            first.txn, second.txn
        ));
    }
    let meta = if second.txn > first.txn { second } else { first };
    let (has, used) = (len / page_size as u64, meta.last_page.saturating_add(1));
    let pages = has.min(used);
    let [free, main] = meta.trees;
    let seen = vec![0; usize::try_from(pages / 64 + 1).unwrap_or(0)];
    let mut walk = Walk { file: &file, page_size, pages, is_whole: has >= used, seen };
    walk.tree(free, false)?;
    walk.tree(main, true)
}

/// Whether both meta pages can be of these transactions: they are written in turn, the first one
/// for even numbers. One that was just made has 0 in both.
fn are_successive(first: u64, second: u64) -> bool {
    let in_turn = first.is_multiple_of(2) && !second.is_multiple_of(2);
    (first, second) == (0, 0) || (in_turn && first.abs_diff(second) == 1)
}

/// The newest transaction of a database file, as far as its meta pages can be read.
pub(super) fn newest_transaction(path: &Path) -> Option<u64> {
    let file = File::open(path).ok()?;
    let meta_at = |number: u64, at: u64| {
        let mut head = [0; META_END];
        file.read_exact_at(&mut head, at).ok()?;
        parse_meta(&head, number).ok()
    };
    let first = meta_at(0, 0)?;
    let second = meta_at(1, first.page_size as u64);
    Some(second.map_or(first.txn, |second| second.txn.max(first.txn)))
}

struct Walk<'a> {
    file: &'a File,
    page_size: usize,
    /// Pages in the file and in use: every number that is met must be below.
    pages: u64,
    /// Whether the file has all pages that are in use.
    is_whole: bool,
    /// One bit for each page, set once it was met: none is in a tree twice, or in two.
    seen: Vec<u64>,
}

impl Walk<'_> {
    fn tree(&mut self, tree: Tree, is_main: bool) -> Result<(), Unsound> {
        if tree.root == NO_PAGE {
            return Ok(());
        }
        if tree.depth == 0 || tree.depth > DEPTH_MAX {
            return broken(format!("a tree of data.mdb has depth {}", tree.depth));
        }
        self.page(tree.root, tree.depth, is_main)
    }

    fn read(&mut self, number: u64, bytes: &mut [u8]) -> Result<(), Unsound> {
        if number < 2 || number >= self.pages {
            return broken(match self.is_whole {
                true => format!("data.mdb refers to a page {number}, and has none"),
                false => format!("data.mdb is cut short: page {number} is missing"),
            });
        }
        self.meet(number)?;
        self.file.read_exact_at(bytes, number * self.page_size as u64)?;
        if u64_at(bytes, 0) == Some(number) {
            Ok(())
        } else {
            broken(format!("page {number} of data.mdb is damaged"))
        }
    }

    fn meet(&mut self, number: u64) -> Result<(), Unsound> {
        let (at, bit) = (usize::try_from(number / 64).unwrap_or(usize::MAX), 1 << (number % 64));
        match self.seen.get_mut(at) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                Ok(())
            }
            _ => broken(format!("data.mdb refers to its page {number} twice")),
        }
    }

    fn page(&mut self, number: u64, depth: u16, is_main: bool) -> Result<(), Unsound> {
        let damaged = || Unsound::Broken(format!("page {number} of data.mdb is damaged"));
        let mut page = vec![0; self.page_size];
        self.read(number, &mut page)?;
        let flags = u16_at(&page, 10).ok_or_else(damaged)?;
        let lower = usize::from(u16_at(&page, 12).ok_or_else(damaged)?);
        let upper = usize::from(u16_at(&page, 14).ok_or_else(damaged)?);
        let wanted = if depth > 1 { FLAG_BRANCH } else { FLAG_LEAF };
        if flags & (FLAG_BRANCH | FLAG_LEAF) != wanted
            || lower < PAGE_HEADER
            || lower > upper
            || upper > self.page_size
        {
            return Err(damaged());
        }
        let nodes = (lower - PAGE_HEADER) / 2;
        // LMDB asserts that a branch has a choice, except in its list of free pages.
        if nodes == 0 || (depth > 1 && is_main && nodes < 2) {
            return Err(damaged());
        }
        for node in 0..nodes {
            let at = usize::from(u16_at(&page, PAGE_HEADER + 2 * node).ok_or_else(damaged)?);
            let node = page.get(at..).filter(|_| at >= upper).ok_or_else(damaged)?;
            if depth > 1 {
                let child = branch_child(node).ok_or_else(damaged)?;
                self.page(child, depth - 1, is_main)?;
            } else {
                match leaf_value(node).ok_or_else(damaged)? {
                    Value::Inline => {}
                    Value::Big { first, len } => self.overflow(first, len)?,
                    Value::Tree(tree) => self.tree(tree, true)?,
                }
            }
        }
        Ok(())
    }

    fn overflow(&mut self, first: u64, len: u64) -> Result<(), Unsound> {
        let mut head = [0; PAGE_HEADER];
        self.read(first, &mut head)?;
        let needed = (len + PAGE_HEADER as u64).div_ceil(self.page_size as u64);
        let has = u32_at(&head, 12).map_or(0, u64::from);
        let is_overflow = u16_at(&head, 10).is_some_and(|flags| flags & FLAG_OVERFLOW != 0);
        if !is_overflow || has < needed || first.saturating_add(needed) > self.pages {
            return broken(format!("page {first} of data.mdb is damaged or cut short"));
        }
        (first + 1..first + needed).try_for_each(|number| self.meet(number))
    }
}

enum Value {
    Inline,
    Big { first: u64, len: u64 },
    Tree(Tree),
}

fn branch_child(node: &[u8]) -> Option<u64> {
    let low = u64::from(u32_at(node, 0)?);
    let high = u64::from(u16_at(node, 4)?);
    node.get(NODE_HEADER + usize::from(u16_at(node, 6)?)..)?;
    Some(low | high << 32)
}

fn leaf_value(node: &[u8]) -> Option<Value> {
    let len = u32_at(node, 0)?;
    let flags = u16_at(node, 4)?;
    let value = node.get(NODE_HEADER + usize::from(u16_at(node, 6)?)..)?;
    if flags & NODE_BIG != 0 {
        return Some(Value::Big { first: u64_at(value, 0)?, len: u64::from(len) });
    }
    let value = value.get(..usize::try_from(len).ok()?)?;
    if flags & NODE_TREE != 0 {
        return (value.len() == TREE_SIZE).then(|| Tree::parse(value)).flatten().map(Value::Tree);
    }
    Some(Value::Inline)
}
