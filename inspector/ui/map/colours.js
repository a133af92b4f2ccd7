// A colour for each node, the same on every page and, for numbered names, in every session.
import { interpolateViridis } from "../vendor/d3.js";

const PALETTE = [
  "#4c8dff", "#f2a541", "#2fb89a", "#b07cf0", "#e87ba8", "#8bbf3f",
  "#3fb6d9", "#d98850", "#7f8cf5", "#c9b037", "#5fa36a", "#c07fb5",
];

const given = new Map();
const taken = new Set();

function hash(text) {
  let value = 2166136261;
  for (const char of text) value = Math.imul(value ^ char.codePointAt(0), 16777619);
  return value >>> 0;
}

// Gives nodes their colours in one order, so that every page gives the same.
export const giveColours = (names) => [...names].sort().forEach(colourOf);

export function colourOf(name) {
  if (name == null) return "transparent";
  if (!given.has(name)) {
    const ordinal = name.match(/(\d+)$/);
    let place = (ordinal ? Number(ordinal[1]) : hash(name)) % PALETTE.length;
    // With more nodes than colours some share one; their names and groups tell them apart.
    for (let tries = 0; taken.has(place) && tries < PALETTE.length; tries += 1) {
      place = (place + 1) % PALETTE.length;
    }
    taken.add(place);
    given.set(name, PALETTE[place]);
  }
  return given.get(name);
}

const STEPS = 32;
const ramp = Array.from({ length: STEPS }, (_, step) => interpolateViridis(0.08 + (0.9 * step) / (STEPS - 1)));

// A colour for a part from 0 to 1.
export const heatColour = (part) => ramp[Math.max(0, Math.min(STEPS - 1, Math.round(part * (STEPS - 1))))];

export const RAMP = ramp;
