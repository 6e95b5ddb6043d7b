// Numbered pictures, of which only those in sight are in the page, so that thousands scroll smoothly.

export default {
  emits: ["pick", "look"],
  template: `
    <div ref="scroller" class="pr-grid" role="listbox" tabindex="0" :aria-label="label"
         :aria-activedescendant="current != null ? cellId(current) : null" @scroll.passive="look" @keydown="key">
      <div :style="{height: rows * pitch + 'px', position: 'relative'}">
        <div v-for="cell in cells" :key="cell.id" :id="cellId(cell.id)" class="pr-cell" role="option"
             :class="{current: cell.id === current, dim: cell.badge.dim}" :style="cell.place"
             :aria-selected="cell.id === current ? 'true' : 'false'" :aria-setsize="items.length" :aria-posinset="cell.k + 1"
             :aria-label="cell.name" :data-id="cell.id" @click="pick(cell.id)">
          <div class="pr-thumb" :style="cell.picture"><div v-if="overlay" class="pr-heat" :style="cell.heat"></div></div>
          <span class="pr-number">{{ cell.title }}</span>
          <span v-for="mark in cell.badge.marks" class="pr-mark" :class="mark.kind"
                :style="mark.colour ? {background: mark.colour, color: mark.ink} : {}">{{ mark.text }}</span>
        </div>
      </div>
    </div>`,
  props: {
    label: String, // what the pictures are, for screen segmenters
    items: Array, // ids in order
    sheet: Object, // {url, size}: ids' pictures on sheets of 10 x 10
    fixed: { type: Number, default: null }, // one sample shown in every cell, under the overlay
    overlay: { type: Object, default: null }, // {url, columns, rows}: tile id over the picture
    badges: { type: Object, default: () => ({}) }, // id -> {marks: [{text, kind, colour}], dim, title, name}
    current: { type: Number, default: null },
    thumb: { type: Number, default: 76 },
    keys: { type: Boolean, default: true }, // arrows look further, Enter picks
  },
  data: () => ({ top: 0, height: 600, width: 400 }),
  computed: {
    columns() {
      return Math.max(1, Math.floor((this.width - 2) / (this.thumb + 4)));
    },
    side() {
      return Math.floor((this.width - 2) / this.columns) - 4;
    },
    pitch() {
      return this.side + 4;
    },
    rows() {
      return Math.ceil(this.items.length / this.columns);
    },
    cells() {
      const first = Math.max(0, Math.floor(this.top / this.pitch) - 1) * this.columns;
      const last = Math.min(this.items.length, (Math.ceil((this.top + this.height) / this.pitch) + 1) * this.columns);
      return this.items.slice(first, last).map((id, j) => this.cell(id, first + j));
    },
  },
  watch: {
    current() {
      this.$nextTick(this.reveal);
    },
    items() {
      this.$nextTick(this.reveal);
    },
  },
  mounted() {
    this.watcher = new ResizeObserver(this.look);
    this.watcher.observe(this.$refs.scroller);
    this.look();
    this.$nextTick(this.reveal);
  },
  unmounted() {
    this.watcher.disconnect();
  },
  methods: {
    cellId(id) {
      return `${this.label.replaceAll(/\W+/g, "-")}-${id}`;
    },
    look() {
      const box = this.$refs.scroller;
      if (!box || !box.clientWidth) return; // hidden behind another tab
      [this.top, this.height, this.width] = [box.scrollTop, box.clientHeight, box.clientWidth];
    },
    cell(id, k) {
      const badge = this.badges[id] || { marks: [] };
      const px = `${this.side}px`;
      const place = {
        transform: `translate(${(k % this.columns) * this.pitch}px, ${Math.floor(k / this.columns) * this.pitch}px)`,
        width: px,
        height: px,
      };
      const sample = this.fixed ?? id;
      const within = sample % 100;
      const picture = {
        backgroundImage: `url(${this.sheet.url}/${Math.floor(sample / 100)}.png)`,
        backgroundSize: `${10 * this.side}px auto`,
        backgroundPosition: `${-(within % 10) * this.side}px ${-Math.floor(within / 10) * this.side}px`,
      };
      const title = badge.title ?? String(id);
      const words = badge.marks.map((mark) => mark.name || mark.text).join(", ");
      return { id, k, badge, place, picture, title, name: words ? `${title}: ${words}` : title, heat: this.heat(id) };
    },
    heat(id) {
      if (!this.overlay) return null;
      const { url, columns, rows } = this.overlay;
      return {
        backgroundImage: `url(${url})`,
        backgroundSize: `${columns * this.side}px ${rows * this.side}px`,
        backgroundPosition: `${-(id % columns) * this.side}px ${-Math.floor(id / columns) * this.side}px`,
      };
    },
    reveal() {
      const box = this.$refs.scroller;
      const k = this.items.indexOf(this.current);
      if (!box || k < 0) return;
      const row = Math.floor(k / this.columns) * this.pitch;
      if (row < box.scrollTop) box.scrollTop = row;
      else if (row + this.pitch > box.scrollTop + box.clientHeight) box.scrollTop = row + this.pitch - box.clientHeight;
    },
    pick(id) {
      this.$emit("pick", id);
    },
    key(event) {
      if (!this.keys) return;
      const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns };
      const k = this.items.indexOf(this.current);
      if (event.key in steps) {
        const next = Math.min(this.items.length - 1, Math.max(0, k + steps[event.key]));
        this.$emit("look", this.items[next]);
      } else if ((event.key === "Enter" || event.key === " ") && k >= 0) this.pick(this.current);
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
  },
};
