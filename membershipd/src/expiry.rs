//! Certificates that end soon, said in the log: at the start and once a day.

use std::time::Duration;

use crate::posture::Certificate;
use unibus_core::bus;
use unibus_core::clock;

/// How a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It lasts.
    Good,
    /// It ends within `bus::CERTIFICATE_WARNING`, in so many days.
    Ending(u64),
    /// It has ended.
    Expired,
}

/// How a certificate that ends at `not_after_unix` stands at `now_unix`, both in seconds.
pub fn standing(not_after_unix: i64, now_unix: i64) -> Standing {
    match u64::try_from(not_after_unix.saturating_sub(now_unix)) {
        Ok(left) if Duration::from_secs(left) >= bus::CERTIFICATE_WARNING => Standing::Good,
        Ok(left) if left > 0 => Standing::Ending(left / 86_400),
        _ => Standing::Expired,
    }
}

/// Warns now and once a day, for as long as the process lives.
pub async fn keep_warning(certificates: Vec<Certificate>) {
    let mut tick = tokio::time::interval(bus::CERTIFICATE_CHECK);
    loop {
        tick.tick().await;
        warn(&certificates, clock::unix());
    }
}

fn warn(certificates: &[Certificate], now_unix: i64) {
    let remedy = "run 'cargo xtask cluster-certs', stage and roll";
    for Certificate { name, file, not_after, not_after_unix, .. } in certificates {
        match standing(*not_after_unix, now_unix) {
            Standing::Good => {}
            Standing::Ending(days) => {
                tracing::warn!(
                    certificate = name,
                    file,
                    "the certificate ends in {days} days, on {not_after}; {remedy}"
                );
            }
            Standing::Expired => {
                tracing::error!(certificate = name, file, "the certificate has expired, on {not_after}; {remedy}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_days_before_its_end_a_certificate_is_worth_a_word() {
        const DAY: i64 = 86_400;
        let ends = 1_790_000_000;
        assert_eq!(standing(ends, ends - 365 * DAY), Standing::Good);
        assert_eq!(standing(ends, ends - 30 * DAY), Standing::Good);
        assert_eq!(standing(ends, ends - 30 * DAY + 1), Standing::Ending(29));
        assert_eq!(standing(ends, ends - 1), Standing::Ending(0));
        assert_eq!(standing(ends, ends), Standing::Expired);
        assert_eq!(standing(ends, ends + 100 * DAY), Standing::Expired);
        assert_eq!(standing(i64::MIN, i64::MAX), Standing::Expired);
    }
}
