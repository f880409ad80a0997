//! Whom and what one pass is about. Nobody in it exists: example.com, telephone numbers kept for fiction, and account
//! numbers whose check digits do not hold.

use fastrand::Rng;

const PEOPLE: [(&str, &str); 8] = [
    ("Jane", "Doe"),
    ("José", "Núñez Ortega"),
    ("Zoë", "Janssens"),
    ("Łukasz", "Wójcik"),
    ("Aoife", "O'Brien"),
    ("Mehmet", "Yılmaz"),
    ("Ingrid", "Bjørnson"),
    ("明", "王"),
];
const COMPANIES: [&str; 4] = ["Acme Pagos SL", "Blue Harbour Ltd", "Grün & Söhne GmbH", "Café \"Lumière\" SARL"];

/// Ids, people and orders that the events of one pass share.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) user: String,
    pub(super) person: Person,
    pub(super) payee: Person,
    pub(super) business: String,
    pub(super) company: &'static str,
    pub(super) related_party: String,
    pub(super) kyc: String,
    pub(super) kyb: String,
    pub(super) session: String,
    pub(super) failed_session: String,
    pub(super) expired_session: String,
    pub(super) related_session: String,
    pub(super) account: String,
    pub(super) other_account: String,
    pub(super) other_user: String,
    pub(super) viban: Viban,
    pub(super) failed_viban: Viban,
    pub(super) payin: Order,
    pub(super) failed_payin: Order,
    pub(super) payout: Order,
    pub(super) transfer: Order,
}

/// Somebody.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) surname: &'static str,
    pub(super) phone: String,
    pub(super) iban: String,
}

/// A virtual IBAN.
#[derive(Clone, Debug)]
pub(super) struct Viban {
    pub(super) id: String,
    pub(super) number: String,
    pub(super) rail: &'static str,
}

/// Money on the move, the same from its first event to its last.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) reference: Option<String>,
    pub(super) rail: Rail,
    pub(super) amount: i64,
    pub(super) currency: &'static str,
    pub(super) fx: Option<Fx>,
}

/// How money comes in or goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rail {
    Bank,
    Crypto,
    Card,
}

/// A change of currency.
#[derive(Clone, Debug)]
pub(super) struct Fx {
    pub(super) to: &'static str,
    /// In ten-thousandths.
    pub(super) rate: i64,
    /// Whether the wire has it as a string or as a number.
    pub(super) as_string: bool,
}

/// A version 4 UUID.
pub(super) fn uuid(rng: &mut Rng) -> String {
    uuid::Builder::from_random_bytes(rng.u128(..).to_be_bytes()).into_uuid().to_string()
}

fn iban(rng: &mut Rng) -> String {
    format!("ES00{:020}", rng.u64(..))
}

impl World {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self {
            user: uuid(rng),
            person: Person::new(rng),
            payee: Person::new(rng),
            business: uuid(rng),
            company: COMPANIES[rng.usize(..COMPANIES.len())],
            related_party: uuid(rng),
            kyc: uuid(rng),
            kyb: uuid(rng),
            session: uuid(rng),
            failed_session: uuid(rng),
            expired_session: uuid(rng),
            related_session: uuid(rng),
            account: uuid(rng),
            other_account: uuid(rng),
            other_user: uuid(rng),
            viban: Viban::new(rng),
            failed_viban: Viban::new(rng),
            payin: Order::new(rng, &[Rail::Bank, Rail::Crypto, Rail::Card]),
            failed_payin: Order::new(rng, &[Rail::Bank, Rail::Crypto, Rail::Card]),
            payout: Order::new(rng, &[Rail::Bank, Rail::Crypto]),
            transfer: Order::new(rng, &[Rail::Bank]),
        }
    }
}

impl Person {
    fn new(rng: &mut Rng) -> Self {
        let (name, surname) = PEOPLE[rng.usize(..PEOPLE.len())];
        Self { name, surname, phone: format!("+1202555{:04}", rng.u16(100..200)), iban: iban(rng) }
    }

    pub(super) fn email(&self) -> String {
        format!("payer{}@example.com", &self.phone[8..])
    }
}

impl Viban {
    fn new(rng: &mut Rng) -> Self {
        Self { id: uuid(rng), number: iban(rng), rail: if rng.bool() { "SEPA" } else { "ACH" } }
    }
}

impl Order {
    fn new(rng: &mut Rng, rails: &[Rail]) -> Self {
        let rail = rails[rng.usize(..rails.len())];
        let currency = if rail == Rail::Crypto { "USDC" } else { "EUR" };
        let fx = Fx { to: "USD", rate: rng.i64(9_000..12_000), as_string: rng.bool() };
        Self {
            id: uuid(rng),
            reference: rng.bool().then(|| format!("INV-2026-{:06}", rng.u32(..1_000_000))),
            rail,
            amount: rng.i64(1_000..5_000_000),
            currency,
            fx: rng.bool().then_some(fx),
        }
    }
}
