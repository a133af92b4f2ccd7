// Small parts of pages.
import { html, useEffect, useState } from "./vendor/preact.js";
import { brief } from "./format.js";
import { colourOf } from "./map/colours.js";

const phone = matchMedia("(max-width: 760px)");

// Whether the page is as narrow as on a phone, where pictures are drawn higher and less wide.
export function useNarrow() {
  const [narrow, setNarrow] = useState(phone.matches);
  useEffect(() => {
    const turned = () => setNarrow(phone.matches);
    phone.addEventListener("change", turned);
    return () => phone.removeEventListener("change", turned);
  }, []);
  return narrow;
}

export const Card = ({ title, aside, children, class: name = "", ...rest }) => html`
  <section class="card ${name}" ...${rest}>
    ${title && html`<header><h2>${title}</h2>${aside && html`<div class="aside">${aside}</div>`}</header>`}
    ${children}
  </section>`;

export const Stat = ({ name, value, unit, note, bad, href }) => {
  const isLong = typeof value === "string" && value.length > 14;
  const inner = html`<dt>${name}</dt>
    <dd class=${`${bad ? "bad" : ""} ${isLong ? "long" : ""}`}>${value}${unit && html` <small>${unit}</small>`}</dd>
    ${note && html`<p>${note}</p>`}`;
  return href ? html`<a class="stat" href=${href}>${inner}</a>` : html`<div class="stat">${inner}</div>`;
};

// Shows what stands between backticks as code.
export const withCode = (text) => text.split("`").map((part, place) => (place % 2 ? html`<code>${part}</code>` : part));

export const Swatch = ({ name }) => html`<i class="swatch" style=${{ background: colourOf(name) }}></i>`;

export const NodeLink = ({ name }) =>
  name == null
    ? html`<span class="bad">nobody</span>`
    : html`<a class="node" title=${name} href="#/nodes/${encodeURIComponent(name)}"><${Swatch} name=${name} />${brief(name)}</a>`;

export const ShardLink = ({ shard }) =>
  shard == null ? html`<span class="faint">bound to its node</span>` : html`<a class="mono" href="#/shard/${shard}">${shard}</a>`;

const STATES = {
  owned: "good", active: "good", done: "good",
  moving: "busy", joining: "busy", draining: "busy", running: "busy", superseded: "", aborted: "", cordoned: "busy",
  unowned: "bad", quarantined: "bad", failed: "bad", silent: "bad", fenced: "bad",
};

export const Badge = ({ state }) => html`<span class="badge ${STATES[state] ?? ""}">${state}</span>`;

export const Bar = ({ part, name, warn }) => html`
  <span class="bar" role="img" aria-label=${`${Math.round((part ?? 0) * 100)} %`}>
    <i class=${part != null && warn && part > warn ? "full" : ""} style=${{
      width: `${Math.min(100, (part ?? 0) * 100)}%`,
      background: name ? colourOf(name) : undefined,
    }}></i>
  </span>`;

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

export const Segments = ({ label, value, options, change }) => html`
  <div class="segments" role="radiogroup" aria-label=${label}>
    ${options.map(([key, text]) => html`
      <button role="radio" aria-checked=${key === value} data-value=${key} onClick=${() => change(key)}>${text}</button>`)}
  </div>`;
