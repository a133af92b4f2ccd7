// The placement on two canvases: cells that stay, and above them what moves.
//
// Follows the cluster: knows which shard is where, how that is grouped and what moves. A change
// redraws its cell alone; frames are drawn only while something moves. How it looks is said in
// `cells.js` and `moving.js`, what pointer and keys do in `pointing.js`.
import { select, zoom, zoomIdentity } from "../vendor/d3.js";
import { cluster, nameOf, onShards } from "../store.js";
import { colour } from "../format.js";
import { clearCell, drawAll, drawCell, redrawLabels } from "./cells.js";
import { Layout } from "./layout.js";
import { drawOver, isInMotion } from "./moving.js";
import { listen, mayZoom } from "./pointing.js";

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
      .filter((event) => mayZoom(this, event))
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
    listen(this);
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
        clearCell(this, x, y);
        fits = this.layout.move(shard, key) && fits;
      }
      if (from !== to && this.flights.length < 2048) {
        this.flights.push({ shard, x, y, from, since: now });
      }
      drawCell(this, shard);
    }
    if (!fits) {
      const { flights } = this;
      this.regroup();
      this.flights = flights;
    } else {
      redrawLabels(this);
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

  // The place of a shard's cell on the screen.
  cell(shard) {
    return this.place(this.layout.x(shard), this.layout.y(shard));
  }

  draw() {
    if (!this.width || !this.layout.names) return;
    this.theme = this.colours();
    drawAll(this);
    if (cluster.shardCount) this.drawnAt ??= performance.now();
    this.animate();
  }

  animate() {
    if (this.frame) return;
    this.frame = requestAnimationFrame((now) => {
      this.frame = 0;
      this.frames += 1;
      drawOver(this, now);
      if (isInMotion(this)) this.animate();
    });
  }

  scale(by) {
    select(this.over).call(this.zoom.scaleBy, by);
  }

  reset() {
    select(this.over).call(this.zoom.transform, zoomIdentity);
  }
}
