//! Small tools that several modules share.

pub(crate) mod log_throttle;
pub(crate) mod singleflight;
