// One shard's story: where it is and why, what comes next, who owned it, and what may be done.
import { html, useEffect, useState } from "../vendor/preact.js";
import { PINNED, cluster, get, nameOf, readMove, stateOf, useCluster } from "../store.js";
import { ago, brief, bytes, dateTime, number, rate, seconds, time } from "../format.js";
import { Badge, Card, Empty, NodeLink, ShardLink, Swatch } from "../parts.js";
import { ask, useSession } from "../act.js";
import { setQuery } from "../app.js";
import { askMove } from "./map.js";

function useStory(shard) {
  const { owners, targets, flags } = useCluster("shards");
  const [story, setStory] = useState(null);
  const [error, setError] = useState("");
  const state = `${owners[shard]} ${targets[shard]} ${flags[shard]}`;
  useEffect(() => {
    let over = false;
    const load = () => get(`shards/${shard}`).then(
      (story) => over || (setStory({ ...story, moves: story.moves.map(readMove) }), setError("")),
      (problem) => over || setError(problem.message),
    );
    load();
    const timer = setInterval(load, 5000);
    return () => {
      over = true;
      clearInterval(timer);
    };
  }, [shard, state]);
  return [story, error];
}

const askPin = (shard, node) => ask({
  title: `Pin shard ${shard}?`,
  text: node ? `It moves to ${node} and stays there, whatever balancing wants, until it is unpinned or the node goes.`
    : "It stays where it is, whatever balancing wants, until it is unpinned or its node goes.",
  button: "Pin",
  path: `shards/${shard}/pin`,
  body: node ? { node } : {},
});

const askSimple = (shard, verb, text) => ask({
  title: `${verb} shard ${shard}?`,
  text,
  button: verb,
  path: `shards/${shard}/${verb.toLowerCase()}`,
  body: {},
});

// The node whose place lies under a point.
const nodeUnder = ({ clientX, clientY }) =>
  document.elementsFromPoint(clientX, clientY).map((part) => part.closest("[data-drop]")).find(Boolean)?.dataset.drop;

// A handle that is dragged onto a node: by pointer events, so that fingers can drag it too.
function Handle({ shard, children }) {
  const [by, setBy] = useState(null);
  const grab = (event) => {
    if (event.button) return;
    const { currentTarget: handle, clientX, clientY } = event;
    const over = new AbortController();
    handle.setPointerCapture(event.pointerId);
    const on = (kind, react) => handle.addEventListener(kind, react, { signal: over.signal });
    const end = () => {
      over.abort();
      setBy(null);
      mark(null);
    };
    on("pointermove", (event) => {
      setBy([event.clientX - clientX, event.clientY - clientY]);
      mark(nodeUnder(event));
    });
    on("pointercancel", end);
    on("pointerup", (event) => {
      end();
      const node = nodeUnder(event);
      if (node && node !== nameOf(cluster.owners[shard])) askMove(shard, node);
    });
  };
  return html`<span class="chip" onPointerDown=${grab} title="Drag onto a node"
    style=${{ transform: by ? `translate(${by[0]}px, ${by[1]}px)` : "" }}>${children}</span>`;
}

const mark = (node) => document.querySelectorAll("[data-drop]").forEach((place) =>
  place.classList.toggle("over", place.dataset.drop === node));

const Drops = ({ nodes, drop }) => html`<div class="row drops">${nodes.map(({ id }) => html`
  <button class="drop" key=${id} data-drop=${id} onClick=${() => drop?.(id)}><${Swatch} name=${id} />${brief(id)}</button>`)}</div>`;

