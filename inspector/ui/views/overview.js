// Is the cluster well? What is wrong stands first, with what to do.
import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { cluster, counts, figuresOf, get, useCluster } from "../store.js";
import { bytes, number, percent, plural, rate, seconds, span, time } from "../format.js";
import { Bar, Card, Empty, NodeLink, Stat } from "../parts.js";
import { Chart } from "../chart.js";
import { PlacementCanvas } from "../map/canvas.js";
import { PlanRow } from "./plans.js";

const WORDS = { trouble: "Something is wrong", warning: "It works, but look at this", note: "All is well" };

// Shows what stands between backticks as code.
const withCode = (text) => text.split("`").map((part, place) => (place % 2 ? html`<code>${part}</code>` : part));

function Headline() {
  const { health, info } = useCluster("health", "shards", "nodes", "info");
  const totals = counts();
  const worst = health[0]?.severity ?? "note";
  const sub = `${plural(cluster.nodes.length, "node")}, ${number(totals.owned + totals.moving)} of ${number(cluster.shardCount)} shards owned, ` +
    (info.leader ? `${info.leader} leads` : "nobody leads");
  return html`<section class="card hero is-${worst}" data-health=${worst}>
    <div class="verdict"><span class="dot" aria-hidden="true">${worst === "note" ? "✓" : "!"}</span>
      <div><h2>${WORDS[worst]}</h2><p>${sub}</p></div></div>
    ${health.length > 0 && html`<ul class="findings">${health.map((finding) => html`
      <li class="is-${finding.severity}" key=${finding.what}>
        <strong>${finding.link ? html`<a href=${finding.link}>${finding.what}</a>` : finding.what}</strong>
        <span>${withCode(finding.advice)}</span>
      </li>`)}</ul>`}
  </section>`;
}

function Stats() {
  const { figures, info } = useCluster("figures", "shards", "info");
  const totals = counts();
  const sum = figures?.cluster ?? {};
  const failed = Math.max(sum.failed_calls_per_second ?? 0, sum.failed_turns_per_second ?? 0);
  return html`<dl class="stats">
    <${Stat} name="Calls" value=${rate(sum.calls_per_second)} unit="/s" href="#/nodes" />
    <${Stat} name="p50 / p99" value=${`${seconds(sum.p50)} / ${seconds(sum.p99)}`} />
    <${Stat} name="Failed" value=${sum.calls_per_second == null ? "–" : rate(failed)} unit="/s" bad=${failed >= 1} />
    <${Stat} name="Parked calls" value=${number(sum.parked)} bad=${sum.parked > 0} />
    <${Stat} name="Moving" value=${number(totals.moving)} href="#/shard?state=moving" />
    <${Stat} name="Unowned" value=${number(totals.unowned + totals.quarantined)} bad=${totals.unowned + totals.quarantined > 0} href="#/shard?state=unowned" />
    <${Stat} name="Objects" value=${number(sum.objects)} href="#/objects" />
    <${Stat} name="Imbalance" value=${percent(sum.imbalance)} note=${sum.imbalance == null ? "too few calls to say" : undefined} />
    <${Stat} name="Least fence margin" value=${seconds(sum.fence_margin_seconds)} bad=${sum.fence_margin_seconds < 0.5} />
    <${Stat} name="Leader" value=${info.leader ?? "nobody"} note=${info.term ? `term ${info.term}` : undefined} bad=${!info.leader} />
  </dl>`;
}

// The last hour, and what comes on top of it.
function useSeries() {
  const { figures } = useCluster("figures");
  const [points, setPoints] = useState([]);
  useEffect(() => {
    get("figures/history").then(setPoints, () => {});
  }, []);
  useEffect(() => {
    if (figures) setPoints((points) => [...points, { at: figures.at, ...figures.cluster }].slice(-1800));
  }, [figures]);
  return useMemo(() => {
    const column = (read) => points.map((point) => read(point) ?? null);
    const times = points.map((point) => point.at / 1000);
    return {
      calls: [times, column((p) => p.calls_per_second), column((p) => p.failed_calls_per_second)],
      latency: [times, column((p) => p.p50), column((p) => p.p99)],
    };
  }, [points]);
}

