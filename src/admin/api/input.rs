//! What is asked for: queries and bodies, checked.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, web};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};

use super::refusal::Refusal;

/// Bytes of a request's body.
const MAX_BODY: usize = 64 << 10;
/// So long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The pairs of a query that nobody has taken yet. Whoever takes some names them in the API's description too.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(request: &HttpRequest) -> Result<Self, Refusal> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        let pairs = pairs.map_err(|_| Refusal::bad("invalid_query", "the query is not made of name=value pairs"))?;
        Ok(Self(pairs.into_inner()))
    }

    /// Where nothing may be asked for.
    pub(super) fn none(request: &HttpRequest) -> Result<(), Refusal> {
        Self::of(request)?.finish()
    }

    /// Takes the parameters of this type, which are optional.
    pub(super) fn take<T: IntoParams + DeserializeOwned>(&mut self) -> Result<T, Refusal> {
        let mut taken = Map::new();
        for parameter in T::into_params(|| None) {
            let is_it = |pair: &mut (String, String)| pair.0 == parameter.name;
            let values: Vec<String> = self.0.extract_if(.., is_it).map(|(_, value)| value).collect();
            if let Some(value) = value(&parameter, values)? {
                // By itself, so that it is known which one is wrong.
                let one = Map::from_iter([(parameter.name.clone(), value.clone())]);
                serde_json::from_value::<T>(one.into())
                    .map_err(|error| Refusal::bad("invalid_query", format!("{}: {error}", parameter.name)))?;
                taken.insert(parameter.name, value);
            }
        }
        serde_json::from_value(taken.into()).map_err(|error| Refusal::bad("invalid_query", error.to_string()))
    }

    /// Whatever is left is not known.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Refusal::bad("invalid_query", format!("there is no parameter {name:?} here"))),
        }
    }
}

/// The values of a parameter as JSON; `None` where there is none.
fn value(parameter: &Parameter, mut values: Vec<String>) -> Result<Option<Value>, Refusal> {
    let name = &parameter.name;
    let is = |wanted: Type| {
        matches!(&parameter.schema, Some(RefOr::T(Schema::Object(object)))
            if matches!(&object.schema_type, SchemaType::Type(kind) if *kind == wanted)
                || matches!(&object.schema_type, SchemaType::Array(kinds) if kinds.contains(&wanted)))
    };
    if matches!(parameter.schema, Some(RefOr::T(Schema::Array(_)))) {
        return Ok((!values.is_empty()).then(|| values.into()));
    }
    let Some(value) = values.pop() else { return Ok(None) };
    if !values.is_empty() {
        return Err(Refusal::bad("invalid_query", format!("{name} is given more than once")));
    }
    if !is(Type::Integer) {
        return Ok(Some(value.into()));
    }
    let number = value.parse::<i64>().ok().filter(|_| !value.starts_with('+'));
    number
        .map(|number| Some(number.into()))
        .ok_or_else(|| Refusal::bad("invalid_query", format!("{name}: write a whole number")))
}

/// The JSON body of a request.
pub(super) async fn body<T: DeserializeOwned>(request: &HttpRequest, payload: web::Payload) -> Result<T, Refusal> {
    if !is_json(request) {
        let message = "send JSON, with `Content-Type: application/json`";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, payload.to_bytes_limited(MAX_BODY)).await;
    let read = read.map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body took too long"))?;
    let too_large = |_| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "send at most 64 KiB");
    let bytes = read.map_err(too_large)?.map_err(|_| Refusal::bad("invalid_body", "the body cannot be read"))?;
    let body = serde_json::from_slice::<Object<T>>(&bytes);
    body.map(|object| object.0).map_err(|error| Refusal::bad("invalid_body", error.to_string()))
}

/// A JSON object, and no array: serde would take that for a struct, too.
#[derive(Clone)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// RFC 9110 8.3.1.
fn is_json(request: &HttpRequest) -> bool {
    let mut types = request.headers().get_all(CONTENT_TYPE);
    let (Some(one), None) = (types.next(), types.next()) else { return false };
    let essence = one.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// Entries of one page.
const PAGE: u32 = 50;

/// Which page of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// How many at most; 50 unless told
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// `next` of the page before
    #[param(max_length = 100)]
    pub(super) cursor: Option<String>,
}

impl PageQuery {
    pub(super) fn limit(&self) -> Result<usize, Refusal> {
        match self.limit.unwrap_or(PAGE) {
            limit @ 1..=500 => Ok(limit as usize),
            _ => Err(Refusal::bad("invalid_query", "limit: write a number from 1 to 500")),
        }
    }

    /// The cursor of a list whose entries have numbers: it goes on below one.
    pub(super) fn below(&self) -> Result<Option<i64>, Refusal> {
        let number = |cursor: &String| cursor.parse().ok().filter(|below| *below > 0).ok_or_else(invalid_cursor);
        self.cursor.as_ref().map(number).transpose()
    }
}

pub(super) fn invalid_cursor() -> Refusal {
    Refusal::bad("invalid_cursor", "cursor: send `next` of the page before, with the same query, or none")
}
