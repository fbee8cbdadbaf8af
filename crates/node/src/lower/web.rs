//! Options of the web server.

use std::path::Path;

use trilith_config::{Config, RouteAction};
use trilith_web as web;

use super::{pattern, status};
use crate::error::NodeError;

/// `code_root` is the release in use.
pub(crate) fn options(config: &Config, code_root: &Path) -> Result<web::Options, NodeError> {
    let sites = config.sites.iter().map(site).collect::<Result<_, _>>()?;
    Ok(web::Options::new(code_root, sites))
}

fn site(site: &trilith_config::Site) -> Result<web::SiteOptions, NodeError> {
    let page = |(code, path): (&u16, &trilith_config::CodePath)| {
        Ok((status(*code)?, path.as_path().to_owned()))
    };
    Ok(web::SiteOptions {
        host: site.host.to_string(),
        aliases: site.aliases.iter().map(ToString::to_string).collect(),
        is_default: false,
        error_pages: site
            .error_pages
            .iter()
            .map(page)
            .collect::<Result<_, NodeError>>()?,
        routes: site.routes.iter().map(route).collect::<Result<_, _>>()?,
    })
}

fn route(route: &trilith_config::Route) -> Result<web::RouteOptions, NodeError> {
    let mut options = web::RouteOptions::new(pattern(&route.path)?, action(&route.action)?);
    options.strip_prefix = route.strip_prefix.clone();
    options.cache_control = route.cache_control.clone();
    options.body_max = route.body_max.bytes();
    if let RouteAction::Files { index, .. } = &route.action {
        options.index = index.clone();
    }
    Ok(options)
}

fn action(action: &RouteAction) -> Result<web::Action, NodeError> {
    Ok(match action {
        RouteAction::Files { root, .. } => web::Action::Files(root.as_path().to_owned()),
        RouteAction::App { app, .. } => web::Action::App(app.to_string()),
        RouteAction::Upstream { .. } => web::Action::Upstream,
        RouteAction::Redirect {
            location,
            status: code,
        } => web::Action::Redirect {
            to: location.clone(),
            status: status(code.code())?,
        },
        RouteAction::Respond {
            status: code,
            body,
            content_type,
        } => web::Action::Respond {
            status: status(*code)?,
            content_type: content_type.clone(),
            body: body.clone().into(),
        },
    })
}
