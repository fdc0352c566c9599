//! Former names, kept for one release.

use crewcast_store::{Ownership, OwnershipMode, OwnershipOutcome, RedisClient};

/// The former name of [`Ownership`].
#[deprecated(note = "renamed to `Ownership`")]
pub type Claim = Ownership;

/// The former name of [`OwnershipMode`].
#[deprecated(note = "renamed to `OwnershipMode`")]
pub type ClaimMode = OwnershipMode;

/// The former name of [`OwnershipOutcome`].
#[deprecated(note = "renamed to `OwnershipOutcome`")]
pub type Claimed = OwnershipOutcome;

/// The former name of [`RedisClient`].
#[deprecated(note = "renamed to `RedisClient`")]
pub type Redis = RedisClient;
