// Where each shard's cell is: in groups, each a block of cells with a label.
//
// A shard keeps its place in its group as others come and go, so that only what moves moves.

const LABEL = 22;

// Blocks this wide have room for most names.
const NAMED_WIDTH = 130;

const GAP = 14;

// Room around all, for the rings of cells at the edge.
const PAD = 4;

export class Layout {
  constructor() {
    this.groups = [];
    this.groupOf = new Int16Array(0);
    this.slotOf = new Int32Array(0);
    this.cell = 8;
    this.width = 0;
    this.height = 0;
  }

  // Divides the shards anew. `keys` has the group's name of each shard; `names` the groups in order.
  divide(keys, names) {
    this.names = names;
    this.groups = names.map((name) => ({ name, slots: [], free: [], x: 0, y: 0, columns: 1 }));
    const places = new Map(names.map((name, place) => [name, place]));
    this.groupOf = new Int16Array(keys.length).fill(-1);
    this.slotOf = new Int32Array(keys.length).fill(-1);
    keys.forEach((key, shard) => this.put(shard, places.get(key) ?? -1));
  }

  put(shard, group) {
    this.groupOf[shard] = group;
    if (group < 0) return;
    const { slots, free } = this.groups[group];
    const slot = free.length ? free.pop() : slots.length;
    slots[slot] = shard;
    this.slotOf[shard] = slot;
  }

  // Takes a shard to another group. Returns false if the blocks must be arranged anew.
  move(shard, name) {
    const from = this.groupOf[shard];
    const to = this.names.indexOf(name);
    if (from === to) return true;
    if (from >= 0) {
      const group = this.groups[from];
      group.slots[this.slotOf[shard]] = undefined;
      group.free.push(this.slotOf[shard]);
      group.free.sort((a, b) => b - a);
    }
    this.put(shard, to);
    return to >= 0 && this.groups[to].slots.length <= this.groups[to].room;
  }

  // Arranges the blocks so that the cells are as large as the place allows.
  arrange(width, height) {
    this.width = width;
    this.height = height;
    [width, height] = [width - 2 * PAD, height - 2 * PAD];
    const count = this.groups.length;
    let best = null;
    for (let across = 1; across <= Math.min(count, 12); across += 1) {
      const down = Math.ceil(count / across);
      const blockWidth = (width - GAP * (across - 1)) / across;
      const blockHeight = (height - GAP * (down - 1)) / down - (count > 1 ? LABEL : 0);
      if (blockWidth < 24 || blockHeight < 8) continue;
      const cell = this.fit(blockWidth, blockHeight);
      // Names should be readable, at the price of somewhat smaller cells.
      const worth = blockWidth < NAMED_WIDTH ? cell * 0.8 : cell;
      if (!best || worth > best.worth) best = { cell, worth, across, blockWidth, blockHeight };
    }
    best ??= { cell: 1, across: 1, blockWidth: width, blockHeight: height };
    this.cell = best.cell;
    this.label = count > 1 ? LABEL : 0;
    this.groups.forEach((group, place) => {
      group.columns = Math.max(1, Math.floor(best.blockWidth / best.cell));
      group.rows = Math.max(1, Math.floor(best.blockHeight / best.cell));
      group.room = group.columns * group.rows;
      group.x = PAD + (place % best.across) * (best.blockWidth + GAP);
      group.y = PAD + Math.floor(place / best.across) * (best.blockHeight + this.label + GAP) + this.label;
      group.width = best.blockWidth;
      group.height = best.blockHeight;
    });
  }

  // The largest cell with which every group fits, with some room for newcomers.
  fit(width, height) {
    const most = Math.max(1, ...this.groups.map((group) => group.slots.length * (this.groups.length > 1 ? 1.03 : 1)));
    let cell = Math.min(28, Math.sqrt((width * height) / most));
    while (cell > 0.5 && Math.floor(width / cell) * Math.floor(height / cell) < most) cell *= 0.985;
    return cell > 4 ? Math.floor(cell * 2) / 2 : cell;
  }

  x(shard) {
    const group = this.groups[this.groupOf[shard]];
    return group ? group.x + (this.slotOf[shard] % group.columns) * this.cell : -1;
  }

  y(shard) {
    const group = this.groups[this.groupOf[shard]];
    return group ? group.y + Math.floor(this.slotOf[shard] / group.columns) * this.cell : -1;
  }

  // The shard at a point, or -1; and the group there, or null.
  shardAt(x, y) {
    const group = this.groupAt(x, y);
    if (!group || y < group.y || x < group.x) return -1;
    const column = Math.floor((x - group.x) / this.cell);
    const row = Math.floor((y - group.y) / this.cell);
    if (column >= group.columns) return -1;
    return group.slots[row * group.columns + column] ?? -1;
  }

  groupAt(x, y) {
    return this.groups.find(
      (group) => x >= group.x - GAP / 2 && x < group.x + group.width + GAP / 2 &&
        y >= group.y - this.label && y < group.y + group.height + GAP / 2,
    ) ?? null;
  }
}
