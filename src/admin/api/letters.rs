//! `/api/dead-letters`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::fields::{Moment, Pattern, Patterns, Reason, Text, Who, patterns};
use super::input::{self, PageQuery, Query};
use super::reading::Budget;
use super::refusal::Refusal;
use super::{Api, Says, number};
use crate::inbox::sqlite::{ReadError, Reader};
use crate::inbox::{DeadLetterRecord, EventDetail, LetterFilter, LetterState, Task};
use crate::model::SinkName;
use crate::records::event::view;
use crate::records::job;
use crate::records::letter::{Detail, Letter};
use crate::records::money;

/// Dead letters, page by page.
#[derive(Serialize, ToSchema)]
pub(super) struct LetterPage<'a> {
    dead_letters: Vec<Listed<'a>>,
    /// The cursor of the next page; null where there is no more.
    next: Option<String>,
}

/// A dead letter, with what its event is about.
#[derive(Serialize, ToSchema)]
struct Listed<'a> {
    #[serde(flatten)]
    letter: Letter<'a>,
    /// The amount, such as `EUR 1,234.56`; null where the event tells of none, its body is not kept, or bodies are so large
    /// that there was no time for it.
    amount: Option<String>,
}

/// Which dead letters. Every parameter narrows.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LetterQuery {
    /// Given up for this sink
    #[param(inline)]
    sink: Option<Text>,
    /// Canonical type, or a glob such as `payin.*`; may repeat
    #[param(inline, max_items = 50)]
    #[serde(default)]
    r#type: Vec<Pattern>,
    /// Entity key, exactly
    #[param(inline)]
    key: Option<Text>,
    /// Event id, exactly
    #[param(inline)]
    event_id: Option<Text>,
    /// Text that the last error holds
    #[param(inline)]
    last_error: Option<Text>,
    /// Given up at or after
    #[param(inline)]
    since: Option<Moment>,
    /// Given up before
    #[param(inline)]
    until: Option<Moment>,
}

impl LetterQuery {
    fn into_filter(self) -> Result<LetterFilter, String> {
        let Self { sink, r#type, key, event_id, last_error, since, until } = self;
        let text = |text: Option<Text>| text.map(|text| text.0);
        let filter = LetterFilter {
            ids: Vec::new(),
            sink: None,
            types: patterns(r#type)?,
            event_id: text(event_id),
            key: text(key),
            reason: text(last_error),
            since: since.map(|since| since.0),
            until: until.map(|until| until.0),
        };
        let sink = sink.map(|sink| sink_name(&sink)).transpose()?;
        Ok(LetterFilter { sink, ..filter })
    }
}

/// In which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StateAsked {
    #[default]
    Open,
    Retried,
    Discarded,
    All,
}

impl StateAsked {
    fn states(self) -> &'static [LetterState] {
        match self {
            Self::Open => &[LetterState::Open],
            Self::Retried => &[LetterState::Retried],
            Self::Discarded => &[LetterState::Discarded],
            Self::All => &LetterState::ALL,
        }
    }
}

/// Which of them.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StateQuery {
    /// `open`, which nobody has decided about, unless told
    #[param(inline)]
    state: Option<StateAsked>,
}

/// Lists dead letters, newest first: those that nobody has decided about, unless told; those of replays are in no list.
#[utoipa::path(get, path = "/api/dead-letters", tag = "dead letters", params(LetterQuery, StateQuery, PageQuery),
    responses((status = 200, body = LetterPage)))]
pub(super) async fn list(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let mut query = Query::of(&request)?;
    let filter = query.take::<LetterQuery>()?.into_filter();
    let states = query.take::<StateQuery>()?.state.unwrap_or_default().states();
    let page: PageQuery = query.take()?;
    query.finish()?;
    let filter = filter.map_err(|message| Refusal::bad("invalid_query", message))?;
    let (limit, below) = (page.limit()?, page.below()?);
    api.inbox()?;
    let filter = api.can_match("invalid_query", filter).await?;
    let (letters, amounts, next) = api
        .readers
        .read(move |reader| {
            let (letters, next) = walk(reader, (&filter, states), below, limit)?;
            let budget = Budget::page();
            let in_time = |letter| if budget.is_spent() { Ok(None) } else { amount(reader, letter) };
            let amounts = letters.iter().map(in_time).collect::<Result<Vec<_>, _>>()?;
            Ok::<_, ReadError>((letters, amounts, next))
        })
        .await?;
    let listed = |(letter, amount)| Listed { letter: Letter::from(letter), amount };
    Ok(HttpResponse::Ok().json(LetterPage {
        dead_letters: letters.iter().zip(amounts).map(listed).collect(),
        next: next.map(|below| below.to_string()),
    }))
}

/// What the event of a dead letter is about.
fn amount(reader: &mut Reader, letter: &DeadLetterRecord) -> Result<Option<String>, ReadError> {
    let view = event_of(reader, letter)?.as_ref().and_then(view);
    Ok(view.as_ref().and_then(money::main))
}

fn walk(
    reader: &Reader,
    (filter, states): (&LetterFilter, &[LetterState]),
    mut below: Option<i64>,
    limit: usize,
) -> Result<(Vec<DeadLetterRecord>, Option<i64>), ReadError> {
    let (mut letters, budget) = (Vec::new(), Budget::page());
    loop {
        let (mut found, next) = reader.dead_letters_below(filter, states, below)?;
        let room = limit - letters.len();
        if found.len() > room {
            found.truncate(room);
            letters.append(&mut found);
            let last = letters.last().map(|letter: &DeadLetterRecord| letter.id);
            return Ok((letters, last));
        }
        letters.append(&mut found);
        if next.is_none() || letters.len() == limit || budget.is_spent() {
            return Ok((letters, next));
        }
        below = next;
    }
}

