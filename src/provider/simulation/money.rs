//! `data` of payins, payouts and transfers.

use serde_json::{Value, json};

use super::world::{Fx, Order, Rail, World};

fn money(amount: i64, currency: &str) -> Value {
    json!({"amount": amount, "currency": currency})
}

/// System and merchant fee, in minor units.
fn fees(order: &Order) -> (i64, i64) {
    (order.amount / 200, order.amount / 400)
}

fn after_fees(order: &Order) -> i64 {
    let (system, merchant) = fees(order);
    order.amount - system - merchant
}

fn fx(order: &Order, fx: &Fx) -> Value {
    let rate = format!("{}.{:04}", fx.rate / 10_000, fx.rate % 10_000);
    let rate = if fx.as_string { json!(rate) } else { serde_json::from_str(&rate).expect("it is a number") };
    json!({"pair": format!("{}/{}", order.currency, fx.to), "rate": rate})
}

fn set(object: &mut Value, name: &str, value: impl Into<Value>) {
    object[name] = value.into();
}

/// Fees, what is left, and what that is in the other currency.
fn settle(amounts: &mut Value, order: &Order) {
    let (system, merchant) = fees(order);
    let breakdown = json!({"systemFee": system, "merchantFee": merchant});
    set(amounts, "fees", json!({"currency": order.currency, "total": system + merchant, "breakdown": breakdown}));
    set(amounts, "amountAfterFees", money(after_fees(order), order.currency));
    if let Some(change) = &order.fx {
        set(amounts, "fx", fx(order, change));
    }
}

fn credited(order: &Order) -> Value {
    match &order.fx {
        Some(change) => money(after_fees(order) * change.rate / 10_000, change.to),
        None => money(after_fees(order), order.currency),
    }
}

/// What every order may have besides: the merchant's reference, and members that no view knows.
fn with_extras(mut data: Value, world: &World, order: &Order) -> Value {
    if let Some(reference) = &order.reference {
        set(&mut data, "ownReference", reference.as_str());
    }
    let system = match order.rail {
        Rail::Bank => "SCT_INST",
        Rail::Crypto => "POLYGON_POS",
        Rail::Card => "CARD_GATEWAY",
    };
    let clearing =
        json!({"system": system, "batchId": world.kyb, "endToEndId": format!("E2E{}", order.id.replace('-', ""))});
    set(&mut data, "metadata", json!({"channel": "api", "correlationId": world.related_party, "clearing": clearing}));
    data
}

pub(super) fn payin(world: &World, order: &Order, status: &str) -> Value {
    let person = &world.person;
    let payer = json!({
        "name": format!("{} {}", person.name, person.surname), "email": person.email(), "phone": person.phone,
    });
    let (kind, source) = match order.rail {
        Rail::Bank => {
            let concept = format!("Top up of account {} for {} {}", world.account, person.name, person.surname);
            let source = json!({
                "type": "bankAccount", "routingType": "iban", "accountNumber": person.iban, "bankConceptTransfer": concept,
                "payer": payer,
            });
            ("bankPayin", source)
        }
        Rail::Crypto => {
            let address = format!("0x{}", world.other_account.replace('-', ""));
            (
                "cryptoPayin",
                json!({"type": "cryptoWallet", "routingType": "polygon", "accountNumber": address, "payer": payer}),
            )
        }
        Rail::Card => ("cardPayin", json!({"type": "card", "accountNumber": "************4242", "payer": payer})),
    };
    let mut amounts = json!({"receivedAmount": money(order.amount, order.currency)});
    if status == "COMPLETED" {
        settle(&mut amounts, order);
        set(&mut amounts, "creditedAmount", credited(order));
    }
    let mut data = json!({
        "status": status, "payinType": kind, "orderId": order.id, "source": source, "amounts": amounts,
        "destination": {"type": "account", "creditedAccountId": world.account, "creditedUserId": world.user},
    });
    if status == "FAILED" {
        set(
            &mut data,
            "failure",
            json!({"code": "SENDER_NAME_MISMATCH", "reason": "The payer is not the account's owner"}),
        );
    }
    with_extras(data, world, order)
}

pub(super) fn payout(world: &World, status: &str) -> Value {
    let (order, payee) = (&world.payout, &world.payee);
    let beneficiary = json!({
        "name": payee.name, "surname": payee.surname,
        "document": {"type": "PASSPORT", "number": "X0000000T", "country": "ES"},
        "contact": {"email": payee.email(), "phone": payee.phone},
        "address": {"street": "Calle de la Prueba 1, 2º izq.", "city": "Madrid", "postalCode": "28001", "country": "ES"},
    });
    let (kind, destination) = match order.rail {
        Rail::Bank | Rail::Card => {
            let destination = json!({
                "type": "bankAccount", "routingType": "iban", "accountNumber": payee.iban, "swift": "TESTESMMXXX",
                "beneficiary": beneficiary,
            });
            ("bankPayout", destination)
        }
        Rail::Crypto => {
            let address = format!("0x{}", world.other_user.replace('-', ""));
            let destination = json!({
                "type": "cryptoWallet", "routingType": "polygon", "accountNumber": address, "beneficiary": beneficiary,
            });
            ("cryptoPayout", destination)
        }
    };
    let mut amounts = json!({"debitedAmount": money(order.amount, order.currency)});
    settle(&mut amounts, order);
    let data = json!({
        "status": status, "payoutType": kind, "orderId": order.id, "destination": destination, "amounts": amounts,
        "source": {"type": "account", "debitedAccountId": world.account, "debitedUserId": world.user},
    });
    with_extras(data, world, order)
}

pub(super) fn transfer(world: &World, status: &str) -> Value {
    let order = &world.transfer;
    let mut amounts = json!({"debitedAmount": money(order.amount, order.currency)});
    if status == "COMPLETED" {
        set(&mut amounts, "creditedAmount", money(order.amount, order.currency));
    }
    let data = json!({
        "status": status, "orderId": order.id, "amounts": amounts,
        "source": {"type": "account", "debitedAccountId": world.account, "debitedUserId": world.user},
        "destination": {"type": "account", "creditedAccountId": world.other_account, "creditedUserId": world.other_user},
    });
    with_extras(data, world, order)
}
