// What the page knows of the cluster: told by the server's events, kept in flat arrays for the map.
//
// Everybody reads the one `cluster` object. `useCluster` draws a component again when the parts it
// names change, at most once a frame; the map listens to `onShards` itself.
import { useEffect, useState } from "./vendor/preact.js";
import { giveColours } from "./map/colours.js";

export const PINNED = 1;
export const QUARANTINED = 2;

// Figures older than this are dropped, never shown on: the same limit as the Inspector has itself.
const FIGURES_MAX_AGE_MS = 2000;

// Nothing heard for so long, of messages that come each second: the Inspector does not answer.
const STALE_MS = 3500;

export const cluster = {
  connected: false,
  everHeard: false,
  heardAt: 0,
  trouble: "",
  revision: 0,
  info: null,
  nodes: [],
  names: [],
  shardCount: 0,
  owners: new Int16Array(0),
  targets: new Int16Array(0),
  flags: new Uint8Array(0),
  movedAt: new Float64Array(0),
  figures: null,
  figuresHeardAt: 0,
  health: [],
  plans: [],
  events: [],
  dryRun: null,
};

const listeners = new Set();
const shardListeners = new Set();
let pending = new Set();
let scheduled = false;

function changed(...parts) {
  parts.forEach((part) => pending.add(part));
  if (scheduled) return;
  scheduled = true;
  // A hidden page gets no frames, but should be right when it is shown.
  const wait = document.hidden ? (run) => setTimeout(run, 1000) : requestAnimationFrame;
  wait(() => {
    scheduled = false;
    const parts = pending;
    pending = new Set();
    listeners.forEach((listener) => listener(parts));
  });
}

