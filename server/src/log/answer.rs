//! How the log answers: once, whatever happens to it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Outcome, StoreError};

/// Tells, once, what became of something that was asked of the log. One that is dropped tells what was
/// decided by then, else that it failed: so nobody waits for a thread that has panicked.
///
/// It is told on the log's own threads, and must not block.
pub(crate) struct Answer<T: Failing> {
    tell: Option<Box<dyn FnOnce(T) + Send>>,
    decided: Option<T>,
}

/// What is told of something that came to nothing.
pub(crate) trait Failing {
    /// The answer of a log that cannot go on.
    fn failed() -> Self;
}

impl Failing for Outcome {
    fn failed() -> Self {
        Outcome::Failed
    }
}

impl<T> Failing for Result<T, StoreError> {
    fn failed() -> Self {
        Err(StoreError::Unavailable)
    }
}

impl<T: Failing> Answer<T> {
    /// Makes the answer that `tell` gets.
    pub(crate) fn new(tell: impl FnOnce(T) + Send + 'static) -> Self {
        Answer {
            tell: Some(Box::new(tell)),
            decided: None,
        }
    }

    /// Decides what is told when it is dropped.
    pub(super) fn decide(&mut self, answer: T) {
        self.decided = Some(answer);
    }

    /// Tells it now.
    pub(crate) fn tell(mut self, answer: T) {
        self.decide(answer);
    }
}

impl<T: Failing> Drop for Answer<T> {
    fn drop(&mut self) {
        let Some(tell) = self.tell.take() else {
            return;
        };
        let answer = self.decided.take().unwrap_or_else(T::failed);
        if std::thread::panicking() {
            // A second panic would end the process before the others are told.
            drop(catch_unwind(AssertUnwindSafe(|| tell(answer))));
        } else {
            tell(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn an_answer_is_told_once_also_where_its_holder_panics() {
        type Act = fn(Answer<Outcome>);
        let cases: [(Act, Outcome); 4] = [
            (|answer| answer.tell(Outcome::Appended), Outcome::Appended),
            (drop, Outcome::Failed),
            (|_answer| panic!("before"), Outcome::Failed),
            (
                |mut answer| {
                    answer.decide(Outcome::Appended);
                    panic!("after");
                },
                Outcome::Appended,
            ),
        ];
        for (act, expected) in cases {
            let (sender, told) = channel();
            let answer = Answer::new(move |outcome| drop(sender.send(outcome)));
            drop(std::thread::spawn(move || act(answer)).join());
            assert_eq!(told.iter().collect::<Vec<_>>(), [expected]);
        }
    }
}
