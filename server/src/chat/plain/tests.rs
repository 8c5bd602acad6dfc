//! Destinations without connections: inboxes are read by hand.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use shared::stomp::{Headers, Version};

use super::*;
use crate::log::Signal;

thread_local! {
    /// How often this thread asked an inbox for its credit.
    pub(super) static LOOKS: Cell<usize> = const { Cell::new(0) };
}

const READER_MAX: usize = 512 << 10;
const ALL_MAX: usize = 64 << 20;

fn bounds() -> Arc<Bounds> {
    Arc::new(Bounds::new(ALL_MAX, READER_MAX))
}

fn reader(bounds: &Arc<Bounds>) -> Arc<Reader> {
    Arc::new(Reader::new(Arc::<Signal>::default(), Arc::clone(bounds)))
}

fn publish(plain: &Plain, bounds: &Bounds, destination: &str, body: &[u8]) {
    plain.publish(
        destination,
        Letter::new(bounds, destination, &Headers::new(), body),
    );
}

pub(super) fn body(letter: &Letter) -> String {
    let rest = String::from_utf8(letter.rest(Version::V12).to_vec()).unwrap();
    let (_, body) = rest.split_once("\n\n").unwrap();
    body.trim_end_matches('\0').to_owned()
}

/// All that waits in an inbox, taken.
fn take_all(inbox: &Inbox) -> Vec<String> {
    let letters = (0..).map_while(|position| inbox.take(position));
    letters.map(|letter| body(&letter)).collect()
}

#[test]
fn what_idle_subscribers_leave_costs_the_same_for_each_however_many_they_are() {
    const CONNECTIONS: usize = 100;
    const EACH: usize = 64;
    for window in [1, 2, 1_000] {
        let (plain, bounds) = (Plain::new(usize::MAX), bounds());
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let reader = reader(&bounds);
            let inboxes: Vec<_> = (0..EACH)
                .map(|_| Inbox::new(&reader, Some(window)))
                .collect();
            connections.push((reader, inboxes));
        }
        let mut point = None;
        for inbox in connections.iter().flat_map(|(_, inboxes)| inboxes) {
            let joined = plain.subscribe("/queue/a", Spread::One, inbox, None);
            point = Some(joined.unwrap());
        }
        let point = point.unwrap();
        LOOKS.set(0);
        for number in 0..CONNECTIONS * EACH {
            publish(&plain, &bounds, "/queue/a", number.to_string().as_bytes());
        }
        for inbox in connections.iter().flat_map(|(_, inboxes)| inboxes) {
            assert!(inbox.take(0).is_some(), "each has one");
        }
        for (reader, inboxes) in &connections {
            reader.close();
            plain.unsubscribe(&point, inboxes.iter());
        }
        // Where there is credit, letters go on to others at every end: to the n-th last connection the
        // n-th part of them, n ln n in all.
        let letters = CONNECTIONS * EACH;
        let looks = LOOKS.get();
        assert!(looks < 20 * letters, "{looks} looks for {letters} letters");
        assert_eq!(bounds.held(), 0);
        assert!(lock(&plain.points).is_empty());
    }
}

#[test]
fn letters_of_one_end_are_given_back_in_their_order_and_to_none_that_ends() {
    let (plain, bounds) = (Plain::new(usize::MAX), bounds());
    let (ending, other) = (reader(&bounds), reader(&bounds));
    let inboxes = [(); 3].map(|()| Inbox::new(&ending, Some(10)));
    for inbox in &inboxes {
        plain
            .subscribe("/queue/a", Spread::One, inbox, None)
            .unwrap();
    }
    for number in 0..9 {
        publish(&plain, &bounds, "/queue/a", number.to_string().as_bytes());
    }
    // Given and waiting ones alike.
    assert_eq!(body(&inboxes[1].take(0).unwrap()), "1");
    let survivor = Inbox::new(&other, Some(100));
    let point = plain
        .subscribe("/queue/a", Spread::One, &survivor, None)
        .unwrap();
    assert!(!survivor.has_letters());
    ending.close();
    plain.unsubscribe(&point, inboxes.iter());
    let all: Vec<_> = (0..9).map(|number| number.to_string()).collect();
    assert_eq!(take_all(&survivor), all);
}

