// Draws what moves, above the cells: shards on their way, what a dry run would move, and where the
// pointer and the keys are.
//
// State is never told by colour alone: moving cells are split and ringed. Every function takes the
// `PlacementCanvas` it draws.
import { PINNED, cluster, nameOf } from "../store.js";
import { colourOf } from "./colours.js";
import { drawPin, fillOf } from "./cells.js";

const FLIGHT_MS = 550;
const PULSE_MS = 1400;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// Whether the next frame will differ from the last one by itself.
export const isInMotion = (map) => Boolean(map.flights.length || (map.moving.size && !calm.matches));

export function drawOver(map, now) {
  const context = map.begin(map.over);
  context.clearRect(0, 0, map.width, map.height);
  if (!map.theme) return;
  if (map.mode.plan) drawPlan(map, context);
  drawMoving(map, context, now);
  drawFlights(map, context, now);
  for (const [shard, width] of [[map.hovered, 1.5], [map.cursor, 2], [map.mode.selected, 2]]) {
    if (shard >= 0 && shard < cluster.shardCount) drawRing(map, context, shard, width);
  }
  if (map.dragging) drawDragging(map, context);
}

function drawRing(map, context, shard, width) {
  const out = 2.5;
  const [x, y, side] = map.cell(shard);
  context.strokeStyle = map.theme.card;
  context.lineWidth = width + 1.5;
  context.strokeRect(x - out, y - out, side + 2 * out, side + 2 * out);
  context.strokeStyle = map.theme.ink;
  context.lineWidth = width;
  context.strokeRect(x - out, y - out, side + 2 * out, side + 2 * out);
}

// A moving shard is split between its owner's and its target's colour, within a ring that breathes.
function drawMoving(map, context, now) {
  const phase = calm.matches ? 0.5 : (1 + Math.sin(((now % PULSE_MS) / PULSE_MS) * 2 * Math.PI)) / 2;
  for (const shard of map.moving) {
    const [x, y, side] = map.cell(shard);
    drawHalf(context, x, y, side, colourOf(nameOf(cluster.targets[shard])));
    if (cluster.flags[shard] & PINNED) drawPin(context, x, y, side);
    context.strokeStyle = map.theme.ink;
    context.lineWidth = Math.max(1, side / 8);
    const out = phase * Math.max(1.5, side / 6);
    context.strokeRect(x - out, y - out, side + 2 * out, side + 2 * out);
  }
}

// The lower right half of a cell, where its owner's colour gives way to its target's.
function drawHalf(context, x, y, side, fill) {
  context.fillStyle = fill;
  context.beginPath();
  context.moveTo(x + side, y);
  context.lineTo(x + side, y + side);
  context.lineTo(x, y + side);
  context.fill();
}

function drawFlights(map, context, now) {
  map.flights = map.flights.filter((flight) => now - flight.since < FLIGHT_MS);
  for (const flight of map.flights) {
    const part = Math.max(0, (now - flight.since) / FLIGHT_MS);
    const eased = calm.matches ? 1 : 1 - (1 - part) ** 3;
    const [x0, y0, side] = map.place(flight.x, flight.y);
    const [x1, y1] = map.cell(flight.shard);
    const [x, y] = [x0 + (x1 - x0) * eased, y0 + (y1 - y0) * eased];
    const grown = side * (1 + 0.6 * Math.sin(part * Math.PI));
    const offset = (grown - side) / 2;
    context.fillStyle = map.owners()[flight.shard] >= 0 ? fillOf(map, flight.shard) : map.theme.card;
    context.fillRect(x - offset, y - offset, grown, grown);
    context.globalAlpha = 1 - part;
    context.strokeStyle = map.theme.ink;
    context.lineWidth = 1.5;
    context.strokeRect(x - offset - 1, y - offset - 1, grown + 2, grown + 2);
    context.globalAlpha = 1;
  }
}

// What a dry run would move: split cells, in a dashed ring.
function drawPlan(map, context) {
  context.setLineDash([3, 2]);
  for (const { shard, to } of map.mode.plan.moves ?? []) {
    const [x, y, side] = map.cell(shard);
    drawHalf(context, x, y, side, colourOf(to));
    context.strokeStyle = map.theme.ink;
    context.lineWidth = 1.2;
    context.strokeRect(x - 1, y - 1, side + 2, side + 2);
  }
  context.setLineDash([]);
}

function drawDragging(map, context) {
  const { shard, x, y, group } = map.dragging;
  if (group) {
    const [left, top] = [map.transform.applyX(group.x), map.transform.applyY(group.y)];
    const { k } = map.transform;
    context.strokeStyle = colourOf(group.name);
    context.lineWidth = 3;
    context.strokeRect(left - 4, top - 4, group.width * k + 8, group.height * k + 8);
  }
  const side = Math.max(14, map.layout.cell * map.transform.k);
  context.fillStyle = fillOf(map, shard);
  context.fillRect(x - side / 2, y - side / 2, side, side);
  context.strokeStyle = map.theme.ink;
  context.lineWidth = 2;
  context.strokeRect(x - side / 2, y - side / 2, side, side);
}
