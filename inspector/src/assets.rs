//! The page and its files, which are part of the program.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::routing::get;

use crate::board::Board;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! files {
    ($($path:literal $kind:ident),* $(,)?) => {
        /// Every file: where it is found, what it is, and its content.
        const FILES: &[(&str, &str, &str)] = &[
            $((concat!("/", $path), $kind, include_str!(concat!("../ui/", $path)))),*
        ];
    };
}

files! {
    "index.html" HTML,
    "style.css" CSS,
    "icon.svg" SVG,
    "app.js" SCRIPT,
    "store.js" SCRIPT,
    "act.js" SCRIPT,
    "format.js" SCRIPT,
    "parts.js" SCRIPT,
    "chart.js" SCRIPT,
    "map/canvas.js" SCRIPT,
    "map/cells.js" SCRIPT,
    "map/moving.js" SCRIPT,
    "map/pointing.js" SCRIPT,
    "map/layout.js" SCRIPT,
    "map/colours.js" SCRIPT,
    "views/overview.js" SCRIPT,
    "views/map.js" SCRIPT,
    "views/nodes.js" SCRIPT,
    "views/shard.js" SCRIPT,
    "views/objects.js" SCRIPT,
    "views/plans.js" SCRIPT,
    "vendor/preact.js" SCRIPT,
    "vendor/uplot.js" SCRIPT,
    "vendor/uplot.css" CSS,
    "vendor/d3.js" SCRIPT,
    "vendor/versions.json" TEXT,
}

/// Returns the routes of all files, and the page at `/`.
pub(crate) fn routes() -> Router<Arc<Board>> {
    let page = FILES.iter().map(|(path, kind, text)| {
        let path = if *path == "/index.html" { "/" } else { path };
        (path, *kind, *text)
    });
    page.fold(Router::new(), |routes, (path, kind, text)| {
        let answer = move || std::future::ready(([(header::CONTENT_TYPE, kind)], text));
        routes.route(path, get(answer))
    })
}
