//! The description of the API (OpenAPI 3.1), made from the table of routes, so that neither can have what the other lacks.

use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, Ref, Schema, Type};
use utoipa::openapi::{
    Content, InfoBuilder, OpenApiBuilder, PathsBuilder, RefOr, Required, ResponseBuilder, ResponsesBuilder,
};

use super::body::OCTETS;
use super::problem::{self, Problem, ProblemDocument};
use super::routes::{self, Access, Precondition, Route, Signed};
use crate::api::problem::Refuse as _;
use unibus_api_types::problem::Kind;

/// Notes the schemas of a type in the list and refers to it.
pub(super) type SchemaOf = fn(&mut Vec<(String, RefOr<Schema>)>) -> Ref;

/// [`SchemaOf`] `T`.
pub(super) fn schema_of<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) -> Ref {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
    Ref::from_schema_name(T::name())
}

const JSON: &str = "application/json";

const INTRODUCTION: &str = "Every request under /v1 carries one HTTP message signature (RFC 9421, Ed25519, tag 'unibus') \
over @method, @authority, @path, @query, content-digest (RFC 9530, sha-256, also of an empty body) and if-match where it is \
sent, with created, expires (at most 120 s later), nonce (16 random bytes in base64, never used again) and keyid (the public \
key, 64 hexadecimal digits). A refusal is a problem document (RFC 9457). 503 'unknown-outcome' means that nobody knows \
whether it was done; repeating is safe, with a new signature.";

/// The document as it is served and committed.
pub(super) fn text() -> Result<String, Problem> {
    let mut schemas = Vec::new();
    let problem = schema_of::<ProblemDocument>(&mut schemas);
    let mut paths = PathsBuilder::new();
    for route in routes::all() {
        paths = paths.path(route.template, PathItem::new(method(route), operation(route, &problem, &mut schemas)));
    }
    schemas.sort_by(|(one, _), (other, _)| one.cmp(other));
    schemas.dedup_by(|(one, _), (other, _)| one == other);
    let mut components = ComponentsBuilder::new();
    for (name, schema) in schemas {
        components = components.schema(name, schema);
    }
    let types = ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(problem_types()))
        .enum_values(Some(problem::all_kinds().into_iter().map(Kind::uri)));
    let components = components.schema("ProblemType", types).build();
    let info = InfoBuilder::new().title("membershipd").version("1").description(Some(INTRODUCTION)).build();
    let document = OpenApiBuilder::new().info(info).paths(paths).components(Some(components)).build();
    let broken =
        |error: serde_json::Error| Problem { cause: Some(error.to_string().into()), ..Kind::INTERNAL.problem() };
    Ok(document.to_pretty_json().map_err(broken)? + "\n")
}

/// Every type of problem with its status.
fn problem_types() -> String {
    let line = |kind: Kind| format!("- `{}`: {}. {}", kind.slug, kind.status.as_u16(), kind.title);
    problem::all_kinds().into_iter().map(line).collect::<Vec<_>>().join("\n")
}

