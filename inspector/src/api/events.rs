//! Live updates: the placement first, then what changes, each with its place in the order.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt};
use steading_http::Problem;

use crate::board::{Board, now_ms};
use crate::feed::Message;

/// How often a silent connection gets a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How soon a page comes back after it was let go.
const RETRY: Duration = Duration::from_secs(1);

/// Live updates as server-sent events.
///
/// Begins with the whole, or after the place that `Last-Event-ID` names.
#[utoipa::path(
    get, path = "/api/events", tag = "cluster",
    params(("Last-Event-ID" = Option<String>, Header, description = "The place to go on from")),
    responses((status = 200, body = String, content_type = "text/event-stream"))
)]
pub(super) async fn events(
    State(board): State<Arc<Board>>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let have = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok()?.parse().ok());
    let messages = board.feed.join(have, now_ms()).map_err(|error| {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Problem::new(
            status,
            "too_many_pages",
            "Too many pages",
            error.to_string(),
        )
    })?;
    let hello = Event::default().event("hello").retry(RETRY).data("{}");
    let hello = futures::stream::iter([Ok(hello)]);
    let events = hello.chain(messages.map(|message| Ok(event(&message))));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn event(message: &Message) -> Event {
    let event = Event::default().event(message.kind).data(&*message.data);
    match message.id {
        Some(place) => event.id(place.to_string()),
        None => event,
    }
}
