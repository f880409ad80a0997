// What is personal in a body, and so hidden until somebody asks for it. In doubt it is.
//
// A value is hidden for its key, for a key above it, or for its form. Keys are compared without case, `_`, `-`, spaces.

/** What people, and what belongs to them, are called: everything below such a key is hidden, but for `PLAIN` ones. */
const PERSONS = words(
  'payer payee beneficiary holder owner sender recipient debtor creditor customer person applicant representative director',
  'relatedparty businessuser contact contacts address addresses location geo document documents identity biometrics',
  'personaldata card device',
);

/** Below those, what says nothing about anybody. */
const PLAIN = words('type roletype entitytype status state provider currency amount');

/** Keys whose value is hidden wherever they are. */
const KEYS = words(
  // names
  'name names surname surnames alias nickname username login initials title company merchantname legalentity',
  // how to reach somebody
  'email mail phone telephone mobile fax msisdn',
  // where somebody is
  'street streetline line1 line2 line3 city town postalcode postcode zip zipcode region province country',
  'latitude longitude lat lon lng',
  // birth, and what else a document says
  'birth birthdate dateofbirth dob birthplace placeofbirth age gender sex nationality citizenship',
  'number documentnumber documentid passport dni nie nif cif ssn taxid vat vatnumber tin nationalid personalnumber license',
  'mrz selfie photo image picture face signature',
  // accounts and cards
  'iban bic swift bban accountnumber routingnumber sortcode wallet walletaddress cryptoaddress',
  'cardnumber pan maskedpan last4 bin cvv cvc expiry expirydate expirationdate',
  // machines
  'ip ips ipaddress clientip useragent deviceid fingerprint macaddress',
  // what opens something
  'url link hostedurl token secret password pin otp code2fa',
  // what may hold anything
  'concept bankconcepttransfer description remittance remittanceinfo remittanceinformation note notes comment comments',
  'memo message text label reference ownreference paymentreference',
);

function words(...lines) {
  return new Set(lines.flatMap((line) => line.split(' ')));
}

/** Parts of keys that give a value away: `beneficiaryName`, `contact_email`, `ibanOfPayer`. */
const PARTS =
  /name$|surname|e?mail|phone|mobile|iban|birth|passport|address|accountnumber|cardnumber|document(no|number|id)|taxid|nationalid/;

/** What is longer, or deeper, is not looked into: it is hidden. */
const [LONGEST, DEEPEST] = [4096, 64];

/** What looks like something personal, wherever it is. Each repetition has a bound: texts may be made to take long. */
const FORMS = [
  ['an e-mail address', /[^\s@<>"]{1,64}@[^\s@<>"]{1,255}\.[^\s@<>"]/],
  ['an IBAN', /\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b/i],
  ['a card number', /(?<![\w.-])(?:\d[ -]?){12,18}\d(?![\w.-])/],
  ['a hidden card number', /[*\u2022x]{4,32}[ -]?\d{2,4}\b/i],
  [
    'a phone number',
    /(?<![\w.:+-])(?:\+|00)\d(?:[ ().-]{0,2}\d){6,14}(?![\w:-])|^\(?\d{2,4}\)?(?:[ -]\d{2,4}){2,4}$|^\d{9,15}$/,
  ],
  [
    'a wallet address',
    /\b(?:0x[0-9a-f]{40}|bc1[a-z0-9]{20,}|T[1-9A-HJ-NP-Za-km-z]{33}|[13][1-9A-HJ-NP-Za-km-z]{25,34})\b/i,
  ],
  [
    'an IP address',
    /(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])|(?<![\w:])(?:[0-9a-f]{1,4}:){2,7}:?[0-9a-f]{1,4}(?![\w:])|(?<![\w:])(?:[0-9a-f]{1,4}:){1,6}:[0-9a-f:]*/i,
  ],
  ['a document in JSON', /^\s*[[{]/],
  ['a machine-readable line', /[A-Z0-9<]{20,44}<</],
];

/** All digits, such as an amount: only what passes for a card's number is hidden (Luhn). */
function byDigits(digits) {
  if (!/^\d{13,19}$/.test(digits)) return null;
  const sum = [...digits]
    .reverse()
    .reduce((all, digit, at) => all + (at % 2 ? [0, 2, 4, 6, 8, 1, 3, 5, 7, 9][digit] : Number(digit)), 0);
  return sum % 10 ? null : 'a card number';
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const MOMENT = /^\d{4}-\d\d-\d\d(T[\d:.]+(Z|[+-]\d\d:?\d\d)?)?$/;

const normal = (key) => key.toLowerCase().replace(/[_\-\s.]/g, '');

/** The key, if what it holds is hidden; else null. */
function byKey(key) {
  const plain = normal(key);
  return KEYS.has(plain) || PERSONS.has(plain) || PARTS.test(plain) ? key : null;
}

/** Whether a value below somebody says nothing: an id only where it is one of ours, and no document's number. */
function isPlain(key, text) {
  return PLAIN.has(normal(key)) || (/^(user)?id$/.test(normal(key)) && UUID.test(text));
}

/** Why a text is hidden for its form, or null. */
export function byForm(text) {
  if (UUID.test(text) || MOMENT.test(text)) return null;
  if (text.length > LONGEST) return 'a long text';
  return FORMS.find(([, form]) => form.test(text))?.[0] ?? null;
}

/**
 * Why the value at this path is hidden, or null. `path` holds the keys from the outside in, numbers for places in arrays;
 * `text` is a string's content or a number as written, null for true, false and null.
 */
export function personal(path, text, isNumber = false) {
  if (text === null || text === '') return null;
  if (path.length > DEEPEST) return 'deep down';
  const keys = path.filter((key) => typeof key === 'string');
  const own = keys.at(-1) ?? '';
  const above = keys.slice(0, -1).find(byKey);
  if (above !== undefined && !isPlain(own, text)) return above;
  return byKey(own) ?? (isNumber ? byDigits(text) : byForm(text));
}

/** Whether a key itself tells of somebody, such as an e-mail address that is used as a key. */
export function personalKey(key) {
  return byForm(key);
}

/** What another machine said (an error, a receipt), without what looks personal; addresses of machines stay. */
export function withoutForms(text) {
  const pieces = FORMS.filter(([what]) => !/IP|JSON/.test(what));
  return pieces.reduce(
    (left, [, form]) => left.replace(new RegExp(form.source, `g${form.flags}`), '\u2022\u2022\u2022\u2022'),
    text,
  );
}
