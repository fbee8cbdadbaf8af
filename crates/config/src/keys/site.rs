//! `[[site]]`.

use super::{Choice, Key, Kind, Preset, Section, Shape};

static TLS: [Choice; 3] = [
    Choice::new("internal", "a certificate of the cluster's own authority").also(&[
        "self-signed",
        "selfsigned",
        "self",
        "local",
        "on",
        "true",
        "yes",
    ]),
    Choice::new("off", "HTTP only").also(&["none", "false", "no", "disabled", "http"]),
    Choice::new(
        "acme",
        "a certificate of a public authority, such as Let's Encrypt",
    )
    .also(&["letsencrypt", "lets-encrypt", "auto", "automatic"])
    .not_yet("use \"internal\", which browsers do not know, or { certificate, key } with your own"),
];

pub(super) static SITE: Section = Section {
    path: "site",
    shape: Shape::List,
    also: &["sites", "vhost", "virtualhost", "virtual_host", "domain"],
    meaning: "A host name and what answers under it.",
    keys: &[
        Key::new(
            "host",
            Kind::Text("host name"),
            Preset::Required,
            "The site's host name. Requests are matched by it; case and port do not matter.",
        )
        .example(r#""www.example.com""#)
        .also(&["domain", "name", "server_name", "hostname"])
        .in_template(),
        Key::new(
            "aliases",
            Kind::List("host names"),
            Preset::Value("[]"),
            "Further host names. They are redirected to `host`.",
        )
        .example(r#"["example.com"]"#)
        .also(&["alias", "server_alias", "hosts", "domains", "names"])
        .in_template(),
        Key::new(
            "tls",
            Kind::OneOf {
                choices: &TLS,
                or: Some("{ certificate, key }"),
            },
            Preset::Value(r#""internal""#),
            "Where the certificate for HTTPS comes from.",
        )
        .example(r#"{ certificate = "tls/example.pem", key = "tls/example.key" }"#)
        .also(&["ssl", "https", "certificate", "cert"])
        .in_template(),
        Key::new(
            "https_redirect",
            Kind::Bool,
            Preset::Value("true"),
            "Whether plain HTTP is redirected to HTTPS. Always off with `tls = \"off\"`.",
        )
        .example("false")
        .also(&["redirect_https", "force_https", "force_ssl", "redirect_to_https"])
        .in_template(),
        Key::new(
            "error_pages",
            Kind::Map("status = file of the code base"),
            Preset::Value("{}"),
            "Pages for errors that Trilith itself answers with, by status (400 to 599). Answers of apps \
             and upstreams are passed on as they are.",
        )
        .example(r#"{ "404" = "errors/404.html", "503" = "errors/503.html" }"#)
        .also(&["errors", "error_page", "errorfile"]),
        Key::new(
            "route",
            Kind::Tables,
            Preset::Required,
            "The paths of the site and what answers them; at least one.",
        )
        .also(&["routes", "location", "locations", "path", "paths"])
        .in_template(),
    ],
};

pub(super) static SITE_TLS: Section = Section {
    path: "site.tls",
    shape: Shape::Inline,
    also: &[],
    meaning: "A certificate of your own.",
    keys: &[
        Key::new(
            "certificate",
            Kind::Text("file"),
            Preset::Required,
            "PEM file with the certificate first and then its chain. A relative path counts from the \
             folder of this file.",
        )
        .example(r#""tls/example.pem""#)
        .also(&["cert", "crt", "ssl_certificate", "fullchain", "chain", "pem"]),
        Key::new(
            "key",
            Kind::Text("file"),
            Preset::Required,
            "PEM file with the certificate's private key. A relative path counts from the folder of \
             this file.",
        )
        .example(r#""tls/example.key""#)
        .also(&["private_key", "ssl_certificate_key", "privkey"]),
    ],
};
