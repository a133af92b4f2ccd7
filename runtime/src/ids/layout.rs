//! How keys map to shards: the shard count, and ranges of shards that are kept for some keys.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::shards::hash_of;
use super::{ShardCount, ShardId, canonical_number};

/// Most regions of a cluster: every look-up of a key that is in none goes through all.
pub const REGIONS_MAX: usize = 64;

/// The longest type name or prefix of a region, in bytes.
pub const REGION_NAME_LEN_MAX: usize = 128;

/// How a cluster's keys map to its shards; fixed when the cluster is created, for any change would
/// look for objects in other places. Cheap to clone.
///
/// Without regions every key can have any shard. A region keeps a range of shards for the objects
/// of one type, or for those whose placement key begins with some text, and for nothing else; so a
/// rule about those shards, such as the zone they must stay in, is a rule about those objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Layout {
    count: ShardCount,
    /// In order of their shards.
    regions: Regions,
}

/// The regions of a cluster, in order of their shards. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Regions(Arc<[Region]>);

/// A range of shards that is kept for some keys.
///
/// Written `type:Invoice=0-1023` or `prefix:eu/=1024-2047`, the last shard included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region {
    first: u32,
    last: u32,
    selects: Selects,
}

/// Which keys a region is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Selects {
    /// Those of this type.
    Type(String),
    /// Those whose placement key begins with this.
    Prefix(String),
}

/// A list of regions that a cluster cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRegion {
    /// It is written in another form.
    #[error("`{0}` is no region: write `type:NAME=FIRST-LAST` or `prefix:TEXT=FIRST-LAST`")]
    Form(String),
    /// Its type name or prefix is empty or longer than 128 bytes.
    #[error("the name in `{0}` must have 1 to {REGION_NAME_LEN_MAX} bytes")]
    Name(String),
    /// It ends before it begins, or has shards that the cluster does not have.
    #[error("the region `{region}` has no shards of a cluster of {count}")]
    Range {
        /// The region.
        region: String,
        /// The cluster's shards.
        count: ShardCount,
    },
    /// Two regions share a shard.
    #[error("the regions `{0}` and `{1}` share a shard")]
    Overlap(String, String),
    /// Two regions are for the same keys.
    #[error("the regions `{0}` and `{1}` are for the same keys")]
    Twice(String, String),
    /// No shard is left for the keys that are in no region.
    #[error("the regions leave no shard for other objects")]
    Full,
    /// There are too many.
    #[error("a cluster has at most {REGIONS_MAX} regions")]
    TooMany,
}

impl Regions {
    /// Checks and takes regions, in any order.
    ///
    /// # Errors
    ///
    /// [`InvalidRegion`] unless each lies within the cluster's shards, no two share a shard or
    /// select the same keys, and some shards are left for all other keys.
    pub fn new(mut regions: Vec<Region>, count: ShardCount) -> Result<Self, InvalidRegion> {
        if regions.len() > REGIONS_MAX {
            return Err(InvalidRegion::TooMany);
        }
        regions.sort();
        for region in &regions {
            if region.first > region.last || region.last >= count.get() {
                let region = region.to_string();
                return Err(InvalidRegion::Range { region, count });
            }
        }
        for (n, a) in regions.iter().enumerate() {
            for b in &regions[n + 1..] {
                let names = || (a.to_string(), b.to_string());
                if a.selects == b.selects {
                    let (a, b) = names();
                    return Err(InvalidRegion::Twice(a, b));
                }
                if b.first <= a.last {
                    let (a, b) = names();
                    return Err(InvalidRegion::Overlap(a, b));
                }
            }
        }
        let taken: u32 = regions.iter().map(Region::len).sum();
        if taken == count.get() {
            return Err(InvalidRegion::Full);
        }
        Ok(Self(regions.into()))
    }

    /// Returns them in order of their shards.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Region {
    /// Returns its first and its last shard.
    pub fn shards(&self) -> (u32, u32) {
        (self.first, self.last)
    }

    fn len(&self) -> u32 {
        self.last - self.first + 1
    }

    fn selects(&self, object_type: &str, parts: &[&str]) -> bool {
        match &self.selects {
            Selects::Type(name) => name == object_type,
            Selects::Prefix(prefix) => begins_with(parts, prefix),
        }
    }
}

impl Layout {
    /// Takes what is fixed for a cluster.
    pub fn new(count: ShardCount, regions: Regions) -> Self {
        Self { count, regions }
    }

    /// Returns the shard count.
    pub fn count(&self) -> ShardCount {
        self.count
    }

    /// Returns the shard of the objects of a type with this placement key, given in parts.
    ///
    /// A region of the type comes before one of a prefix, a longer prefix before a shorter one.
    pub(super) fn shard_of(&self, object_type: &str, parts: &[&str]) -> ShardId {
        if self.regions.is_empty() {
            return ShardId::of_key(parts, self.count);
        }
        let regions = self.regions.iter();
        let selecting = regions.filter(|region| region.selects(object_type, parts));
        let region = selecting.max_by_key(|region| match &region.selects {
            Selects::Type(_) => usize::MAX,
            Selects::Prefix(prefix) => prefix.len(),
        });
        ShardId::unchecked(match region {
            Some(region) => region.first + remainder(parts, region.len()),
            None => self.outside(parts),
        })
    }

    /// Returns one of the shards that are in no region.
    fn outside(&self, parts: &[&str]) -> u32 {
        let taken: u32 = self.regions.iter().map(Region::len).sum();
        let mut shard = remainder(parts, self.count.get() - taken);
        for region in self.regions.iter() {
            if shard < region.first {
                break;
            }
            shard += region.len();
        }
        shard
    }
}

