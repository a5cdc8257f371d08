//! Time as a trait, so that tests can move it.
//!
//! Two clocks matter. Wall time is what people and the files on disk see; it can be set. Boot time only counts
//! up, also while the machine sleeps, and means something only together with the id of the boot it counts from.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// A source of time.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// Milliseconds since the Unix epoch, by the wall clock.
    fn wall_ms(&self) -> i64;

    /// Milliseconds since the machine started, counted through sleep; unaffected by changes of the wall clock.
    fn boot_ms(&self) -> i64;

    /// Names the present boot of this machine. `None` where the system doesn't tell: then only wall time counts.
    fn boot_id(&self) -> Option<&str>;
}

/// The operating system's clocks.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }

    fn boot_ms(&self) -> i64 {
        system::boot_ms()
    }

    fn boot_id(&self) -> Option<&str> {
        system::boot_id()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use std::sync::OnceLock;

    use rustix::time::{ClockId, clock_gettime};

    pub(super) fn boot_ms() -> i64 {
        let now = clock_gettime(ClockId::Boottime);
        now.tv_sec * 1000 + now.tv_nsec / 1_000_000
    }

    pub(super) fn boot_id() -> Option<&'static str> {
        static ID: OnceLock<Option<String>> = OnceLock::new();
        ID.get_or_init(|| {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
            let id = id.trim();
            (!id.is_empty()).then(|| id.to_owned())
        })
        .as_deref()
    }
}

// Elsewhere nothing names the boot in a way that is tested here, so leases fall back to wall time.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use std::sync::OnceLock;
    use std::time::Instant;

    pub(super) fn boot_ms() -> i64 {
        static START: OnceLock<Instant> = OnceLock::new();
        i64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    pub(super) fn boot_id() -> Option<&'static str> {
        None
    }
}

/// A clock that only moves when told to, for tests.
#[derive(Debug)]
pub struct ManualClock(Mutex<ManualTime>);

#[derive(Debug)]
struct ManualTime {
    wall_ms: i64,
    boot_ms: i64,
    boot_id: &'static str,
    boots: u32,
}

impl ManualClock {
    /// A clock that shows `wall_ms`, on a machine that started a minute ago.
    #[must_use]
    pub fn new(wall_ms: i64) -> Self {
        Self(Mutex::new(ManualTime { wall_ms, boot_ms: 60_000, boot_id: "manual-boot", boots: 1 }))
    }

    /// Lets `ms` milliseconds pass on both clocks.
    pub fn advance(&self, ms: i64) {
        let mut time = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        time.wall_ms += ms;
        time.boot_ms += ms;
    }

    /// Starts the machine anew: the boot clock begins at 0 and the boot has another name; the wall clock goes on.
    pub fn reboot(&self) {
        let mut time = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        time.boots += 1;
        time.boot_ms = 0;
        // Those who hold the old name may keep it. A test has few boots.
        time.boot_id = format!("manual-boot-{}", time.boots).leak();
    }

    /// Sets the wall clock by `ms` milliseconds, forwards or back; no time passes.
    pub fn step_wall(&self, ms: i64) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).wall_ms += ms;
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> i64 {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).wall_ms
    }

    fn boot_ms(&self) -> i64 {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).boot_ms
    }

    fn boot_id(&self) -> Option<&str> {
        Some(self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).boot_id)
    }
}

/// Writes a wall time as ISO 8601 with milliseconds and `Z`, as JavaScript's `toISOString` does.
#[must_use]
pub fn iso_timestamp(wall_ms: i64) -> String {
    match Timestamp::from_millisecond(wall_ms) {
        Ok(timestamp) => format!("{timestamp:.3}"),
        Err(_) if wall_ms < 0 => format!("{:.3}", Timestamp::MIN),
        Err(_) => format!("{:.3}", Timestamp::MAX),
    }
}

/// Reads an ISO 8601 time as milliseconds since the Unix epoch.
#[must_use]
pub fn parse_timestamp(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_look_like_javascript_s() {
        assert_eq!(iso_timestamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso_timestamp(1_767_225_600_120), "2026-01-01T00:00:00.120Z");
        assert_eq!(iso_timestamp(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn timestamps_are_read_back() {
        assert_eq!(parse_timestamp("2026-01-01T00:00:00.120Z"), Some(1_767_225_600_120));
        assert_eq!(parse_timestamp("yesterday"), None);
    }

    #[test]
    fn the_boot_clock_ignores_steps_of_the_wall_clock() {
        let clock = ManualClock::new(1_000);
        clock.step_wall(-500);
        clock.advance(10);
        assert_eq!((clock.wall_ms(), clock.boot_ms()), (510, 60_010));
    }
}
