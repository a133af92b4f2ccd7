// Is the cluster well? What is wrong stands first, with what to do.
import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { cluster, counts, figuresOf, get, isStale, shardsAtRisk, stateOfNode, useCluster } from "../store.js";
import { ago, brief, bytes, number, part, percent, plural, rate, seconds, secondsOf, span, time } from "../format.js";
import { Bar, Card, Empty, NodeLink, Stat, withCode } from "../parts.js";
import { Chart } from "../chart.js";
import { PlacementCanvas } from "../map/canvas.js";
import { PlanRow } from "./plans.js";

// What is said if nothing is wrong, or nothing that keeps calls from being served.
const WORDS = { warning: "All shards are served, with warnings", note: "All shards are served" };

// The worst that is wrong is the verdict; without figures there is none.
function verdict(health, figures) {
  const worst = health[0]?.severity ?? "note";
  if (worst === "trouble") return [worst, health[0].what];
  if (!figures) return ["warning", "How the nodes are is not known yet"];
  return [worst, WORDS[worst]];
}

function Headline() {
  const { health, info, figures } = useCluster("health", "figures", "shards", "nodes", "info", "state");
  if (isStale()) {
    return html`<section class="card hero is-trouble" data-health="stale">
      <div class="verdict"><span class="dot" aria-hidden="true">?</span>
        <div><h2>The Inspector does not answer</h2><p>What stands below is as it was ${ago(cluster.heardAt)}. The page tries again by itself; see whether the Inspector runs. The cluster does not need it.</p></div></div>
    </section>`;
  }
  const totals = counts();
  const [worst, what] = verdict(health, figures);
  const [owned, risk] = [totals.owned + totals.moving, shardsAtRisk()];
  const sub = `${plural(cluster.nodes.length, "node")}, ${number(owned - risk)} of ${number(cluster.shardCount)} shards served, ` +
    (risk ? `${number(risk)} at risk, ` : "") +
    (info.leader ? `${brief(info.leader)} leads` : "nobody leads");
  return html`<section class="card hero is-${worst}" data-health=${worst}>
    <div class="verdict"><span class="dot" aria-hidden="true">${worst === "note" ? "✓" : "!"}</span>
      <div><h2>${what}</h2><p>${sub}</p></div></div>
    ${health.length > 0 && html`<ul class="findings">${health.map((finding) => html`
      <li class="is-${finding.severity}" key=${finding.what}>
        <strong>${finding.link ? html`<a href=${finding.link}>${finding.what}</a>` : finding.what}</strong>
        <span>${withCode(finding.advice)}</span>
      </li>`)}</ul>`}
  </section>`;
}

// Rebalance progress: of all moves of running plans, how many have ended.
function progress(plans) {
  const running = plans.filter((plan) => plan.outcome === "running");
  if (!running.length) return ["–", "no plan under way"];
  const sum = (read) => running.reduce((sum, plan) => sum + read(plan.counts), 0);
  const left = sum((counts) => counts.pending + counts.ordered);
  const all = left + sum((counts) => counts.done + counts.failed + counts.cancelled);
  return [percent(all ? (all - left) / all : 1), `${number(left)} of ${plural(all, "move")} left`];
}

function Stats() {
  const { figures, info, plans } = useCluster("figures", "shards", "info", "plans");
  const totals = counts();
  const sum = figures?.cluster ?? {};
  const spread = figures?.objects_per_shard;
  const unowned = totals.unowned + totals.quarantined;
  const failed = Math.max(sum.failed_calls_per_second ?? 0, sum.failed_turns_per_second ?? 0);
  const [moved, left] = progress(plans);
  return html`<dl class="stats" data-watch>
    <${Stat} name="Healthy nodes" value=${percent(sum.healthy)} note=${`${cluster.nodes.length} registered`} bad=${sum.healthy < 1} href="#/nodes" />
    <${Stat} name="Calls" value=${rate(sum.calls_per_second)} unit="/s" note=${`${rate(sum.waits_per_second)}/s found their object busy`} href="#/nodes" />
    <${Stat} name="p50 / p95 / p99" value=${secondsOf([sum.p50, sum.p95, sum.p99])} />
    <${Stat} name="Error rate" value=${part(sum.error_rate)} note=${sum.calls_per_second == null ? undefined : `${rate(failed)}/s failed`} bad=${failed >= 1} />
    <${Stat} name="Unowned" value=${number(unowned)} note=${`${number(sum.shards_at_risk)} at risk, ${number(sum.parked)} parked calls`} bad=${unowned > 0 || sum.shards_at_risk > 0} href="#/shard?state=unowned" />
    <${Stat} name="Moving" value=${number(totals.moving)} note=${`${number(totals.pinned)} pinned`} href="#/shard?state=moving" />
    <${Stat} name="Rebalance" value=${moved} note=${left} href="#/plans" />
    <${Stat} name="Objects" value=${number(sum.objects)} note=${spread && `per shard ${Number(spread.mean.toPrecision(2))}, p99 ${number(spread.p99)}, most ${number(spread.most)}`} href="#/objects" />
    <${Stat} name="CPU" value=${percent(sum.cpu)} note=${sum.imbalance == null ? "too few calls to say who is busiest" : `busiest node ${percent(sum.imbalance)} above the mean`} bad=${sum.cpu > 0.9} />
    <${Stat} name="Leader" value=${info.leader ? brief(info.leader, 22) : "nobody"} note=${info.term ? `term ${info.term}, fence ${seconds(sum.fence_margin_seconds)} off at the least` : undefined} bad=${!info.leader || sum.fence_margin_seconds < 0.5} />
  </dl>`;
}

// As often, and for as long, as the Inspector keeps points: each two seconds for an hour.
const added = (points, point) => (point.at - (points.at(-1)?.at ?? 0) < 1900 ? points : [...points, point].slice(-1800));

// The last hour, and what comes on top of it.
function useSeries() {
  const { figures } = useCluster("figures");
  const [points, setPoints] = useState([]);
  useEffect(() => {
    get("figures/history").then(setPoints, () => {});
  }, []);
  useEffect(() => {
    if (figures) setPoints((points) => added(points, { at: figures.at, ...figures.cluster }));
  }, [figures]);
  return useMemo(() => {
    const column = (read) => points.map((point) => read(point) ?? null);
    const times = points.map((point) => point.at / 1000);
    return {
      calls: [times, column((p) => p.calls_per_second), column((p) => p.failed_calls_per_second)],
      latency: [times, column((p) => p.p50), column((p) => p.p95), column((p) => p.p99)],
    };
  }, [points]);
}

const CALLS = [{ label: "calls/s", stroke: "#4c8dff", fill: true }, { label: "failed/s", stroke: "#e5484d" }];
const LATENCY = [{ label: "p50", stroke: "#2fb89a", fill: true }, { label: "p95", stroke: "#b07cf0" }, { label: "p99", stroke: "#f2a541" }];

function Charts() {
  const series = useSeries();
  if (series.calls[0].length < 2) return html`<${Card} title="Calls and latency"><${Empty}>The first figures are being gathered …</${Empty}></${Card}>`;
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
    <ul class="strip ${nodes.length > 6 ? "many" : ""}">${nodes.map((node) => {
      const figures = figuresOf(node.id) ?? {};
      const state = stateOfNode(node);
      return html`<li key=${node.id} data-state=${state}>
        <span><${NodeLink} name=${node.id} />${node.id === cluster.info.leader && html`<small class="mark">leader</small>`}
          ${state !== "active" && html`<small class="mark ${figures.at_risk ? "bad" : ""}">${state}</small>`}</span>
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
