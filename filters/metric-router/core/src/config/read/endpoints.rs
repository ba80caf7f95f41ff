//! Where the endpoints of a cluster come from: a list, a registry, or traffic.

use super::HOUR;
use crate::config::Endpoints;
use crate::{Label, Registry};
use core::time::Duration;
use plugin_config::{Choice, Fields, Or, Required, TextOrFields};
use shared_state::{Endpoint, Listed, MAX_MEMBERS, zone_id};
use sorting::sort_by_key;

/// Numbers of priorities at most.
pub(crate) const MAX_PRIORITY: u8 = 7;

/// The shape of a registry's answers.
#[derive(Clone, Copy)]
enum Format {
    Consul,
}

impl Choice for Format {
    const CHOICES: &'static [(&'static str, Self)] = &[("consul", Self::Consul)];
}

pub(super) fn endpoints(
    fields: &mut Fields<'_>,
    cluster: &str,
    canary: Option<&Label>,
) -> Endpoints {
    let (listed, asked) = (fields.has("endpoints"), fields.has("endpoints_from"));
    let message = "the endpoints are given, so none are learned; remove one of the two";
    let alone = !(listed || asked) || !fields.has("learn");
    fields.require("learn", alone, message);
    let message = "endpoints are listed, so no registry is asked; remove one of the two";
    fields.require("endpoints_from", !(listed && asked), message);
    if listed {
        return Endpoints::Static(list(fields, canary));
    }
    if asked {
        let message = "every cluster has a registry of its own: name the cluster instead of \"*\"";
        fields.require("endpoints_from", cluster != "*", message);
        return Endpoints::Registry(registry(fields.object("endpoints_from")));
    }
    learned(fields.object("learn"))
}

fn list(fields: &mut Fields<'_>, canary: Option<&Label>) -> Vec<Listed> {
    let count = fields.count("endpoints");
    let message = "list an endpoint, or leave the field out to learn them";
    fields.require("endpoints", count != Some(0), message);
    if let Some(count) = count.filter(|count| *count > usize::from(MAX_MEMBERS)) {
        let message = format!("{count} endpoints are too many: the limit is {MAX_MEMBERS}");
        fields.problem_at("endpoints", message);
    }
    let mut list: Vec<Listed> = Vec::new();
    let mut add = |listed: Listed| {
        if list.iter().any(|other| other.endpoint == listed.endpoint) {
            return Err(format!("'{}' is listed twice: keep one", listed.endpoint));
        }
        list.push(listed);
        Ok(())
    };
    fields.texts_or_objects("endpoints", &mut |item| match item {
        TextOrFields::Text(text) => add(Listed::new(address(text)?)),
        TextOrFields::Fields(fields) => entry(fields, canary).map_or(Ok(()), &mut add),
    });
    sort_by_key(&mut list, |listed| listed.endpoint);
    list
}

fn address(text: &str) -> Result<Endpoint, String> {
    text.parse().map_err(|_| {
        format!(
            "'{text}' is no ip:port: the proxy compares addresses and resolves no names; write such \
             as 10.0.0.1:8080 or [fd00::1]:8080"
        )
    })
}

fn entry(mut fields: Fields<'_>, canary: Option<&Label>) -> Option<Listed> {
    let text = fields.text("address", Required);
    let weight = fields.integer("weight", 1..=1000, Or(1));
    let priority = fields.integer("priority", 0..=MAX_PRIORITY, Or(0));
    let zone = zone_id(&fields.text("zone", Or("")));
    let is_canary = labels(fields.object("labels"), canary);
    if !fields.has("address") {
        return None;
    }
    match address(&text) {
        Ok(endpoint) => Some(Listed { endpoint, weight, priority, zone, is_canary }),
        Err(message) => {
            fields.problem_at("address", message);
            None
        }
    }
}

/// True if one of the labels is the canary's.
fn labels(mut fields: Fields<'_>, canary: Option<&Label>) -> bool {
    let mut is_canary = false;
    for name in fields.names() {
        let value = fields.text(name, Or(""));
        is_canary |= canary.is_some_and(|label| label.is(name, &value));
    }
    is_canary
}

fn registry(mut fields: Fields<'_>) -> Registry {
    let cluster = fields.text("cluster", Required);
    let message = "name the cluster through which the registry is reached";
    let is_named = !cluster.is_empty() || !fields.has("cluster");
    fields.require("cluster", is_named, message);
    let path = fields.text("path", Required);
    let is_path = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
    let message = "write a path such as \"/v1/health/service/app?passing\"";
    let is_path = is_path || !fields.has("path");
    fields.require("path", is_path, message);
    let host = fields.has("host").then(|| fields.text("host", Or("")));
    let plain = |host: &String| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic());
    let is_host = host.as_ref().is_none_or(plain);
    fields.require("host", is_host, "write a host such as \"consul.internal\"");
    let Format::Consul = fields.choice("format", Format::Consul);
    let intervals = Duration::from_millis(500)..=HOUR;
    let timeouts = Duration::from_millis(100)..=Duration::from_secs(60);
    Registry {
        cluster,
        path,
        host,
        interval: fields.duration("interval", intervals, Or(Duration::from_secs(5))),
        timeout: fields.duration("timeout", timeouts, Or(Duration::from_secs(2))),
    }
}

fn learned(mut fields: Fields<'_>) -> Endpoints {
    Endpoints::Learned {
        exploration: fields.number("exploration_percent", 1.0..=100.0, Or(5.0)) / 100.0,
        verification: fields.number("verification_percent", 0.0..=100.0, Or(0.5)) / 100.0,
    }
}
