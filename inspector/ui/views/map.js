// All shards at once: by node, zone or number; by owner or heat; now, or as it was.
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { PINNED, cluster, get, indexOf, nameOf, stateOf, useCluster } from "../store.js";
import { ago, brief, dateTime, number, rate } from "../format.js";
import { Segments, Swatch } from "../parts.js";
import { ask, useSession } from "../act.js";
import { setQuery } from "../app.js";
import { PlacementCanvas } from "../map/canvas.js";
import { RAMP } from "../map/colours.js";
import { Story } from "./shard.js";

const GROUPS = [["node", "By node"], ["zone", "By zone"], ["id", "By number"]];
const COLOURS = [["owner", "Owner"], ["objects", "Objects"], ["calls", "Calls"], ["cpu", "CPU"], ["moved", "Last moved"]];
const HEAT_EVERY_MS = 5000;

export const askMove = (shard, node) =>
  ask({
    title: `Move shard ${shard}?`,
    text: `Its owner hands it over to ${node} with its objects. Calls wait for some milliseconds; none is lost.`,
    button: `Move to ${node}`,
    path: `shards/${shard}/move`,
    body: { node },
  });

function useHeat(colour) {
  const [heat, setHeat] = useState(null);
  useEffect(() => {
    setHeat(null);
    if (colour === "owner" || colour === "moved") return undefined;
    let over = false;
    const load = async () => {
      const answer = await get(`heat?by=${colour}`).catch(() => null);
      if (answer && !over) setHeat({ ...answer, most: answer.values.reduce((a, b) => Math.max(a, b), 1e-9) });
    };
    load();
    const timer = setInterval(load, HEAT_EVERY_MS);
    return () => {
      over = true;
      clearInterval(timer);
    };
  }, [colour]);
  return heat;
}

// The owners at a moment: the present ones, with every later change undone.
function ownersAt(history, at) {
  const owners = cluster.owners.slice();
  for (let place = history.moves.length - 1; place >= 0; place -= 1) {
    const step = history.moves[place];
    if (step.at <= at) break;
    owners[step.shard] = indexOf(step.from);
  }
  return owners;
}

function usePast(at) {
  const [history, setHistory] = useState(null);
  useEffect(() => {
    if (at) get("history").then(setHistory, () => setHistory(null));
  }, [Boolean(at)]);
  const [past, setPast] = useState(null);
  useEffect(() => setPast(at && history ? ownersAt(history, at) : null), [at, history]);
  return [past, history];
}

// Which way what hovers opens, so that it stays within the map.
const sideAt = ({ clientWidth, clientHeight }, x, y) => ({ left: x > clientWidth / 2, up: y > clientHeight - 110 });

function Tip({ tip, heat }) {
  if (!tip || tip.shard < 0 || tip.shard >= cluster.shardCount) return null;
  const { shard } = tip;
  const [owner, target] = [nameOf(cluster.owners[shard]), nameOf(cluster.targets[shard])];
  const state = stateOf(shard);
  const moved = cluster.movedAt[shard];
  return html`<div class="tip ${tip.left ? "left" : ""} ${tip.up ? "up" : ""}" style=${{ left: `${tip.x}px`, top: `${tip.y}px` }}>
    <strong>Shard ${shard}</strong> ${state !== "owned" && html`<em>${state}</em>`} ${cluster.flags[shard] & PINNED ? html`<em>pinned</em>` : ""}<br />
    ${owner ? html`<${Swatch} name=${owner} />${brief(owner)}` : "no owner"}${target && target !== owner ? html` → <${Swatch} name=${target} />${brief(target)}` : ""}
    ${heat && html`<br />${rate(heat.values[shard])} ${heat.unit}`}
    ${moved ? html`<br /><small>placed ${ago(moved)}</small>` : ""}
  </div>`;
}

function Legend({ colour, heat }) {
  useCluster("nodes", "shards");
  const most = heat ? `${rate(heat.most)} ${heat.unit}` : "";
  return html`<div class="legend">
    ${colour === "owner"
      ? cluster.nodes.filter((node) => node.weight > 0).map((node) => html`<span key=${node.id}><${Swatch} name=${node.id} />${brief(node.id)}</span>`)
      : html`<span class="ramp">${colour === "moved" ? "a day ago" : "0"}
          <i style=${{ background: `linear-gradient(to right, ${RAMP.join()})` }}></i>${colour === "moved" ? "just now" : most}</span>`}
    <span class="sign"><i class="moving"></i>moving</span>
    <span class="sign"><i class="unowned"></i>no owner</span>
    <span class="sign"><i class="pinned"></i>pinned</span>
    <span class="sign"><i class="quarantined"></i>quarantined</span>
  </div>`;
}

