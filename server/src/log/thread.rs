//! The log's threads. Without any of them it could not go on: one that ends by a panic is its death.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::sqlite::Health;

/// Starts a thread of the log; `health` is told where a panic ends it.
///
/// # Errors
/// What the system says where it starts none.
pub(super) fn start(
    name: &'static str,
    health: &Arc<Health>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let health = Arc::clone(health);
    Builder::new().name(name.to_owned()).spawn(move || {
        // Nothing of its state is used after a panic.
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            tracing::error!("the thread `{name}` of the message store has ended by a panic");
            health.note_death();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_the_death_of_the_log_and_an_end_is_not() {
        type Run = fn();
        let cases: [(Run, bool); 2] = [(|| {}, false), (|| panic!("injected"), true)];
        for (run, dies) in cases {
            let health = Arc::<Health>::default();
            let is_dead = health.is_dead();
            start("test", &health, run).unwrap().join().unwrap();
            assert_eq!(*is_dead.borrow(), dies);
            assert_eq!(health.is_good(), !dies);
        }
    }
}
