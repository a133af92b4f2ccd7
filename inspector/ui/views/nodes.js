// Nodes and zones: who calls whom, how busy each is, and what may be done with it.
import { html, useEffect, useRef } from "../vendor/preact.js";
import { cluster, counts, figuresOf, stateOfNode, useCluster } from "../store.js";
import { brief, bytes, number, percent, plural, rate, seconds, secondsOf } from "../format.js";
import { Badge, Bar, Card, Empty, NodeLink, Stat, useNarrow } from "../parts.js";
import { ask } from "../act.js";
import { colourOf } from "../map/colours.js";
import { EventList } from "./overview.js";

// So many lines can still be told apart.
const FLOWS_MAX = 60;

// How often they move on.
const STEP_MS = 250;

// The longest name that stands under a node.
const NAME_MAX = 18;

// How wide and high the picture is: the more nodes, the higher, since their names need room.
function sizeFor(count, narrow) {
  const more = Math.max(0, count - 8);
  return narrow ? { width: 440, height: 440 + 24 * more, thick: more ? 9 : 18, zones: !more } : { width: 760, height: 380 + 18 * more, thick: more ? 10 : 20, zones: true };
}

// Places the nodes on an oval, those of a zone beside each other.
function places(nodes, { width, height }) {
  const sorted = [...nodes].sort((a, b) => (a.zone ?? "~").localeCompare(b.zone ?? "~") || a.id.localeCompare(b.id, "en", { numeric: true }));
  const zones = [...new Set(sorted.map((node) => node.zone))];
  const gap = zones.length > 1 ? 0.6 : 0;
  const total = sorted.length + gap * zones.length;
  let step = 0;
  let zone = sorted[0]?.zone;
  const spots = new Map();
  for (const node of sorted) {
    if (node.zone !== zone) step += gap;
    zone = node.zone;
    const angle = (step / total) * 2 * Math.PI - Math.PI / 2;
    spots.set(node.id, {
      x: width / 2 + (width / 2 - 76) * Math.cos(angle),
      y: height / 2 - 12 + (height / 2 - 66) * Math.sin(angle),
    });
    step += 1;
  }
  return spots;
}

function Flow({ from, to, calls, most }) {
  if (!from || !to || calls < 0.05) return null;
  const width = 1 + 6 * Math.sqrt(calls / most);
  // Both directions are curved to their own side, so that each is seen.
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy) || 1;
  const bend = Math.min(46, length / 5);
  const [cx, cy] = [(from.x + to.x) / 2 - (dy / length) * bend, (from.y + to.y) / 2 + (dx / length) * bend];
  const d = `M${from.x} ${from.y} Q${cx} ${cy} ${to.x} ${to.y}`;
  const pace = Math.min(6, 1 + Math.log10(calls + 1));
  return html`<g class="flow" style=${{ "--pace": pace }}>
    <path d=${d} style=${{ strokeWidth: width, stroke: from.colour }} />
    <path class="dash" d=${d} style=${{ strokeWidth: Math.max(1.5, width * 0.6) }} />
    <title>${`${from.name} → ${to.name}: ${rate(calls)} calls/s`}</title>
  </g>`;
}

// Dashes go on by steps: an animation of the browser would have all flows reckoned anew for each frame.
function useSteps() {
  const picture = useRef();
  useEffect(() => {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return undefined;
    const svg = picture.current; // It may be gone a moment before this effect is ended.
    let step = 0;
    const timer = setInterval(() => {
      if (!document.hidden) svg.style.setProperty("--step", (step += 1));
    }, STEP_MS);
    return () => clearInterval(timer);
  }, []);
  return picture;
}