const CALLS = [{ label: "calls/s", stroke: "#4c8dff", fill: true }, { label: "failed/s", stroke: "#e5484d" }];
const LATENCY = [{ label: "p50", stroke: "#2fb89a", fill: true }, { label: "p99", stroke: "#f2a541" }];

function Charts() {
  const series = useSeries();
  return html`<div class="pair">
    <${Card} title="Calls"><${Chart} data=${series.calls} series=${CALLS} format=${rate} label="Calls a second over time" /></${Card}>
    <${Card} title="Latency"><${Chart} data=${series.latency} series=${LATENCY} format=${seconds} label="Latency over time" /></${Card}>
  </div>`;
}

function NodeStrip() {
  const { nodes } = useCluster("nodes", "figures", "shards");
  const totals = counts();
  const most = Math.max(1, ...nodes.map((node) => totals.ownedBy(node.id)));
  return html`<${Card} title="Nodes" aside=${html`<a href="#/nodes">All about nodes</a>`}>
    <ul class="strip">${nodes.map((node) => {
      const figures = figuresOf(node.id) ?? {};
      return html`<li key=${node.id}>
        <span><${NodeLink} name=${node.id} />${node.id === cluster.info.leader && html`<small class="mark">leader</small>`}
          ${node.state !== "active" && html`<small class="mark">${node.state}</small>`}
          ${figures.stale && html`<small class="mark bad">stale</small>`}</span>
        <${Bar} part=${totals.ownedBy(node.id) / most} name=${node.id} />
        <span class="figures">${plural(totals.ownedBy(node.id), "shard")} · ${rate(figures.calls_per_second)}/s · CPU ${percent(figures.cpu)} · ${bytes(figures.memory_bytes)}</span>
      </li>`;
    })}</ul>
    ${nodes.length === 0 && html`<${Empty}>No node is registered.</${Empty}>`}
  </${Card}>`;
}

function MiniMap() {
  const host = useRef();
  useEffect(() => {
    const canvas = new PlacementCanvas(host.current, { hover() {}, pick: (shard) => (location.hash = `#/map?shard=${shard}`), drop() {} });
    canvas.set({ ...canvas.mode, group: "id" });
    canvas.zoom.filter(() => false);
    return () => canvas.stop();
  }, []);
  return html`<${Card} title="Placement" aside=${html`<a href="#/map">Open the map</a>`}>
    <div class="mini" ref=${host}><canvas class="base"></canvas><canvas class="over"></canvas></div>
  </${Card}>`;
}

export function EventList({ limit, filter = () => true }) {
  const { events } = useCluster("events");
  const shown = events.filter(filter).slice(0, limit);
  return shown.length
    ? html`<ol class="events">${shown.map((event) => html`
        <li class=${event.bad ? "bad" : ""} key=${event.at + event.text}><time>${time(event.at)}</time><span>${event.text}</span></li>`)}</ol>`
    : html`<${Empty}>Nothing has happened since the Inspector began to look.</${Empty}>`;
}

function Latest() {
  const { plans } = useCluster("plans");
  const running = plans.filter((plan) => plan.outcome === "running");
  return html`<div class="pair">
    <${Card} title="Plans in progress" aside=${html`<a href="#/plans">All plans</a>`}>
      ${running.length ? running.map((plan) => html`<${PlanRow} plan=${plan} key=${plan.id} />`)
        : html`<${Empty}>No plan is under way.${plans[0] ? ` The last one, number ${plans[0].id}, took ${span((plans[0].updated_at - plans[0].created_at) / 1000)}.` : ""}</${Empty}>`}
    </${Card}>
    <${Card} title="Last events"><${EventList} limit=${8} /></${Card}>
  </div>`;
}

export const Overview = () => html`<${Headline} /><${Stats} /><${Charts} />
  <div class="pair"><${NodeStrip} /><${MiniMap} /></div><${Latest} />`;
