//! `/api/openapi.json`: what the API is, made from the code.

use std::sync::LazyLock;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, OpenApi as Spec, Ref, RefOr, ResponseBuilder, Schema};
use utoipa::{Modify, OpenApi};

use super::input::Query;
use super::refusal::{ErrorBody, Refusal};
use super::{Api, events, jobs, letters, overview, parked, quarantine, record, replays, sinks, tail};

/// The admin API of ralio-relay. Lists have `next`, the cursor of the next page, null at the end. Errors are
/// `{"error", "message"}`. Times are RFC 3339 in UTC.
#[derive(OpenApi)]
#[openapi(
    info(title = "ralio-relay admin API"),
    paths(
        get, overview::overview, overview::sources, events::list, events::show, events::body, tail::tail, sinks::list, sinks::show,
        sinks::pause, sinks::resume, sinks::try_now, parked::list, parked::retry, parked::discard, letters::list,
        letters::show, letters::retry, letters::discard, quarantine::list,
        quarantine::show, quarantine::admit, quarantine::purge, replays::list, replays::show, replays::plan,
        replays::begin, replays::cancel, record::list, record::show, jobs::list, jobs::show
    ),
    components(schemas(ErrorBody)),
    security(("bearer" = [])),
    modifiers(&Common)
)]
struct Description;

/// What every operation has in common.
struct Common;

impl Modify for Common {
    fn modify(&self, spec: &mut Spec) {
        let components = spec.components.get_or_insert_with(Components::new);
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("bearer", bearer);
        for schema in components.schemas.values_mut() {
            if let RefOr::T(schema) = schema {
                require_all(schema);
            }
        }
        for item in spec.paths.paths.values_mut() {
            let PathItem { get, post, .. } = item;
            get.iter_mut().for_each(|operation| add_errors(operation, &READING));
            post.iter_mut().for_each(|operation| add_errors(operation, &[&READING[..], &WRITING].concat()));
        }
    }
}

const READING: [(&str, &str); 5] = [
    ("400", "The query cannot be understood"),
    ("401", "The token is missing or wrong"),
    ("403", "No token is configured, or the Host or Origin is another's"),
    ("404", "There is nothing of this name"),
    ("503", "The inbox is not open yet, or cannot be used; or too many tails run"),
];
const WRITING: [(&str, &str); 4] = [
    ("408", "The body took too long"),
    ("409", "It is in no state for this"),
    ("413", "The body is over 64 KiB"),
    ("415", "The body is not application/json"),
];

fn add_errors(operation: &mut Operation, errors: &[(&str, &str)]) {
    let schema = Ref::from_schema_name("Error");
    for (status, description) in errors {
        let content = ContentBuilder::new().schema(Some(schema.clone())).build();
        let response = ResponseBuilder::new().description(*description).content("application/json", content);
        operation.responses.responses.entry((*status).to_owned()).or_insert_with(|| response.build().into());
    }
}

/// What is answered always has all of its members, null where there is nothing to say.
fn require_all(schema: &mut Schema) {
    match schema {
        Schema::Object(object) => {
            // What is asked for is closed; there, members are optional where they say so.
            let is_closed =
                matches!(object.additional_properties.as_deref(), Some(AdditionalProperties::FreeForm(false)));
            if !is_closed {
                object.required = object.properties.keys().cloned().collect();
            }
        }
        Schema::AllOf(all) => all.items.iter_mut().for_each(|item| {
            if let RefOr::T(schema) = item {
                require_all(schema);
            }
        }),
        _ => {}
    }
}

static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
    let spec = Description::openapi();
    spec.to_json().expect("a description is plain data").into()
});

/// This description.
#[utoipa::path(get, path = "/api/openapi.json", tag = "description",
    responses((status = 200, body = Object, content_type = "application/json")))]
pub(super) async fn get(_: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    Ok(HttpResponse::Ok().content_type("application/json").body(TEXT.clone()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What is served and what is described are the same.
    #[test]
    fn every_path_and_method_is_described() {
        let spec = Description::openapi();
        let described: BTreeSet<(String, &str)> = spec
            .paths
            .paths
            .iter()
            .flat_map(|(path, item)| {
                let methods = [("GET", item.get.is_some()), ("POST", item.post.is_some())];
                methods.into_iter().filter(|(_, is)| *is).map(|(method, _)| (path.clone(), method))
            })
            .collect();
        let places = super::super::places();
        let served: BTreeSet<(String, &str)> = places
            .iter()
            .flat_map(|place| place.methods.iter().map(|(method, _)| (place.path.to_owned(), method.as_str())))
            .collect();
        assert_eq!(described, served);
    }
}
