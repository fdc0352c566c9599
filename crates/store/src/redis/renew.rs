//! Lease renewals: one small script per channel, in one pipeline per server.

use redis::Cmd;

use super::{RedisTransport, errors::append_error};
use crate::{append::AppendError, lease::Renewal, scripts};

/// Most channels in one pipeline.
const CHANNELS: usize = 500;

impl RedisTransport {
    pub(super) async fn renew_leases(&self, renewals: &[Renewal]) -> Result<(), AppendError> {
        for chunk in renewals.chunks(CHANNELS) {
            let commands = chunk.iter().map(|renewal| self.renewal(renewal)).collect();
            let answers = self.redis.shared().each(commands).await.map_err(|error| append_error(&error))?;
            for answer in answers {
                answer.extract_error().map_err(|error| append_error(&error))?;
            }
        }
        Ok(())
    }

    fn renewal(&self, Renewal { channel, ttl, names }: &Renewal) -> Cmd {
        let mut command = redis::cmd("EVAL");
        // The text, not its hash: an unknown hash would fail for each channel on its own.
        command.arg(scripts::RENEW_LEASES).arg(2).arg(self.keys.leases(channel)).arg(self.keys.due(channel));
        command.arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        for name in names {
            command.arg(&**name);
        }
        command
    }
}