function Topology() {
  const picture = useSteps();
  const { nodes, figures } = useCluster("nodes", "figures", "shards");
  const totals = counts();
  const size = sizeFor(nodes.length, useNarrow());
  const spots = places(nodes, size);
  const spot = (name) => spots.has(name) && { ...spots.get(name), name, colour: colourOf(name) };
  const flows = nodes.flatMap((node) =>
    Object.entries(figuresOf(node.id)?.sends_per_second ?? {}).map(([to, calls]) => ({ from: node.id, to, calls })));
  const shown = [...flows].sort((a, b) => b.calls - a.calls).slice(0, FLOWS_MAX);
  const most = Math.max(1, ...flows.map((flow) => flow.calls));
  const shardsMost = Math.max(1, ...nodes.map((node) => totals.ownedBy(node.id)));
  return html`<${Card} title="Who calls whom" aside=${figures ? `${rate(flows.reduce((sum, flow) => sum + flow.calls, 0))} calls/s between nodes` : ""}>
    <div class="scroll"><svg ref=${picture} class="topology" viewBox="0 0 ${size.width} ${size.height}" role="img" aria-label="Calls between nodes">
      ${shown.map((flow) => html`<${Flow} key=${`${flow.from} ${flow.to}`} from=${spot(flow.from)} to=${spot(flow.to)} calls=${flow.calls} most=${most} />`)}
      ${nodes.map((node) => {
        const { x, y } = spots.get(node.id);
        const radius = size.thick * (node.weight > 0 ? 1 + 0.7 * Math.sqrt(totals.ownedBy(node.id) / shardsMost) : 0.8);
        const state = stateOfNode(node);
        return html`<a key=${node.id} href="#/nodes/${encodeURIComponent(node.id)}" class="peer ${state}">
          <circle cx=${x} cy=${y} r=${radius} style=${{ fill: node.weight > 0 ? colourOf(node.id) : "var(--card)", stroke: colourOf(node.id) }} />
          ${node.id === cluster.info.leader && html`<circle class="leads" cx=${x} cy=${y} r=${radius + 5} />`}
          <text x=${x} y=${y + 4} class="count">${node.weight > 0 ? number(totals.ownedBy(node.id)) : "gate"}</text>
          <text x=${x} y=${y + radius + 17}>${brief(node.id, NAME_MAX)}</text><title>${node.id}</title>
          ${size.zones && html`<text x=${x} y=${y + radius + 31} class="small">${[node.zone && brief(node.zone, NAME_MAX), state === "active" ? "" : state].filter(Boolean).join(" · ")}</text>`}
        </a>`;
      })}
    </svg></div>
    <p class="note">The number is a node’s shards, a line’s width the calls a second from one node to another; a ring marks the leader.${flows.length > FLOWS_MAX && ` Of ${flows.length} lines the ${FLOWS_MAX} widest are shown.`}</p>
  </${Card}>`;
}

// The time left until a node stops serving unless etcd acknowledges a keep-alive before.
const Fence = ({ figures }) => html`<span data-fence class=${figures.state === "fenced" ? "bad" : ""}>${seconds(figures.fence_left_seconds)}</span>`;

function Row({ node, totals }) {
  const figures = figuresOf(node.id) ?? {};
  const state = stateOfNode(node);
  return html`<tr class=${state} data-node=${node.id} data-state=${state}>
    <th scope="row"><${NodeLink} name=${node.id} />${node.id === cluster.info.leader && html`<small class="mark">leader</small>`}</th>
    <td><${Badge} state=${state} />${node.cordoned && html`<${Badge} state="cordoned" />`}</td>
    <td title=${node.zone}>${node.zone ? brief(node.zone) : "–"}</td>
    <td class="n">${node.weight > 0 ? number(totals.ownedBy(node.id)) : "gate"}</td>
    <td class="n">${number(figures.objects)}</td>
    <td class="n">${rate(figures.calls_per_second)}</td>
    <td class="n">${seconds(figures.turn_p99)}</td>
    <td class="w"><${Bar} part=${figures.cpu} warn=${0.85} /> ${percent(figures.cpu)}</td>
    <td class="w"><${Bar} part=${figures.memory_max_bytes ? figures.memory_bytes / figures.memory_max_bytes : null} warn=${0.9} /> ${bytes(figures.memory_bytes)}</td>
    <td class="n">${rate(figures.waits_per_second)}</td>
    <td class="n"><${Fence} figures=${figures} /></td>
    <td>${node.version}</td>
  </tr>`;
}

function Table() {
  const { nodes } = useCluster("nodes", "figures", "shards", "info");
  const totals = counts();
  return html`<${Card} title=${plural(nodes.length, "node")}>
    <div class="scroll"><table>
      <thead><tr><th>Node</th><th>State</th><th>Zone</th><th class="n">Shards</th><th class="n">Objects</th><th class="n">Calls/s</th>
        <th class="n">Turn p99</th><th>CPU</th><th>Memory</th><th class="n">Waits/s</th><th class="n">Fence</th><th>Version</th></tr></thead>
      <tbody>${nodes.map((node) => html`<${Row} key=${node.id} node=${node} totals=${totals} />`)}</tbody>
    </table></div>
    ${nodes.length === 0 && html`<${Empty}>No node is registered.</${Empty}>`}
  </${Card}>`;
}

const ACTIONS = {
  drain: ["Drain", "Its shards move to other nodes while it serves; then it leaves and its process exits.", true],
  undrain: ["Undrain", "It stays, and keeps what it still has.", false],
  cordon: ["Cordon", "It keeps what it has and gets nothing more.", false],
  uncordon: ["Uncordon", "It gets shards again.", false],
};