// Draws the component again when one of these parts changes: `state`, `info`, `nodes`, `shards`,
// `figures`, `health`, `plans`, `events`, `dryRun`.
export function useCluster(...parts) {
  const [, draw] = useState(0);
  useEffect(() => {
    const listener = (changed) => {
      if (parts.some((part) => changed.has(part))) draw((count) => count + 1);
    };
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, [parts.join()]);
  return cluster;
}

// Calls `listener(changes)` with `[{shard, from, to}]` of each change, or `null` for all anew.
export function onShards(listener) {
  shardListeners.add(listener);
  return () => shardListeners.delete(listener);
}

export const nameOf = (index) => (index < 0 ? null : cluster.names[index]);

export function indexOf(name) {
  if (name == null) return -1;
  let index = cluster.names.indexOf(name);
  if (index < 0) index = cluster.names.push(name) - 1;
  return index;
}

export function stateOf(shard) {
  const owner = cluster.owners[shard];
  if (owner < 0) return cluster.flags[shard] & QUARANTINED ? "quarantined" : "unowned";
  const target = cluster.targets[shard];
  return target >= 0 && target !== owner ? "moving" : "owned";
}

// Counts shards by state and by owner.
export function counts() {
  const owned = new Map();
  const targeted = new Map();
  const states = { owned: 0, moving: 0, unowned: 0, quarantined: 0, pinned: 0 };
  for (let shard = 0; shard < cluster.shardCount; shard += 1) {
    states[stateOf(shard)] += 1;
    if (cluster.flags[shard] & PINNED) states.pinned += 1;
    const owner = cluster.owners[shard];
    const target = cluster.targets[shard];
    owned.set(owner, (owned.get(owner) ?? 0) + 1);
    targeted.set(target, (targeted.get(target) ?? 0) + 1);
  }
  return {
    ...states,
    ownedBy: (name) => owned.get(cluster.names.indexOf(name)) ?? 0,
    targetedAt: (name) => targeted.get(cluster.names.indexOf(name)) ?? 0,
  };
}

export const figuresOf = (name) => cluster.figures?.nodes[name];

// `joining`, `active`, `draining`, `fenced` or `silent`; as it registered while nothing else is known.
export const stateOfNode = (node) => figuresOf(node.id)?.state ?? node.state;

// Shards whose owner is silent or fenced.
export const shardsAtRisk = () => cluster.figures?.cluster.shards_at_risk ?? 0;

export const nodeOf = (name) => cluster.nodes.find((node) => node.id === name);

export function setDryRun(plan) {
  cluster.dryRun = plan;
  changed("dryRun");
}

export const isStale = () => !cluster.connected || Date.now() - cluster.heardAt > STALE_MS;

// Forgets figures that are too old to be shown.
function dropOldFigures() {
  if (!cluster.figures || Date.now() - cluster.figuresHeardAt <= FIGURES_MAX_AGE_MS) return;
  cluster.figures = null;
  changed("figures");
}

function heard() {
  cluster.heardAt = Date.now();
  cluster.everHeard = true;
  if (!cluster.connected) {
    cluster.connected = true;
    changed("state");
  }
}

// By name, numbers in them as numbers.
const inOrder = (nodes) => nodes.sort((a, b) => a.id.localeCompare(b.id, "en", { numeric: true }));

function takeSnapshot(snapshot) {
  cluster.revision = snapshot.revision;
  cluster.info = snapshot.cluster;
  cluster.nodes = inOrder(snapshot.nodes);
  giveColours(cluster.nodes.map((node) => node.id));
  const places = snapshot.names.map(indexOf);
  const place = (index) => (index < 0 ? -1 : places[index]);
  cluster.shardCount = snapshot.cluster.shard_count;
  cluster.owners = Int16Array.from(snapshot.owners, place);
  cluster.targets = Int16Array.from(snapshot.targets, place);
  cluster.flags = Uint8Array.from(snapshot.flags);
  cluster.movedAt = Float64Array.from(snapshot.moved_at, (place) => (place < 0 ? 0 : snapshot.moments[place]));
  shardListeners.forEach((listener) => listener(null));
  changed("info", "nodes", "shards");
}

function takeDelta(delta) {
  cluster.revision = delta.revision;
  if (delta.cluster) {
    cluster.info = delta.cluster;
    changed("info");
  }
  if (delta.nodes) {
    cluster.nodes = inOrder(delta.nodes);
    changed("nodes");
  }
  const changes = (delta.shards ?? []).map(([shard, owner, target, flags, movedAt]) => {
    const change = { shard, from: cluster.owners[shard], to: indexOf(owner) };
    cluster.owners[shard] = change.to;
    cluster.targets[shard] = indexOf(target);
    cluster.flags[shard] = flags;
    cluster.movedAt[shard] = movedAt;
    return change;
  });
  if (changes.length) {
    shardListeners.forEach((listener) => listener(changes));
    changed("shards");
  }
}

const EVENTS_KEPT = 200;

export function connect() {
  const source = new EventSource("api/events");
  const on = (kind, take) => {
    source.addEventListener(kind, (message) => {
      heard();
      take(JSON.parse(message.data));
    });
  };
  on("hello", loadEvents);
  on("snapshot", takeSnapshot);
  on("delta", takeDelta);
  const keep = (kind, read) => on(kind, (data) => {
    cluster[kind] = read(data);
    changed(kind);
  });
  keep("figures", (figures) => {
    cluster.figuresHeardAt = Date.now();
    return figures;
  });
  keep("health", (findings) => findings);
  keep("plans", (plans) => plans.map(readPlan));
  on("event", (event) => {
    cluster.events = [event, ...cluster.events].slice(0, EVENTS_KEPT);
    changed("events");
  });
  source.onerror = () => {
    cluster.connected = false;
    changed("state");
    // A browser gives up after an answer that is no stream, such as 503: try anew.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 1000);
  };
  clearInterval(connect.watch);
  let aged = false;
  connect.watch = setInterval(() => {
    dropOldFigures();
    const ages = isStale();
    if (ages || aged) changed("state");
    aged = ages;
  }, 500);
}

async function loadEvents() {
  try {
    const answer = await get(`history?since=${Date.now() + 86400000}`);
    cluster.events = answer.events.slice(0, EVENTS_KEPT);
    cluster.trouble = "";
    changed("events");
  } catch (error) {
    cluster.trouble = error.message;
    changed("state");
  }
}

const moment = (text) => (text == null ? null : Date.parse(text));

export const readMove = (step) => ({ ...step, ordered_at: moment(step.ordered_at), ended_at: moment(step.ended_at) });

// A plan with its times in milliseconds, as all others are.
export const readPlan = (plan) => ({
  ...plan,
  created_at: moment(plan.created_at),
  updated_at: moment(plan.updated_at),
  ended_at: moment(plan.ended_at),
  ends_at: moment(plan.ends_at),
  moves: plan.moves?.map(readMove) ?? [],
  events: plan.events.map((event) => ({ ...event, at: moment(event.at) })),
});

// Asks the API; throws an `Error` with the problem's words.
export async function get(path, options = {}) {
  const answer = await fetch(`api/${path}`, { signal: AbortSignal.timeout(15000), ...options });
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  const error = new Error(body.detail ?? answer.statusText);
  error.code = body.code;
  error.status = answer.status;
  throw error;
}

// For tests and for those who measure.
globalThis.steading = { cluster, stateOf, tell: (delta) => takeDelta(JSON.parse(delta)) };
