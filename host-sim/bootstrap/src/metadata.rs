//! `envoy.config.core.v3`: what plugins read of the configuration and nothing here acts upon.

use crate::reader::{Message, Reader};
use serde_json::{Map, Value};

/// `Metadata.filter_metadata`, as JSON by namespace.
pub type Metadata = Map<String, Value>;

/// Where a node or an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Locality {
    /// `region`, empty if not given, as the others.
    pub region: String,
    /// `zone`
    pub zone: String,
    /// `sub_zone`
    pub sub_zone: String,
}

pub(crate) const METADATA: Message<Metadata> =
    Message { name: "envoy.config.core.v3.Metadata", read: metadata };

pub(crate) const LOCALITY: Message<Locality> =
    Message { name: "envoy.config.core.v3.Locality", read: locality };

/// The `metadata` field of a message.
pub(crate) fn metadata_of(message: &mut Reader<'_>) -> Metadata {
    message.message("metadata", METADATA).unwrap_or_default()
}

fn metadata(message: &mut Reader<'_>) -> Option<Metadata> {
    let filters = message.json_object("filter_metadata").unwrap_or_default();
    for (namespace, value) in &filters {
        if !value.is_object() {
            let text = format!("the namespace '{namespace}' must be an object");
            message.problem_at("filter_metadata", text);
        }
    }
    Some(filters)
}

fn locality(message: &mut Reader<'_>) -> Option<Locality> {
    Some(Locality {
        region: message.text("region"),
        zone: message.text("zone"),
        sub_zone: message.text("sub_zone"),
    })
}
