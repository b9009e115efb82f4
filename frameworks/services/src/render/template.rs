//! Templates in the language of Jinja.
//!
//! | in a template | is |
//! |---|---|
//! | `services` | the services by id, each with `id`, `labels`, `ports` (names) and `instances`, which have `index`, `task_id`, `agent_id`, `host`, `address`, `ports` (numbers by name), `version`, `state`, `ready` |
//! | `index` | the number of the state |
//! | `params.NAME` | what was given by the operator |
//! | `endpoint(instance, "http")` | address and port, `10.0.0.1:31000` or `[fd00::1]:31000` |
//! | `TEXT is listen` | whether it is a port, or an address with one, and nothing else |
//! | `TEXT is hostname` | whether it is the name of a host, and nothing else |
//!
//! What is not there is an error where it would be printed. The tests are for labels: who may run services is not to write
//! lines into the configuration of a proxy.

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value, context};

/// The templates that come with Proffer, by name.
pub const BUILT_IN: [(&str, &str); 2] = [
    ("haproxy", include_str!("../../templates/haproxy.cfg")),
    ("nginx", include_str!("../../templates/nginx.conf")),
];

/// A template with the parameters of its operator.
#[derive(Clone, Debug)]
pub struct Template {
    name: String,
    source: String,
    params: BTreeMap<String, String>,
}

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file cannot be read.
    #[error("read the template {name}; {} are there without a file", BUILT_IN.map(|(name, _)| name).join(" and "))]
    Read {
        /// Its name.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not understood, or what it wants is not there.
    #[error("{name}, line {line}: {text}")]
    Render {
        /// Its name.
        name: String,
        /// Where; 0 where that is not known.
        line: usize,
        /// What is wrong.
        text: String,
    },
}

impl Template {
    /// One of those that come with Proffer, or a file.
    pub fn open(name: &str, params: BTreeMap<String, String>) -> Result<Self, TemplateError> {
        let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
        let source = match built_in {
            Some((_, source)) => (*source).to_owned(),
            None => std::fs::read_to_string(Path::new(name)).map_err(|source| TemplateError::Read {
                name: name.to_owned(),
                source,
            })?,
        };
        Ok(Self {
            name: name.to_owned(),
            source,
            params,
        })
    }

    /// Makes a text of an answer to `GET /v1/discovery`.
    pub fn render(&self, directory: &serde_json::Value) -> Result<String, TemplateError> {
        let empty = serde_json::Map::new();
        let services = directory["services"].as_object().unwrap_or(&empty);
        let services = services.iter().map(|(id, service)| {
            let mut service = service.clone();
            service["id"] = id.as_str().into();
            service
        });
        let services: Vec<_> = services.collect();
        self.fill(&services, directory["index"].as_u64())
            .map_err(|error| TemplateError::Render {
                name: self.name.clone(),
                line: error.line().unwrap_or_default(),
                text: match error.detail() {
                    Some(detail) => format!("{}: {detail}", error.kind()),
                    None => error.kind().to_string(),
                },
            })
    }

    fn fill(&self, services: &[serde_json::Value], index: Option<u64>) -> Result<String, Error> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
        // A configuration is no web page, whatever its template's name ends with.
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.add_test("listen", |text: String| is_listen(&text));
        environment.add_test("hostname", |text: String| is_hostname(&text));
        environment.add_function("endpoint", endpoint);
        let template = environment.template_from_named_str(&self.name, &self.source)?;
        let services = Value::from(Serde(services));
        template.render(context! { services, index, params => &self.params })
    }
}

fn endpoint(instance: Value, port: String) -> Result<String, Error> {
    let address = instance.get_attr("address")?;
    let number = instance.get_attr("ports")?.get_item(&Value::from(port.as_str()))?;
    if address.is_undefined() || number.is_undefined() {
        let problem = format!("this is no instance with a port {port:?}");
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
    }
    let address = address.to_string();
    Ok(match address.contains(':') {
        true => format!("[{address}]:{number}"),
        false => format!("{address}:{number}"),
    })
}

/// A port, or an address of IPv4 or, in brackets, of IPv6 with one; `*` for all addresses.
fn is_listen(text: &str) -> bool {
    let (address, port) = text.rsplit_once(':').unwrap_or(("*", text));
    let is_port = !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok();
    let inner = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => address == "*" || address.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    is_port && is_address
}

fn is_hostname(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(plain);
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests;