#[test]
fn who_ends_on_several_queues_is_given_nothing_meanwhile() {
    let (plain, bounds) = (Plain::new(usize::MAX), bounds());
    let ending = reader(&bounds);
    let (one, two) = (Inbox::new(&ending, None), Inbox::new(&ending, None));
    let a = plain
        .subscribe("/queue/a", Spread::One, &one, None)
        .unwrap();
    plain
        .subscribe("/queue/b", Spread::One, &two, None)
        .unwrap();
    ending.close();
    plain.unsubscribe(&a, [&one].into_iter());
    publish(&plain, &bounds, "/queue/b", b"x");
    assert!(!two.has_letters());
}

#[test]
fn no_lock_of_all_is_held_while_a_queue_hands_out() {
    let (plain, bounds) = (Plain::new(usize::MAX), bounds());
    let (here, there) = (reader(&bounds), reader(&bounds));
    let (held, ending) = (Inbox::new(&here, Some(9)), Inbox::new(&here, Some(9)));
    let free = Inbox::new(&there, None);
    let point = plain
        .subscribe("/queue/a", Spread::One, &ending, None)
        .unwrap();
    publish(&plain, &bounds, "/queue/a", b"x");
    plain
        .subscribe("/queue/a", Spread::One, &held, None)
        .unwrap();
    plain
        .subscribe("/queue/b", Spread::One, &free, None)
        .unwrap();
    std::thread::scope(|scope| {
        let (sender, told) = std::sync::mpsc::channel();
        let (plain, bounds) = (&plain, &bounds);
        // Whoever hands out to this one waits.
        let hold = held.hold();
        let ended = scope.spawn(|| plain.unsubscribe(&point, [&ending].into_iter()));
        while point.state.try_lock().is_ok() && !ended.is_finished() {
            std::thread::yield_now();
        }
        scope.spawn(move || {
            publish(plain, bounds, "/queue/b", b"y");
            sender.send(()).unwrap();
        });
        let is_told = told.recv_timeout(Duration::from_secs(20)).is_ok();
        drop(hold);
        assert!(is_told, "others wait for one queue");
    });
    assert_eq!(take_all(&free), ["y"]);
    assert_eq!(take_all(&held), ["x"]);
}

#[test]
fn subscribers_of_a_destination_are_bounded() {
    for (spread, destination) in [(Spread::All, "/topic/a"), (Spread::One, "/queue/a")] {
        let (plain, bounds) = (Plain::new(3), bounds());
        let reader = reader(&bounds);
        let inboxes = [(); 4].map(|()| Inbox::new(&reader, None));
        let subscribe = |inbox, replaced| plain.subscribe(destination, spread, inbox, replaced);
        let mut point = None;
        for inbox in &inboxes[..3] {
            point = Some(subscribe(inbox, None).unwrap());
        }
        assert!(matches!(subscribe(&inboxes[3], None), Err(TooMany(3))));
        // One in the place of another is none more.
        subscribe(&inboxes[3], Some(&inboxes[0])).unwrap();
        assert!(subscribe(&inboxes[0], None).is_err());
        let point = point.unwrap();
        plain.unsubscribe(&point, inboxes[1..].iter());
        assert!(lock(&plain.points).is_empty());
        // Who comes then makes it anew.
        let again = subscribe(&inboxes[0], None).unwrap();
        assert!(!Arc::ptr_eq(&again, &point));
        publish(&plain, &bounds, destination, b"x");
        assert_eq!(take_all(&inboxes[0]), ["x"]);
    }
}

