// A region of a picture, painted with a brush; the region is told to the server when the pointer lifts.

export default {
  emits: ["region"],
  template: `
    <div class="pr-brush" :class="{idle: !on}">
      <img :src="src" :alt="label" draggable="false">
      <canvas ref="mask" :width="side" :height="side" tabindex="0" role="img" :aria-label="'region painted on ' + label"
              @pointerdown="down" @pointermove="move" @pointerup="up" @pointercancel="up"></canvas>
    </div>`,
  props: {
    src: String,
    label: String,
    side: Number, // of the image in pixels
    on: Boolean,
    radius: { type: Number, default: 5 },
  },
  mounted() {
    this.context = this.$refs.mask.getContext("2d", { willReadFrequently: true });
  },
  methods: {
    clear() {
      this.context.clearRect(0, 0, this.side, this.side);
      this.tell();
    },
    at(event) {
      const frame = this.$refs.mask.getBoundingClientRect();
      return [((event.clientX - frame.left) / frame.width) * this.side, ((event.clientY - frame.top) / frame.height) * this.side];
    },
    dab([x, y]) {
      this.context.fillStyle = "rgba(255, 255, 255, 1)";
      this.context.beginPath();
      this.context.arc(x, y, this.radius, 0, 2 * Math.PI);
      this.context.fill();
    },
    down(event) {
      if (!this.on || event.button !== 0) return;
      event.preventDefault();
      this.$refs.mask.setPointerCapture(event.pointerId);
      this.last = this.at(event);
      this.dab(this.last);
    },
    move(event) {
      if (!this.last) return;
      const to = this.at(event);
      const steps = Math.ceil(Math.hypot(to[0] - this.last[0], to[1] - this.last[1]) / (this.radius / 2)) || 1;
      for (let k = 1; k <= steps; k++) {
        this.dab([this.last[0] + ((to[0] - this.last[0]) * k) / steps, this.last[1] + ((to[1] - this.last[1]) * k) / steps]);
      }
      this.last = to;
      const now = performance.now();
      if (now - (this.told || 0) > 120) this.tell(now);
    },
    up() {
      if (!this.last) return;
      this.last = null;
      this.tell();
    },
    tell(now = performance.now()) {
      this.told = now;
      const { data } = this.context.getImageData(0, 0, this.side, this.side);
      let text = "";
      for (let i = 3; i < data.length; i += 4) text += data[i] > 127 ? "1" : "0";
      this.$emit("region", text);
    },
  },
};
