//! Secrets in use, and the check of one body against all of them.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha2::Sha256;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use super::signature::{Tag, claim};
use super::{Fingerprint, Rejection};

/// The secrets of one source, ready for use; the place in the list is the slot. Clones are one: what
/// [`replace`](Self::replace) does to one of them, it does to all.
#[derive(Clone)]
pub struct Keys {
    slots: Arc<RwLock<Slots>>,
}

struct Slots {
    list: Vec<Slot>,
    /// How often they have changed.
    changes: u64,
}

#[derive(Clone)]
struct Slot {
    state: Hmac<Sha256>,
    secret: Fingerprint,
    since: Option<Timestamp>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// A source without secrets, or an empty secret: HMAC takes an empty key without complaint, and then verifies nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a source needs at least one secret, and none may be empty")]
pub struct NoSecret;

impl Keys {
    /// Takes the secrets as they are, newest first.
    pub fn new<S: AsRef<[u8]>>(secrets: &[S]) -> Result<Self, NoSecret> {
        let slots = slots(secrets)?.into_iter().map(|(state, secret)| Slot { state, secret, since: None });
        Ok(Self { slots: Arc::new(RwLock::new(Slots { list: slots.collect(), changes: 0 })) })
    }

    /// Takes other secrets instead, for every check that begins from now on; one that has begun ends with those that it
    /// began with. After an error, nothing has changed. A secret that was in no slot before is in use since `now`; one that
    /// has moved to another slot, since when it was before.
    pub fn replace<S: AsRef<[u8]>>(&self, secrets: &[S], now: Timestamp) -> Result<(), NoSecret> {
        let new = slots(secrets)?;
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let since = |(state, _): &(Hmac<Sha256>, Fingerprint)| {
            let before = slots.list.iter().find(|slot| is_same(&slot.state, state));
            before.map_or(Some(now), |slot| slot.since)
        };
        let since: Vec<Option<Timestamp>> = new.iter().map(since).collect();
        let has_changed = new.len() != slots.list.len()
            || slots.list.iter().zip(&new).any(|(slot, (state, _))| !is_same(&slot.state, state));
        let slot = |((state, secret), since)| Slot { state, secret, since };
        slots.list = new.into_iter().zip(since).map(slot).collect();
        slots.changes += u64::from(has_changed);
        Ok(())
    }

    /// Since when the secret in each slot is in use; `None` = since [`Self::new`].
    pub fn since(&self) -> Vec<Option<Timestamp>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).list.iter().map(|slot| slot.since).collect()
    }

    /// The fingerprint of each secret, by slot.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).list.iter().map(|slot| slot.secret).collect()
    }

    /// How often a secret has come, gone, or moved since [`Self::new`].
    ///
    /// ```
    /// use ralio_relay::verify::Keys;
    /// let (keys, now) = (Keys::new(&["old"])?, jiff::Timestamp::now());
    /// keys.replace(&["old"], now)?;
    /// assert_eq!(keys.changes(), 0);
    /// keys.replace(&["new", "old"], now)?;
    /// assert_eq!(keys.changes(), 1);
    /// # Ok::<(), ralio_relay::verify::NoSecret>(())
    /// ```
    pub fn changes(&self) -> u64 {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).changes
    }

    /// Begins a check of a body that comes in pieces.
    ///
    /// ```
    /// use ralio_relay::verify::{Keys, sign};
    /// let keys = Keys::new(&["current", "previous"])?;
    /// let mut check = keys.begin();
    /// check.update(br#"{"eventId":"#);
    /// check.update(br#""evt-1"}"#);
    /// let signature = sign(b"previous", br#"{"eventId":"evt-1"}"#);
    /// assert_eq!(check.finish(&[signature.into()]), Ok(1));
    /// # Ok::<(), ralio_relay::verify::NoSecret>(())
    /// ```
    pub fn begin(&self) -> Check {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        Check { slots: slots.list.iter().map(|slot| (slot.state.clone(), slot.secret)).collect() }
    }
}

fn slots<S: AsRef<[u8]>>(secrets: &[S]) -> Result<Vec<(Hmac<Sha256>, Fingerprint)>, NoSecret> {
    if secrets.is_empty() || secrets.iter().any(|secret| secret.as_ref().is_empty()) {
        return Err(NoSecret);
    }
    Ok(secrets.iter().map(|secret| (keyed(secret.as_ref()), Fingerprint::of(secret.as_ref()))).collect())
}

/// Whether two slots hold one secret, by what they would sign.
fn is_same(one: &Hmac<Sha256>, other: &Hmac<Sha256>) -> bool {
    let [one, other] = [one, other].map(|state| Tag::from(state.clone().finalize().into_bytes()));
    one.ct_eq(&other).into()
}

/// The signature that the provider puts on a body: HMAC-SHA256 (RFC 2104), as 64 lower-case hex digits.
///
/// ```
/// let signature = ralio_relay::verify::sign(b"key", b"The quick brown fox jumps over the lazy dog");
/// assert_eq!(signature, "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8");
/// ```
pub fn sign(secret: &[u8], body: &[u8]) -> String {
    HEXLOWER.encode(&keyed(secret).chain_update(body).finalize().into_bytes())
}

pub(super) fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes keys of any length")
}

/// A body on its way through every slot of a source's [`Keys`]; holds no part of the body.
pub struct Check {
    slots: Vec<(Hmac<Sha256>, Fingerprint)>,
}

impl Check {
    /// Takes the next piece of the body.
    pub fn update(&mut self, piece: &[u8]) {
        for (state, _) in &mut self.slots {
            state.update(piece);
        }
    }

    /// The slot that made the signature, given every value of the signature header; the first one where two slots hold the
    /// same secret. Several values that agree are one. What was wrong with the header is looked at last: every slot is finished
    /// and compared whatever it holds, so that the time taken tells nothing.
    pub fn finish(self, signatures: &[Bytes]) -> Result<usize, Rejection> {
        self.signer(signatures).map(|(slot, _)| slot)
    }

    /// The same, with the fingerprint of the secret in that slot.
    pub(super) fn signer(self, signatures: &[Bytes]) -> Result<(usize, Fingerprint), Rejection> {
        let claim = claim(signatures);
        let claimed = claim.unwrap_or_default();

        let secrets: Vec<Fingerprint> = self.slots.iter().map(|(_, secret)| *secret).collect();
        let mut held = Choice::from(0);
        let mut slot = 0_u64;
        for (index, (state, _)) in self.slots.into_iter().enumerate().rev() {
            let tag: Tag = state.finalize().into_bytes().into();
            let equal = tag.ct_eq(&claimed);
            slot.conditional_assign(&(index as u64), equal);
            held |= equal;
        }
        match claim {
            Err(problem) => Err(problem),
            Ok(_) if held.into() => {
                let slot = usize::try_from(slot).unwrap_or_default();
                secrets.get(slot).map(|&secret| (slot, secret)).ok_or(Rejection::Mismatch)
            }
            Ok(_) => Err(Rejection::Mismatch),
        }
    }
}