function Actions({ story }) {
  const { nodes } = useCluster("nodes");
  const others = nodes.filter((node) => node.weight > 0 && node.id !== story.owner);
  const [to, setTo] = useState("");
  const node = to || others[0]?.id;
  return html`<div class="actions">
    <div class="row">
      <${Handle} shard=${story.shard}>⠿ shard ${story.shard}</${Handle}>
      <label>to <select value=${node} onChange=${(event) => setTo(event.target.value)} aria-label="Node">${others.map((other) => html`<option key=${other.id}>${other.id}</option>`)}</select></label>
      <button disabled=${!node} onClick=${() => askMove(story.shard, node)}>Move …</button>
      <button disabled=${!node} onClick=${() => askPin(story.shard, node)}>Pin there …</button>
    </div>
    <${Drops} nodes=${others} drop=${(node) => askMove(story.shard, node)} />
    <div class="row">
      ${story.pinned
        ? html`<button onClick=${() => askSimple(story.shard, "Unpin", "Balancing may move it again.")}>Unpin …</button>`
        : html`<button onClick=${() => askPin(story.shard)}>Pin here …</button>`}
      ${story.state === "quarantined" && html`<button class="danger" onClick=${() => askSimple(story.shard, "Release", "It is placed again. If its objects still end the process, more nodes die.")}>Release …</button>`}
    </div>
  </div>`;
}

function Owners({ story }) {
  const seen = story.owners.map((step) => ({ at: step.at, to: step.to, from: step.from, plan: step.plan, reason: step.reason }));
  const oldest = seen.at(-1)?.at ?? Infinity;
  const earlier = story.moves
    .filter((step) => step.ended_at && step.phase === "done" && step.ended_at < oldest - 2000)
    .map((step) => ({ at: step.ended_at, to: step.to, from: step.from, plan: step.plan, reason: step.reason }));
  const steps = [...seen, ...earlier];
  if (!steps.length) return html`<${Empty}>It has not changed its owner since the Inspector began to look, and no plan that is kept moved it.</${Empty}>`;
  return html`<ol class="owners">${steps.map((step) => html`<li key=${step.at + String(step.to)}>
    <time title=${dateTime(step.at)}>${time(step.at)}</time>
    <span>${step.to ? html`<${NodeLink} name=${step.to} />` : html`<b class="bad">nobody</b>`} <small>from ${step.from ?? "nobody"}</small></span>
    <small>${step.reason ?? ""} ${step.plan ? html`<a href="#/plans/${step.plan}">plan ${step.plan}</a>` : ""}</small>
  </li>`)}</ol>`;
}

export function Story({ shard }) {
  const [story, error] = useStory(shard);
  const [objects, setObjects] = useState(null);
  useEffect(() => {
    get(`objects?shard=${shard}&limit=200`).then(setObjects, () => setObjects(null));
  }, [shard]);
  if (error && !story) return html`<${Card} title=${`Shard ${shard}`}><p class="bad">${error}</p></${Card}>`;
  if (!story) return html`<${Card} title=${`Shard ${shard}`}><p class="faint">…</p></${Card}>`;
  const because = story.because;
  const types = new Map();
  objects?.objects.forEach((object) => types.set(object.type, (types.get(object.type) ?? 0) + 1));
  return html`<div class="story" data-story=${shard}>
    <${Card} title=${`Shard ${shard}`} aside=${html`<${Badge} state=${story.state} />${story.pinned && html`<${Badge} state="pinned" />`}`}>
      <dl class="facts">
        <dt>Owner</dt><dd data-owner=${story.owner}><${NodeLink} name=${story.owner} /></dd>
        <dt>Target</dt><dd><${NodeLink} name=${story.target} /></dd>
        <dt>Token</dt><dd class="mono">${story.token ?? "–"}</dd>
        <dt>Objects</dt><dd>${number(story.objects)}${types.size > 0 && html` <small>${objects.next && `of the first ${objects.objects.length}: `}${[...types].map(([type, count]) => `${type} ${count}`).join(", ")}</small>`} · <a href="#/objects?shard=${shard}">list</a></dd>
        <dt>Calls</dt><dd>${rate(story.calls_per_second)}/s · ${story.cpu == null ? "–" : story.cpu.toFixed(3)} CPUs · state ${bytes(story.state_bytes)}</dd>
      </dl>
    </${Card}>
    <${Card} title="Why here, why now, what next">
      <dl class="facts wide">
        <dt>Because</dt><dd>${because ? html`<b>${because.reason}</b>, <a href="#/plans/${because.plan}">plan ${because.plan}</a>, ${ago(because.at)}${because.trigger && html`<br /><small>${because.trigger}</small>`}` : "that is too long ago to be known"}</dd>
        <dt>Next</dt><dd>${story.next}</dd>
        ${story.waits_for.length > 0 && html`<dt>Waits for</dt><dd>${story.waits_for.map((what) => html`<div>${what}</div>`)}</dd>`}
        ${story.under_way_seconds != null && html`<dt>Under way</dt><dd>for ${seconds(story.under_way_seconds)}</dd>`}
      </dl>
    </${Card}>
    <${Card} title="Act"><${Actions} story=${story} /></${Card}>
    <${Card} title="Owners"><${Owners} story=${story} /></${Card}>
  </div>`;
}

