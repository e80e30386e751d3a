//! The bytes of one run, taken as choices from front to back: a byte that changes changes one
//! choice, and what comes before it stays as it was.

/// Bytes that have not been used yet. Used up, they go on as zeros.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Choices made by these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all are used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number of so many bytes, little-endian.
    ///
    /// # Panics
    /// More than eight bytes are asked for.
    pub fn number(&mut self, bytes: usize) -> u64 {
        assert!(bytes <= 8, "a number has at most eight bytes");
        (0..bytes).fold(0, |n, i| n | u64::from(self.byte()) << (8 * i))
    }

    /// A number below this one, which is at most 256.
    ///
    /// # Panics
    /// There is none: `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    /// Whether something happens that is one in so many.
    pub fn one_in(&mut self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    /// One of these.
    ///
    /// # Panics
    /// There are none.
    pub fn choose<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }

    /// At most so many of the next bytes, as a byte says; fewer if there are no more.
    pub fn bytes(&mut self, max: usize) -> &'a [u8] {
        let len = (usize::from(self.byte()) % (max + 1)).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }

    /// A short text.
    pub fn text(&mut self, max: usize) -> String {
        String::from_utf8_lossy(self.bytes(max)).into_owned()
    }
}