const Action = ({ node, verb }) => {
  const [button, text, danger] = ACTIONS[verb];
  const question = { title: `${button} ${node}?`, text, button, danger, path: `nodes/${encodeURIComponent(node)}/${verb}`, body: {} };
  return html`<button data-action=${verb} onClick=${() => ask(question)}>${button} …</button>`;
};

function One({ name }) {
  const { nodes } = useCluster("nodes", "figures", "shards");
  const node = nodes.find((node) => node.id === name);
  if (!node) return html`<${Card} title=${name}><p>No live node has this name. Its shards are placed elsewhere as soon as its lease ends.</p>
    <${EventList} limit=${20} filter=${(event) => event.node === name} /></${Card}>`;
  const totals = counts();
  const figures = figuresOf(name) ?? {};
  const sends = Object.entries(figures.sends_per_second ?? {});
  return html`
    <${Card} title=${name} aside=${html`<${Badge} state=${stateOfNode(node)} />${node.cordoned && html`<${Badge} state="cordoned" />`}`}>
      ${figures.at_risk && html`<p class="bad">It is ${figures.state}: ${plural(figures.at_risk.shards, "shard")} may be unserved${figures.at_risk.objects_last_seen != null && `, ${plural(figures.at_risk.objects_last_seen, "object")} last seen`}. Next: ${figures.at_risk.next}.</p>`}
      ${figures.error && html`<p class="bad">It does not answer: ${figures.error}. It ${figures.age_ms == null ? "never did" : `last did ${seconds(figures.age_ms / 1000)} ago`}.</p>`}
      <dl class="stats">
        <${Stat} name="Shards" value=${number(totals.ownedBy(name))} note=${`${number(totals.targetedAt(name))} targeted`} href="#/shard?node=${encodeURIComponent(name)}" />
        <${Stat} name="Objects" value=${number(figures.objects)} href="#/objects?node=${encodeURIComponent(name)}" />
        <${Stat} name="Calls" value=${rate(figures.calls_per_second)} unit="/s" />
        <${Stat} name="Turns p50 / p95 / p99" value=${secondsOf([figures.turn_p50, figures.turn_p95, figures.turn_p99])} />
        <${Stat} name="CPU" value=${percent(figures.cpu)} />
        <${Stat} name="Memory" value=${bytes(figures.memory_bytes)} note=${figures.memory_max_bytes ? `of ${bytes(figures.memory_max_bytes)}` : undefined} />
        <${Stat} name="Mailbox waits" value=${rate(figures.waits_per_second)} unit="/s" note=${`${rate(figures.refusals_per_second)}/s refused`} />
        <${Stat} name="Fence in" value=${html`<${Fence} figures=${figures} />`} note=${`unless the store answers it; ${seconds(figures.fence_margin_seconds)} were left when it last did`} />
        <${Stat} name="Parked calls" value=${number(figures.parked)} />
      </dl>
      <dl class="facts">
        <dt>Life</dt><dd class="mono">${node.incarnation}</dd>
        <dt>gRPC</dt><dd class="mono">${node.grpc}</dd>
        <dt>HTTP</dt><dd class="mono">${node.http ?? "–"}</dd>
        <dt>Zone</dt><dd>${node.zone ?? "–"}</dd>
        <dt>Weight</dt><dd>${node.weight}</dd>
        <dt>Version</dt><dd>${node.version}</dd>
        <dt>Types</dt><dd>${node.object_types.join(", ") || "–"}</dd>
        <dt>Labels</dt><dd>${Object.entries(node.labels).map(([key, value]) => `${key}=${value}`).join(", ") || "–"}</dd>
        <dt>Calls to</dt><dd>${sends.length ? sends.map(([to, calls]) => html`<div><${NodeLink} name=${to} /> ${rate(calls)}/s</div>`) : "no other node"}</dd>
      </dl>
      <div class="row actions">
        ${node.state === "draining" ? html`<${Action} node=${name} verb="undrain" />` : html`<${Action} node=${name} verb="drain" />`}
        ${node.cordoned ? html`<${Action} node=${name} verb="uncordon" />` : html`<${Action} node=${name} verb="cordon" />`}
      </div>
    </${Card}>
    <${Card} title="What happened to it"><${EventList} limit=${20} filter=${(event) => event.node === name} /></${Card}>`;
}

export const Nodes = ({ name }) => name
  ? html`<p class="crumbs"><a href="#/nodes">Nodes</a> / ${name}</p><${One} name=${name} />`
  : html`<${Topology} /><${Table} />`;