/// One dead letter, decided about or not: why it was given up, every attempt at its sink, the body.
#[utoipa::path(get, path = "/api/dead-letters/{id}", tag = "dead letters", params(("id" = i64, Path, minimum = 1)),
    responses((status = 200, body = Detail)))]
pub(super) async fn show(
    api: web::Data<Api>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    let id = number(&id)?;
    api.inbox()?;
    let found = api.readers.read(move |reader| with_event(reader, id)).await?;
    let (letter, event) = found.ok_or_else(|| Refusal::absent("there is no such dead letter"))?;
    api.look_for_altered(std::slice::from_ref(&event)).await;
    Ok(HttpResponse::Ok().json(Detail::new(&letter, &event)))
}

fn with_event(reader: &mut Reader, id: i64) -> Result<Option<(DeadLetterRecord, EventDetail)>, ReadError> {
    let Some(letter) = reader.dead_letter(id)? else { return Ok(None) };
    Ok(event_of(reader, &letter)?.map(|event| (letter, event)))
}

/// Asked for by id, for a number could be the id of another event.
fn event_of(reader: &mut Reader, letter: &DeadLetterRecord) -> Result<Option<EventDetail>, ReadError> {
    let events = reader.event(letter.event_id.as_str())?;
    Ok(events.into_iter().find(|event| event.summary.seq == letter.seq))
}

/// The name of a sink.
pub(super) fn sink_name(text: &Text) -> Result<SinkName, String> {
    SinkName::new(&text.0).map_err(|error| format!("sink: {error}"))
}

/// Numbers that one request may name.
const MAX_IDS: usize = 1000;

/// Which dead letters are decided about: `ids`, or `all` with whatever narrows it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LetterChoice {
    /// Their numbers.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Option<Vec<i64>>,
    /// All of them, or with filters all that match.
    all: Option<bool>,
    /// Given up for this sink.
    #[schema(inline)]
    sink: Option<Text>,
    /// Canonical types, or globs such as `payin.*`: any may match.
    #[schema(inline)]
    r#type: Option<Patterns>,
    /// Entity key, exactly.
    #[schema(inline)]
    key: Option<Text>,
    /// Event id, exactly.
    #[schema(inline)]
    event_id: Option<Text>,
    /// Text that the last error holds.
    #[schema(inline)]
    last_error: Option<Text>,
    /// Given up at or after.
    #[schema(inline)]
    since: Option<Moment>,
    /// Given up before.
    #[schema(inline)]
    until: Option<Moment>,
    #[schema(inline)]
    #[serde(alias = "by")]
    who: Option<Who>,
    #[schema(inline)]
    reason: Option<Reason>,
}

impl LetterChoice {
    fn into_parts(self) -> Result<(LetterFilter, Says), Refusal> {
        let Self { ids, all, sink, r#type, key, event_id, last_error, since, until, who, reason } = self;
        // Of a list that has come out empty, it would mean every type.
        let names_no_type = matches!(&r#type, Some(Patterns::Many(types)) if types.is_empty());
        let query = LetterQuery {
            sink,
            r#type: r#type.map(Patterns::into_vec).unwrap_or_default(),
            key,
            event_id,
            last_error,
            since,
            until,
        };
        let bad = |message: String| Refusal::bad("invalid_body", message);
        if names_no_type {
            return Err(bad("type: name one at least".to_owned()));
        }
        let filter = query.into_filter().map_err(bad)?;
        let ids = chosen("ids", ids, all, filter == LetterFilter::default())?;
        Ok((LetterFilter { ids, ..filter }, Says { who, reason }))
    }
}

/// The numbers, none where all are meant: nothing said must not mean everything. `name` is what the numbers are called.
pub(super) fn chosen(
    name: &str,
    ids: Option<Vec<i64>>,
    all: Option<bool>,
    is_unfiltered: bool,
) -> Result<Vec<i64>, Refusal> {
    let bad = |message: String| Err(Refusal::bad("nothing_chosen", message));
    match (ids, all.unwrap_or(false)) {
        (Some(ids), false) if !is_unfiltered => {
            drop(ids);
            bad(format!("filters go with \"all\": true, not with \"{name}\""))
        }
        (Some(ids), false) if ids.is_empty() || ids.len() > MAX_IDS => bad(format!("{name}: name 1 to 1000 numbers")),
        (Some(ids), false) => Ok(ids),
        (Some(_), true) => bad(format!("send \"{name}\" or \"all\": true, not both")),
        (None, true) => Ok(Vec::new()),
        (None, false) => bad(format!("say which: \"{name}\": [..], or \"all\": true with filters that narrow it")),
    }
}

/// Parks dead letters again, due at once.
#[utoipa::path(post, path = "/api/dead-letters/retry", tag = "dead letters", request_body = LetterChoice,
    responses((status = 202, body = job::Line)))]
pub(super) async fn retry(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    let (letters, says) = input::body::<LetterChoice>(&request, payload).await?.into_parts()?;
    let letters = api.can_match("invalid_body", letters).await?;
    api.submit(&request, Task::Retry { letters }, says).await
}

/// Gives dead letters up for good, for a reason that is kept. Their events stay, and can still be replayed.
#[utoipa::path(post, path = "/api/dead-letters/discard", tag = "dead letters", request_body = LetterChoice,
    responses((status = 202, body = job::Line)))]
pub(super) async fn discard(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    let (letters, says) = input::body::<LetterChoice>(&request, payload).await?.into_parts()?;
    let letters = api.can_match("invalid_body", letters).await?;
    if says.reason.is_none() {
        return Err(Refusal::reason_missing());
    }
    api.submit(&request, Task::Discard { letters }, says).await
}
