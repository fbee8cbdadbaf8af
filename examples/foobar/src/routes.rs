//! What answers which request.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Form, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;

use crate::database::{DatabaseError, Pool};
use crate::entries::{self, Answerer, NewEntry};
use crate::log;
use crate::pages;
use crate::settings::Settings;

struct Site {
    settings: Settings,
    primary: Pool,
    replica: Pool,
}

#[derive(Serialize)]
struct WhoAmI<'a> {
    server: &'a str,
    instance: &'a str,
    release: &'a str,
    read: Answerer,
    write: Answerer,
}

pub fn router(settings: Settings) -> Router {
    let site = Site {
        primary: Pool::new(settings.database.clone()),
        replica: Pool::new(settings.replica.clone()),
        settings,
    };
    Router::new()
        .route("/", get(front_page))
        .route("/entries", post(add_entry))
        .route("/entries.json", get(list_entries))
        .route("/whoami", get(whoami))
        .route("/healthz", get(async || "ok\n"))
        .fallback(async || page(StatusCode::NOT_FOUND, pages::not_found()))
        .layer(DefaultBodyLimit::max(64 * 1024))
        .with_state(Arc::new(site))
}

async fn front_page(State(site): State<Arc<Site>>) -> Response {
    match site.front_page(&NewEntry::default(), None).await {
        Ok(html) => page(StatusCode::OK, html),
        Err(error) => site.unavailable(&error),
    }
}

async fn add_entry(State(site): State<Arc<Site>>, Form(form): Form<NewEntry>) -> Response {
    let entry = match form.validate() {
        Ok(entry) => entry,
        Err(problem) => {
            return match site.front_page(&form, Some(problem)).await {
                Ok(html) => page(StatusCode::UNPROCESSABLE_ENTITY, html),
                Err(error) => site.unavailable(&error),
            };
        }
    };
    match site
        .primary
        .write(async move |client| entries::insert(client, &entry).await)
        .await
    {
        Ok(()) => Redirect::to("/").into_response(),
        Err(error) => site.unavailable(&error),
    }
}

async fn list_entries(State(site): State<Arc<Site>>) -> Response {
    match site.replica.read(entries::newest).await {
        Ok(entries) => Json(json!({ "entries": entries })).into_response(),
        Err(error) => site.unavailable_json(&error),
    }
}

/// Who answers here: asked of the databases at every request.
async fn whoami(State(site): State<Arc<Site>>) -> Response {
    let answers = tokio::try_join!(
        site.replica.read(entries::answerer),
        // A read, though on the connection for writes: it may be asked again.
        site.primary.read(entries::answerer),
    );
    let Settings {
        server,
        instance,
        release,
        ..
    } = &site.settings;
    match answers {
        Ok((read, write)) => Json(WhoAmI {
            server,
            instance,
            release,
            read,
            write,
        })
        .into_response(),
        Err(error) => site.unavailable_json(&error),
    }
}

impl Site {
    async fn front_page(
        &self,
        form: &NewEntry,
        problem: Option<&str>,
    ) -> Result<String, DatabaseError> {
        let both = async |client: &tokio_postgres::Client| {
            tokio::try_join!(entries::newest(client), entries::answerer(client))
        };
        let (entries, answerer) = self.replica.read(both).await?;
        Ok(pages::front(
            &self.settings,
            &entries,
            &answerer,
            form,
            problem,
        ))
    }

    fn unavailable(&self, error: &DatabaseError) -> Response {
        log(format_args!("503: {error}"));
        later(page(StatusCode::SERVICE_UNAVAILABLE, pages::unavailable()))
    }

    fn unavailable_json(&self, error: &DatabaseError) -> Response {
        log(format_args!("503: {error}"));
        let body = Json(json!({ "error": "the database is not available" }));
        later((StatusCode::SERVICE_UNAVAILABLE, body).into_response())
    }
}

fn page(status: StatusCode, html: String) -> Response {
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
             base-uri 'none'; frame-ancestors 'none'",
        ),
    ];
    (status, headers, Html(html)).into_response()
}

fn later(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
