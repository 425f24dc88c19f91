//! The description of the API (OpenAPI 3.1), made from the table of routes, so that neither can have what the other lacks.

use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, Ref, Schema, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, InfoBuilder, OpenApiBuilder, PathsBuilder, RefOr, Required, ResponseBuilder, ResponsesBuilder,
};

use super::body::OCTETS;
use super::call::Form;
use super::metrics;
use super::open;
use super::problem::{self, Problem, ProblemDocument};
use super::routes::{self, Access, Precondition, Route, Signed};
use crate::api::problem::Refuse as _;
use unibus_api_types::problem::Kind;
use unibus_api_types::schema;

/// The schemas that were met, by name.
pub(super) type Schemas = Vec<(String, RefOr<Schema>)>;

/// Notes the schemas of a type in the list and refers to it.
pub(super) type SchemaOf = fn(&mut Schemas) -> Ref;

/// [`SchemaOf`] `T`.
pub(super) fn schema_of<T: ToSchema>(schemas: &mut Schemas) -> Ref {
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

/// What a signed request carries: OpenAPI has no scheme for signatures of messages, so each of the three fields is one, and a request
/// has all of them.
const SIGNATURE_FIELDS: [(&str, &str, &str); 3] = [
    ("contentDigest", "Content-Digest", "The SHA-256 of the body, also of an empty one (RFC 9530): `sha-256=:…:`"),
    (
        "signatureInput",
        "Signature-Input",
        "What is signed, and the parameters of the signature (RFC 9421): `unibus=(\"@method\" \"@authority\" \"@path\" \"@query\" \
         \"content-digest\");created=…;expires=…;nonce=\"…\";keyid=\"…\";tag=\"unibus\"`, with `\"if-match\"` where it is sent",
    ),
    ("signature", "Signature", "The Ed25519 signature of that (RFC 9421): `unibus=:…:`"),
];

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
    for (scheme, field, what) in SIGNATURE_FIELDS {
        let field = ApiKeyValue::with_description(field, what);
        components = components.security_scheme(scheme, SecurityScheme::ApiKey(ApiKey::Header(field)));
    }
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

fn operation(route: &Route, problem: &Ref, schemas: &mut Schemas) -> Operation {
    let mut operation = OperationBuilder::new().operation_id(Some(route.id)).summary(Some(route.summary));
    for name in variables(route.template) {
        let schema = path_schema(name, schemas);
        operation = operation.parameter(described(name, ParameterIn::Path, Required::True, None, schema));
    }
    let (body, answers, etag, needs) = match &route.access {
        Access::Open(_) | Access::Loopback(_) => return open(route, operation),
        Access::Newcomer(newcomer) => {
            let needs =
                "Needs a signature with a key that is to be the new user's, and the token of an invite.".to_owned();
            (Some(newcomer.body), newcomer.answers, true, needs)
        }
        Access::Upload(signed) | Access::Download(signed) => {
            for parameter in parameters(signed, schemas) {
                operation = operation.parameter(parameter);
            }
            (signed.body, signed.answers, signed.if_match != Precondition::Unsupported, needs(signed))
        }
        Access::Signed(signed) => {
            for parameter in parameters(signed, schemas) {
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
    operation = operation.security(
        SIGNATURE_FIELDS
            .iter()
            .fold(SecurityRequirement::default(), |all, (scheme, ..)| all.add(*scheme, std::iter::empty::<String>())),
    );
    operation.description(Some(needs)).responses(responses.response("default", refusal).build()).build()
}

fn needs(signed: &Signed) -> String {
    let permission = signed.handler.actions().iter().map(|action| action.name()).collect::<Vec<_>>().join("' or '");
    format!("Needs a signature, and the permission '{permission}'.")
}

/// The names of the variable parts of a path.
fn variables(template: &str) -> impl Iterator<Item = &str> {
    template.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// What a variable part of a path has to be.
fn path_schema(name: &str, schemas: &mut Schemas) -> RefOr<Schema> {
    match name {
        "handle" => schema_of::<schema::Handle>(schemas).into(),
        "room" => schema_of::<schema::RoomId>(schemas).into(),
        "epoch" => schema_of::<schema::Epoch>(schemas).into(),
        "sha256" => schema_of::<schema::Sha256>(schemas).into(),
        "invite" => schema_of::<schema::InviteId>(schemas).into(),
        "node" => schema_of::<schema::NodeName>(schemas).into(),
        _ => ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(usize::MAX)).into(),
    }
}

/// What a parameter of a query has to be.
fn query_schema(form: Form, schemas: &mut Schemas) -> RefOr<Schema> {
    let number = |number: u64| Some(usize::try_from(number).unwrap_or(usize::MAX));
    match form {
        Form::Cursor => schema_of::<schema::Cursor>(schemas).into(),
        Form::Handle => schema_of::<schema::Handle>(schemas).into(),
        Form::Author => schema_of::<schema::Author>(schemas).into(),
        Form::Room => schema_of::<schema::RoomId>(schemas).into(),
        Form::Node => schema_of::<schema::NodeName>(schemas).into(),
        Form::Number(least, most) => {
            let schema = ObjectBuilder::new().schema_type(Type::Integer);
            schema.minimum(number(least)).maximum(number(most)).into()
        }
        Form::Action => ObjectBuilder::new().schema_type(Type::String).into(),
    }
}

fn parameters(signed: &Signed, schemas: &mut Schemas) -> Vec<Parameter> {
    let query = signed.query.iter().map(|parameter| {
        let schema = query_schema(parameter.form, schemas);
        described(parameter.name, ParameterIn::Query, Required::False, Some(parameter.what), schema)
    });
    let mut all: Vec<Parameter> = query.collect();
    let required = match signed.if_match {
        Precondition::Unsupported => return all,
        Precondition::Optional => Required::False,
        Precondition::Required => Required::True,
    };
    let words = "The ETag of what the change is for, or '*'";
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(IF_MATCH)).into();
    all.push(described("If-Match", ParameterIn::Header, required, Some(words), schema));
    all
}

/// What clients send as If-Match: an entity tag of ours, several, or any.
const IF_MATCH: &str = r#"^(\*|"[0-9]{1,20}"( *, *"[0-9]{1,20}"){0,15})$"#;

fn described(
    name: &str,
    place: ParameterIn,
    required: Required,
    words: Option<&str>,
    schema: RefOr<Schema>,
) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(required);
    parameter.description(words).schema(Some(schema)).build()
}

/// An operation that needs no signature.
fn open(route: &Route, operation: OperationBuilder) -> Operation {
    let answer = |content_type: &str| {
        let schema = match content_type {
            JSON => ObjectBuilder::new().schema_type(Type::Object),
            _ => ObjectBuilder::new().schema_type(Type::String),
        };
        ResponseBuilder::new().description("The answer").content(content_type, Content::new(Some(schema)))
    };
    match route.template {
        "/healthz" => operation.response("200", answer(JSON)).response("503", answer(JSON)),
        "/openapi.json" => operation.response("200", answer(JSON)),
        "/metrics" => operation.response("200", answer(metrics::CONTENT_TYPE)),
        _ => operation.response("200", answer(open::TEXT)),
    }
    .build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::api::tests::identity;
    use unibus_core::domain::{
        Author, Handle, InviteId, NodeName, Role, RoomId, RoomRole, SignPub, State, Subject, Token,
    };

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

    #[test]
    fn each_operation_says_what_programs_call_it_who_may_ask_and_what_its_parameters_have_to_be() {
        let document: Value = serde_json::from_str(&text().unwrap()).unwrap();
        let schemes = document["components"]["securitySchemes"].as_object().unwrap();
        let fields: BTreeSet<&str> = schemes.values().map(|scheme| scheme["name"].as_str().unwrap()).collect();
        assert_eq!(fields, BTreeSet::from(["Content-Digest", "Signature", "Signature-Input"]));
        let mut ids = BTreeSet::new();
        for route in routes::all() {
            let operation = &document["paths"][route.template][route.method.as_str().to_lowercase()];
            let id = operation["operationId"].as_str().unwrap();
            assert!(id == route.id && ids.insert(id), "{id} is there twice");
            assert!(id.bytes().all(|byte| byte.is_ascii_alphabetic()), "{id}");
            let named: BTreeSet<&String> = operation["security"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|one| one.as_object().unwrap().keys())
                .collect();
            let open = matches!(route.access, Access::Open(_) | Access::Loopback(_));
            let all: BTreeSet<&String> = if open { BTreeSet::new() } else { schemes.keys().collect() };
            assert_eq!(named, all, "{id}: all fields in one requirement, or none");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let of = |place: &str| -> Vec<&Value> { parameters.iter().filter(|of| of["in"] == place).collect() };
            assert!(variables(route.template).eq(of("path").iter().map(|of| of["name"].as_str().unwrap())), "{id}");
            let query = route.access.signed().map_or(&[][..], |signed| signed.query);
            assert!(
                query.iter().map(|of| of.name).eq(of("query").iter().map(|of| of["name"].as_str().unwrap())),
                "{id}"
            );
            for (known, described) in query.iter().zip(of("query")) {
                let schema = &described["schema"];
                match known.form {
                    Form::Number(least, most) => {
                        assert_eq!((&schema["minimum"], &schema["maximum"]), (&least.into(), &most.into()), "{id}");
                    }
                    Form::Action => assert_eq!(schema["type"], "string", "{id}"),
                    _ => assert!(schema["$ref"].is_string(), "{id}: {} has no form", known.name),
                }
            }
        }
    }

    /// Whether the schema takes a text.
    fn takes(document: &Value, name: &str, text: &str) -> bool {
        let schema = &document["components"]["schemas"][name];
        if let Some(words) = schema["enum"].as_array() {
            return words.iter().any(|word| word == text);
        }
        let pattern =
            regex::Regex::new(schema["pattern"].as_str().unwrap_or_else(|| panic!("{name}: {schema}"))).unwrap();
        let long = schema["maxLength"].as_u64().is_some_and(|most| text.len() as u64 > most);
        pattern.is_match(text) && !long
    }

    #[test]
    fn the_forms_in_it_are_what_the_server_reads() {
        let document: Value = serde_json::from_str(&text().unwrap()).unwrap();
        let subject = |tokens: usize| format!("room{}", ".a".repeat(tokens));
        let mut texts: Vec<String> = [
            "",
            "a",
            "A",
            "-a",
            "_a",
            "a_b-c",
            "a.b",
            "0",
            "01",
            "1",
            "room",
            "room.kitchen",
            "rpc.a.b",
            "home.a",
            "room..a",
            "room.A",
        ]
        .map(str::to_owned)
        .into();
        texts.extend(
            [
                "root@homer",
                "root@",
                "root@Homer",
                "admin",
                "user",
                "owner",
                "active",
                "removed",
                "invited",
                "acknowledged",
            ]
            .map(str::to_owned),
        );
        texts.extend([1, 31, 32, 33, 43, 63, 64, 65, 127, 128, 129].map(|length| "a".repeat(length)));
        texts.extend([7, 8].map(subject));
        texts.push(format!("room.{}", "a".repeat(95)));
        texts.push(format!("room.{}", "a".repeat(96)));
        // Keys and tokens have more rules than their forms say; these are such.
        let key = identity("alice").sign_pub;
        texts.extend([key.to_string(), key.to_string().to_uppercase(), Token::from_entropy([7; 32]).reveal()]);
        for text in &texts {
            let reads: [(&str, bool); 10] = [
                ("Handle", text.parse::<Handle>().is_ok()),
                ("RoomId", text.parse::<RoomId>().is_ok()),
                ("Author", text.parse::<Author>().is_ok()),
                ("NodeName", text.parse::<NodeName>().is_ok()),
                ("Subject", text.parse::<Subject>().is_ok()),
                ("Sha256", text.parse::<crate::blobs::BlobId>().is_ok()),
                ("InviteId", text.parse::<InviteId>().is_ok()),
                ("Role", serde_json::from_value::<Role>(text.as_str().into()).is_ok()),
                ("RoomRole", serde_json::from_value::<RoomRole>(text.as_str().into()).is_ok()),
                ("UserState", serde_json::from_value::<State>(text.as_str().into()).is_ok()),
            ];
            for (name, reads) in reads {
                assert_eq!(takes(&document, name, text), reads, "{name} '{text}'");
            }
            // Whatever is read has the form.
            let read = [("SignPub", text.parse::<SignPub>().is_ok()), ("Token", text.parse::<Token>().is_ok())];
            for (name, _) in read.into_iter().filter(|(_, read)| *read) {
                assert!(takes(&document, name, text), "{name} '{text}'");
            }
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