#[test]
fn what_one_connection_holds_of_all_its_queues_has_one_bound() {
    let plain = Plain::new(usize::MAX);
    let bounds = Arc::new(Bounds::new(ALL_MAX, 10_000));
    let reader = reader(&bounds);
    let (one, two) = (
        Inbox::new(&reader, Some(1_000)),
        Inbox::new(&reader, Some(1_000)),
    );
    let a = plain
        .subscribe("/queue/a", Spread::One, &one, None)
        .unwrap();
    let b = plain
        .subscribe("/queue/b", Spread::One, &two, None)
        .unwrap();
    let text = [b'x'; 1_000];
    for _ in 0..9 {
        publish(&plain, &bounds, "/queue/a", &text);
    }
    let given = (0..)
        .map_while(|position| one.take(position))
        .collect::<Vec<_>>()
        .len();
    assert_eq!(given, 8, "10,000 are reached by 8 of 1,280 and a bit");
    assert!(
        !reader.has_overflowed(),
        "the queue holds back what is more"
    );
    publish(&plain, &bounds, "/queue/b", b"y");
    assert!(!two.has_letters() && reader.was_short());
    // What is settled makes room for either.
    a.settle(&one, &[0, 1], false);
    assert!(reader.was_short() || !two.has_letters());
    for (point, inbox) in [(&a, &one), (&b, &two)] {
        point.offer(inbox);
    }
    assert_eq!(take_all(&two), ["y"]);
    assert!(one.has_letters());
}

#[test]
fn past_the_bound_of_all_slow_ones_are_cut_off_sooner_and_quick_ones_are_not() {
    let plain = Plain::new(usize::MAX);
    let bounds = Arc::new(Bounds::new(100_000, 16_000));
    let text = [b'x'; 3_000];
    let readers: Vec<_> = (0..40).map(|_| reader(&bounds)).collect();
    let inboxes: Vec<_> = readers
        .iter()
        .map(|reader| Inbox::new(reader, None))
        .collect();
    for (index, inbox) in inboxes.iter().enumerate() {
        let destination = format!("/topic/{index}");
        plain
            .subscribe(&destination, Spread::All, inbox, None)
            .unwrap();
    }
    let quick = reader(&bounds);
    let inbox = Inbox::new(&quick, None);
    plain
        .subscribe("/topic/quick", Spread::All, &inbox, None)
        .unwrap();
    let queue = reader(&bounds);
    let busy = Inbox::new(&queue, Some(1));
    plain
        .subscribe("/queue/busy", Spread::One, &busy, None)
        .unwrap();
    for index in 0..40 {
        for _ in 0..4 {
            publish(&plain, &bounds, &format!("/topic/{index}"), &text);
        }
        publish(&plain, &bounds, "/topic/quick", b"y");
        assert_eq!(take_all(&inbox), ["y"]);
    }
    assert!(readers.iter().any(|reader| reader.has_overflowed()));
    assert!(!readers[0].has_overflowed() && !quick.has_overflowed());
    assert!(bounds.held() < 100_000 + 40 * 4_000);
    // A queue gives what can be taken, and holds nothing back.
    publish(&plain, &bounds, "/queue/busy", b"one");
    assert!(!queue.has_overflowed());
    publish(&plain, &bounds, "/queue/busy", b"two");
    assert!(queue.has_overflowed());
    assert_eq!(take_all(&busy), ["one"]);
}

