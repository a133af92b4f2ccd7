// Plans: what moves, what would, what was; and what happened over the last hours.
import { html, useEffect, useState } from "../vendor/preact.js";
import { cluster, get, readPlan, setDryRun, useCluster } from "../store.js";
import { ago, dateTime, number, plural, span, time } from "../format.js";
import { Badge, Card, Empty, NodeLink, ShardLink, Segments, useNarrow } from "../parts.js";
import { act, ask } from "../act.js";
import { setQuery } from "../app.js";
import { EventList } from "./overview.js";

const total = ({ counts }) => counts.pending + counts.ordered + counts.done + counts.failed + counts.cancelled;

export function PlanRow({ plan }) {
  const all = total(plan) || 1;
  const part = (count) => ({ width: `${(count / all) * 100}%` });
  const { counts } = plan;
  const left = plan.ends_at && plan.outcome === "running" ? `, about ${span(Math.max(0, (plan.ends_at - Date.now()) / 1000))} left` : "";
  return html`<article class="plan" data-plan=${plan.id}>
    <header><a href="#/plans/${plan.id}">Plan ${plan.id}</a> <b>${plan.reason}</b> <${Badge} state=${plan.outcome} />
      <span class="faint">${plural(total(plan), "move")}${left} · ${ago(plan.created_at)}</span></header>
    <div class="progress" role="progressbar" aria-valuenow=${plan.percent} aria-valuemin="0" aria-valuemax="100" aria-label=${`Plan ${plan.id}`}>
      <i class="done" style=${part(counts.done)}></i><i class="ordered" style=${part(counts.ordered)}></i>
      <i class="failed" style=${part(counts.failed)}></i><i class="cancelled" style=${part(counts.cancelled)}></i></div>
    <p>${plan.trigger}</p>
  </article>`;
}

const askAbort = (plan, reverse) => ask({
  title: `${reverse ? "Reverse" : "Abort"} plan ${plan.id}?`,
  text: reverse ? "What is under way goes on, the rest is cancelled, and what was moved moves back." : "What is under way goes on, the rest is cancelled. A plan of the planner’s own also pauses balancing.",
  button: reverse ? "Reverse" : "Abort",
  danger: true,
  path: `plans/${plan.id}/abort`,
  body: { reverse },
});

const askPause = (paused) => ask({
  title: paused ? "Go on balancing?" : "Pause balancing?",
  text: paused ? "The leader moves shards again as its goals ask for." : "Only what nobody serves, what drains and what operators order moves, until somebody resumes it.",
  button: paused ? "Resume" : "Pause",
  path: paused ? "resume" : "pause",
  body: {},
});

function DryRun({ query }) {
  const { dryRun, nodes } = useCluster("dryRun", "nodes");
  const strategy = query.get("strategy") === "load" ? "load" : "count";
  const [text, setText] = useState("");
  const run = async () => {
    const answer = await act("plans", { dry_run: true, strategy });
    if (!answer) return;
    setText(answer.text);
    setDryRun(answer.plan ? { ...readPlan(answer.plan), strategy } : { moves: [], strategy });
  };
  const pairs = new Map();
  for (const { from, to } of dryRun?.moves ?? []) {
    const key = `${from ?? "nobody"} → ${to}`;
    pairs.set(key, (pairs.get(key) ?? 0) + 1);
  }
  const moves = dryRun ? total(dryRun.counts ? dryRun : { counts: { pending: dryRun.moves.length, ordered: 0, done: 0, failed: 0, cancelled: 0 } }) : 0;
  return html`<${Card} title="Rebalance" aside=${cluster.info.paused ? html`<${Badge} state="paused" />` : ""}>
    <div class="row">
      <${Segments} label="Strategy" value=${strategy} options=${[["count", "By count"], ["load", "By load"]]} change=${(value) => setQuery({ strategy: value === "count" ? null : value })} />
      <button data-action="dry-run" onClick=${run}>Dry run</button>
      <button data-action="rebalance" class="primary" onClick=${() => ask({ title: "Rebalance now?", text: dryRun ? `The dry run would move ${number(moves)} shards. The cluster may have changed since.` : "The planner looks now and moves what its goals ask for.", button: "Rebalance", path: "plans", body: { dry_run: false, strategy } })}>Rebalance …</button>
      <button data-action="pause" onClick=${() => askPause(cluster.info.paused)}>${cluster.info.paused ? "Resume balancing …" : "Pause balancing …"}</button>
    </div>
    ${dryRun && html`<div class="dryrun" data-dryrun=${moves}>
      <p>${moves ? `A rebalance ${dryRun.strategy === "load" ? "by load" : "by count"} would move ${plural(moves, "shard")} now.` : text || "Nothing would move."}</p>
      ${pairs.size > 0 && html`<ul class="pairs">${[...pairs].sort((a, b) => b[1] - a[1]).slice(0, 20).map(([pair, count]) => html`<li key=${pair}><b>${count}</b> ${pair}</li>`)}</ul>`}
      <div class="row">${moves > 0 && html`<a class="button" href="#/map">Show on the map</a>`}<button class="quiet" onClick=${() => setDryRun(null)}>Forget it</button></div>
    </div>`}
    <p class="note">${plural(nodes.filter((node) => node.weight > 0).length, "node")} take shards.</p>
  </${Card}>`;
}

