//! Entries of one room that follow one another, encoded once, and framed once for all subscribers of a
//! kind.

use std::any::TypeId;
use std::sync::Mutex;
use std::time::Instant;

use bytes::Bytes;

use super::budget::Charge;
use super::tail::lock;

/// The most bytes of a batch that takes in another entry: what one slow reader can hold on to.
pub(crate) const BATCH_BYTES_MAX: usize = 64 << 10;

/// A batch is kept in so many forms at most; others are made for each subscriber anew.
const FORMS_MAX: usize = 4;

/// About what a transport's framing adds to an entry.
const FRAMING_BYTES: usize = 16;

/// About what is allocated for a batch, or for a form, besides its octets.
const OVERHEAD_BYTES: usize = 256;

/// Entries of one room that follow one another, encoded once (see `log::encode`), contiguous.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The `seq` of the first entry.
    first: u64,
    made_at: Option<Instant>,
    /// Where each entry ends in `bytes`.
    ends: Vec<u32>,
    bytes: Vec<u8>,
    forms: Mutex<Forms>,
}

/// The forms in which a batch is kept, as long as the ring or the cache that shares it counts them.
#[derive(Debug, Default)]
struct Forms {
    kept: Vec<Form>,
    share: Option<Share>,
}

/// What a batch and its forms count, and in what.
#[derive(Debug)]
struct Share {
    charge: Charge,
    /// The most that may be held in all, with another form.
    bytes_max: usize,
}

/// A batch as all subscribers of one kind get it: every entry in its frame, contiguous.
#[derive(Debug)]
struct Form {
    /// The transport that framed it.
    transport: TypeId,
    /// How each MESSAGE begins.
    head: Box<[u8]>,
    /// Where each frame ends in `bytes`.
    ends: Vec<u32>,
    bytes: Bytes,
    _charge: Charge,
}

impl Batch {
    /// Makes an empty batch that begins at `first`.
    pub(crate) fn new(first: u64) -> Self {
        Batch {
            first,
            made_at: Some(Instant::now()),
            ..Batch::default()
        }
    }

    /// Adds the next entry, which `write` appends to the bytes.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(offset(self.bytes.len()));
    }

    /// Passes over the next entry: nobody is sent it.
    pub(crate) fn pass_over(&mut self) {
        self.push(|_| {});
    }

    /// The `seq` of the first entry.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// One past the `seq` of the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    /// Whether it was made before this.
    pub(crate) fn is_older_than(&self, time: Instant) -> bool {
        self.made_at.is_none_or(|at| at < time)
    }

    /// The entries from `seq` on, with their `seq`. One that is passed over is empty.
    pub(crate) fn entries_from(&self, seq: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let skipped = seq.saturating_sub(self.first) as usize;
        (skipped..self.ends.len()).map(move |index| {
            let start = if index == 0 {
                0
            } else {
                self.ends[index - 1] as usize
            };
            (
                self.first + index as u64,
                &self.bytes[start..self.ends[index] as usize],
            )
        })
    }

    /// The entries from `seq` on, each begun by `head` and framed by the transport `T`, which writes
    /// a frame of the pieces that it is given. What is made for one subscriber is shared by all others
    /// of its kind; `None` when the batch has too many kinds of them, or is not shared, or what is
    /// shared weighs too much already.
    pub(crate) fn framed<T: 'static>(
        &self,
        seq: u64,
        head: &[u8],
        frame: impl Fn(&[&[u8]], &mut Vec<u8>),
    ) -> Option<Bytes> {
        let transport = TypeId::of::<T>();
        let mut forms = lock(&self.forms);
        let Forms { kept, share } = &mut *forms;
        let same = |form: &&Form| form.transport == transport && *form.head == *head;
        let form = match kept.iter().position(|form| same(&form)) {
            Some(at) => &kept[at],
            None if kept.len() < FORMS_MAX => {
                let capacity = self.bytes.len() + self.ends.len() * (head.len() + FRAMING_BYTES);
                let weight = OVERHEAD_BYTES + head.len() + 4 * self.ends.len() + capacity;
                let Share { charge, bytes_max } = share.as_ref()?;
                let charge = charge.budget().try_charge(weight, *bytes_max)?;
                let mut bytes = Vec::with_capacity(capacity);
                let mut ends = Vec::with_capacity(self.ends.len());
                for (_, rest) in self.entries_from(self.first) {
                    if !rest.is_empty() {
                        frame(&[head, rest], &mut bytes);
                    }
                    ends.push(offset(bytes.len()));
                }
                charge.add(bytes.capacity().saturating_sub(capacity));
                kept.push(Form {
                    transport,
                    head: head.into(),
                    ends,
                    bytes: bytes.into(),
                    _charge: charge,
                });
                kept.last()?
            }
            None => return None,
        };
        let skipped = seq.saturating_sub(self.first) as usize;
        let start = match skipped {
            0 => 0,
            skipped => *form.ends.get(skipped - 1)? as usize,
        };
        Some(form.bytes.slice(start..))
    }

    /// Shares it, until [`Batch::unshare`]: its forms are kept and counted besides it, as long as no
    /// more than `bytes_max` is held with them.
    pub(crate) fn share(&self, charge: Charge, bytes_max: usize) {
        lock(&self.forms).share = Some(Share { charge, bytes_max });
    }

    /// Ends that. Whoever holds it still gets no more forms of it.
    pub(crate) fn unshare(&self) {
        let forms = std::mem::take(&mut *lock(&self.forms));
        drop(forms);
    }

    /// Lets go of the forms that wait for no socket.
    pub(crate) fn forget_forms(&self) {
        lock(&self.forms)
            .kept
            .retain(|form| !form.bytes.is_unique());
    }

    /// The bytes of its entries.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Lets go of what was allocated for entries that did not come.
    pub(crate) fn seal(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// What it takes of memory, without its forms.
    pub(crate) fn weight(&self) -> usize {
        OVERHEAD_BYTES + self.bytes.capacity() + 4 * self.ends.capacity()
    }
}

