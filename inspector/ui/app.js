// The frame of every page: where we are, whether what is shown is true now, and the views.
import { html, render, useEffect, useState } from "./vendor/preact.js";
import { Acting, lock, openUnlock, useSession } from "./act.js";
import { cluster, connect, isStale, useCluster } from "./store.js";
import { ago } from "./format.js";
import { withCode } from "./parts.js";
import { Overview } from "./views/overview.js";
import { PlacementMap } from "./views/map.js";
import { Nodes } from "./views/nodes.js";
import { Shard, Shards } from "./views/shard.js";
import { Objects } from "./views/objects.js";
import { Plans } from "./views/plans.js";

const VIEWS = [
  ["", "Overview", "M3 12h4l3-8 4 16 3-8h4"],
  ["map", "Placement", "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z"],
  ["nodes", "Nodes", "M12 5a2 2 0 1 0 0-.1M5 19a2 2 0 1 0 0-.1M19 19a2 2 0 1 0 0-.1M12 7l-6 10M12 7l6 10M7 19h10"],
  ["shard", "Shards", "M12 3l8 4.5v9L12 21l-8-4.5v-9zM12 12l8-4.5M12 12v9M12 12L4 7.5"],
  ["objects", "Objects", "M5 6h14M5 12h14M5 18h9"],
  ["plans", "Plans", "M4 6h9M4 12h13M4 18h6M17 5l3 1.5L17 8z"],
];

// An address may have been cut off or mistyped: then it is taken as it stands.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// `#/shard/17?x=y` → the path's parts and the parameters.
function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return {
    path: path.split("/").filter(Boolean).map(decoded),
    query: new URLSearchParams(query),
  };
}

// Changes parameters of this page's address, so that it can be kept and sent.
export function setQuery(changes) {
  const { path, query } = here();
  for (const [name, value] of Object.entries(changes)) {
    if (value == null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  history.replaceState(null, "", `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`);
  dispatchEvent(new HashChangeEvent("hashchange"));
}

function useHere() {
  const [place, setPlace] = useState(here);
  useEffect(() => {
    const moved = () => setPlace(here());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return place;
}

function Live() {
  useCluster("state", "figures");
  const stale = isStale();
  const store = cluster.figures?.store;
  // The view is not drawn again for this: that would be each second.
  useEffect(() => document.querySelector("main").classList.toggle("old", stale && cluster.everHeard), [stale]);
  if (stale) {
    const text = cluster.everHeard ? `stale: last heard ${ago(cluster.heardAt)}` : "connecting …";
    return html`<p class="live bad" role="status" data-live="stale"><i></i>${text}</p>`;
  }
  if (store && store !== "caught_up" && !cluster.info) {
    return html`<p class="live bad" role="status" data-live="store"><i></i>no cluster is seen yet</p>`;
  }
  if (store && store !== "caught_up") {
    return html`<p class="live bad" role="status" data-live="store"><i></i>the store is away: what is shown grows old</p>`;
  }
  return html`<p class="live" role="status" data-live="yes"><i></i>live · revision ${cluster.revision}</p>`;
}

function Lock() {
  const { canAct, operator } = useSession();
  return canAct
    ? html`<button class="quiet" onClick=${lock} title="Actions are unlocked in this tab">Lock actions${operator && html` <small>${operator}</small>`}</button>`
    : html`<button class="quiet" onClick=${openUnlock}>Unlock actions</button>`;
}

const Icon = ({ d }) => html`<svg viewBox="0 0 24 24" aria-hidden="true"><path d=${d} /></svg>`;

function Page({ place }) {
  const [view, ...rest] = place.path;
  switch (view ?? "") {
    case "": return html`<${Overview} />`;
    case "map": return html`<${PlacementMap} query=${place.query} />`;
    case "nodes": return html`<${Nodes} name=${rest[0]} />`;
    case "shard": return rest.length ? html`<${Shard} key=${rest[0]} name=${rest[0]} />` : html`<${Shards} query=${place.query} />`;
    case "objects": return html`<${Objects} query=${place.query} />`;
    case "plans": return html`<${Plans} id=${rest[0]} query=${place.query} />`;
    default: return html`<p class="empty">There is no such page. <a href="#/">Overview</a></p>`;
  }
}

function App() {
  const place = useHere();
  useCluster("info");
  const view = place.path[0] ?? "";
  const title = VIEWS.find(([key]) => key === view)?.[1] ?? "Inspector";
  useEffect(() => {
    document.title = `${place.path[1] ? `${place.path[1]} · ` : ""}${title} · Steading`;
  }, [place]);
  return html`
    <a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      document.querySelector("main").focus();
    }}>Skip to the page</a>
    <aside class="side">
      <a class="brand" href="#/"><img src="icon.svg" alt="" /><span>Steading</span></a>
      <nav aria-label="Views">
        ${VIEWS.map(([key, name, icon]) => html`
          <a href="#/${key}" aria-current=${key === view ? "page" : null}><${Icon} d=${icon} /><span>${name}</span></a>`)}
      </nav>
      <div class="foot"><${Lock} /></div>
    </aside>
    <div class="page">
      <header class="top"><h1>${title}</h1><${Live} /></header>
      <main id="main" tabindex="-1">
        ${cluster.info ? html`<${Page} place=${place} />` : html`<${Waiting} />`}
      </main>
    </div>
    <${Acting} />`;
}

function Waiting() {
  useCluster("state");
  const why = cluster.trouble || (cluster.everHeard ? "Waiting for the store." : "Waiting for the Inspector to answer.");
  return html`<section class="card hero ${cluster.trouble ? "is-trouble" : "is-warning"}"><h2>Looking at the cluster …</h2>
    <p>${withCode(why)}</p>
    ${cluster.trouble && html`<p class="faint">It is tried again each second. See that etcd answers, and that nodes run with the same etcd and prefix as the Inspector.</p>`}</section>`;
}

connect();
const place = document.getElementById("app");
place.replaceChildren();
render(html`<${App} />`, place);
