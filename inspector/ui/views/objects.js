// Objects: found without being activated, and what their methods take.
import { html, useEffect, useState } from "../vendor/preact.js";
import { cluster, get, useCluster } from "../store.js";
import { bytes, dateTime, number, rate, seconds, span, time } from "../format.js";
import { Bar, Card, Empty, NodeLink, Segments, ShardLink } from "../parts.js";
import { act, ask, openUnlock, useSession } from "../act.js";
import { setQuery } from "../app.js";

const REFRESH_MS = 4000;
const ORDERS = [["id", "By ID"], ["busiest", "Busiest first"]];
const LISTED = { id: 50, busiest: 20 };

function useObjects(search) {
  const [found, setFound] = useState(null);
  const [error, setError] = useState("");
  useEffect(() => {
    let over = false;
    const load = () => get(`objects?${search}`).then(
      (answer) => over || (setFound(answer), setError("")),
      (problem) => over || setError(problem.message),
    );
    // Letters are typed faster than nodes should be asked.
    const first = setTimeout(load, 150);
    const timer = setInterval(load, REFRESH_MS);
    return () => {
      over = true;
      clearTimeout(first);
      clearInterval(timer);
    };
  }, [search]);
  return [found, error];
}

function useTypes() {
  const [types, setTypes] = useState([]);
  useEffect(() => {
    let over = false;
    const load = () => get("types").then((answer) => over || setTypes(answer), () => {});
    load();
    const timer = setInterval(load, REFRESH_MS);
    return () => {
      over = true;
      clearInterval(timer);
    };
  }, []);
  return types;
}

function Call({ object, methods }) {
  const [method, setMethod] = useState(methods[0]?.name ?? "");
  const [text, setText] = useState("{}");
  const [answer, setAnswer] = useState(null);
  const chosen = methods.find((known) => known.name === method);
  if (!methods.length) return html`<p class="faint">Its type has no method that only reads.</p>`;
  const call = async (event) => {
    event.preventDefault();
    let body;
    try {
      body = JSON.parse(text || "{}");
    } catch (problem) {
      setAnswer(`The arguments are no JSON: ${problem.message}`);
      return;
    }
    const path = `objects/${encodeURIComponent(object.type)}/${encodeURIComponent(object.id)}/call/${encodeURIComponent(method)}`;
    const got = await act(path, body);
    if (got) setAnswer(JSON.stringify(got.value, null, 2));
  };
  return html`<form class="call" onSubmit=${call}>
    <label>Method <select value=${method} onChange=${(e) => setMethod(e.target.value)}>${methods.map((known) => html`<option key=${known.name}>${known.name}</option>`)}</select></label>
    <label>Arguments <input class="mono" value=${text} onInput=${(e) => setText(e.target.value)} placeholder=${`{${(chosen?.arguments ?? []).map((name) => `"${name}": …`).join(", ")}}`} /></label>
    <button class="primary">Call</button>
    ${answer != null && html`<pre data-answer>${answer}</pre>`}
  </form>`;
}

function Detail({ object, types }) {
  const { canAct } = useSession();
  const methods = (types.find((type) => type.name === object.type)?.methods ?? []).filter((method) => method.read_only);
  const path = `objects/${encodeURIComponent(object.type)}/${encodeURIComponent(object.id)}/deactivate`;
  return html`<tr class="detail"><td colspan="10">
    <div class="row">
      <button onClick=${() => ask({ title: `Deactivate ${object.type}/${object.id}?`, text: "Its running turn ends, its state is saved if its type is stored, and the next call activates it again. State that is stored nowhere is lost.", button: "Deactivate", danger: true, path, body: {} })}>Deactivate …</button>
      ${object.shard != null && html`<a href="#/shard/${object.shard}">Its shard’s story</a>`}
    </div>
    ${canAct ? html`<${Call} object=${object} methods=${methods} />` : html`<p class="faint"><button class="quiet" onClick=${openUnlock}>Unlock actions</button> to call a method that only reads.</p>`}
  </td></tr>`;
}

// Calls a second as counted between two looks, or else as the node estimates it.
function Rate({ object }) {
  const { calls_per_second: counted, calls_per_second_estimated: estimated } = object;
  return counted == null && estimated != null ? html`<span title="estimated">≈ ${rate(estimated)}</span>` : rate(counted);
}

const rateOf = (object) => object.calls_per_second ?? object.calls_per_second_estimated ?? 0;

