// Draws the placement: cells that stay on one canvas, what moves on another above it.
//
// A change redraws its cell alone; frames are drawn only while something moves. State is never told
// by colour alone: unowned cells are hollow and crossed, moving ones are split and ringed, pinned
// ones have a dot, quarantined ones are dark and barred.
import { select, zoom, zoomIdentity } from "../vendor/d3.js";
import { PINNED, QUARANTINED, cluster, nameOf, onShards } from "../store.js";
import { colour, shortened } from "../format.js";
import { colourOf, heatColour } from "./colours.js";
import { Layout } from "./layout.js";

const FLIGHT_MS = 550;
const PULSE_MS = 1400;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class PlacementCanvas {
  // `host` is an element; `on` has `hover(shard, x, y)`, `pick(shard)` and `drop(shard, group)`.
  constructor(host, on) {
    this.host = host;
    this.on = on;
    this.layout = new Layout();
    this.mode = { group: "node", colour: "owner", heat: null, past: null, plan: null, selected: -1 };
    this.transform = zoomIdentity;
    this.moving = new Set();
    this.flights = [];
    this.cursor = -1;
    this.hovered = -1;
    this.frames = 0;
    this.base = host.querySelector("canvas.base");
    this.over = host.querySelector("canvas.over");
    this.zoom = zoom()
      .scaleExtent([1, 40])
      .filter((event) => !event.button && !(this.dragging || (this.dragMoves && event.type === "mousedown" && this.at(event) >= 0)))
      .on("zoom", ({ transform }) => {
        this.transform = transform;
        this.draw();
      });
    select(this.over).call(this.zoom).on("dblclick.zoom", null);
    this.stops = [onShards((changes) => this.take(changes))];
    const resized = new ResizeObserver(() => this.resize());
    resized.observe(host);
    this.stops.push(() => resized.disconnect());
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const again = () => this.draw();
    scheme.addEventListener("change", again);
    this.stops.push(() => scheme.removeEventListener("change", again));
    this.listen();
    this.resize();
  }

  stop() {
    this.stops.forEach((stop) => stop());
    cancelAnimationFrame(this.frame);
  }

  set(mode) {
    const regroup = mode.group !== this.mode.group || mode.past !== this.mode.past;
    this.mode = mode;
    if (regroup) this.regroup();
    else this.draw();
  }

  owners() {
    return this.mode.past ?? cluster.owners;
  }

  key(shard) {
    const owner = nameOf(this.owners()[shard]);
    if (this.mode.group === "id") return "all";
    if (owner == null) return "no owner";
    if (this.mode.group === "node") return owner;
    return cluster.nodes.find((node) => node.id === owner)?.zone ?? "no zone";
  }

  regroup() {
    const keys = Array.from({ length: cluster.shardCount }, (_, shard) => this.key(shard));
    const used = new Set(keys);
    if (this.mode.group === "node") cluster.nodes.forEach((node) => node.weight > 0 && used.add(node.id));
    const order = (name) => (name.startsWith("no ") ? 1 : 0);
    const compare = (a, b) => order(a) - order(b) || a.localeCompare(b, "en", { numeric: true });
    this.layout.divide(keys, [...used].sort(compare));
    this.layout.arrange(this.width, this.height);
    this.findMoving();
    this.flights = [];
    this.draw();
  }

  findMoving() {
    this.moving.clear();
    if (this.mode.past) return;
    for (let shard = 0; shard < cluster.shardCount; shard += 1) {
      if (this.isMoving(shard)) this.moving.add(shard);
    }
  }

  isMoving(shard) {
    const [owner, target] = [cluster.owners[shard], cluster.targets[shard]];
    return owner >= 0 && target >= 0 && owner !== target;
  }

  take(changes) {
    if (this.mode.past) return;
    const nodesChanged = this.mode.group === "node" &&
      cluster.nodes.some((node) => node.weight > 0 && !this.layout.names?.includes(node.id));
    if (!changes || nodesChanged || this.layout.groupOf.length !== cluster.shardCount) {
      this.regroup();
      return;
    }
    let fits = true;
    const now = performance.now();
    for (const { shard, from, to } of changes) {
      if (this.isMoving(shard)) this.moving.add(shard);
      else this.moving.delete(shard);
      const [x, y] = [this.layout.x(shard), this.layout.y(shard)];
      const key = this.key(shard);
      if (!this.layout.names.includes(key)) fits = false;
      else if (key !== this.layout.names[this.layout.groupOf[shard]]) {
        this.clearCell(x, y);
        fits = this.layout.move(shard, key) && fits;
      }
      if (from !== to && this.flights.length < 2048) {
        this.flights.push({ shard, x, y, from, since: now });
      }
      this.drawCell(shard);
    }
    if (!fits) {
      const { flights } = this;
      this.regroup();
      this.flights = flights;
    } else {
      this.redrawLabels();
    }
    this.animate();
  }

  resize() {
    const { width, height } = this.host.getBoundingClientRect();
    if (!width || !height) return;
    [this.width, this.height] = [width, height];
    this.ratio = devicePixelRatio || 1;
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round(width * this.ratio);
      canvas.height = Math.round(height * this.ratio);
    }
    this.zoom.translateExtent([[0, 0], [width, height]]).extent([[0, 0], [width, height]]);
    if (this.layout.groupOf.length === cluster.shardCount && this.layout.names) {
      this.layout.arrange(width, height);
      this.draw();
    } else {
      this.regroup();
    }
  }

  colours() {
    return {
      ink: colour("--ink"), faint: colour("--faint"), bad: colour("--bad"),
      card: colour("--card"), empty: colour("--line"),
    };
  }

  fill(shard) {
    if (this.mode.colour === "owner") return colourOf(nameOf(this.owners()[shard]));
    if (this.mode.colour === "moved") {
      const at = cluster.movedAt[shard];
      if (!at) return this.theme.empty;
      const minutes = Math.max(0, Date.now() - at) / 60000;
      return heatColour(1 - Math.min(1, Math.log1p(minutes) / Math.log1p(24 * 60)));
    }
    const heat = this.mode.heat;
    if (!heat) return this.theme.empty;
    const value = heat.values[shard] ?? 0;
    return value > 0 ? heatColour(Math.sqrt(value / heat.most)) : this.theme.empty;
  }

  begin(canvas) {
    const context = canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    return context;
  }

  // The place of a cell on the screen: left, top, side without the gap.
  place(x, y) {
    const { k } = this.transform;
    const side = this.layout.cell * k;
    const gap = side > 5 ? 1 : side > 2.5 ? 0.5 : 0;
    return [this.transform.applyX(x), this.transform.applyY(y), Math.max(0.6, side - gap)];
  }

  draw() {
    if (!this.width || !this.layout.names) return;
    this.theme = this.colours();
    const context = this.begin(this.base);
    context.clearRect(0, 0, this.width, this.height);
    this.drawLabels(context);
    const byColour = new Map();
    const marked = [];
    const owners = this.owners();
    for (let shard = 0; shard < cluster.shardCount; shard += 1) {
      if (this.layout.groupOf[shard] < 0) continue;
      if (owners[shard] < 0 || cluster.flags[shard]) marked.push(shard);
      if (owners[shard] < 0) continue;
      const fill = this.fill(shard);
      if (!byColour.has(fill)) byColour.set(fill, []);
      byColour.get(fill).push(shard);
    }
    for (const [fill, shards] of byColour) {
      context.fillStyle = fill;
      for (const shard of shards) {
        const [x, y, side] = this.place(this.layout.x(shard), this.layout.y(shard));
        if (x > -side && y > -side && x < this.width && y < this.height) context.fillRect(x, y, side, side);
      }
    }
    marked.forEach((shard) => this.mark(context, shard));
    if (cluster.shardCount) this.drawnAt ??= performance.now();
    this.animate();
  }

  // The counts in the labels have changed, and perhaps nothing else.
  redrawLabels() {
    if (!this.layout.label || !this.theme) return;
    const context = this.begin(this.base);
    const { k } = this.transform;
    for (const group of this.layout.groups) {
      const [x, y] = [this.transform.applyX(group.x), this.transform.applyY(group.y)];
      context.clearRect(x - 1, y - 21, group.width * k + 2, 20);
    }
    this.drawLabels(context);
  }

  drawLabels(context) {
    if (!this.layout.label) return;
    context.font = "600 12px system-ui, sans-serif";
    context.textBaseline = "alphabetic";
    for (const group of this.layout.groups) {
      const [x, y] = [this.transform.applyX(group.x), this.transform.applyY(group.y)];
      const { k } = this.transform;
      const count = `  ${group.slots.length - group.free.length}`;
      const room = group.width * k - context.measureText(count).width;
      const name = shortened(group.name, (text) => context.measureText(text).width <= room);
      context.fillStyle = group.name === "no owner" ? this.theme.bad : this.theme.ink;
      context.fillText(name, x, y - 7);
      context.fillStyle = this.theme.faint;
      context.fillText(count, x + context.measureText(name).width, y - 7);
      context.strokeStyle = this.theme.empty;
      context.lineWidth = 1;
      if (group.slots.length === group.free.length) context.strokeRect(x + 0.5, y + 0.5, group.width * k - 1, group.height * k - 1);
    }
  }

  clearCell(x, y) {
    const context = this.begin(this.base);
    const [left, top, side] = this.place(x, y);
    context.clearRect(left - 0.5, top - 0.5, side + 1, side + 1);
  }

  drawCell(shard) {
    if (this.layout.groupOf[shard] < 0 || !this.theme) return;
    const context = this.begin(this.base);
    const [x, y, side] = this.place(this.layout.x(shard), this.layout.y(shard));
    context.clearRect(x - 0.5, y - 0.5, side + 1, side + 1);
    if (this.owners()[shard] >= 0) {
      context.fillStyle = this.fill(shard);
      context.fillRect(x, y, side, side);
    }
    this.mark(context, shard);
  }

  mark(context, shard) {
    const [x, y, side] = this.place(this.layout.x(shard), this.layout.y(shard));
    const flags = this.mode.past ? 0 : cluster.flags[shard];
    const line = Math.max(0.7, Math.min(2, side / 7));
    if (this.owners()[shard] < 0) {
      const quarantined = flags & QUARANTINED;
      context.strokeStyle = this.theme.bad;
      context.fillStyle = quarantined ? this.theme.ink : this.theme.card;
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
    if (flags & PINNED) this.pin(context, x, y, side);
  }

  pin(context, x, y, side) {
    context.beginPath();
    context.arc(x + side / 2, y + side / 2, Math.max(1, side / 5), 0, 7);
    context.fillStyle = "#fff";
    context.fill();
    context.lineWidth = Math.max(0.8, side / 12);
    context.strokeStyle = "#0c1722";
    context.stroke();
  }

  animate() {
    if (this.frame) return;
    this.frame = requestAnimationFrame((now) => {
      this.frame = 0;
      this.frames += 1;
      this.drawOver(now);
      if (this.flights.length || (this.moving.size && !calm.matches)) this.animate();
    });
  }

  drawOver(now) {
    const context = this.begin(this.over);
    context.clearRect(0, 0, this.width, this.height);
    if (!this.theme) return;
    if (this.mode.plan) this.drawPlan(context);
    this.drawMoving(context, now);
    this.drawFlights(context, now);
    for (const [shard, width] of [[this.hovered, 1.5], [this.cursor, 2], [this.mode.selected, 2]]) {
      if (shard >= 0 && shard < cluster.shardCount) this.ring(context, shard, width, this.theme.ink, 2.5);
    }
    if (this.dragging) this.drawDragging(context);
  }

  ring(context, shard, width, stroke, out) {
    const [x, y, side] = this.place(this.layout.x(shard), this.layout.y(shard));
    context.strokeStyle = this.theme.card;
    context.lineWidth = width + 1.5;
    context.strokeRect(x - out, y - out, side + 2 * out, side + 2 * out);
    context.strokeStyle = stroke;
    context.lineWidth = width;
    context.strokeRect(x - out, y - out, side + 2 * out, side + 2 * out);
  }

  // A moving shard is split between its owner's and its target's colour, within a ring that breathes.
  drawMoving(context, now) {
    const phase = calm.matches ? 0.5 : (1 + Math.sin(((now % PULSE_MS) / PULSE_MS) * 2 * Math.PI)) / 2;
    for (const shard of this.moving) {
      const [x, y, side] = this.place(this.layout.x(shard), this.layout.y(shard));
      this.triangle(context, x, y, side, colourOf(nameOf(cluster.targets[shard])));
      if (cluster.flags[shard] & PINNED) this.pin(context, x, y, side);
      context.strokeStyle = this.theme.ink;
      context.lineWidth = Math.max(1, side / 8);
      const out = phase * Math.max(1.5, side / 6);
      context.strokeRect(x - out, y - out, side + 2 * out, side + 2 * out);
    }
  }

  triangle(context, x, y, side, fill) {
    context.fillStyle = fill;
    context.beginPath();
    context.moveTo(x + side, y);
    context.lineTo(x + side, y + side);
    context.lineTo(x, y + side);
    context.fill();
  }

  drawFlights(context, now) {
    this.flights = this.flights.filter((flight) => now - flight.since < FLIGHT_MS);
    for (const flight of this.flights) {
      const part = Math.max(0, (now - flight.since) / FLIGHT_MS);
      const eased = calm.matches ? 1 : 1 - (1 - part) ** 3;
      const [x0, y0, side] = this.place(flight.x, flight.y);
      const [x1, y1] = this.place(this.layout.x(flight.shard), this.layout.y(flight.shard));
      const [x, y] = [x0 + (x1 - x0) * eased, y0 + (y1 - y0) * eased];
      const grown = side * (1 + 0.6 * Math.sin(part * Math.PI));
      const offset = (grown - side) / 2;
      context.fillStyle = this.owners()[flight.shard] >= 0 ? this.fill(flight.shard) : this.theme.card;
      context.fillRect(x - offset, y - offset, grown, grown);
      context.globalAlpha = 1 - part;
      context.strokeStyle = this.theme.ink;
      context.lineWidth = 1.5;
      context.strokeRect(x - offset - 1, y - offset - 1, grown + 2, grown + 2);
      context.globalAlpha = 1;
    }
  }

  // What a dry run would move: split cells, in a dashed ring.
  drawPlan(context) {
    context.setLineDash([3, 2]);
    for (const { shard, to } of this.mode.plan.moves ?? []) {
      const [x, y, side] = this.place(this.layout.x(shard), this.layout.y(shard));
      this.triangle(context, x, y, side, colourOf(to));
      context.strokeStyle = this.theme.ink;
      context.lineWidth = 1.2;
      context.strokeRect(x - 1, y - 1, side + 2, side + 2);
    }
    context.setLineDash([]);
  }

  drawDragging(context) {
    const { shard, x, y, group } = this.dragging;
    if (group) {
      const [left, top] = [this.transform.applyX(group.x), this.transform.applyY(group.y)];
      const { k } = this.transform;
      context.strokeStyle = colourOf(group.name);
      context.lineWidth = 3;
      context.strokeRect(left - 4, top - 4, group.width * k + 8, group.height * k + 8);
    }
    const side = Math.max(14, this.layout.cell * this.transform.k);
    context.fillStyle = this.fill(shard);
    context.fillRect(x - side / 2, y - side / 2, side, side);
    context.strokeStyle = this.theme.ink;
    context.lineWidth = 2;
    context.strokeRect(x - side / 2, y - side / 2, side, side);
  }

  point(event) {
    const box = this.over.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  at(event) {
    const [x, y] = this.transform.invert(this.point(event));
    return this.layout.shardAt(x, y);
  }

  listen() {
    const { over } = this;
    over.addEventListener("pointermove", (event) => {
      if (this.dragging) return;
      const shard = this.at(event);
      if (shard !== this.hovered) {
        this.hovered = shard;
        this.animate();
      }
      this.on.hover(shard, ...this.point(event));
    });
    over.addEventListener("pointerleave", () => {
      this.hovered = -1;
      this.on.hover(-1);
      this.animate();
    });
    over.addEventListener("click", (event) => {
      const shard = this.at(event);
      if (shard >= 0 && !this.dropped) this.on.pick(shard);
      this.dropped = false;
    });
    over.addEventListener("pointerdown", (event) => this.grab(event));
    over.addEventListener("keydown", (event) => this.press(event));
    over.addEventListener("blur", () => {
      this.cursor = -1;
      this.on.hover(-1);
      this.animate();
    });
  }

  // Dragging a cell to another group's block, if that is switched on.
  grab(event) {
    const shard = this.at(event);
    if (!this.dragMoves || shard < 0 || event.button) return;
    const { over } = this;
    const [x0, y0] = this.point(event);
    over.setPointerCapture(event.pointerId);
    const move = (event) => {
      const [x, y] = this.point(event);
      if (!this.dragging && Math.hypot(x - x0, y - y0) < 4) return;
      const group = this.layout.groupAt(...this.transform.invert([x, y]));
      this.dragging = { shard, x, y, group };
      this.on.hover(-1);
      this.animate();
    };
    const end = () => {
      over.removeEventListener("pointermove", move);
      const dragged = this.dragging;
      this.dragging = null;
      this.animate();
      if (!dragged) return;
      this.dropped = true;
      if (dragged.group) this.on.drop(shard, dragged.group.name);
    };
    over.addEventListener("pointermove", move);
    over.addEventListener("pointerup", end, { once: true });
  }

  press(event) {
    const { layout } = this;
    const start = this.cursor >= 0 ? this.cursor : Math.max(0, this.mode.selected);
    const [x, y] = [layout.x(start) + layout.cell / 2, layout.y(start) + layout.cell / 2];
    const steps = {
      ArrowLeft: [-layout.cell, 0], ArrowRight: [layout.cell, 0],
      ArrowUp: [0, -layout.cell], ArrowDown: [0, layout.cell],
    };
    if (steps[event.key]) {
      const [dx, dy] = steps[event.key];
      for (let step = 1; step < 200; step += 1) {
        const shard = layout.shardAt(x + dx * step, y + dy * step);
        if (shard >= 0) {
          this.cursor = shard;
          const [left, top] = this.place(layout.x(shard), layout.y(shard));
          this.on.hover(shard, left, top);
          break;
        }
      }
    } else if (event.key === "Enter" && this.cursor >= 0) this.on.pick(this.cursor);
    else if (event.key === "+") select(this.over).call(this.zoom.scaleBy, 1.5);
    else if (event.key === "-") select(this.over).call(this.zoom.scaleBy, 1 / 1.5);
    else if (event.key === "0") this.reset();
    else return;
    event.preventDefault();
    this.animate();
  }

  scale(by) {
    select(this.over).call(this.zoom.scaleBy, by);
  }

  reset() {
    select(this.over).call(this.zoom.transform, zoomIdentity);
  }
}