export function Shard({ name }) {
  const shard = Number(name);
  if (!(Number.isInteger(shard) && shard >= 0 && shard < cluster.shardCount)) return html`<p class="empty">The cluster has no shard ${name}. <a href="#/shard">All shards</a></p>`;
  return html`<p class="crumbs"><a href="#/shard">Shards</a> / ${shard} · <a href="#/map?shard=${shard}">on the map</a></p><${Story} shard=${shard} />`;
}

const STATES = ["", "owned", "moving", "unowned", "quarantined", "pinned"];
const LISTED_MAX = 200;

// The list of shards, for those who want no canvas.
export function Shards({ query }) {
  const { nodes } = useCluster("shards", "nodes");
  const { canAct } = useSession();
  const state = query.get("state") ?? "";
  const node = query.get("node") ?? "";
  const first = Number(query.get("from")) || 0;
  const wanted = [];
  let count = 0;
  for (let shard = 0; shard < cluster.shardCount; shard += 1) {
    const is = stateOf(shard);
    const fits = !state || is === state || (state === "pinned" && cluster.flags[shard] & PINNED) || (state === "unowned" && is === "quarantined");
    if (!fits || (node && nameOf(cluster.owners[shard]) !== node)) continue;
    count += 1;
    if (shard >= first && wanted.length < LISTED_MAX) wanted.push(shard);
  }
  return html`<${Card} title=${`${number(count)} shards`}>
    <div class="filters">
      <label>State<select value=${state} onChange=${(e) => setQuery({ state: e.target.value })}>${STATES.map((name) => html`<option value=${name}>${name || "all"}</option>`)}</select></label>
      <label>Owner<select value=${node} onChange=${(e) => setQuery({ node: e.target.value })}><option value="">all</option>${cluster.nodes.map((other) => html`<option>${other.id}</option>`)}</select></label>
      <label>From number<input type="number" min="0" max=${cluster.shardCount - 1} value=${first} onChange=${(e) => setQuery({ from: e.target.value })} /></label>
    </div>
    ${canAct && html`<div class="targets"><span>Drag ⠿ onto a node to move a shard</span>
      <${Drops} nodes=${nodes.filter((other) => other.weight > 0)} drop=${(name) => setQuery({ node: name })} /></div>`}
    <div class="scroll"><table>
      <thead><tr><th>Shard</th><th>State</th><th>Owner</th><th>Target</th><th>Placed</th></tr></thead>
      <tbody>${wanted.map((shard) => html`<tr key=${shard}>
        <td>${canAct && html`<${Handle} shard=${shard}>⠿</${Handle}> `}<${ShardLink} shard=${shard} /></td>
        <td><${Badge} state=${stateOf(shard)} />${cluster.flags[shard] & PINNED ? html`<${Badge} state="pinned" />` : ""}</td>
        <td><${NodeLink} name=${nameOf(cluster.owners[shard])} /></td>
        <td><${NodeLink} name=${nameOf(cluster.targets[shard])} /></td>
        <td>${cluster.movedAt[shard] ? ago(cluster.movedAt[shard]) : "–"}</td>
      </tr>`)}</tbody>
    </table></div>
    ${wanted.length === 0 && html`<${Empty}>No shard is like that.</${Empty}>`}
    ${wanted.length === LISTED_MAX && html`<button onClick=${() => setQuery({ from: wanted.at(-1) + 1 })}>More</button>`}
  </${Card}>`;
}