const LANES = [["plan", "Plans"], ["node", "Nodes"], ["leader", "Leaders"], ["action", "Actions"]];
const SPANS = [["0.25", "15 min"], ["1", "1 h"], ["6", "6 h"]];

// Plans as bars and events as marks, over the last hours. A click goes there on the map.
function TimeLine({ query }) {
  const { plans, events } = useCluster("plans", "events", "figures");
  const oldest = Math.min(Date.now(), ...plans.map((plan) => plan.created_at), ...events.map((event) => event.at));
  const chosen = SPANS.find(([span]) => span === query.get("hours"))?.[0];
  const hours = chosen ?? SPANS.find(([span]) => Date.now() - oldest < Number(span) * 3600000)?.[0] ?? "6";
  const [now, from] = [Date.now(), Date.now() - Number(hours) * 3600000];
  const [width, steps] = useNarrow() ? [460, 3] : [1000, 6];
  const x = (at) => 70 + ((at - from) / (now - from)) * (width - 80);
  const lane = (kind) => 16 + LANES.findIndex(([key]) => key === kind) * 26;
  const ticks = Array.from({ length: steps + 1 }, (_, step) => from + ((now - from) * step) / steps);
  const marks = events.filter((event) => event.at > from);
  return html`<${Card} title="Time line" aside=${html`<${Segments} label="Span" value=${hours} options=${SPANS} change=${(value) => setQuery({ hours: value })} />`}>
    <div class="scroll"><svg class="lanes" viewBox="0 0 ${width} ${LANES.length * 26 + 34}" role="img" aria-label="Plans and events over time">
      ${LANES.map(([key, name]) => html`<g key=${key}><text x="0" y=${lane(key) + 4}>${name}</text><line x1="70" x2=${width - 10} y1=${lane(key)} y2=${lane(key)} /></g>`)}
      ${ticks.map((at) => html`<text key=${at} class="tick" x=${Math.min(width - 28, x(at))} y=${LANES.length * 26 + 24}>${time(at).slice(0, 5)}</text>`)}
      ${plans.filter((plan) => (plan.ended_at ?? now) > from).map((plan) => {
        const [left, right] = [Math.max(70, x(plan.created_at)), x(plan.ended_at ?? now)];
        return html`<a key=${plan.id} href="#/plans/${plan.id}"><rect class=${`plan ${plan.outcome}`} x=${left} y=${lane("plan") - 7} width=${Math.max(4, right - left)} height="14" rx="3"><title>${`plan ${plan.id}: ${plan.reason}, ${total(plan)} moves, ${plan.outcome}`}</title></rect></a>`;
      })}
      ${marks.map((event) => html`<a key=${event.at + event.text} href="#/map?at=${event.at}">
        ${event.bad
          ? html`<path class="mark bad" d="M${x(event.at)} ${lane(event.kind === "order" ? "action" : event.kind) - 6}l6 11h-12z"><title>${event.text}</title></path>`
          : html`<circle class="mark" cx=${x(event.at)} cy=${lane(event.kind === "order" ? "action" : event.kind)} r="4.5"><title>${event.text}</title></circle>`}</a>`)}
    </svg></div>
    <p class="note">A mark opens the placement as it was then.</p>
    <${EventList} limit=${12} />
  </${Card}>`;
}

