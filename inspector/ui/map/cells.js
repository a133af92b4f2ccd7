// Draws what stays: each shard's cell, its marks, and the names of the groups.
//
// State is never told by colour alone: unowned cells are hollow and crossed, pinned ones have a
// dot, quarantined ones are dark and barred. Every function takes the `PlacementCanvas` it draws.
import { PINNED, QUARANTINED, cluster, nameOf } from "../store.js";
import { shortened } from "../format.js";
import { colourOf, heatColour } from "./colours.js";

// The colour of a cell.
export function fillOf(map, shard) {
  if (map.mode.colour === "owner") return colourOf(nameOf(map.owners()[shard]));
  if (map.mode.colour === "moved") {
    const at = cluster.movedAt[shard];
    if (!at) return map.theme.empty;
    const minutes = Math.max(0, Date.now() - at) / 60000;
    return heatColour(1 - Math.min(1, Math.log1p(minutes) / Math.log1p(24 * 60)));
  }
  const { heat } = map.mode;
  if (!heat) return map.theme.empty;
  const value = heat.values[shard] ?? 0;
  return value > 0 ? heatColour(Math.sqrt(value / heat.most)) : map.theme.empty;
}

export function drawAll(map) {
  const context = map.begin(map.base);
  context.clearRect(0, 0, map.width, map.height);
  drawLabels(map, context);
  const byColour = new Map();
  const marked = [];
  const owners = map.owners();
  for (let shard = 0; shard < cluster.shardCount; shard += 1) {
    if (map.layout.groupOf[shard] < 0) continue;
    if (owners[shard] < 0 || cluster.flags[shard]) marked.push(shard);
    if (owners[shard] < 0) continue;
    const fill = fillOf(map, shard);
    if (!byColour.has(fill)) byColour.set(fill, []);
    byColour.get(fill).push(shard);
  }
  for (const [fill, shards] of byColour) {
    context.fillStyle = fill;
    for (const shard of shards) {
      const [x, y, side] = map.cell(shard);
      if (x > -side && y > -side && x < map.width && y < map.height) context.fillRect(x, y, side, side);
    }
  }
  marked.forEach((shard) => mark(map, context, shard));
}

export function drawCell(map, shard) {
  if (map.layout.groupOf[shard] < 0 || !map.theme) return;
  const context = map.begin(map.base);
  const [x, y, side] = map.cell(shard);
  context.clearRect(x - 0.5, y - 0.5, side + 1, side + 1);
  if (map.owners()[shard] >= 0) {
    context.fillStyle = fillOf(map, shard);
    context.fillRect(x, y, side, side);
  }
  mark(map, context, shard);
}

// Empties the place of a cell, by where the layout had it.
export function clearCell(map, x, y) {
  const context = map.begin(map.base);
  const [left, top, side] = map.place(x, y);
  context.clearRect(left - 0.5, top - 0.5, side + 1, side + 1);
}

// The counts in the labels have changed, and perhaps nothing else.
export function redrawLabels(map) {
  if (!map.layout.label || !map.theme) return;
  const context = map.begin(map.base);
  const { k } = map.transform;
  for (const group of map.layout.groups) {
    const [x, y] = [map.transform.applyX(group.x), map.transform.applyY(group.y)];
    context.clearRect(x - 1, y - 21, group.width * k + 2, 20);
  }
  drawLabels(map, context);
}

function drawLabels(map, context) {
  if (!map.layout.label) return;
  context.font = "600 12px system-ui, sans-serif";
  context.textBaseline = "alphabetic";
  for (const group of map.layout.groups) {
    const [x, y] = [map.transform.applyX(group.x), map.transform.applyY(group.y)];
    const { k } = map.transform;
    const count = `  ${group.slots.length - group.free.length}`;
    const room = group.width * k - context.measureText(count).width;
    const name = shortened(group.name, (text) => context.measureText(text).width <= room);
    context.fillStyle = group.name === "no owner" ? map.theme.bad : map.theme.ink;
    context.fillText(name, x, y - 7);
    context.fillStyle = map.theme.faint;
    context.fillText(count, x + context.measureText(name).width, y - 7);
    context.strokeStyle = map.theme.empty;
    context.lineWidth = 1;
    if (group.slots.length === group.free.length) context.strokeRect(x + 0.5, y + 0.5, group.width * k - 1, group.height * k - 1);
  }
}

function mark(map, context, shard) {
  const [x, y, side] = map.cell(shard);
  const flags = map.mode.past ? 0 : cluster.flags[shard];
  const line = Math.max(0.7, Math.min(2, side / 7));
  if (map.owners()[shard] < 0) {
    const quarantined = flags & QUARANTINED;
    context.strokeStyle = map.theme.bad;
    context.fillStyle = quarantined ? map.theme.ink : map.theme.card;
    context.lineWidth = line;
    context.fillRect(x, y, side, side);
    context.strokeRect(x + line / 2, y + line / 2, side - line, side - line);
    context.beginPath();
    if (quarantined) {
      context.moveTo(x + side / 4, y + side / 2);
      context.lineTo(x + (side * 3) / 4, y + side / 2);
    } else {
      context.moveTo(x, y);
      context.lineTo(x + side, y + side);
      context.moveTo(x + side, y);
      context.lineTo(x, y + side);
    }
    context.stroke();
  }
  if (flags & PINNED) drawPin(context, x, y, side);
}

export function drawPin(context, x, y, side) {
  context.beginPath();
  context.arc(x + side / 2, y + side / 2, Math.max(1, side / 5), 0, 7);
  context.fillStyle = "#fff";
  context.fill();
  context.lineWidth = Math.max(0.8, side / 12);
  context.strokeStyle = "#0c1722";
  context.stroke();
}
