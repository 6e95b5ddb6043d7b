// One sample enlarged, and its boxes: drawn, moved, resized with the pointer.

const HANDLES = [
  ["nw", 0, 1], ["n", null, 1], ["ne", 2, 1], ["w", 0, null],
  ["e", 2, null], ["sw", 0, 3], ["s", null, 3], ["se", 2, 3],
]; // prettier-ignore
const half = (v) => Math.round(v * 2) / 2;

export default {
  emits: ["choose", "put", "accept"],
  template: `
    <div ref="frame" class="pr-canvas" :style="{cursor}">
      <canvas ref="picture" :width="pixels" :height="pixels" :class="{sharp: !smooth}"></canvas>
      <svg ref="board" :viewBox="'0 0 ' + size + ' ' + size" role="group" :aria-label="'sample ' + sample"
           @pointerdown="down" @pointermove="move" @pointerup="up" @pointercancel="cancel">
        <rect v-for="(b, k) in proposals" :key="'p' + k" class="pr-proposal" v-bind="rect(b)" :stroke="colours[concept]"/>
        <g v-for="box in shown" :key="box.id" class="pr-box" :class="{chosen: box.id === selected}">
          <rect v-bind="rect(box.b)" class="pr-halo"/>
          <rect v-bind="rect(box.b)" :stroke="colours[box.c]" class="pr-line"/>
        </g>
        <template v-if="chosen && !drag?.fresh">
          <rect v-for="h in handles" :key="h.name" class="pr-handle" :x="h.x - grip / 2" :y="h.y - grip / 2"
                :width="grip" :height="grip" :stroke="colours[chosen.c]"/>
        </template>
      </svg>
    </div>`,
  props: {
    size: Number,
    url: String,
    sample: Number,
    smooth: Boolean,
    boxes: Array,
    proposals: Array,
    colours: Object,
    concept: Number,
    selected: { type: String, default: null },
  },
  data: () => ({ drag: null, side: 512, cursor: "crosshair" }),
  computed: {
    pixels() {
      return this.smooth ? 1024 : this.size;
    },
    shown() {
      const fresh = this.drag?.box;
      if (!fresh) return this.boxes;
      const others = this.boxes.filter((box) => box.id !== fresh.id);
      return [...others, fresh];
    },
    chosen() {
      return this.shown.find((box) => box.id === this.selected);
    },
    grip() {
      return (9 * this.size) / this.side;
    },
    handles() {
      const [x0, y0, x1, y1] = this.chosen.b;
      const [x, y] = [[x0, (x0 + x1) / 2, x1], [y0, (y0 + y1) / 2, y1]];
      return HANDLES.map(([name, i, j]) => ({ name, i, j, x: x[i ?? 1], y: y[j === null ? 1 : j - 1] }));
    },
  },
  watch: {
    sample: "paint",
    smooth: "paint",
    url: "paint",
  },
  mounted() {
    this.watcher = new ResizeObserver(([entry]) => (this.side = entry.contentRect.width || this.side));
    this.watcher.observe(this.$refs.frame);
    this.sheets = {};
    this.paint();
  },
  unmounted() {
    this.watcher.disconnect();
  },
  methods: {
    rect([x0, y0, x1, y1]) {
      return { x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0) };
    },
    async paint() {
      const { sample } = this;
      this.$refs.picture.getContext("2d").clearRect(0, 0, this.pixels, this.pixels); // never boxes over another sample's picture
      const k = Math.floor(sample / 100);
      if (!this.sheets[k]) {
        const image = new Image();
        image.src = `${this.url}/${k}.png`;
        this.sheets[k] = image.decode().then(() => image);
      }
      const image = await this.sheets[k].catch(() => delete this.sheets[k] && null);
      if (!image || sample !== this.sample || !this.$refs.picture) return;
      await this.$nextTick();
      const context = this.$refs.picture.getContext("2d");
      context.imageSmoothingQuality = "high"; // bicubic or better
      context.imageSmoothingEnabled = this.smooth;
      const [x, y] = [(sample % 10) * this.size, Math.floor((sample % 100) / 10) * this.size];
      const crop = new OffscreenCanvas(this.size, this.size); // smoothing must not reach the neighbours on the sheet
      crop.getContext("2d").drawImage(image, -x, -y);
      context.drawImage(crop, 0, 0, this.pixels, this.pixels);
    },
    point(event) {
      const frame = this.$refs.board.getBoundingClientRect();
      const at = (v, low, span) => Math.min(this.size, Math.max(0, ((v - low) / span) * this.size));
      return [at(event.clientX, frame.left, frame.width), at(event.clientY, frame.top, frame.height)];
    },
    handleAt([x, y]) {
      const near = 0.5 * this.grip + (4 * this.size) / this.side;
      return this.chosen ? this.handles.find((h) => Math.abs(h.x - x) < near && Math.abs(h.y - y) < near) : null;
    },
    boxAt([x, y], boxes) {
      const area = ({ b }) => (b[2] - b[0]) * (b[3] - b[1]);
      const inside = ({ b }) => b[0] <= x && x <= b[2] && b[1] <= y && y <= b[3];
      return boxes.filter(inside).sort((p, q) => area(p) - area(q))[0];
    },
    down(event) {
      if (event.button !== 0) return;
      event.preventDefault();
      document.activeElement?.blur?.();
      this.$refs.board.setPointerCapture(event.pointerId);
      const at = this.point(event);
      const handle = this.handleAt(at);
      const box = handle ? this.chosen : this.boxAt(at, this.boxes);
      if (box) {
        this.$emit("choose", box.id);
        this.drag = { from: at, handle, start: [...box.b], box: { ...box, b: [...box.b] }, moved: false };
        return;
      }
      const offered = this.boxAt(at, this.proposals.map((b) => ({ b })));
      const id = Math.random().toString(36).slice(2, 10) + Date.now().toString(36);
      this.drag = { from: at, fresh: true, offered, box: { id, c: this.concept, b: [...at, ...at] }, moved: false };
    },
    move(event) {
      const at = this.point(event);
      if (!this.drag) {
        const handle = this.handleAt(at);
        this.cursor = handle ? `${handle.name}-resize` : this.boxAt(at, this.boxes) ? "move" : "crosshair";
        return;
      }
      const { drag } = this;
      const [dx, dy] = [at[0] - drag.from[0], at[1] - drag.from[1]];
      drag.moved ||= Math.hypot(dx, dy) > (3 * this.size) / this.side; // a click may tremble
      if (!drag.moved) return;
      drag.box.b = drag.fresh ? this.spanned(drag.from, at) : this.shifted(drag, dx, dy);
    },
    spanned([a, b], [x, y]) {
      return [Math.min(a, x), Math.min(b, y), Math.max(a, x), Math.max(b, y)].map(half);
    },
    shifted({ start, handle }, dx, dy) {
      if (!handle) {
        const x = Math.min(this.size - start[2], Math.max(-start[0], half(dx)));
        const y = Math.min(this.size - start[3], Math.max(-start[1], half(dy)));
        return [start[0] + x, start[1] + y, start[2] + x, start[3] + y];
      }
      const b = [...start];
      if (handle.i !== null) b[handle.i] = half(start[handle.i] + dx);
      if (handle.j !== null) b[handle.j] = half(start[handle.j] + dy);
      return this.spanned([b[0], b[1]], [b[2], b[3]]);
    },
    up() {
      const { drag } = this;
      this.drag = null;
      if (!drag) return;
      const [x0, y0, x1, y1] = drag.box.b;
      if (!drag.moved) {
        if (drag.fresh) this.$emit(drag.offered ? "accept" : "choose", drag.offered ? drag.offered.b : null);
      } else if (x1 - x0 >= 1 && y1 - y0 >= 1) this.$emit("put", drag.box);
    },
    cancel() {
      this.drag = null;
    },
  },
};
