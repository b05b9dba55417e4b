//! A position in a whole topic: the next offset of each partition. Opaque to clients, which send it
//! back.

use ports::ErrorCode;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use segment_engine::ids::PartitionId;
use uss_http::Problem;

/// The next offset of each partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Positions(pub BTreeMap<PartitionId, u64>);

impl Positions {
    /// Covers every partition; those not in `known` start at 0.
    pub(crate) fn of_all(partitions: u32, known: Vec<(PartitionId, u64)>) -> Self {
        let beginnings = PartitionId::all(partitions).map(|partition| (partition, 0));
        Self(beginnings.chain(known).collect())
    }

    /// Parses what a client sent back. It must name exactly these partitions.
    pub(crate) fn parse(text: &str, partitions: impl IntoIterator<Item = PartitionId>) -> Result<Self, Problem> {
        let parsed: Option<Self> = text.parse().ok();
        parsed.filter(|positions| positions.0.keys().copied().eq(partitions)).ok_or_else(|| {
            Problem::invalid(ErrorCode::InvalidCursor, "the position is not one of this list; start again without it")
        })
    }
}

/// `0:17,1:5`
impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (partition, offset) in &self.0 {
            write!(f, "{between}{partition}:{offset}")?;
            between = ",";
        }
        Ok(())
    }
}

impl FromStr for Positions {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let pair = |pair: &str| {
            let (partition, offset) = pair.split_once(':').ok_or(())?;
            Ok((PartitionId(partition.parse().map_err(drop)?), offset.parse().map_err(drop)?))
        };
        Ok(Self(text.split(',').map(pair).collect::<Result<_, ()>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip() {
        let positions = Positions::of_all(3, vec![(PartitionId(1), 5), (PartitionId(2), 7)]);
        assert_eq!(positions.to_string(), "0:0,1:5,2:7");
        assert_eq!(Positions::parse("0:0,1:5,2:7", PartitionId::all(3)).map_err(|problem| problem.code), Ok(positions));
        for bad in ["", "0:0", "0:0,1:5", "0:0,1:5,2:7,3:1", "0:0,1:-1,2:7", "0:0,1:x,2:7", "nonsense"] {
            assert!(Positions::parse(bad, PartitionId::all(3)).is_err(), "{bad}");
        }
    }
}