fn offset(length: usize) -> u32 {
    u32::try_from(length).expect("a batch is far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::budget::Budget;
    use super::*;

    struct Socket;

    fn frame(pieces: &[&[u8]], out: &mut Vec<u8>) {
        out.push(b'<');
        pieces.iter().for_each(|piece| out.extend_from_slice(piece));
    }

    fn batch() -> Batch {
        let mut batch = Batch::new(5);
        for entry in [b"five", b"six!"] {
            batch.push(|out| out.extend_from_slice(entry));
        }
        batch
    }

    #[test]
    fn subscribers_of_one_kind_share_their_frames() {
        let batch = batch();
        let budget = Arc::new(Budget::default());
        batch.share(budget.charge(0), usize::MAX);
        let framed = |seq, head: &[u8]| batch.framed::<Socket>(seq, head, frame);
        let first = framed(5, b"a:").unwrap();
        assert_eq!(first, b"<a:five<a:six!"[..]);
        let second = framed(6, b"a:").unwrap();
        assert_eq!(second, b"<a:six!"[..]);
        assert_eq!(first.as_ptr_range().end, second.as_ptr_range().end);
        for head in [b"b:", b"c:", b"d:"] {
            assert!(framed(5, head).is_some());
        }
        assert!(framed(5, b"e:").is_none());
        assert_eq!(framed(5, b"d:").unwrap(), b"<d:five<d:six!"[..]);
        // Forms that nobody holds are forgotten, and leave room for others.
        assert!(budget.held() > 4 * OVERHEAD_BYTES);
        batch.forget_forms();
        assert!((OVERHEAD_BYTES..2 * OVERHEAD_BYTES).contains(&budget.held()));
        assert!(framed(5, b"e:").is_some());
        drop((first, second));
        batch.forget_forms();
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn forms_are_kept_while_they_are_counted_and_few() {
        let batch = batch();
        let framed = |head: &[u8]| batch.framed::<Socket>(5, head, frame);
        assert!(framed(b"a:").is_none(), "nobody counts it");
        let budget = Arc::new(Budget::default());
        batch.share(budget.charge(batch.weight()), 3 * OVERHEAD_BYTES);
        assert!(framed(b"a:").is_some());
        assert!(framed(b"b:").is_none(), "too much is held");
        assert!(framed(b"a:").is_some());
        assert!(budget.held() <= 3 * OVERHEAD_BYTES);
        batch.unshare();
        assert_eq!(budget.held(), 0);
        assert!(framed(b"a:").is_none());
    }
}
