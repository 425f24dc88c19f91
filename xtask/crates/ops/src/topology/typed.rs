//! What was typed into nodes.toml: every value with its line, unknown keys and wrong types noted.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and the line it stands on.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) line: usize,
}

/// A value that may be missing; if so, a mistake has been noted already.
pub(super) type Field<T> = Option<At<T>>;

#[derive(Default, Debug)]
pub(super) struct Cluster {
    pub(super) name: Field<String>,
    pub(super) route_network: Field<String>,
    pub(super) kv_replicas: Field<i64>,
    pub(super) install_dir: Field<String>,
}

#[derive(Default, Debug)]
pub(super) struct Ports {
    pub(super) client: Field<i64>,
    pub(super) control_plane: Field<i64>,
    pub(super) route: Field<i64>,
    pub(super) monitor: Field<i64>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) name: Field<String>,
    pub(super) ssh: Field<String>,
    pub(super) public: Field<String>,
    pub(super) wg: Field<String>,
    pub(super) seed: At<bool>,
}

#[derive(Default, Debug)]
pub(super) struct File {
    pub(super) cluster: Cluster,
    pub(super) ports: Ports,
    pub(super) nodes: Vec<Node>,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) line: usize,
    pub(super) what: String,
}

/// All that is wrong.
#[derive(Default, Debug)]
pub(super) struct Mistakes(Vec<Mistake>);

impl Mistakes {
    pub(super) fn add(&mut self, line: usize, what: impl fmt::Display) {
        self.0.push(Mistake { line, what: what.to_string() });
    }

    pub(super) fn sorted(mut self) -> Vec<Mistake> {
        self.0.sort_by_key(|mistake| mistake.line);
        self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads the text, noting everything that is not as it should be.
pub(super) fn parse(text: &str, mistakes: &mut Mistakes) -> File {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        mistakes.add(line, format!("not valid TOML: {}", error.message()));
    }
    if !errors.is_empty() {
        // What was recovered would only bring forth mistakes that nobody made.
        return File::default();
    }
    let mut reader = Reader { text, mistakes };
    let mut file = File::default();
    let mut root = Section::new("", 1, document.get_ref());
    match root.take("cluster") {
        Some(value) => reader.cluster(value, &mut file.cluster),
        None => reader.missing(1, "the section [cluster]"),
    }
    match root.take("ports") {
        Some(value) => reader.ports(value, &mut file.ports),
        None => reader.missing(1, "the section [ports]"),
    }
    match root.take("node") {
        Some(value) => reader.nodes(value, &mut file.nodes),
        None => reader.missing(1, "the nodes: one [[node]] section each"),
    }
    reader.unknown(root);
    file
}

pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// A table of which the known keys are taken, so that what is left is unknown.
struct Section<'t, 'i> {
    title: String,
    line: usize,
    table: &'t DeTable<'i>,
    known: Vec<&'static str>,
}

impl<'t, 'i> Section<'t, 'i> {
    fn new(title: impl Into<String>, line: usize, table: &'t DeTable<'i>) -> Self {
        Self { title: title.into(), line, table, known: Vec::new() }
    }

    fn take(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.known.push(key);
        self.table.get(key)
    }

    fn path(&self, key: &str) -> String {
        if self.title.is_empty() { key.to_owned() } else { format!("{}.{key}", self.title) }
    }
}

struct Reader<'a> {
    text: &'a str,
    mistakes: &'a mut Mistakes,
}