function One({ id }) {
  const { plans } = useCluster("plans");
  const [plan, setPlan] = useState(null);
  const [error, setError] = useState("");
  const listed = plans.find((other) => other.id === id);
  useEffect(() => {
    get(`plans/${id}`).then((plan) => setPlan(readPlan(plan)), (problem) => setError(problem.message));
  }, [id, listed?.updated_at]);
  if (!plan) return html`<${Card} title=${`Plan ${id}`}><p class=${error ? "bad" : "faint"}>${error || "…"}</p></${Card}>`;
  return html`<${Card} title=${`Plan ${id}`} aside=${html`<${Badge} state=${plan.outcome} />`}>
      <${PlanRow} plan=${plan} />
      <dl class="facts">
        <dt>Made</dt><dd>${dateTime(plan.created_at)} by ${html`<${NodeLink} name=${plan.leader} />`} (term ${plan.term})</dd>
        <dt>Ended</dt><dd>${plan.ended_at ? `${dateTime(plan.ended_at)}, after ${span((plan.ended_at - plan.created_at) / 1000)}` : "not yet"}</dd>
        <dt>Moves</dt><dd>${plan.counts.done} done, ${plan.counts.ordered} under way, ${plan.counts.pending} waiting, ${plan.counts.failed} failed, ${plan.counts.cancelled} cancelled; at least ${plan.least_moves} were needed; ${plural(plan.waves, "wave")}</dd>
        ${plan.as_planned != null && html`<dt>Afterwards</dt><dd>${plan.as_planned ? "all is as planned" : "something is not as planned"}</dd>`}
        ${plan.superseded_by && html`<dt>Instead</dt><dd><a href="#/plans/${plan.superseded_by}">plan ${plan.superseded_by}</a></dd>`}
      </dl>
      ${plan.outcome === "running" && html`<div class="row"><button data-action="abort" onClick=${() => askAbort(plan, false)}>Abort …</button><button onClick=${() => askAbort(plan, true)}>Abort and move back …</button></div>`}
      ${plan.events.length > 0 && html`<ol class="events">${plan.events.map((event) => html`<li key=${event.at}><time>${time(event.at)}</time><span>${event.text}</span></li>`)}</ol>`}
    </${Card}>
    <${Card} title="Moves"><div class="scroll"><table>
      <thead><tr><th>Shard</th><th>From</th><th>To</th><th>Why</th><th>Phase</th><th class="n">Took</th></tr></thead>
      <tbody>${plan.moves.slice(0, 512).map((step) => html`<tr key=${step.shard}><td><${ShardLink} shard=${step.shard} /></td>
        <td>${step.from ? html`<${NodeLink} name=${step.from} />` : "–"}</td><td><${NodeLink} name=${step.to} /></td><td>${step.reason}</td>
        <td><${Badge} state=${step.phase} /></td><td class="n">${step.ended_at && step.ordered_at ? `${number(step.ended_at - step.ordered_at)} ms` : "–"}</td></tr>`)}</tbody>
    </table></div></${Card}>`;
}

export function Plans({ id, query }) {
  const { plans } = useCluster("plans", "info");
  if (id) return html`<p class="crumbs"><a href="#/plans">Plans</a> / ${id}</p><${One} id=${Number(id)} />`;
  return html`<${DryRun} query=${query} /><${TimeLine} query=${query} />
    <${Card} title="Plans">${plans.map((plan) => html`<${PlanRow} plan=${plan} key=${plan.id} />`)}
      ${plans.length === 0 && html`<${Empty}>No plan is kept.</${Empty}>`}</${Card}>`;
}