fn method(route: &Route) -> HttpMethod {
    match route.method.as_str() {
        "PUT" => HttpMethod::Put,
        "POST" => HttpMethod::Post,
        "PATCH" => HttpMethod::Patch,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn operation(route: &Route, problem: &Ref, schemas: &mut Vec<(String, RefOr<Schema>)>) -> Operation {
    let mut operation = OperationBuilder::new().summary(Some(route.summary));
    for name in route.template.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        operation = operation.parameter(text_parameter(name, ParameterIn::Path, Required::True, None));
    }
    let (body, answers, etag, needs) = match &route.access {
        Access::Open(_) | Access::Loopback(_) => {
            return operation.response("200", ResponseBuilder::new().description("The answer")).build();
        }
        Access::Newcomer(newcomer) => {
            let needs =
                "Needs a signature with a key that is to be the new user's, and the token of an invite.".to_owned();
            (Some(newcomer.body), newcomer.answers, true, needs)
        }
        Access::Upload(signed) | Access::Download(signed) => {
            for parameter in parameters(signed) {
                operation = operation.parameter(parameter);
            }
            (signed.body, signed.answers, signed.if_match != Precondition::Unsupported, needs(signed))
        }
        Access::Signed(signed) => {
            for parameter in parameters(signed) {
                operation = operation.parameter(parameter);
            }
            let has_revision = route.method == "PUT" && !route.template.contains("{invite}");
            let etag = signed.if_match != Precondition::Unsupported || has_revision;
            (signed.body, signed.answers, etag, needs(signed))
        }
    };
    if let Some(schema) = body {
        let content = Content::new(Some(schema(schemas)));
        let kind = if matches!(route.access, Access::Upload(_)) { OCTETS } else { JSON };
        let optional = matches!(&route.access, Access::Signed(signed) if signed.body_is_optional());
        let required = if optional { Required::False } else { Required::True };
        let body = RequestBodyBuilder::new().content(kind, content).required(Some(required));
        operation = operation.request_body(Some(body.build()));
    }
    let mut responses = ResponsesBuilder::new();
    for (status, schema) in answers {
        let mut response = ResponseBuilder::new().description(status.canonical_reason().unwrap_or_default());
        let kind = if matches!(route.access, Access::Download(_)) { OCTETS } else { JSON };
        response = response.content(kind, Content::new(Some(schema(schemas))));
        if etag {
            let etag = HeaderBuilder::new().description(Some("The revision, for If-Match")).build();
            response = response.header("ETag", etag);
        }
        responses = responses.response(status.as_str(), response);
    }
    let refusal = ResponseBuilder::new().description("Refused; see ProblemType");
    let refusal = refusal.content("application/problem+json", Content::new(Some(problem.clone())));
    operation.description(Some(needs)).responses(responses.response("default", refusal).build()).build()
}

fn needs(signed: &Signed) -> String {
    let permission = signed.handler.actions().iter().map(|action| action.name()).collect::<Vec<_>>().join("' or '");
    format!("Needs a signature, and the permission '{permission}'.")
}

fn parameters(signed: &Signed) -> Vec<Parameter> {
    let query = signed.query.iter().map(|parameter| {
        let Some(most) = parameter.most else {
            return text_parameter(parameter.name, ParameterIn::Query, Required::False, Some(parameter.what));
        };
        let schema = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(most));
        ParameterBuilder::new()
            .name(parameter.name)
            .parameter_in(ParameterIn::Query)
            .description(Some(parameter.what))
            .schema(Some(schema))
            .build()
    });
    let required = match signed.if_match {
        Precondition::Unsupported => None,
        Precondition::Optional => Some(Required::False),
        Precondition::Required => Some(Required::True),
    };
    let words = "The ETag of what the change is for, or '*'";
    let if_match = required.map(|required| text_parameter("If-Match", ParameterIn::Header, required, Some(words)));
    query.chain(if_match).collect()
}

fn text_parameter(name: &str, place: ParameterIn, required: Required, words: Option<&str>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(words)
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_description_is_as_committed() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        let now = text().unwrap();
        if std::env::var_os("UNIBUS_BLESS").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert!(
            now == committed,
            "the API is not what openapi.json says. If that is meant: UNIBUS_BLESS=1, and read the difference"
        );
    }

    #[test]
    fn every_route_and_every_reference_is_in_it() {
        let document: Value = serde_json::from_str(&text().unwrap()).unwrap();
        for route in routes::all() {
            let method = route.method.as_str().to_lowercase();
            assert!(document["paths"][route.template][&method]["summary"].is_string(), "{method} {}", route.template);
        }
        let count: usize =
            document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(count, routes::all().count());
        let mut references = Vec::new();
        find_references(&document, &mut references);
        assert!(!references.is_empty());
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} points nowhere");
        }
    }

    fn find_references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| find_references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| find_references(value, found)),
            _ => {}
        }
    }
}
