// How numbers, times and sizes are written. Unknown things are a dash.
export const DASH = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export const number = (value) => (value == null ? DASH : whole.format(value));

export function rate(value) {
  if (value == null) return DASH;
  if (value > 0 && value < 10) return value.toFixed(1);
  return value < 10000 ? whole.format(value) : short.format(value);
}

export function seconds(value) {
  if (value == null) return DASH;
  if (value === 0) return "0";
  if (value < 0.001) return `${Number((value * 1e6).toPrecision(2))} µs`;
  if (value < 1) return `${Number((value * 1e3).toPrecision(2))} ms`;
  if (value < 60) return `${Number(value.toPrecision(2))} s`;
  return span(value);
}

// Several times in the unit of the longest: 0.6 / 4.5 / 12 ms.
export function secondsOf(values) {
  const known = values.filter((value) => value != null);
  if (!known.length) return DASH;
  const most = Math.max(...known);
  const [unit, times] = most < 0.001 ? ["µs", 1e6] : most < 1 ? ["ms", 1e3] : ["s", 1];
  const texts = values.map((value) => (value == null ? DASH : Number((value * times).toPrecision(2))));
  return `${texts.join(" / ")} ${unit}`;
}

export function span(value) {
  if (value == null) return DASH;
  if (value < 60) return `${Math.round(value)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  if (value < 86400) return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86400)} d ${Math.round((value % 86400) / 3600)} h`;
}

export function bytes(value) {
  if (value == null) return DASH;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export const percent = (part) => (part == null ? DASH : `${Math.round(part * 100)} %`);

// A small part of all, such as errors: 0.02 %.
export const part = (of) => (of == null ? DASH : of === 0 ? "0 %" : `${Number((of * 100).toPrecision(2))} %`);

const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const date = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export const time = (ms) => (ms ? clock.format(ms) : DASH);

export const dateTime = (ms) => (ms ? date.format(ms) : DASH);

export const ago = (ms, now = Date.now()) => (ms ? `${span(Math.max(0, (now - ms) / 1000))} ago` : DASH);

// What a colour of the style sheet is now, in a form that canvases know.
export function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

// As much of a name as fits. Names of nodes differ at their ends, so the middle goes.
export function shortened(text, fits) {
  for (let kept = text.length; kept > 2; kept -= 1) {
    const end = Math.ceil(kept / 2);
    const shorter = kept === text.length ? text : `${text.slice(0, kept - end)}…${text.slice(-end)}`;
    if (fits(shorter)) return shorter;
  }
  return text.slice(-1);
}

// A name of a node as lists and sentences have it.
export const brief = (name, most = 28) => shortened(name, (text) => text.length <= most);