impl Reader<'_> {
    fn line(&self, value: &Spanned<DeValue<'_>>) -> usize {
        line_of(self.text, value.span().start)
    }

    fn missing(&mut self, line: usize, what: impl fmt::Display) {
        self.mistakes.add(line, format!("{what} is missing"));
    }

    fn wrong_type(&mut self, line: usize, key: &str, want: &str, value: &DeValue<'_>) {
        let got = value.type_str();
        self.mistakes.add(line, format!("{key} must be {want}, not of type {got}"));
    }

    fn section<'t, 'i>(&mut self, title: &str, value: &'t Spanned<DeValue<'i>>) -> Option<Section<'t, 'i>> {
        let line = self.line(value);
        match value.get_ref().as_table() {
            Some(table) => Some(Section::new(title, line, table)),
            None => {
                self.wrong_type(line, title, "a section", value.get_ref());
                None
            }
        }
    }

    fn unknown(&mut self, section: Section<'_, '_>) {
        for key in section.table.keys() {
            let name: &str = key.get_ref();
            if section.known.contains(&name) {
                continue;
            }
            let line = line_of(self.text, key.span().start);
            let path = section.path(name);
            let known = section.known.join(", ");
            self.mistakes.add(line, format!("unknown key {path}; known here: {known}"));
        }
    }

    fn string(&mut self, section: &mut Section<'_, '_>, key: &'static str) -> Field<String> {
        let path = section.path(key);
        let Some(value) = section.take(key) else {
            self.missing(section.line, path);
            return None;
        };
        let line = self.line(value);
        let Some(typed) = value.get_ref().as_str() else {
            self.wrong_type(line, &path, "a string", value.get_ref());
            return None;
        };
        if let Some(placeholder) = placeholder(typed) {
            self.mistakes.add(line, format!("{path} is still the placeholder {placeholder}"));
            return None;
        }
        Some(At { value: typed.to_owned(), line })
    }

    fn integer(&mut self, section: &mut Section<'_, '_>, key: &'static str) -> Field<i64> {
        let path = section.path(key);
        let Some(value) = section.take(key) else {
            self.missing(section.line, path);
            return None;
        };
        let line = self.line(value);
        let number =
            value.get_ref().as_integer().and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok());
        if number.is_none() {
            match value.get_ref().as_str().and_then(placeholder) {
                Some(left) => self.mistakes.add(line, format!("{path} is still the placeholder {left}")),
                None => self.wrong_type(line, &path, "a whole number", value.get_ref()),
            }
        }
        number.map(|value| At { value, line })
    }

    fn boolean(&mut self, section: &mut Section<'_, '_>, key: &'static str) -> At<bool> {
        let path = section.path(key);
        let Some(value) = section.take(key) else {
            return At { value: false, line: section.line };
        };
        let line = self.line(value);
        let typed = value.get_ref().as_bool();
        if typed.is_none() {
            self.wrong_type(line, &path, "true or false", value.get_ref());
        }
        At { value: typed.unwrap_or(false), line }
    }

    fn cluster(&mut self, value: &Spanned<DeValue<'_>>, cluster: &mut Cluster) {
        let Some(mut section) = self.section("cluster", value) else {
            return;
        };
        cluster.name = self.string(&mut section, "name");
        cluster.route_network = self.string(&mut section, "route_network");
        cluster.kv_replicas = self.integer(&mut section, "kv_replicas");
        cluster.install_dir = self.string(&mut section, "install_dir");
        self.unknown(section);
    }

    fn ports(&mut self, value: &Spanned<DeValue<'_>>, ports: &mut Ports) {
        let Some(mut section) = self.section("ports", value) else {
            return;
        };
        ports.client = self.integer(&mut section, "client");
        ports.control_plane = self.integer(&mut section, "control_plane");
        ports.route = self.integer(&mut section, "route");
        // Files that were written for release 0.1.0 have it.
        if value.get_ref().get("monitor").is_some() {
            ports.monitor = self.integer(&mut section, "monitor");
        }
        self.unknown(section);
    }

    fn nodes(&mut self, value: &Spanned<DeValue<'_>>, nodes: &mut Vec<Node>) {
        let Some(tables) = value.get_ref().as_array() else {
            let line = self.line(value);
            self.wrong_type(line, "node", "a list: write [[node]]", value.get_ref());
            return;
        };
        for (index, value) in tables.iter().enumerate() {
            let title = format!("node {}", index + 1);
            let Some(mut section) = self.section(&title, value) else {
                continue;
            };
            if let Some(name) = value.get_ref().get("name").and_then(|v| v.get_ref().as_str()) {
                section.title = format!("node {name:?}");
            }
            nodes.push(Node {
                line: section.line,
                name: self.string(&mut section, "name"),
                ssh: self.string(&mut section, "ssh"),
                public: self.string(&mut section, "public"),
                wg: self.string(&mut section, "wg"),
                seed: self.boolean(&mut section, "seed"),
            });
            self.unknown(section);
        }
    }
}

/// The `<…>` in a value that the operator has yet to replace.
fn placeholder(value: &str) -> Option<&str> {
    let start = value.find('<')?;
    let rest = value.get(start..)?;
    let end = rest.find('>')?;
    rest.get(..=end)
}
