//! The kept corpus, and inputs made from it by chance. The same seed makes the same inputs.

/// Most bytes of an input.
const INPUT_LEN_MAX: usize = 256 << 10;

/// Most changes of one input.
const CHANGES_MAX: usize = 4;

/// Pieces that parsers have trouble with.
const NASTY: &[&[u8]] = &[
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\r\n",
    b"\r\n\r\n",
    b"%00",
    b"%ff",
    b"%",
    b"../",
    b"\x1b[2J",
    b"\xe2\x80\xae",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"18446744073709551616",
    b"-1",
    b"1e999",
    b"\"",
    b"\\",
    b"{",
    b"[",
    b":",
    b",",
];

/// Chance that a seed determines (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, which is above 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let number = self.next() % bound as u64;
        usize::try_from(number).expect("below a usize")
    }

    /// Returns one of some things.
    pub(crate) fn one_of<'a, T: ?Sized>(&mut self, things: &[&'a T]) -> &'a T {
        things[self.below(things.len())]
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// Returns inputs: each of the seeds as it is, then changed ones.
    pub(crate) fn inputs(mut self, seeds: &[Vec<u8>], count: usize) -> Vec<Vec<u8>> {
        let mut inputs = seeds.to_vec();
        while inputs.len() < count {
            let seed = &seeds[self.below(seeds.len())];
            inputs.push(self.changed(seed));
        }
        inputs.truncate(count);
        inputs
    }

    /// Returns an input that differs from `seed` in some places.
    pub(crate) fn changed(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut input = seed.to_vec();
        for _ in 0..=self.below(CHANGES_MAX) {
            self.change(&mut input);
        }
        input.truncate(INPUT_LEN_MAX);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let until = at + self.below(input.len() - at + 1);
        match self.below(8) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.next().to_le_bytes()[0],
            2 => input.truncate(at),
            3 => drop(input.drain(at..until)),
            4 => {
                let len = 1 + self.below(16);
                let more = self.bytes(len);
                input.splice(at..at, more);
            }
            5 => {
                let again = input[at..until].to_vec();
                // Seldom a great many times.
                let times = if self.below(50) == 0 { 500 } else { 1 };
                input.splice(at..at, again.repeat(times));
            }
            _ => {
                let nasty = self.one_of(NASTY).to_vec();
                let end = if self.below(2) == 0 { at } else { until };
                input.splice(at..end, nasty);
            }
        }
    }
}

/// Reads a corpus: one input a line, with escapes; `#` begins a comment. HOST becomes `host`.
pub(crate) fn corpus(text: &str, host: &str) -> Vec<Vec<u8>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| unescaped(&line.replace("HOST", host)))
        .collect()
}

fn unescaped(line: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), line.bytes());
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'r') => bytes.push(b'\r'),
            Some(b'n') => bytes.push(b'\n'),
            Some(b'\\') => bytes.push(b'\\'),
            Some(b'x') => {
                let digits = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
                let digits = String::from_utf8(digits.to_vec()).expect("ASCII");
                bytes.push(u8::from_str_radix(&digits, 16).expect("hexadecimal"));
            }
            other => panic!("`\\{other:?}` is no escape: {line}"),
        }
    }
    bytes
}
