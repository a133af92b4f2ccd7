// What pointer and keys do on the map: hover, pick, drag and zoom. Every function takes the
// `PlacementCanvas` that they are on.

// Begins to listen.
export function listen(map) {
  const { over } = map;
  over.addEventListener("pointermove", (event) => {
    if (map.dragging) return;
    const shard = shardAt(map, event);
    if (shard !== map.hovered) {
      map.hovered = shard;
      map.animate();
    }
    map.on.hover(shard, ...pointOf(map, event));
  });
  over.addEventListener("pointerleave", () => {
    map.hovered = -1;
    map.on.hover(-1);
    map.animate();
  });
  over.addEventListener("click", (event) => {
    const shard = shardAt(map, event);
    if (shard >= 0 && !map.dropped) map.on.pick(shard);
    map.dropped = false;
  });
  over.addEventListener("pointerdown", (event) => grab(map, event));
  over.addEventListener("keydown", (event) => press(map, event));
  over.addEventListener("blur", () => {
    map.cursor = -1;
    map.on.hover(-1);
    map.animate();
  });
}

// Whether the map may be zoomed and shifted by an event: not by one that drags a cell.
export const mayZoom = (map, event) =>
  !event.button && !(map.dragging || (map.dragMoves && event.type === "mousedown" && shardAt(map, event) >= 0));

function pointOf(map, event) {
  const box = map.over.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function shardAt(map, event) {
  const [x, y] = map.transform.invert(pointOf(map, event));
  return map.layout.shardAt(x, y);
}

// Dragging a cell to another group's block, if that is switched on.
function grab(map, event) {
  const shard = shardAt(map, event);
  if (!map.dragMoves || shard < 0 || event.button) return;
  const { over } = map;
  const [x0, y0] = pointOf(map, event);
  over.setPointerCapture(event.pointerId);
  const move = (event) => {
    const [x, y] = pointOf(map, event);
    if (!map.dragging && Math.hypot(x - x0, y - y0) < 4) return;
    const group = map.layout.groupAt(...map.transform.invert([x, y]));
    map.dragging = { shard, x, y, group };
    map.on.hover(-1);
    map.animate();
  };
  const end = () => {
    over.removeEventListener("pointermove", move);
    const dragged = map.dragging;
    map.dragging = null;
    map.animate();
    if (!dragged) return;
    map.dropped = true;
    if (dragged.group) map.on.drop(shard, dragged.group.name);
  };
  over.addEventListener("pointermove", move);
  over.addEventListener("pointerup", end, { once: true });
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function press(map, event) {
  if (STEPS[event.key]) step(map, ...STEPS[event.key]);
  else if (event.key === "Enter" && map.cursor >= 0) map.on.pick(map.cursor);
  else if (event.key === "+") map.scale(1.5);
  else if (event.key === "-") map.scale(1 / 1.5);
  else if (event.key === "0") map.reset();
  else return;
  event.preventDefault();
  map.animate();
}

// The most cells that one step may leave out, to the next group.
const GAP_CELLS_MAX = 199;

// Takes the keys' cursor to the next shard that way, if there is one.
function step(map, across, down) {
  const { layout } = map;
  const start = map.cursor >= 0 ? map.cursor : Math.max(0, map.mode.selected);
  const [x, y] = [layout.x(start) + layout.cell / 2, layout.y(start) + layout.cell / 2];
  for (let cells = 1; cells <= GAP_CELLS_MAX; cells += 1) {
    const shard = layout.shardAt(x + across * layout.cell * cells, y + down * layout.cell * cells);
    if (shard >= 0) {
      map.cursor = shard;
      const [left, top] = map.cell(shard);
      map.on.hover(shard, left, top);
      return;
    }
  }
}