/// What a client of the model may do.
#[derive(Clone, Debug)]
enum Step {
    Subscribe { who: usize, window: Option<usize> },
    Publish,
    Take { who: usize },
    Ack { who: usize, at: usize },
    Nack { who: usize, at: usize },
    Unsubscribe { who: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..6_usize;
    let window = prop_oneof![Just(None), (1..4_usize).prop_map(Some)];
    let step = prop_oneof![
        2 => (who.clone(), window).prop_map(|(who, window)| Step::Subscribe { who, window }),
        6 => Just(Step::Publish),
        5 => who.clone().prop_map(|who| Step::Take { who }),
        3 => (who.clone(), 0..3_usize).prop_map(|(who, at)| Step::Ack { who, at }),
        2 => (who.clone(), 0..3_usize).prop_map(|(who, at)| Step::Nack { who, at }),
        1 => who.prop_map(|who| Step::Unsubscribe { who }),
    ];
    proptest::collection::vec(step, 0..120)
}

/// A subscriber of the model, two of which share a reader.
struct Worker {
    inbox: Arc<Inbox>,
    window: Option<usize>,
    next: u64,
    given: BTreeMap<u64, u64>,
}

proptest! {
    /// Nothing is lost while somebody subscribes, nothing comes twice, whoever has credit is given what
    /// waits, and what waits stays in order.
    #[test]
    fn a_queue_keeps_its_word(steps in steps()) {
        let (plain, bounds) = (Plain::new(usize::MAX), bounds());
        let readers: Vec<_> = (0..3).map(|_| reader(&bounds)).collect();
        let mut workers: BTreeMap<usize, Worker> = BTreeMap::new();
        let mut point: Option<Arc<Point>> = None;
        // The letters that are neither acknowledged nor, where nobody acknowledges, taken.
        let mut open = BTreeSet::new();
        let mut published = 0_u64;
        for step in steps {
            match step {
                Step::Subscribe { who, window } => {
                    let inbox = Inbox::new(&readers[who / 2], window);
                    let replaced = workers.remove(&who).map(|worker| worker.inbox);
                    let joined = plain
                        .subscribe("/queue/a", Spread::One, &inbox, replaced.as_ref())
                        .unwrap();
                    point = Some(joined);
                    let given = BTreeMap::new();
                    workers.insert(who, Worker { inbox, window, next: 0, given });
                }
                Step::Publish => {
                    publish(&plain, &bounds, "/queue/a", published.to_string().as_bytes());
                    if !workers.is_empty() {
                        open.insert(published);
                    }
                    published += 1;
                }
                Step::Take { who } => {
                    let Some(worker) = workers.get_mut(&who) else { continue };
                    let Some(letter) = worker.inbox.take(worker.next) else { continue };
                    let number: u64 = body(&letter).parse().unwrap();
                    prop_assert!(open.contains(&number), "{number} comes twice");
                    if worker.window.is_some() {
                        worker.given.insert(worker.next, number);
                    } else {
                        open.remove(&number);
                    }
                    worker.next += 1;
                    point.as_ref().unwrap().offer(&worker.inbox);
                }
                Step::Ack { who, at } | Step::Nack { who, at } => {
                    let is_nack = matches!(step, Step::Nack { .. });
                    let Some(worker) = workers.get_mut(&who) else { continue };
                    let Some((&position, &number)) = worker.given.iter().nth(at) else { continue };
                    worker.given.remove(&position);
                    if !is_nack {
                        open.remove(&number);
                    }
                    let point = point.as_ref().unwrap();
                    point.settle(&worker.inbox, &[position], is_nack);
                    point.offer(&worker.inbox);
                }
                Step::Unsubscribe { who } => {
                    let Some(worker) = workers.remove(&who) else { continue };
                    plain.unsubscribe(point.as_ref().unwrap(), [&worker.inbox].into_iter());
                }
            }
            let Some(point) = &point else { continue };
            let state = lock(&point.state);
            let State::Queue(queue) = &*state else {
                // With nobody left, what waits is dropped.
                prop_assert!(workers.is_empty());
                open.clear();
                prop_assert_eq!(bounds.held(), 0);
                continue;
            };
            prop_assert_eq!(queue.len(), workers.len());
            let mut held: Vec<u64> = queue.waiting().collect();
            prop_assert!(held.is_sorted());
            let is_idle = |worker: &Worker| worker.inbox.has_credit();
            prop_assert!(held.is_empty() || !workers.values().any(is_idle), "it holds back");
            for worker in workers.values() {
                let letters = worker.inbox.letters();
                let window = worker.window.unwrap_or(usize::MAX);
                prop_assert!(letters.len() <= window);
                held.extend(letters.iter().map(|letter| body(letter).parse::<u64>().unwrap()));
            }
            held.sort_unstable();
            prop_assert_eq!(held, open.iter().copied().collect::<Vec<_>>());
        }
    }
}