function TimeLine({ at, history }) {
  const now = Date.now();
  const since = Math.max(history?.since ?? now - 3600000, now - 6 * 3600000);
  const part = at ? ((at - since) / (now - since)) * 1000 : 1000;
  const go = (value) => setQuery({ at: value >= 1000 ? null : Math.round(since + ((now - since) * value) / 1000) });
  const step = (by) => {
    const moves = history?.moves ?? [];
    const from = at ?? now;
    const next = by < 0 ? moves.findLast((move) => move.at < from - 1) : moves.find((move) => move.at > from);
    setQuery({ at: next ? next.at - (by < 0 ? 1 : 0) + (by > 0 ? 1 : 0) : null });
  };
  return html`<div class="timeline">
    <button onClick=${() => (at ? step(-1) : setQuery({ at: now - 1 }))} aria-label="One change back">‹</button>
    <input type="range" min="0" max="1000" value=${part} aria-label="Step back in time" onInput=${(event) => go(Number(event.target.value))} />
    <button disabled=${!at} onClick=${() => step(1)} aria-label="One change on">›</button>
    <output class=${at ? "past" : ""}>${at ? `as it was ${dateTime(at)}` : "now"}</output>
    ${at && html`<button class="primary" onClick=${() => setQuery({ at: null })}>Back to now</button>`}
  </div>`;
}

export function PlacementMap({ query }) {
  const group = query.get("group") ?? "node";
  const colour = query.get("colour") ?? "owner";
  const selected = query.has("shard") ? Number(query.get("shard")) : -1;
  const at = query.has("at") ? Number(query.get("at")) : null;
  const host = useRef();
  const canvas = useRef();
  const [tip, setTip] = useState(null);
  const [dragMoves, setDragMoves] = useState(false);
  const { canAct } = useSession();
  const heat = useHeat(colour);
  const [past, history] = usePast(at);
  const { dryRun } = useCluster("dryRun");
  useEffect(() => {
    canvas.current = new PlacementCanvas(host.current, {
      hover: (shard, x, y) => setTip(shard < 0 ? null : { shard, x, y, ...sideAt(host.current, x, y) }),
      pick: (shard) => setQuery({ shard }),
      drop: (shard, name) => {
        const known = cluster.nodes.some((node) => node.id === name);
        if (known && nameOf(cluster.owners[shard]) !== name) askMove(shard, name);
      },
    });
    globalThis.steading.map = canvas.current;
    return () => canvas.current.stop();
  }, []);
  useEffect(() => {
    canvas.current.set({ group, colour, heat, past, plan: dryRun, selected });
  }, [group, colour, heat, past, dryRun, selected]);
  useEffect(() => {
    canvas.current.dragMoves = dragMoves && group === "node" && !at;
  }, [dragMoves, group, at]);
  return html`
    <div class="toolbar">
      <${Segments} label="Grouped" value=${group} options=${GROUPS} change=${(value) => setQuery({ group: value === "node" ? null : value })} />
      <${Segments} label="Coloured by" value=${colour} options=${COLOURS} change=${(value) => setQuery({ colour: value === "owner" ? null : value })} />
      <div class="zoom"><button aria-label="Closer" onClick=${() => canvas.current.scale(1.6)}>+</button>
        <button aria-label="Farther" onClick=${() => canvas.current.scale(1 / 1.6)}>−</button>
        <button onClick=${() => canvas.current.reset()}>All</button></div>
      ${group === "node" && canAct && html`<label class="check"><input type="checkbox" checked=${dragMoves} onChange=${(e) => setDragMoves(e.target.checked)} />Drag moves shards</label>`}
    </div>
    ${dryRun && html`<p class="banner">A dry run would move ${number(dryRun.moves?.length ?? 0)} shards: they are split and dashed. <a href="#/plans">Back to it</a></p>`}
    <div class="mapview ${selected >= 0 ? "with-story" : ""}">
      <div class="mapcard">
        <div class="map ${dragMoves ? "grabbing" : ""}" ref=${host}>
          <canvas class="base"></canvas>
          <canvas class="over" tabindex="0" role="img" aria-label="Placement map. Arrow keys move between shards, Enter opens one, + and - zoom."></canvas>
          <${Tip} tip=${tip} heat=${heat} />
        </div>
        <${Legend} colour=${colour} heat=${heat} />
        <${TimeLine} at=${at} history=${history} />
      </div>
      ${selected >= 0 && html`<aside class="drawer" key=${selected}><button class="close" aria-label="Close" onClick=${() => setQuery({ shard: null })}>×</button><${Story} shard=${selected} /></aside>`}
    </div>`;
}
