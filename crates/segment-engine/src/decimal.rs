//! DECIMAL(38,9): the one type of fractional numbers. No floating point anywhere, so sums do not depend on order.

use serde::{Deserialize, Serialize};

/// A decimal number with 9 fractional digits and at most 38 digits in all: the number times 10⁹.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Decimal(i128);