impl From<ShardCount> for Layout {
    fn from(count: ShardCount) -> Self {
        Self::new(count, Regions::default())
    }
}

fn remainder(parts: &[&str], len: u32) -> u32 {
    u32::try_from(hash_of(parts) % u64::from(len)).expect("a remainder is below the length")
}

/// Whether the parts, one after the other, begin with `prefix`.
fn begins_with(parts: &[&str], mut prefix: &str) -> bool {
    for part in parts {
        if part.len() >= prefix.len() {
            return part.starts_with(prefix);
        }
        match prefix.strip_prefix(part) {
            Some(rest) => prefix = rest,
            None => return false,
        }
    }
    prefix.is_empty()
}

impl FromStr for Region {
    type Err = InvalidRegion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || InvalidRegion::Form(text.to_owned());
        // A prefix may have any sign, so the range is what stands behind the last `=`.
        let (selects, range) = text.rsplit_once('=').ok_or_else(form)?;
        let (kind, name) = selects.split_once(':').ok_or_else(form)?;
        let (first, last) = range.split_once('-').ok_or_else(form)?;
        if name.is_empty() || name.len() > REGION_NAME_LEN_MAX {
            return Err(InvalidRegion::Name(text.to_owned()));
        }
        let selects = match kind {
            "type" => Selects::Type(name.to_owned()),
            "prefix" => Selects::Prefix(name.to_owned()),
            _ => return Err(form()),
        };
        let number = |digits: &str| canonical_number(digits).ok_or_else(form);
        Ok(Self {
            first: number(first)?,
            last: number(last)?,
            selects,
        })
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match &self.selects {
            Selects::Type(name) => ("type", name),
            Selects::Prefix(prefix) => ("prefix", prefix),
        };
        write!(f, "{kind}:{name}={}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ObjectKey, Place};

    fn regions(texts: &[&str]) -> Result<Regions, InvalidRegion> {
        let regions: Result<Vec<Region>, _> = texts.iter().map(|text| text.parse()).collect();
        Regions::new(regions?, ShardCount::new(64).expect("a power of two"))
    }

    fn layout(texts: &[&str]) -> Layout {
        let count = ShardCount::new(64).expect("a power of two");
        Layout::new(count, regions(texts).expect("good regions"))
    }

    fn shard(layout: &Layout, key: &str) -> u32 {
        let key: ObjectKey = key.parse().expect("a good key");
        match key.place(layout).expect("a good ID") {
            Place::Shard(shard) => shard.get(),
            Place::Node(node) => panic!("bound to {node}"),
        }
    }

    #[test]
    fn s0_11_a_region_holds_its_keys_and_no_others() {
        let layout = layout(&["type:Invoice=8-15", "prefix:eu/=32-63"]);
        let mut seen = [false; 64];
        for n in 0..2000 {
            assert!((8..16).contains(&shard(&layout, &format!("Invoice/{n}"))));
            assert!((8..16).contains(&shard(&layout, &format!("Invoice/x{{eu/{n}}}"))));
            assert!((32..64).contains(&shard(&layout, &format!("Cart/x{{eu/{n}}}"))));
            let other = shard(&layout, &format!("Cart/{n}"));
            assert!((0..8).contains(&other) || (16..32).contains(&other));
            seen[other as usize] = true;
        }
        let used = seen.iter().filter(|seen| **seen).count();
        assert_eq!(used, 24, "every other shard is used");
    }

    #[test]
    fn the_longest_prefix_counts_and_may_span_type_and_id() {
        let layout = layout(&["prefix:eu=0-7", "prefix:eu/de=8-15", "prefix:Cart/a=16-23"]);
        assert!((8..16).contains(&shard(&layout, "Cart/x{eu/de/1}")));
        assert!((0..8).contains(&shard(&layout, "Cart/x{eu/fr/1}")));
        assert!((16..24).contains(&shard(&layout, "Cart/abc")));
        assert!(shard(&layout, "Cart/bc") >= 24);
    }

    #[test]
    fn without_regions_nothing_changes() {
        let plain = Layout::from(ShardCount::DEFAULT);
        assert_eq!(shard(&plain, "Counter/c1"), 6084);
    }

    #[test]
    fn bad_regions_are_refused_in_words() {
        let refused = |texts: &[&str]| regions(texts).expect_err("refused").to_string();
        for text in ["type:A=1", "type:A=+1-2", "type:A=01-2", "type:A=1- 2"] {
            assert!(refused(&[text]).contains("is no region"), "{text}");
        }
        assert!(refused(&["kind:A=1-2"]).contains("is no region"));
        assert!(refused(&["type:=1-2"]).contains("must have 1 to"));
        assert!(refused(&["type:A=2-1"]).contains("has no shards"));
        assert!(refused(&["type:A=0-64"]).contains("has no shards"));
        assert!(refused(&["type:A=0-8", "type:B=8-9"]).contains("share a shard"));
        assert!(refused(&["type:A=0-8", "type:A=9-9"]).contains("the same keys"));
        assert!(refused(&["type:A=0-63"]).contains("no shard for other"));
    }

    #[test]
    fn regions_are_written_as_they_are_read() {
        for text in ["type:Invoice=0-1023", "prefix:eu/=a=1024-2047"] {
            assert_eq!(text.parse::<Region>().expect(text).to_string(), text);
        }
    }
}
