//! What strangers may hold at a time, of one address and in all: connections, answers under way, octets.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;

use crate::log::tail::lock;
use crate::problem::Problem;

/// An amount of something, of which each address may hold a part.
#[derive(Debug)]
pub(crate) struct Quota {
    all_max: usize,
    address_max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    /// Only those that hold something.
    by_address: HashMap<IpAddr, usize>,
}

/// Why there is nothing left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Full {
    /// The address holds as much as it may.
    Address,
    /// All together do.
    All,
}

impl Full {
    /// 429 for what the address itself can mend, else 503; `what` is in the plural.
    pub(crate) fn problem(self, what: &str) -> Problem {
        let (status, detail) = match self {
            Full::Address => (
                StatusCode::TOO_MANY_REQUESTS,
                format!("this address has too many {what}; try again in a moment"),
            ),
            Full::All => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the server has too many {what}; try again in a moment"),
            ),
        };
        Problem::new(status, detail).retry_after(1)
    }
}

impl Quota {
    /// Makes a quota; 0 is no limit.
    pub(crate) fn new(all_max: usize, address_max: usize) -> Arc<Self> {
        let limit = |max| if max == 0 { usize::MAX } else { max };
        Arc::new(Quota {
            all_max: limit(all_max),
            address_max: limit(address_max),
            held: Mutex::default(),
        })
    }

    /// How much is held in all.
    pub(crate) fn held(&self) -> usize {
        lock(&self.held).all
    }

    /// Takes an amount, for an address or for nobody. The last that is taken may exceed the limit, as
    /// what is larger than all of it could be had by nobody.
    ///
    /// # Errors
    /// [`Full`] when the limit is reached already.
    pub(crate) fn take(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        amount: usize,
    ) -> Result<Share, Full> {
        let mut share = Share {
            quota: Arc::clone(self),
            // Where there is no limit nobody looks who has how much.
            address: address.filter(|_| self.address_max < usize::MAX),
            amount: 0,
        };
        share.grow(amount)?;
        Ok(share)
    }
}

/// What somebody holds of a [`Quota`], until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    quota: Arc<Quota>,
    address: Option<IpAddr>,
    amount: usize,
}

impl Share {
    /// Takes more.
    ///
    /// # Errors
    /// [`Full`] when the limit is reached already.
    pub(crate) fn grow(&mut self, amount: usize) -> Result<(), Full> {
        let mut held = lock(&self.quota.held);
        if held.all >= self.quota.all_max {
            return Err(Full::All);
        }
        let of_address = self
            .address
            .and_then(|it| held.by_address.get(&it).copied());
        if of_address.is_some_and(|amount| amount >= self.quota.address_max) {
            return Err(Full::Address);
        }
        held.add(self.address, amount);
        self.amount += amount;
        Ok(())
    }

    /// Takes more, whatever the limit says: for what is there already.
    pub(crate) fn force(&mut self, amount: usize) {
        lock(&self.quota.held).add(self.address, amount);
        self.amount += amount;
    }
}

impl Held {
    fn add(&mut self, address: Option<IpAddr>, amount: usize) {
        self.all += amount;
        if let Some(address) = address.filter(|_| amount > 0) {
            *self.by_address.entry(address).or_default() += amount;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = lock(&self.quota.held);
        held.all -= self.amount;
        let Some(address) = self.address else { return };
        if let Some(of_address) = held.by_address.get_mut(&address) {
            *of_address -= self.amount;
            if *of_address == 0 {
                held.by_address.remove(&address);
                // After a load of many addresses.
                if held.by_address.capacity() > 4 * held.by_address.len() + 1_024 {
                    held.by_address.shrink_to_fit();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const OTHER: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    #[test]
    fn an_address_has_its_part_and_gives_it_back() {
        let quota = Quota::new(3, 2);
        let first = quota.take(ONE, 1).unwrap();
        let second = quota.take(ONE, 1).unwrap();
        assert_eq!(quota.take(ONE, 1).unwrap_err(), Full::Address);
        let third = quota.take(OTHER, 1).unwrap();
        assert_eq!(quota.take(OTHER, 1).unwrap_err(), Full::All);
        assert_eq!(quota.take(None, 1).unwrap_err(), Full::All);
        drop(first);
        let again = quota.take(ONE, 1).unwrap();
        drop((second, third, again));
        let held = lock(&quota.held);
        assert_eq!((held.all, held.by_address.len()), (0, 0));
    }

    #[test]
    fn the_last_may_exceed_the_limit() {
        let quota = Quota::new(0, 10);
        let mut share = quota.take(ONE, 0).unwrap();
        share.grow(9).unwrap();
        share.grow(500).unwrap();
        assert_eq!(share.grow(1).unwrap_err(), Full::Address);
        assert_eq!(quota.take(ONE, 0).unwrap_err(), Full::Address);
        share.force(1);
        assert_eq!(lock(&quota.held).all, 510);
        drop(share);
        assert!(quota.take(ONE, 0).is_ok());
    }

    #[test]
    fn nothing_is_kept_of_whoever_has_gone() {
        let quota = Quota::new(0, 1);
        let shares: Vec<_> = (0..10_000_u32)
            .map(|number| {
                quota
                    .take(Some(IpAddr::from(number.to_be_bytes())), 1)
                    .unwrap()
            })
            .collect();
        drop(shares);
        let held = lock(&quota.held);
        assert!(held.by_address.is_empty() && held.by_address.capacity() <= 2_048);
    }
}