function Found({ found, types, open, toggle, ranked }) {
  const most = Math.max(1e-9, ...found.objects.map(rateOf));
  return html`<div class="scroll"><table>
    <thead><tr><th>Type</th><th>ID</th><th>Shard</th><th>Node</th><th class="n">Calls/s</th><th class="n">Waiting</th><th>Last turn</th><th class="n">Took</th><th class="n">State</th><th class="n">Idle</th></tr></thead>
    <tbody>${found.objects.map((object) => {
      const key = `${object.type}/${object.id}`;
      return html`<tr key=${key} class=${open === key ? "open" : ""}>
          <td>${object.type}</td>
          <td><button class="link mono" aria-expanded=${open === key} onClick=${() => toggle(key)}>${object.id}</button></td>
          <td><${ShardLink} shard=${object.shard} /></td>
          <td><${NodeLink} name=${object.node} /></td>
          <td class="n" data-rate>${ranked && html`<${Bar} part=${rateOf(object) / most} /> `}<${Rate} object=${object} /></td>
          <td class="n">${number(object.waiting)}</td>
          <td><span class="mono">${object.method || "–"}</span>${object.last_turn_at ? html` <small title=${dateTime(object.last_turn_at)}>${time(object.last_turn_at)}</small>` : ""}</td>
          <td class="n" data-took title=${object.timed_at ? `the last of its turns that was timed, at ${time(object.timed_at)}` : "none of its turns was timed lately"}>${seconds(object.took_seconds)}</td>
          <td class="n">${object.state_bytes ? bytes(object.state_bytes) : "–"}</td>
          <td class="n" title=${object.idle_ms ? "" : "a turn runs, or has ended within this second"}>${object.idle_ms ? span(object.idle_ms / 1000) : "now"}</td>
        </tr>
        ${open === key && html`<${Detail} key=${`${key} detail`} object=${object} types=${types} />`}`;
    })}</tbody>
  </table></div>`;
}

function Slowest({ types }) {
  const methods = types.flatMap((type) => type.methods.filter((method) => method.timed).map((method) => ({ type: type.name, ...method })));
  methods.sort((a, b) => b.mean_seconds - a.mean_seconds);
  const most = methods[0]?.mean_seconds ?? 1;
  return html`<${Card} title="Slowest methods" aside="of turns that were timed: 1 in 1024, and the first of each second">
    ${methods.length ? html`<div class="scroll"><table>
      <thead><tr><th>Method</th><th class="n">Mean</th><th></th><th class="n">Longest</th><th class="n">Timed</th><th></th></tr></thead>
      <tbody>${methods.slice(0, 12).map((method) => html`<tr key=${method.type + method.name}>
        <td class="mono">${method.type}.${method.name}</td><td class="n">${seconds(method.mean_seconds)}</td>
        <td class="w"><${Bar} part=${method.mean_seconds / most} /></td>
        <td class="n">${seconds(method.longest_seconds)}</td><td class="n">${number(method.timed)}</td>
        <td><small>${method.read_only ? "only reads" : ""}</small></td></tr>`)}</tbody>
    </table></div>` : html`<${Empty}>No turn has been timed yet.</${Empty}>`}
  </${Card}>`;
}

export function Objects({ query }) {
  useCluster("nodes");
  const types = useTypes();
  const open = query.get("object") ?? "";
  const order = query.get("order") === "busiest" ? "busiest" : "id";
  const wanted = new URLSearchParams({ order, limit: LISTED[order] });
  for (const name of ["type", "prefix", "shard", "node", "after"]) if (query.get(name)) wanted.set(name, query.get(name));
  const [found, error] = useObjects(wanted.toString());
  const field = (name) => ({ value: query.get(name) ?? "", onInput: (e) => setQuery({ [name]: e.target.value, after: null }) });
  return html`
    <${Card} title="Live objects" aside="looking activates none">
      <form class="filters" role="search" onSubmit=${(e) => e.preventDefault()}>
        <label>Type<select ...${field("type")}><option value="">all</option>${types.map((type) => html`<option>${type.name}</option>`)}</select></label>
        <label>ID begins with<input type="search" ...${field("prefix")} /></label>
        <label>Shard<input type="number" min="0" max=${cluster.shardCount - 1} ...${field("shard")} /></label>
        <label>Node<select ...${field("node")}><option value="">all</option>${cluster.nodes.map((node) => html`<option>${node.id}</option>`)}</select></label>
      </form>
      <div class="row"><${Segments} label="Order" value=${order} options=${ORDERS} change=${(value) => setQuery({ order: value === "id" ? null : value, after: null })} />
        ${order === "busiest" && html`<span class="faint">found by the turns that nodes time; how often they are called is counted</span>`}</div>
      ${error && html`<p class="bad">${error}</p>`}
      ${found && html`<${Found} found=${found} ranked=${order === "busiest"} types=${types} open=${open} toggle=${(key) => setQuery({ object: open === key ? null : key })} />`}
      ${found?.objects.length === 0 && html`<${Empty}>${order === "busiest" ? "No live object like that was called in the last seconds." : "No live object is like that."}</${Empty}>`}
      ${found?.silent.length > 0 && html`<p class="bad">These nodes did not answer, so their objects are missing: ${found.silent.join(", ")}</p>`}
      <div class="row">
        ${query.get("after") && html`<button onClick=${() => setQuery({ after: null })}>From the beginning</button>`}
        ${found?.next && html`<button onClick=${() => setQuery({ after: found.next })}>More</button>`}
      </div>
    </${Card}>
    <${Slowest} types=${types} />`;
}
